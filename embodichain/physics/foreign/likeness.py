"""A model for our painters of one that a benchmark simulates elsewhere: it shows what the benchmark's own pictures do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import mujoco
import numpy as np
from numpy.typing import NDArray

_HIDDEN_GROUP = 3
"""Which no painter draws."""
_SHOWN_GROUPS = 3
"""Sites of groups below are shown, as in MuJoCo's own pictures."""
_FAINTEST = 0.05
"""Opacity below which a site is not shown; our painters know none in between."""
_SOLID = (mujoco.mjtGeom.mjGEOM_SPHERE, mujoco.mjtGeom.mjGEOM_CAPSULE, mujoco.mjtGeom.mjGEOM_ELLIPSOID)
_SITES = {int(kind) for kind in (*_SOLID, mujoco.mjtGeom.mjGEOM_CYLINDER, mujoco.mjtGeom.mjGEOM_BOX)}


class Likeness:
    """The compiled model, posed as the benchmark's is; only kinematics are ever computed in it.

    Benchmarks mark goals by sites, which our painters do not draw: here each is a body that stands where the site is. Lamps shine
    along their direction from anywhere, for the rasteriser knows no others.
    """

    def __init__(self, *, path: str, xml: str, hidden: Sequence[int], site_rgba: NDArray[np.float64]) -> None:
        """`path` of an MJCF file, or its text as `xml`; geoms of groups `hidden` are not drawn.

        `site_rgba`, shape [sites, 4], says which sites are shown and in which colours, once and for all.
        """
        spec = mujoco.MjSpec.from_file(path) if path else mujoco.MjSpec.from_string(xml)
        original = spec.compile()
        for key in list(spec.keys):
            spec.delete(key)  # their sizes would be those of fewer bodies
        for lamp in spec.lights:
            lamp.type = mujoco.mjtLightType.mjLIGHT_DIRECTIONAL
        self._sites: list[int] = []
        for site in range(original.nsite):
            visible = original.site_group[site] < _SHOWN_GROUPS and site_rgba[site, 3] >= _FAINTEST
            if not visible or int(original.site_type[site]) not in _SITES:
                continue
            self._sites.append(site)
            body = spec.worldbody.add_body(name=f"shown_site_{site}", mocap=True)
            body.add_geom(
                type=original.site_type[site],
                size=original.site_size[site],
                rgba=[*site_rgba[site, :3], 1.0],
                contype=0,
                conaffinity=0,
                group=1,
            )
        self.model = spec.compile()
        self.data = mujoco.MjData(self.model)
        self._theirs = original.nmocap
        for group in hidden:
            self.model.geom_group[: original.ngeom][original.geom_group == group] = _HIDDEN_GROUP

    def begin(self, fields: Mapping[str, NDArray[np.float64]]) -> None:
        """Takes over where an episode's model differs from its file, but for its sites."""
        for name, values in fields.items():
            if not name.startswith("site_"):
                getattr(self.model, name)[: len(values)] = values

    def pose(self, arrays: Mapping[str, NDArray[np.float64]]) -> None:
        """Puts everything where it is in the benchmark's model; see `embodichain_host.Environment.pose`."""
        data = self.data
        data.qpos[:] = arrays["qpos"]
        data.mocap_pos[: self._theirs], data.mocap_quat[: self._theirs] = arrays["mocap_pos"], arrays["mocap_quat"]
        for number, site in enumerate(self._sites, self._theirs):
            data.mocap_pos[number] = arrays["site_xpos"][site]
            mujoco.mju_mat2Quat(data.mocap_quat[number], arrays["site_xmat"][site])
