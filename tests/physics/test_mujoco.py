import hashlib
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import mujoco
import numpy as np
import pytest
from physics_parts import KINDS, block, box_body, gantry, placed, scene, switch

from embodichain import physics as physics_room
from embodichain.errors import ConfigError, RobotError, SceneError
from embodichain.physics.mujoco import MujocoPhysics
from embodichain.types import Material, Pose

GRAVITY = 9.81


@pytest.fixture(params=KINDS)
def physics(request):
    physics = request.param(gantry(), width=32, height=32)
    yield physics
    physics.close()


def held_scene(seed=7, **kwargs):
    return scene(
        placed("block", block(**kwargs), 0.0, 0.2),
        placed("other", block((0.06, 0.03, 0.05)), 0.15, 0.0, quaternion=(0.9238795, 0.0, 0.0, 0.3826834)),
        placed("switch", switch(), 0.2, -0.2, joint_positions=(0.4,)),
        seed=seed,
    )


def grasp_and_lift(physics, seconds=1.0):
    """Closes the left hand on the block at its home X and lifts; yields the states of the hold after it."""
    command = physics.robot.home
    for column, target, steps in ((1, -0.17, 40), (2, 0.0, 40), (1, 0.0, 40)):
        command[column] = target
        for _ in range(steps):
            state = physics.step(command)
    yield state
    for _ in range(int(seconds * 50)):
        yield physics.step(command)


def digest(state):
    values = [state.measured, *state.object_velocities.values()]
    values += [np.array((*pose.position, *pose.quaternion)) for pose in state.object_poses.values()]
    values += [np.array([contact.force for contact in state.contacts])]
    return hashlib.sha256(b"".join(value.tobytes() for value in values)).hexdigest()


def episode_digest(physics):
    digests = [digest(physics.reset(held_scene()))]
    digests += [digest(state) for state in grasp_and_lift(physics, 0.2)]
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def test_same_scene_gives_bitwise_the_same_states_in_any_process_and_after_other_scenes(physics):
    first = episode_digest(physics)
    other = scene(placed("block", block(mass=3.0), 0.0, 0.2), placed("switch", switch(friction=0.0), joint_positions=(-0.3,)))
    physics.reset(other)
    list(grasp_and_lift(physics, 0.1))
    physics.reset(held_scene(mass=2.0))  # shares the compiled model
    list(grasp_and_lift(physics, 0.1))
    assert len(physics._worlds) == 2
    assert episode_digest(physics) == first
    program = "from test_mujoco import *; print(episode_digest(MujocoPhysics(gantry(), width=8, height=8)))"
    folder = Path(__file__).parent
    run = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == first


def test_a_scene_with_other_masses_equals_one_compiled_with_them():
    shared, fresh = (MujocoPhysics(gantry(), width=8, height=8) for _ in range(2))
    shared.reset(held_scene(mass=0.05))
    assert digest(shared.reset(held_scene(mass=0.5))) == digest(fresh.reset(held_scene(mass=0.5)))
    command = shared.robot.home
    command[1] = -0.17
    assert all(digest(shared.step(command)) == digest(fresh.step(command)) for _ in range(30))


def test_model_has_the_mass_inertia_friction_and_joints_of_the_asset(physics):
    material = Material(name="rubber", density=1100.0, static_friction=0.95, dynamic_friction=0.85, restitution=0.1)
    body = replace(
        box_body("block", (0.04, 0.05, 0.06), material=material),
        center_of_mass=(0.001, -0.002, 0.003),
        principal_axes=(0.9238795325112867, 0.0, 0.3826834323650898, 0.0),
    )
    asset = replace(block(), bodies=(body,))
    physics.reset(scene(placed("thing", asset, z=0.1), placed("switch", switch(friction=0.07, damping=0.02), 0.2)))
    model = physics.world.model
    found = model.body("thing/block")
    assert found.mass[0] == pytest.approx(0.04 * 0.05 * 0.06 * 1100.0)
    np.testing.assert_allclose(found.inertia, body.diagonal_inertia)
    np.testing.assert_allclose(found.ipos, body.center_of_mass)
    np.testing.assert_allclose(found.iquat, body.principal_axes)
    assert model.geom("thing/block/hull0").friction[0] == 0.85
    assert model.body_subtreemass[found.id] == found.mass[0]
    hinge = model.joint("switch/hinge")
    np.testing.assert_allclose(hinge.range, (-0.6, 0.6))
    assert (hinge.damping[0], hinge.frictionloss[0]) == (0.02, 0.07)
    assert model.geom("thing/block/visual").contype == 0


def test_free_fall_obeys_gravity(physics):
    state = physics.reset(scene(placed("block", block(), z=0.3)))
    start = state.object_poses["block"].position[2]
    for _ in range(10):
        state = physics.step(physics.robot.home)
    time_s = state.time_s
    assert time_s == pytest.approx(0.2)
    assert start - state.object_poses["block"].position[2] == pytest.approx(GRAVITY * time_s**2 / 2, rel=0.011)
    assert state.object_velocities["block"][2] == pytest.approx(-GRAVITY * time_s, rel=1e-6)


@pytest.mark.parametrize("friction", [0.2, 0.5])
def test_a_sliding_block_stops_after_v_squared_over_two_mu_g(physics, friction):
    material = Material(name="m", density=700.0, static_friction=friction, dynamic_friction=friction, restitution=0.0)
    physics.reset(scene(placed("block", block((0.06, 0.06, 0.02), material=material), x=-0.25)))
    for _ in range(25):
        before = physics.step(physics.robot.home)
    speed = 0.8
    physics.world.data.qvel[physics.world.objects[0].free_qvel[0]] = speed
    for _ in range(75):
        state = physics.step(physics.robot.home)
    travel = state.object_poses["block"].position[0] - before.object_poses["block"].position[0]
    assert travel == pytest.approx(speed**2 / (2 * friction * GRAVITY), rel=0.05)
    assert np.abs(state.object_velocities["block"]).max() < 1e-3


def test_a_resting_block_presses_with_its_weight(physics):
    asset = block()
    physics.reset(scene(placed("block", asset)))
    for _ in range(50):
        state = physics.step(physics.robot.home)
    assert state.force_between("table", "block") == pytest.approx(asset.bodies[0].mass * GRAVITY, rel=0.01)
    assert not state.touching("robot", "block")


def test_a_block_held_by_the_gripper_does_not_creep(physics):
    physics.reset(held_scene(mass=0.3))
    states = list(grasp_and_lift(physics, 10.0))
    assert states[0].object_poses["block"].position[2] > 0.15
    drop = states[0].object_poses["block"].position[2] - states[-1].object_poses["block"].position[2]
    assert abs(drop) < 1.0e-3
    for state in states:
        assert state.touching("robot/left/finger_l", "block")
        assert state.touching("block", "robot/left/finger_r")
        assert not state.touching("table", "block")
    assert states[-1].measured[2] == pytest.approx(0.04, abs=1e-3)


def test_joint_friction_holds_a_lever_that_gravity_would_turn(physics):
    lever = switch(friction=0.05)  # gravity turns with at most 0.05 kg * 9.81 * 0.04 m = 0.02 N m
    physics.reset(scene(placed("switch", lever, joint_positions=(0.4,))))
    for _ in range(250):
        state = physics.step(physics.robot.home)
    assert state.object_joints["switch"][0] == pytest.approx(0.4, abs=0.01)
    physics.reset(scene(placed("switch", switch(friction=0.0), joint_positions=(0.4,))))
    for _ in range(250):
        state = physics.step(physics.robot.home)
    assert state.object_joints["switch"][0] == pytest.approx(0.6, abs=0.01)


def test_fixed_assets_stand_where_they_are_placed_and_free_ones_start_there(physics):
    turned = (0.9238795325112867, 0.0, 0.0, 0.3826834323650898)
    state = physics.reset(
        scene(placed("switch", switch(), 0.1, -0.1, 0.0, turned), placed("block", block(), 0.2, 0.1, 0.0, turned))
    )
    assert state.object_poses["block"].position == pytest.approx((0.2, 0.1, 0.02))
    assert state.object_poses["switch"].position == pytest.approx((0.1, -0.1, 0.02))
    for name in ("block", "switch"):
        assert state.object_poses[name].quaternion == pytest.approx(turned)
    np.testing.assert_allclose(state.measured, physics.robot.home, atol=1e-12)
    assert list(state.object_poses) == ["switch", "block"]


def test_angular_velocity_is_in_the_world_frame(physics):
    quarter = (2**-0.5, 2**-0.5, 0.0, 0.0)  # body Y is world Z
    physics.reset(scene(placed("block", block(), z=0.3, quaternion=quarter)))
    index = physics.world.objects[0]
    physics.world.data.qvel[index.free_qvel[0] + 3 : index.free_qvel[0] + 6] = (0.0, 2.0, 0.0)
    state = physics.step(physics.robot.home)
    np.testing.assert_allclose(state.object_velocities["block"][3:], (0.0, 0.0, 2.0), atol=1e-9)


def test_opening_maps_to_finger_joints_whether_tendon_or_joint_actuators_drive_them():
    robot = gantry()
    bare = re.sub(r"(?s)<tendon>.*</tendon>|<equality>.*</equality>|<position name=.\w+/grip.[^>]*>", "", robot.mjcf)
    drives = "".join(f'<position joint="{side}/finger_{f}" kp="300" kv="10"/>' for side in ("left", "right") for f in ("l", "r"))
    mjcf = bare.replace("</actuator>", f"{drives}</actuator>")
    for variant in (robot, replace(robot, mjcf=mjcf)):
        physics = MujocoPhysics(variant, width=8, height=8)
        physics.reset(scene())
        command = robot.home
        command[2], command[5] = 0.03, 0.05
        for _ in range(50):
            state = physics.step(command)
        np.testing.assert_allclose(state.measured[[2, 5]], (0.03, 0.05), atol=1e-4)


def test_an_arm_without_a_gripper_moves_and_measures_no_opening():
    robot = gantry()
    robot = replace(robot, arms=(replace(robot.arms[0], gripper_joints=(), gripper_open=0.0), robot.arms[1]))
    physics = MujocoPhysics(robot, width=8, height=8)
    np.testing.assert_allclose(physics.reset(scene()).measured, robot.home, atol=1e-12)
    command = robot.home
    command[0], command[2] = 0.1, 0.5
    for _ in range(50):
        state = physics.step(command)
    assert state.measured[0] == pytest.approx(0.1, abs=1e-3)
    assert state.measured[2] == 0.0


def test_worlds_are_cached_up_to_the_limit():
    physics = MujocoPhysics(gantry(), width=8, height=8, cached_worlds=2)
    for size in (0.03, 0.04, 0.05, 0.04):
        physics.reset(scene(placed("block", block((size, size, size)))))
    assert len(physics._worlds) == 2
    world = physics.world
    physics.reset(scene(placed("block", block((0.04, 0.04, 0.04), mass=1.0), 0.1)))
    assert physics.world is world


def test_an_exploding_scene_is_an_error_not_a_trajectory(physics):
    physics.reset(scene(placed("block", block())))
    physics.world.data.qvel[physics.world.objects[0].free_qvel[0]] = np.nan
    with pytest.raises(SceneError, match=r"scene 7 became unstable .*BADQVEL"):
        physics.step(physics.robot.home)
    assert np.isfinite(physics.reset(scene(placed("block", block()))).measured).all()


def without_z(robot, instead):
    return replace(robot, mjcf=re.sub(r'<position name="left/z".*', instead, robot.mjcf))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda r: replace(r, mjcf="<mujoco><oops/></mujoco>"), RobotError, "does not parse"),
        (lambda r: replace(r, arms=(replace(r.arms[0], joints=("left/x", "elbow")),)), RobotError, "no joint 'elbow'.*left/x"),
        (lambda r: without_z(r, '<motor joint="left/z"/>'), RobotError, "no position servo"),
        (lambda r: without_z(r, ""), RobotError, "no actuator for 'left/z'"),
        (lambda r: replace(r, cameras=(replace(r.cameras[0], name="eye"),)), RobotError, "no camera 'eye'.*head"),
    ],
)  # fmt: skip
def test_a_robot_that_cannot_be_driven_is_refused_with_what_it_has(change, error, message):
    physics = MujocoPhysics(change(gantry()), width=8, height=8)
    with pytest.raises(error, match=message):
        physics.reset(scene())


def test_bad_scenes_are_refused(physics):
    with pytest.raises(SceneError, match="reset"):
        physics.step(physics.robot.home)
    with pytest.raises(SceneError, match="role 'table'"):
        physics.reset(scene(placed("table", block())))
    with pytest.raises(SceneError, match="role 'a'"):
        physics.reset(scene(placed("a", block()), placed("a", block(), 0.1)))
    with pytest.raises(SceneError, match="joint positions"):
        physics.reset(scene(placed("switch", switch(), joint_positions=(0.1, 0.2))))
    with pytest.raises(ConfigError, match=r"no camera 'eye'.*head"):
        MujocoPhysics(gantry(), width=8, height=8, cameras=("eye",))


def test_unknown_physics_lists_what_exists():
    with pytest.raises(ConfigError, match=r"unknown physics 'bullet'; available: counting, isaac, metaworld, mujoco"):
        physics_room.make("bullet")
    assert isinstance(physics_room.make("mujoco", robot=gantry(), width=8, height=8), MujocoPhysics)


def test_pose_of_a_root_body_includes_the_pose_of_the_asset(physics):
    asset = replace(block(), bodies=(box_body("block", (0.02, 0.02, 0.06), pose=Pose(position=(0.01, 0.0, 0.03))),))
    state = physics.reset(scene(placed("block", asset, 0.1, 0.1, 0.0, (0.0, 0.0, 0.0, 1.0))))
    assert state.object_poses["block"].position == pytest.approx((0.09, 0.1, 0.03))
    assert mujoco.mj_versionString()
