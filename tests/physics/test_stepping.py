"""Laws of contacts over a control period: nothing that touched in between is missed, and impulses balance momentum."""

import mujoco
import numpy as np
import pytest
from physics_parts import KINDS, block, gantry, placed, scene

PERIOD_S, GRAVITY = 0.02, 9.81


@pytest.fixture(params=KINDS)
def physics(request):
    physics = request.param(gantry(), width=16, height=16)
    yield physics
    physics.close()


def test_impulses_of_an_impact_balance_the_momentum_that_the_block_lost(physics):
    asset = block(mass=0.2)
    physics.reset(scene(placed("block", asset, z=0.1)))
    impulse, steps = 0.0, 60
    for _ in range(steps):
        state = physics.step(physics.robot.home)
        impulse += PERIOD_S * state.force_between("block/", "table")
    momentum = asset.bodies[0].mass * state.object_velocities["block"][2]
    assert momentum == pytest.approx(impulse - asset.bodies[0].mass * GRAVITY * steps * PERIOD_S, abs=2e-4)


def test_a_touch_that_is_over_before_the_period_ends_is_seen(physics):
    thin = block((0.01, 0.04, 0.04))
    physics.reset(scene(placed("anvil", thin), placed("bullet", thin, x=-0.02, z=0.0397)))
    index = next(o for o in physics.world.objects if o.role == "bullet")
    physics.world.data.qvel[index.free_qvel[0]] = 6.0  # grazes the anvil's top for three milliseconds
    state = physics.step(physics.robot.home)
    assert state.object_poses["bullet"].position[0] > 0.05
    assert state.touching("bullet/", "anvil/")
    assert not physics.step(physics.robot.home).touching("bullet/", "anvil/")


def test_contacts_are_what_mujoco_itself_tells_step_by_step(physics):
    world_scene = scene(placed("block", block(), 0.0, 0.2), placed("other", block((0.06, 0.03, 0.05)), 0.0, 0.2, 0.05))
    physics.reset(world_scene)
    command = physics.robot.home
    command[1] = -0.17
    for number in range(40):
        if number == 20:
            command[2] = 0.0
        model, data = physics.world.model, mujoco.MjData(physics.world.model)
        mujoco.mj_copyData(data, model, physics.world.data)
        data.ctrl[physics.world.actuators] = physics.world.gains * command[physics.world.channels]
        expected: dict[frozenset, list] = {}
        for _ in range(10):
            mujoco.mj_step(model, data)
            for contact in data.contact:
                names = frozenset(model.body(model.geom_bodyid[geom]).name for geom in contact.geom)
                force = data.efc_force[contact.efc_address] if contact.efc_address >= 0 else 0.0
                if force > 0.0:
                    found = expected.setdefault(names, [0.0, 0.0])
                    found[0] += force / 10
                    found[1] = max(found[1], -contact.dist)
        state = physics.step(command)
        assert {frozenset((c.first, c.second)) for c in state.contacts} == set(expected)
        for contact in state.contacts:
            force, depth = expected[frozenset((contact.first, contact.second))]
            assert contact.force == pytest.approx(force) and contact.penetration == pytest.approx(depth)
        np.testing.assert_array_equal(data.qpos, physics.world.data.qpos)
    assert any(c.first.startswith("robot/") or c.second.startswith("robot/") for c in state.contacts)


def test_a_contact_tells_which_way_the_first_pushes_the_second_and_its_hardest_moment(physics):
    asset = block(mass=0.2)
    physics.reset(scene(placed("block", asset, z=0.05)))
    weight, peaks = asset.bodies[0].mass * GRAVITY, []
    for _ in range(60):
        for contact in physics.step(physics.robot.home).contacts:
            up = 1.0 if contact.first == "table" else -1.0
            np.testing.assert_allclose(np.multiply(up, contact.push), (0.0, 0.0, contact.force), atol=1e-3 * contact.force)
            assert contact.peak >= contact.force
            peaks.append(contact.peak / contact.force)
    assert contact.force == pytest.approx(weight, rel=1e-3) and contact.peak == pytest.approx(weight, rel=1e-3)
    assert max(peaks) > 1.5  # the blow of landing lasts less than a control period


def test_penetration_of_a_scene_that_starts_inside_itself_is_told_at_once(physics):
    state = physics.reset(scene(placed("block", block(), 0.0), placed("other", block(), 0.035)))
    assert state.deepest() == pytest.approx(0.005, abs=1e-6)
    clean = physics.reset(scene(placed("block", block(), 0.0), placed("other", block(), 0.1)))
    assert clean.deepest() < 1e-6
