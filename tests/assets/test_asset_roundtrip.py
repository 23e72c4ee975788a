"""What is shipped is what is simulated: USD, read by physics and written again, is the same to a millionth."""

import mujoco
import numpy as np
import pytest

from embodichain.assets.chain.package import fingerprint
from embodichain.assets.physical.mjcf import to_mjcf
from embodichain.assets.usd import files as usd
from embodichain.types.poses import matrix_of


def test_usd_into_physics_and_back_is_exact_to_a_millionth(catalog, tmp_path):
    for asset in catalog.values():
        model = mujoco.MjModel.from_xml_string(to_mjcf(asset))
        for body in asset.bodies:
            simulated = model.body(body.name)
            assert simulated.mass[0] == pytest.approx(body.mass, rel=1e-6)
            assert simulated.ipos == pytest.approx(body.center_of_mass, abs=1e-6)
            ours = matrix_of(body.principal_axes) @ np.diag(body.diagonal_inertia) @ matrix_of(body.principal_axes).T
            w, x, y, z = simulated.iquat
            theirs = matrix_of((w, x, y, z)) @ np.diag(simulated.inertia) @ matrix_of((w, x, y, z)).T
            assert np.allclose(ours, theirs, rtol=1e-6, atol=1e-6 * max(body.diagonal_inertia))
            for index, hull in enumerate(body.hulls):
                geom = model.geom(f"{body.name}_hull_{index:02d}")
                assert geom.friction[0] == pytest.approx(body.material.dynamic_friction, abs=1e-6)
                mesh = int(geom.dataid[0])
                start, count = model.mesh_vertadr[mesh], model.mesh_vertnum[mesh]
                w, x, y, z = geom.quat
                points = model.mesh_vert[start : start + count] @ matrix_of((w, x, y, z)).T + geom.pos
                apart = np.linalg.norm(points[:, None] - hull.vertices[None], axis=2)
                assert apart.min(axis=0).max() < 1e-6  # every vertex of the file collides
                assert apart.min(axis=1).max() < 1e-6
        usd.write(asset, tmp_path / "again.usd")
        assert fingerprint(usd.read(tmp_path / "again.usd")) == fingerprint(asset)
