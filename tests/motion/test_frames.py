"""Laws of poses: composing, inverting and turning agree with rotation matrices."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from embodichain.types import Pose, rotate
from embodichain.types.poses import angle_between, compose, inverse, multiply, turn, turned, wrap, yaw_of, yaw_pose

seeds = st.integers(0, 2**32 - 1)


def random_pose(rng: np.random.Generator) -> Pose:
    q = rng.normal(size=4)
    w, i, j, k = (float(v) for v in q / np.linalg.norm(q))
    x, y, z = (float(v) for v in rng.normal(size=3))
    return Pose(position=(x, y, z), quaternion=(w, i, j, k))


def matrix(pose: Pose) -> np.ndarray:
    out = np.eye(4)
    out[:3, :3] = rotate(pose.quaternion, np.eye(3)).T
    out[:3, 3] = pose.position
    return out


@given(seeds)
def test_compose_and_inverse_are_matrix_product_and_inverse(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = random_pose(rng), random_pose(rng)
    np.testing.assert_allclose(matrix(compose(a, b)), matrix(a) @ matrix(b), atol=1e-9)
    np.testing.assert_allclose(matrix(compose(inverse(a), a)), np.eye(4), atol=1e-9)


@given(seeds)
def test_turned_is_rotate_for_one_vector(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pose = random_pose(rng)
    np.testing.assert_allclose(turned(pose.quaternion, pose.position), rotate(pose.quaternion, np.array(pose.position)), atol=1e-12)


@given(st.floats(-3.1, 3.1), st.floats(-3.1, 3.1))
def test_yaws_add_and_the_angle_between_is_their_difference(first: float, second: float) -> None:
    a, b = yaw_pose(0, 0, 0, first).quaternion, turn((0.0, 0.0, 1.0), second)
    assert math.isclose(wrap(yaw_of(multiply(a, b)) - first - second), 0.0, abs_tol=1e-9)
    assert math.isclose(angle_between(a, b), abs(wrap(first - second)), abs_tol=1e-6)
