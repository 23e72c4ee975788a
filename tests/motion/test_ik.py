"""Inverse kinematics: solutions reach what they were asked for, inside the limits, nearest to the seed; failures say why."""

import math

import numpy as np
import pytest

from embodichain.errors import MotionError
from embodichain.motion.ik import IkConfig, reachable, solve, solve_near, trace
from embodichain.motion.kinematics import Chain, quaternion_to_matrix
from embodichain.motion.plan import self_clearance
from embodichain.robots import dual_piper
from embodichain.types import Pose

LEFT, RIGHT = (Chain.of(dual_piper(), i) for i in (0, 1))
STRICT = IkConfig(symmetric=False)


def down(x, y, z, yaw=0.0):
    """Gripper straight down, its X axis turned by yaw from the world's."""
    return Pose(position=(x, y, z), quaternion=(0.0, math.cos(yaw / 2), math.sin(yaw / 2), 0.0))


def rotation_of(chain, q):
    return quaternion_to_matrix(chain.forward(q)[1])


def angle_to(chain, q, pose):
    relative = rotation_of(chain, q).T @ quaternion_to_matrix(np.array(pose.quaternion))
    return math.acos(min(1.0, max(-1.0, (np.trace(relative) - 1) / 2)))


def test_nearly_every_pose_the_arm_can_take_is_solved_within_tolerance_and_limits():
    rng = np.random.default_rng(0)
    tried = solved = 0
    while tried < 300:
        q = rng.uniform(LEFT.lower + 0.02, LEFT.upper - 0.02)
        if self_clearance(LEFT, q) < 0.01:
            continue
        tried += 1
        pose = LEFT.pose(q)
        try:
            found = solve(LEFT, pose, LEFT.home, STRICT)
        except MotionError:
            continue
        solved += 1
        assert np.linalg.norm(LEFT.forward(found)[0] - pose.position) <= 1e-4
        assert angle_to(LEFT, found, pose) <= 1.1e-3
        assert (found >= LEFT.lower + 0.0099).all() and (found <= LEFT.upper - 0.0099).all()
        assert self_clearance(LEFT, found) >= 0.005
    assert solved >= 0.98 * tried


def test_top_down_grasps_of_any_yaw_are_reached_everywhere_in_the_working_area():
    yaws = np.linspace(0, math.pi, 4, endpoint=False)
    for x in np.linspace(-0.15, 0.20, 6):
        for y in np.linspace(0.0, 0.20, 5):  # the platform is symmetric in Y
            for z in (0.012, 0.02, 0.08, 0.15):
                for yaw in yaws:
                    pose = down(float(x), float(y), z, float(yaw))
                    assert reachable(LEFT, pose) or reachable(RIGHT, pose), pose


def test_platform_is_mirror_symmetric():
    rng = np.random.default_rng(3)
    for _ in range(60):
        x, y, z, yaw = rng.uniform((-0.2, -0.3, 0.02, 0), (0.3, 0.4, 0.3, math.pi))
        assert reachable(LEFT, down(x, y, z, yaw)) == reachable(RIGHT, down(x, -y, z, -yaw))


def test_seed_that_solves_is_its_own_nearest_solution():
    rng = np.random.default_rng(4)
    for _ in range(30):
        q = rng.uniform(LEFT.lower * 0.5 + LEFT.upper * 0.5 - 0.5, LEFT.lower * 0.5 + LEFT.upper * 0.5 + 0.5)
        if self_clearance(LEFT, q) < 0.01:
            continue
        assert np.allclose(solve(LEFT, LEFT.pose(q), q), q, atol=1e-6)


def test_symmetric_grasps_take_the_nearer_half_turn():
    both = 0
    for yaw in np.linspace(0, math.pi, 16, endpoint=False):
        poses = [down(0.05, 0.2, 0.1, yaw), down(0.05, 0.2, 0.1, yaw + math.pi)]
        near = solve(LEFT, poses[0], LEFT.home)
        assert np.allclose(near, solve(LEFT, poses[1], LEFT.home), atol=1e-5)
        exact = [solve(LEFT, p, LEFT.home, STRICT) for p in poses if reachable(LEFT, p, STRICT)]
        both += len(exact) == 2
        assert np.allclose(near, min(exact, key=lambda q: np.linalg.norm(q - LEFT.home)), atol=1e-5)
    assert both > 0


def test_free_yaw_only_asks_for_the_approach():
    rng = np.random.default_rng(5)
    for _ in range(30):
        pose = down(*rng.uniform((-0.1, 0.0, 0.02), (0.2, 0.3, 0.15)), rng.uniform(0, 2 * math.pi))
        q = solve(LEFT, pose, LEFT.home, IkConfig(free_yaw=True))
        assert np.linalg.norm(LEFT.forward(q)[0] - pose.position) < 1e-4
        assert rotation_of(LEFT, q)[2, 2] < -1 + 1e-5


def test_what_was_asked_before_changes_no_answer():
    rng = np.random.default_rng(3)
    for _ in range(20):
        pose = LEFT.pose(rng.uniform(LEFT.lower + 0.05, LEFT.upper - 0.05))
        seeds = rng.uniform(LEFT.lower, LEFT.upper, (3, LEFT.dof))
        config = IkConfig(self_clearance=-math.inf)
        forwards = [solve(LEFT, pose, seed, config) for seed in seeds]
        assert all(np.array_equal(solve(LEFT, pose, seed, config), q) for seed, q in zip(seeds[::-1], forwards[::-1], strict=True))
        assert reachable(LEFT, pose, config)


def test_solve_is_deterministic():
    pose = down(0.1, 0.1, 0.05, 0.7)
    assert all(np.array_equal(solve(LEFT, pose, LEFT.home), solve(LEFT, pose, LEFT.home)) for _ in range(5))


def test_continuation_refuses_to_jump():
    q = solve(LEFT, down(0.05, 0.2, 0.1), LEFT.home)
    x, y, z = LEFT.pose(q).position
    moved = solve_near(LEFT, Pose(position=(x + 0.005, y, z), quaternion=LEFT.pose(q).quaternion), q)
    assert 0 < np.abs(moved - q).max() < 0.1
    with pytest.raises(MotionError, match=r"left arm cannot (continue|reach)"):
        solve_near(LEFT, down(0.05, 0.2, 0.1, 2.0), q)


def test_unreachable_pose_says_how_far_away_it_stayed():
    with pytest.raises(MotionError, match=r"right arm cannot reach position \(0\.000, 0\.900, 0\.100\).*mm and .* degrees away"):
        solve(RIGHT, down(0.0, 0.9, 0.1), RIGHT.home)


def test_solution_inside_the_own_pedestal_is_refused():
    inside = down(-0.20, 0.30, 0.10)
    assert not reachable(LEFT, inside)
    beside = down(-0.12, 0.25, 0.10, 1.0)
    assert reachable(LEFT, beside, IkConfig(self_clearance=-math.inf))
    with pytest.raises(MotionError, match="would hit itself or its base"):
        solve(LEFT, beside, LEFT.home)


def test_config_refuses_no_effort():
    with pytest.raises(ValueError, match="seeds and iterations"):
        IkConfig(seeds=0)


def test_tracing_is_solving_near_one_after_the_other() -> None:
    q = solve(LEFT, down(0.1, 0.2, 0.1), LEFT.home)
    facing = LEFT.pose(q).quaternion
    poses = [Pose(position=(0.1 + 0.002 * i, 0.2, 0.1 - 0.001 * i), quaternion=facing) for i in range(20)]
    positions, quaternions = np.array([pose.position for pose in poses]), np.array([pose.quaternion for pose in poses])
    traced = trace(LEFT, positions, quaternions, q)
    seed = q
    for pose, found in zip(poses, traced, strict=True):
        seed = solve_near(LEFT, pose, seed)
        np.testing.assert_array_equal(found, seed)
    with pytest.raises(MotionError, match="jump"):
        trace(LEFT, positions[[0, -1]] + [[0, 0, 0], [0.1, -0.1, 0.1]], quaternions[[0, -1]], q)
