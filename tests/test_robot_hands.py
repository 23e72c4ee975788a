"""Laws of grippers that come from files: whatever their mechanism, the opening is the distance between the pads."""

import mujoco
import numpy as np
import pytest
import robot_parts as parts
from test_robots import ONE_ARM, simulation, write

from embodichain.motion.hand import Hand, HandConfig
from embodichain.motion.kinematics import Chain
from embodichain.physics.mujoco import MujocoPhysics
from embodichain.robots import load_mjcf
from embodichain.robots.geometry import arm_geometry
from embodichain.tasks import make
from embodichain.tasks.needs import lacking
from embodichain.types import FINGERS, Scene

EMPTY = Scene(seed=0, task="none", instruction="", objects=())


def six(hand, **how):
    return [
        (side, parts.SIX, (-0.5, y, 0.0), 180, parts.SIX_HOME, hand(side, **how)) for side, y in (("left", 0.3), ("right", -0.3))
    ]


def loaded(tmp_path, arms):
    return load_mjcf(write(tmp_path, parts.robot(arms)))


def gap(model, data, first, second):
    return mujoco.mj_geomDistance(model, data, first, second, 1.0, np.zeros(6))


def pads(model, side):
    """The geom of each finger of a made robot."""
    return [int(model.body(f"{side}/{side}_finger_{which}").geomadr[0]) for which in "ab"]


@pytest.mark.parametrize("how", [{}, {"drive": "joint"}, {"drive": "each", "coupled": False}, {"drive": "each"}])
def test_the_opening_of_a_linkage_is_the_distance_between_its_pads(tmp_path, how):
    robot = loaded(tmp_path, six(parts.linkage, **how))
    assert [len(arm.joints) for arm in robot.arms] == [6, 6] and not any(arm.gripper_problem for arm in robot.arms)
    assert all(arm.gripper_open == pytest.approx(0.088, abs=0.002) for arm in robot.arms)
    physics = MujocoPhysics(robot, width=16, height=16)
    state = physics.reset(EMPTY)
    np.testing.assert_allclose(state.measured, robot.home, atol=1e-6)
    for opening in (0.08, 0.045, 0.01):
        command = robot.home
        command[[6, 13]] = opening
        for _ in range(60):
            state = physics.step(command)
        np.testing.assert_allclose(state.measured[[6, 13]], opening, atol=2e-3)
        model, data = physics.world.model, physics.world.data
        for side in ("left", "right"):
            both = [int(model.body(f"robot/{side}/{side}_finger_{which}").geomadr[0]) for which in "ab"]
            assert gap(model, data, *both) == pytest.approx(opening, abs=4e-3)
    physics.close()


def test_a_linkage_holds_a_block_and_both_its_fingers_are_seen_to(tmp_path):
    robot = loaded(tmp_path, six(parts.linkage))
    tip = Chain.of(robot, 0).pose(np.array(robot.arms[0].home)).position

    def block(spec):
        body = spec.worldbody.add_body(name="block", pos=tip)
        body.add_freejoint()
        body.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, size=(0.02, 0.02, 0.02), mass=0.2, friction=(0.4, 0.005, 0.0001))

    model, data, hold = simulation(robot, block)
    body = model.body("block").id
    model.body_gravcomp[body] = 1.0  # weightless until the gripper has closed
    command = robot.home
    command[6] = 0.02
    hold(command, 60)
    model.body_gravcomp[body] = 0.0
    hold(command, 100)
    assert data.body("block").xpos[2] > tip[2] - 0.005
    touching = {model.body(model.geom_bodyid[geom]).name for contact in data.contact for geom in (contact.geom1, contact.geom2)}
    assert {"left/left_finger_a", "left/left_finger_b"} <= touching
    physics = MujocoPhysics(robot, width=16, height=16)
    fingers = physics.reset(EMPTY).arms[0].fingers
    assert fingers["robot/left/left_finger_a"] != fingers["robot/left/left_finger_b"]
    physics.close()


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"drive": "none"}, "no actuator drives any of its joints 'left_driver_a'"),
        ({"drive": "joint", "coupled": False}, "left_driver_b"),
    ],
)
def test_a_hand_of_which_no_gripper_can_be_made_is_named_with_its_joints(tmp_path, how, said):
    robot = loaded(tmp_path, six(parts.linkage, **how))
    assert all(len(arm.joints) == 6 and not arm.gripper_joints for arm in robot.arms)
    assert said in robot.arms[0].gripper_problem
    (first, *_) = lacking(robot, make("stack_bowls"))
    assert "left arm" in first and said in first
    assert lacking(robot, make("turn_switch")) == ()  # which needs no gripper


def test_a_jaw_on_one_hinge_is_no_joint_of_the_arm(tmp_path):
    begin, end = ONE_ARM.index('<body name="near_finger"'), ONE_ARM.index("</body></body></body></body></body></body>")
    jaw = '<body pos="0 0.02 0.06"><joint name="jaw" axis="1 0 0" range="0 1"/><geom size="0.01" fromto="0 0 0 0 0 0.05"/></body>'
    text = ONE_ARM[:begin] + jaw + ONE_ARM[end:]
    text = text.replace(
        '<position joint="near_slide" kp="100"/><position joint="far_slide" kp="100"/>', '<position joint="jaw" kp="9"/>'
    )
    (arm,) = load_mjcf(write(tmp_path, text.replace(' 0.02 0.02"', ' 0"'))).arms
    assert arm.joints == ("a1", "a2", "a3", "a4", "a5", "a6") and arm.gripper_joints == ()
    assert "'jaw'" in arm.gripper_problem and "1 separate fingers" in arm.gripper_problem


@pytest.mark.parametrize(
    ("low", "high", "meet", "opening"),
    [(0.0, 0.04, 0.0, 0.08), (0.021, 0.057, 0.018, 0.078), (-0.01, 0.03, -0.01, 0.08), (-0.04, 0.0, -0.04, 0.08)],
)
def test_sliding_fingers_open_by_their_gap_wherever_their_zero_is(tmp_path, low, high, meet, opening):
    """The last opens towards the end of its range that is nearer to zero."""
    arms = [
        (side, parts.SEVEN, (-0.5, y, 0.0), 0, (*parts.SEVEN_HOME,), parts.slides(side, low=low, high=high, meet=meet))
        for side, y in (("left", 0.3), ("right", -0.3))
    ]
    text = parts.robot(arms)
    home = f"{(low + high) / 2} {(low + high) / 2}"
    posture = " ".join(map(str, parts.SEVEN_HOME))
    key = text.index('qpos="')
    text = text[:key] + f'qpos="{posture} {home} {posture} {home}"/></keyframe></mujoco>'
    robot = load_mjcf(write(tmp_path, text))
    assert all(arm.gripper_open == pytest.approx(opening, abs=1e-6) for arm in robot.arms)
    model, data, hold = simulation(robot)
    for wanted in (opening, 0.5 * opening, 0.012):
        command = robot.home
        command[[7, 15]] = wanted
        hold(command, 80)
        for side in ("left", "right"):
            assert gap(model, data, *pads(model, side)) == pytest.approx(wanted, abs=1e-3)


def test_planned_fingers_are_open_whichever_way_their_joints_count(tmp_path):
    """Plans keep open fingers clear of everything, so the capsules of a finger must be where it is when open."""
    mirrored = ONE_ARM.replace('axis="0 -1 0" range="0 0.04"', 'axis="0 1 0" range="-0.04 0"').replace("0.02 0.02", "0.02 -0.02")
    assert mirrored != ONE_ARM
    one, other = (arm_geometry(load_mjcf(write(tmp_path, text)), 0) for text in (ONE_ARM, mirrored))
    np.testing.assert_allclose(one.ends, other.ends, atol=1e-12)


def test_experts_know_the_fingers_and_speeds_of_the_file(tmp_path):
    arms = [
        (side, parts.SEVEN, (-0.5, y, 0.0), 0, parts.SEVEN_HOME, parts.slides(side, pad=(0.015, 0.006, 0.03)))
        for side, y in (("left", 0.3), ("right", -0.3))
    ]
    text = parts.robot(arms).replace(
        "<tendon>",
        '<custom><numeric name="joint_speed" data="1.1"/><numeric name="right/joint_speed" data="1 2 3 0.7 1 1 1"/>'
        '<numeric name="gripper_speed" data="0.05"/></custom><tendon>',
    )
    robot = load_mjcf(write(tmp_path, text))
    size = robot.arms[0].fingers
    assert (size.half_width, size.thickness, size.above + size.below) == pytest.approx((0.015, 0.012, 0.06))
    physics = MujocoPhysics(robot, width=16, height=16)
    left, right = Hand.all_of(robot, physics.reset(EMPTY), HandConfig())
    physics.close()
    assert (left.config.limits.joint_speed, right.config.limits.joint_speed) == (1.1, 0.7)
    assert left.paced(joint_speed=5.0, joint_acceleration=2.0).config.limits.joint_speed == 1.1
    assert left.config.opening_speed == 0.05 and left.fingers == size


def test_the_platform_read_from_its_file_has_the_fingers_it_was_built_with(tmp_path):
    from embodichain.robots import dual_piper

    assert all(arm.fingers == FINGERS for arm in load_mjcf(write(tmp_path, dual_piper().mjcf)).arms)


def test_arms_that_face_each_other_stand_left_and_right_of_the_table(tmp_path):
    arms = [
        ("left", parts.SEVEN, (-0.55, 0.5, 0.0), 0, parts.SEVEN_HOME, parts.slides("left")),
        ("right", parts.SEVEN, (0.55, 0.5, 0.0), 180, parts.SEVEN_HOME, parts.slides("right")),
    ]
    robot = loaded(tmp_path, arms)
    left, right = (Chain.of(robot, number) for number in (0, 1))
    np.testing.assert_allclose(left.positions[0][:2], (0.0, 0.55), atol=1e-9)
    np.testing.assert_allclose(right.positions[0][:2], (0.0, -0.55), atol=1e-9)
    assert left.pose(left.home).position[1] < 0.3 and right.pose(right.home).position[1] > -0.3


def test_the_hash_of_a_robot_follows_every_file_it_refers_to(tmp_path):
    from PIL import Image

    def picture(name, shade):
        Image.fromarray(np.full((4, 4, 3), shade, np.uint8)).save(tmp_path / name)

    faces = " ".join(f'file{face}="{face}.png"' for face in ("right", "left", "up", "down", "front", "back"))
    for name in ("skin.png", "hills.png", *(f"{face}.png" for face in ("right", "left", "up", "down", "front", "back"))):
        picture(name, 50)
    assets = (
        '<asset><texture name="skin" type="2d" file="skin.png"/><texture name="sky" type="cube" '
        f'{faces}/><hfield name="hills" file="hills.png" size="1 1 0.1 0.1"/></asset>'
    )
    Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4)).save(tmp_path / "hills.png")
    path = write(tmp_path, ONE_ARM.replace("<worldbody>", f"{assets}<worldbody>", 1))
    seen = {load_mjcf(path).content_hash}
    for name in ("skin.png", "up.png"):
        picture(name, 200)
        seen.add(load_mjcf(path).content_hash)
    Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4)[::-1]).save(tmp_path / "hills.png")
    seen.add(load_mjcf(path).content_hash)
    assert len(seen) == 4


def test_an_arm_without_shapes_ends_at_its_own_last_joint(tmp_path):
    ball = '<geom size="0.02"/>'

    def arm(side, y, last):
        joints = "".join(
            f'<body pos="0 0 0.1"><joint name="{side}{i}" axis="0 1 0" range="-1 1"/>{last if i == 3 else ball}' for i in range(4)
        )
        return f'<body name="{side}" pos="-0.3 {y} 0.1">{joints}{"</body>" * 5}'

    bare = '<inertial pos="0 0 0" mass="0.1" diaginertia="1e-4 1e-4 1e-4"/>'
    servos = "".join(f'<position joint="{side}{i}" kp="9"/>' for side in ("left", "right") for i in range(4))
    text = f"""<mujoco><compiler angle="radian"/><worldbody>{arm("left", 0.3, bare)}{arm("right", -0.3, ball)}
      </worldbody><actuator>{servos}</actuator></mujoco>"""
    robot = load_mjcf(write(tmp_path, text))
    tip, last = Chain.of(robot, 0).pose(np.zeros(4)).position, (-0.3, 0.3, 0.5)
    np.testing.assert_allclose(tip, last, atol=1e-9)
