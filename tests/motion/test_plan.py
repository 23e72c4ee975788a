"""Plans: they end where they should, obey their limits and know what they would hit."""

import math

import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embodichain.errors import MotionError
from embodichain.motion.clearance import segment_distance
from embodichain.motion.ik import IkConfig, solve
from embodichain.motion.kinematics import Chain, quaternion_to_matrix
from embodichain.motion.plan import (
    Limits,
    Sweep,
    arms_clearance,
    cartesian_path,
    duration_s,
    hold,
    joint_path,
    nearest_quaternion,
    obstacle_clearance,
    self_clearance,
    slerp,
    table_clearance,
    timing,
)
from embodichain.robots import dual_piper
from embodichain.types import CONTROL_HZ, Pose

ROBOT = dual_piper()
LEFT, RIGHT = (Chain.of(ROBOT, i) for i in (0, 1))
DOWN = (0.0, 1.0, 0.0, 0.0)
ABOVE = solve(LEFT, Pose(position=(0.05, 0.12, 0.15), quaternion=DOWN), LEFT.home)
joints = st.lists(st.floats(-2, 2), min_size=6, max_size=6).map(np.array)


def derivatives(start, path):
    padded = np.concatenate([start[None], start[None], path, path[-1:]])
    velocity = np.diff(padded, axis=0) * CONTROL_HZ
    return np.abs(velocity).max(), np.abs(np.diff(velocity, axis=0) * CONTROL_HZ).max()


@given(joints, joints, st.floats(0.2, 3), st.floats(1, 20))
@settings(max_examples=60, deadline=None)
def test_joint_paths_end_exactly_and_obey_speed_and_acceleration(q0, q1, speed, acceleration):
    path = joint_path(q0, q1, Limits(joint_speed=speed, joint_acceleration=acceleration))
    assert np.array_equal(path[-1], q1)
    fastest, hardest = derivatives(q0, path)
    assert fastest <= speed * (1 + 1e-9) and hardest <= acceleration * (1 + 1e-9)


@given(st.floats(0, 5))
@settings(max_examples=60, deadline=None)
def test_timing_rises_from_rest_to_exactly_one(duration):
    progress = timing(duration)
    assert progress[-1] == 1.0 and len(progress) >= duration * CONTROL_HZ - 1e-6
    assert np.all(np.diff(np.concatenate([[0.0], progress])) > 0)


def test_duration_is_the_larger_of_what_speed_and_acceleration_ask():
    assert duration_s(1.0, 1.0, 1e9) == pytest.approx(15 / 8)
    assert duration_s(1.0, 1e9, 1.0) == pytest.approx(math.sqrt(10 / math.sqrt(3)))


def test_cartesian_path_is_a_straight_line_under_its_limits():
    limits = Limits(linear_speed=0.2)
    target = Pose(position=(0.10, 0.02, 0.03), quaternion=(0.0, math.cos(0.2), math.sin(0.2), 0.0))
    path = cartesian_path(LEFT, ABOVE, target, limits=limits)
    tips = np.array([LEFT.forward(q)[0] for q in (ABOVE, *path)])
    assert np.linalg.norm(tips[-1] - target.position) < 1e-5
    line = (tips[-1] - tips[0]) / np.linalg.norm(tips[-1] - tips[0])
    off = tips - tips[0] - np.outer((tips - tips[0]) @ line, line)
    assert np.abs(off).max() < 1e-4
    speed = np.linalg.norm(np.diff(tips, axis=0), axis=1).max() * CONTROL_HZ
    assert speed <= 0.2 * 1.001
    fastest, hardest = derivatives(ABOVE, path)
    assert fastest <= limits.joint_speed * 1.001 and hardest <= 1.11 * limits.joint_acceleration
    assert np.abs(np.diff(path, axis=0)).max() < 0.1  # no jump to another branch


def test_cartesian_path_slows_down_rather_than_break_joint_limits():
    target = Pose(position=(0.05, 0.12, 0.03), quaternion=DOWN)
    quick = cartesian_path(LEFT, ABOVE, target, speed=1.0, limits=Limits(linear_acceleration=50.0, joint_speed=0.5))
    assert derivatives(ABOVE, quick)[0] <= 0.5 * 1.001


def test_cartesian_path_takes_the_nearer_half_turn_only_when_it_may():
    start = LEFT.pose(ABOVE)
    w, x, y, z = start.quaternion
    turned = Pose(position=(0.05, 0.12, 0.10), quaternion=(-z, y, -x, w))
    path = cartesian_path(LEFT, ABOVE, turned)
    assert abs(path[-1][5] - ABOVE[5]) < 0.3
    with pytest.raises(MotionError):  # a half turn of this wrist leaves its range
        cartesian_path(LEFT, ABOVE, turned, ik=IkConfig(symmetric=False, seeds=1))


def test_cartesian_path_out_of_reach_says_so():
    with pytest.raises(MotionError, match="left arm cannot"):
        cartesian_path(LEFT, ABOVE, Pose(position=(0.05, -0.9, 0.15), quaternion=DOWN))


def test_hold_stays():
    assert np.array_equal(hold(ABOVE, 0.5), np.tile(ABOVE, (25, 1)))


@given(st.floats(0, 1), st.integers(0, 10_000))
@settings(max_examples=100, deadline=None)
def test_slerp_divides_the_angle(s, seed):
    a, b = np.random.default_rng(seed).normal(size=(2, 4))
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    mixed = slerp(a, b, np.array([s]))[0]
    assert np.linalg.norm(mixed) == pytest.approx(1.0)
    whole, part = (2 * math.acos(min(1.0, abs(float(np.dot(a, q))))) for q in (b, mixed))
    assert part == pytest.approx(s * whole, abs=1e-6)


def test_half_turn_of_a_quaternion_turns_x_and_y_around():
    rng = np.random.default_rng(1)
    q = rng.normal(size=4)
    q /= np.linalg.norm(q)
    w, x, y, z = q
    flipped = np.array([-z, y, -x, w])
    assert np.allclose(quaternion_to_matrix(flipped), quaternion_to_matrix(q) @ np.diag([-1, -1, 1]))
    assert np.allclose(nearest_quaternion(flipped, q, symmetric=True), flipped)
    assert np.allclose(nearest_quaternion(-q, q, symmetric=False), -q)


@given(st.integers(0, 100_000))
@settings(max_examples=60, deadline=None)
def test_segment_distance_is_the_smallest_over_dense_samples(seed):
    rng = np.random.default_rng(seed)
    p0, p1, q0, q1 = rng.normal(size=(4, 3))
    if seed % 5 == 0:
        p1 = p0
    t = np.linspace(0, 1, 101)[:, None]
    a, b = p0 + t * (p1 - p0), q0 + t * (q1 - q0)
    sampled = np.linalg.norm(a[:, None] - b[None], axis=-1).min()
    exact = segment_distance(p0, p1, q0, q1)
    assert exact <= sampled + 1e-12 and sampled - exact < 0.05


def test_clearances_agree_with_mujoco_contacts():
    """Wherever MuJoCo sees an arm in contact, a clearance is negative; where clearances are ample, MuJoCo sees none."""
    spec = mujoco.MjSpec.from_string(ROBOT.mjcf)
    model = spec.compile()
    data = mujoco.MjData(model)
    rng = np.random.default_rng(7)
    addresses = [[model.joint(n).qposadr[0] for n in arm.joints] for arm in ROBOT.arms]
    fingers = [model.joint(n).qposadr[0] for arm in ROBOT.arms for n in arm.gripper_joints]
    hits = 0
    for _ in range(400):
        left, right = (rng.uniform(chain.lower, chain.upper) for chain in (LEFT, RIGHT))
        data.qpos[addresses[0]], data.qpos[addresses[1]], data.qpos[fingers] = left, right, 0.035
        mujoco.mj_forward(model, data)
        clearance = min(
            table_clearance(LEFT, left),
            table_clearance(RIGHT, right),
            self_clearance(LEFT, left),
            self_clearance(RIGHT, right),
            arms_clearance(LEFT, left, RIGHT, right),
        )
        deep = [c for c in data.contact[: data.ncon] if c.dist < -0.012]
        if deep:
            hits += 1
            assert clearance < 0.0
        if clearance > 0.02:
            assert not any(c.dist < -0.005 for c in data.contact[: data.ncon])
    assert hits > 20


@given(st.integers(0, 100_000), st.floats(-0.05, 0.6))
@settings(max_examples=60, deadline=None)
def test_a_distance_asked_for_at_most_is_the_smaller_of_the_two_bit_for_bit(seed, at_most):
    rng = np.random.default_rng(seed)
    first, second = (rng.uniform(chain.lower, chain.upper, (5, chain.dof)) for chain in (LEFT, RIGHT))
    exact = arms_clearance(LEFT, first, RIGHT, second[:2])
    assert exact == min(arms_clearance(LEFT, joints, RIGHT, second[min(t, 1)]) for t, joints in enumerate(first))
    assert arms_clearance(LEFT, first, RIGHT, second[:2], at_most) == min(exact, at_most)
    still = rng.uniform(-0.3, 0.3, (4, 2, 3)), rng.uniform(0.005, 0.02, 4)
    away = obstacle_clearance(LEFT, first, *still)
    assert Sweep.of(LEFT, first).from_capsules(*still, at_most) == min(away, at_most)


@given(st.integers(0, 100_000), st.floats(-0.05, 0.3))
@settings(max_examples=60, deadline=None)
def test_whether_arms_come_nearer_than_enough_is_seen_wherever_on_the_path_they_do(seed, enough):
    rng = np.random.default_rng(seed)
    first, second = (rng.uniform(chain.lower, chain.upper, (5, chain.dof)) for chain in (LEFT, RIGHT))
    exact = arms_clearance(LEFT, first, RIGHT, second)
    found = Sweep.of(LEFT, first).from_arm(Sweep.of(RIGHT, second), math.inf, enough)
    assert found >= exact and (found < enough) == (exact < enough)
    assert found == exact or exact < enough


def test_clearances_of_home_and_of_a_grasp():
    assert table_clearance(LEFT, LEFT.home) > 0.1 and self_clearance(LEFT, LEFT.home) > 0.05
    assert arms_clearance(LEFT, LEFT.home, RIGHT, RIGHT.home) > 0.3
    low = solve(LEFT, Pose(position=(0.05, 0.12, 0.02), quaternion=DOWN), LEFT.home)
    assert table_clearance(LEFT, low) == pytest.approx(0.010, abs=2e-4)  # the pads end 10 mm below the tip
