"""What the frames of two assets promise about each other holds in physics: mugs hang on racks, lids sit on pans."""

from dataclasses import replace

import mujoco
import numpy as np
import pytest

from embodichain.assets.chain import optimize
from embodichain.assets.physical.mjcf import to_mjcf
from embodichain.types.poses import compose, inverse


def settled(carrier, thing, pose, seconds=3.0):
    """Where `thing` ends, in position [m] and height of its own Z axis, when let go at `pose` above a carrier at rest."""
    spec = mujoco.MjSpec.from_string(to_mjcf(carrier, floor=True, visual=False))
    guest = mujoco.MjSpec.from_string(to_mjcf(thing, visual=False))
    place = spec.worldbody.add_frame(pos=pose.position, quat=pose.quaternion)
    place.attach_body(guest.body(thing.bodies[0].name), "guest_", "")
    model = spec.compile()
    data = mujoco.MjData(model)
    body = model.body(f"guest_{thing.bodies[0].name}").id
    for _ in range(round(seconds / model.opt.timestep)):
        mujoco.mj_step(model, data)
    speed = np.zeros(6)
    mujoco.mj_objectVelocity(model, data, mujoco.mjtObj.mjOBJ_BODY, body, speed, 0)
    return data.xpos[body].copy(), float(data.xmat[body][8]), float(np.linalg.norm(speed[3:]))


@pytest.mark.slow
def test_a_mug_let_go_on_a_branch_hangs_there(catalog, tmp_path):
    rack, mug = optimize.build("rack", 0, tmp_path), catalog["mug"]
    for index in range(sum(name.startswith("seat_") for name in rack.affordances)):
        seat = compose(rack.affordances[f"seat_{index}"][1], inverse(mug.affordances["hang_loop"][1]))
        end, _, speed = settled(rack, mug, seat)
        assert end[2] > 0.03, "it fell down"
        assert np.linalg.norm(end - seat.position) < 0.06
        assert speed < 0.01


@pytest.mark.slow
def test_a_lid_let_go_above_its_pan_sits_on_the_rim(tmp_path):
    pan, lid = (optimize.build(category, 0, tmp_path) for category in ("pan", "lid"))
    seat = compose(pan.affordances["lid_seat"][1], inverse(lid.affordances["fit"][1]))
    x, y, z = seat.position
    end, upright, speed = settled(pan, lid, replace(seat, position=(x + 0.001, y - 0.001, z + 0.004)))
    assert abs(end[2] - z) < 0.0015, "it stands on something between its ring and its flange"
    assert np.linalg.norm(end[:2] - (x, y)) < 0.006
    assert upright * np.sign(1 - 2 * (seat.quaternion[1] ** 2 + seat.quaternion[2] ** 2)) > np.cos(np.radians(1.0))
    assert speed < 0.01
