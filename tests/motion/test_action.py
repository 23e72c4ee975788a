"""The unified action: lossless through the joint channels, canonical, masked where the robot has nothing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from embodichain.errors import RobotError
from embodichain.motion.action import ActionCodec
from embodichain.motion.kinematics import Chain
from embodichain.robots import dual_piper
from embodichain.types import ACTION_DIM, Arm, Robot

ROBOT = dual_piper()
CODEC = ActionCodec(ROBOT)
SINGLE = Robot(name="single", mjcf=ROBOT.mjcf, arms=ROBOT.arms[:1], cameras=ROBOT.cameras)
commands = hnp.arrays(np.float32, (3, 14), elements=st.floats(-4, 4, width=32)).map(lambda c: c.astype(np.float64))


@given(commands)
@settings(max_examples=60, deadline=None)
def test_decode_inverts_encode_exactly_for_float32_commands(command):
    action = CODEC.encode(command)
    assert action.shape == (3, ACTION_DIM) and action.dtype == np.float32
    assert np.array_equal(CODEC.decode(action), command)
    assert np.array_equal(CODEC.encode(CODEC.decode(action)), action)
    home = CODEC.encode(ROBOT.home)
    assert all(np.all(action[:, arm : arm + 4] @ home[arm : arm + 4] >= -1e-6) for arm in (3, 10))


def test_the_orientation_of_a_gripper_that_points_down_does_not_jump():
    """qw is 0 there: signs by qw >= 0 would be those of a tremor."""
    rng = np.random.default_rng(0)
    home = CODEC.encode(ROBOT.home)
    assert abs(home[3]) < 1e-3 and abs(home[10]) < 1e-3, "home points straight down"
    tremor = CODEC.encode(ROBOT.home + rng.normal(0.0, 1e-3, (200, ROBOT.command_size)))
    assert np.abs(tremor[:, 3:7] - home[3:7]).max() < 0.01 and np.abs(tremor[:, 10:14] - home[10:14]).max() < 0.01


@given(hnp.arrays(np.float64, 14, elements=st.floats(-4, 4)))
@settings(max_examples=60, deadline=None)
def test_any_command_survives_once_rounded(command):
    rounded = CODEC.round(command)
    assert np.array_equal(CODEC.round(rounded), rounded)
    assert np.array_equal(CODEC.encode(command), CODEC.encode(rounded))
    assert np.array_equal(CODEC.decode(CODEC.encode(command)), rounded)


def test_layout_is_left_pose_right_pose_left_joints_right_joints_grippers():
    action = CODEC.encode(ROBOT.home)
    for i, arm in enumerate(ROBOT.arms):
        position, quaternion = Chain.of(ROBOT, i).forward(np.array(arm.home, np.float32).astype(np.float64))
        assert np.allclose(action[7 * i : 7 * i + 3], position, atol=1e-6)
        assert min(np.abs(action[7 * i + 3 : 7 * i + 7] - sign * quaternion).max() for sign in (1, -1)) < 1e-6
        assert np.array_equal(action[14 + 7 * i : 20 + 7 * i], np.array(arm.home, np.float32))
        assert action[20 + 7 * i] == 0.0 and action[28 + i] == np.float32(0.07)
    assert CODEC.mask.tolist() == [1] * 20 + [0] + [1] * 6 + [0] + [1, 1] and CODEC.mask.dtype == np.uint8


def test_single_arm_uses_the_left_channels():
    codec = ActionCodec(SINGLE)
    action = codec.encode(SINGLE.home)
    assert np.flatnonzero(codec.mask).tolist() == [*range(7), *range(14, 20), 28]
    assert np.all(action[codec.mask == 0] == 0.0)
    assert np.array_equal(codec.decode(action), codec.round(SINGLE.home))


def test_commands_of_the_wrong_length_and_robots_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="14 values"):
        CODEC.encode(np.zeros(13))
    three = Robot(name="three", mjcf=ROBOT.mjcf, arms=(*ROBOT.arms, ROBOT.arms[0]), cameras=())
    with pytest.raises(RobotError, match="2 arms of up to 7"):
        ActionCodec(three)
    long = Arm(name="long", joints=tuple("abcdefgh"), site="s", home=(0.0,) * 8)
    with pytest.raises(RobotError, match=r"\{'long': 8\}"):
        ActionCodec(Robot(name="long", mjcf="", arms=(long,), cameras=()))
