"""Laws of physical expansion in MuJoCo: a reused model obeys the mass, balance, drives and delays of each new scene exactly."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from physics_parts import block, box_body, gantry, placed, scene

from embodichain.errors import SceneError
from embodichain.expand.physical import with_ballast
from embodichain.physics.mujoco import MujocoPhysics
from embodichain.types import Asset, Dynamics, Mesh, Pose


def dumbbell(share, point):
    """Two boxes as hulls of one body, so that it has several bounding volumes; ballast somewhere inside."""
    body = box_body("block", (0.04, 0.04, 0.04), mass=0.2)
    hull = body.hulls[0]
    hulls = tuple(Mesh(vertices=hull.vertices + np.array((x, 0.0, 0.0)), faces=hull.faces) for x in (-0.03, 0.03))
    body = with_ballast(replace(body, hulls=hulls), share, np.array(point))
    return Asset(name="dumbbell", category="block", bodies=(body,))


def tumble(physics, asset, dynamics=None):
    """Positions of an asset that falls on an edge and rolls, command by command."""
    dropped = placed("thing", asset, 0.0, 0.0, 0.08, (0.9, 0.3, 0.3, 0.1))
    quaternion = np.array(dropped.pose.quaternion) / np.linalg.norm(dropped.pose.quaternion)
    dropped = replace(dropped, pose=Pose(position=dropped.pose.position, quaternion=tuple(quaternion.tolist())))
    physics.reset(scene(dropped, placed("other", block(), 0.0, 0.06), **({"dynamics": dynamics} if dynamics else {})))
    command = physics.robot.home
    command[0] = 0.2
    return np.array([np.r_[physics.step(command).measured, physics.world.data.qpos] for _ in range(60)])


def test_a_reused_model_with_another_balance_moves_as_one_compiled_for_it():
    reused, fresh = (MujocoPhysics(gantry(), width=16, height=16) for _ in range(2))
    heavy_end = dumbbell(0.4, (0.045, 0.012, -0.015))
    centred = tumble(reused, dumbbell(0.0, (0.0, 0.0, 0.0)))
    moved = tumble(reused, heavy_end)
    assert len(reused._worlds) == 1
    np.testing.assert_array_equal(moved, tumble(fresh, heavy_end))
    assert np.abs(moved - centred).max() > 0.01
    np.testing.assert_array_equal(tumble(reused, dumbbell(0.0, (0.0, 0.0, 0.0))), centred)


def test_a_balanced_body_hangs_below_its_support_where_its_mass_is():
    physics = MujocoPhysics(gantry(), width=16, height=16)
    body = with_ballast(box_body("block", (0.1, 0.04, 0.04), mass=0.2, pose=Pose()), 0.45, np.array((0.04, 0.0, 0.0)))
    pillar = block((0.03, 0.04, 0.05), mass=5.0)
    asset = Asset(name="beam", category="block", bodies=(body,))
    for offset, stays in ((0.018, True), (0.0, False)):  # over the pillar: its centre of mass, or its middle
        physics.reset(scene(placed("pillar", pillar), placed("beam", asset, -offset, 0.0, 0.07)))
        for _ in range(75):
            state = physics.step(physics.robot.home)
        assert (state.object_poses["beam"].position[2] > 0.065) is stays


def test_soft_servos_give_way_more_under_the_same_load_and_the_nominal_robot_comes_back():
    physics = MujocoPhysics(gantry(), width=16, height=16)

    def sag(stiffness):
        physics.reset(scene(dynamics=Dynamics(stiffness=stiffness)))
        for _ in range(100):
            state = physics.step(physics.robot.home)
        return physics.robot.home[1] - state.measured[1]

    nominal = sag(1.0)
    assert sag(0.5) == pytest.approx(2.0 * nominal, rel=0.02)  # no gravity compensation: weight over stiffness
    assert sag(1.0) == nominal


@pytest.mark.parametrize("delay_s", [0.004, 0.02, 0.046])
def test_a_delayed_command_acts_exactly_that_much_later(delay_s):
    physics = MujocoPhysics(gantry(), width=16, height=16)

    def onset(delay):
        physics.reset(scene(dynamics=Dynamics(delay_s=delay)))
        data, address = physics.world.data, physics.world.actuators[0]
        applied, stepped = [], physics.world.stepper.advance

        def record(num_steps, **kwargs):
            applied.extend([float(data.ctrl[address])] * num_steps)
            stepped(num_steps, **kwargs)

        command = physics.robot.home
        spy = SimpleNamespace(advance=record, contacts=physics.world.stepper.contacts)
        physics._world = replace(physics.world, stepper=spy)
        for value in (0.1, 0.2, 0.3, 0.4):
            command[0] = value
            physics.step(command)
        return np.array(applied)

    prompt, late = onset(0.0), onset(delay_s)
    steps = round(delay_s / 0.002)
    np.testing.assert_array_equal(late[steps:], prompt[: len(prompt) - steps])
    assert not late[:steps].any()


def test_a_body_without_mass_is_refused_by_name():
    physics = MujocoPhysics(gantry(), width=16, height=16)
    physics.reset(scene(placed("thing", block())))
    body = replace(block().bodies[0], mass=0.0)
    with pytest.raises(SceneError, match=r"'thing/block' has mass 0.0 kg"):
        physics.reset(scene(placed("thing", Asset(name="ghost", category="block", bodies=(body,)))))
