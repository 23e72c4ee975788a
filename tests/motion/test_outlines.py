"""Outlines: seen from above, fingers and objects cover what their corners span, and gaps between them are distances."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from motion_parts import block
from scipy.spatial import ConvexHull

from embodichain.motion.outlines import (
    Outline,
    bottom_of,
    fingers,
    gap,
    outline_of,
    room_for_fingers,
)
from embodichain.types import FINGERS, Fingers, Pose
from embodichain.types.poses import matrix_of, turn, yaw_pose


def any_pose(seed: int) -> Pose:
    rng = np.random.default_rng(seed)
    w, x, y, z = rng.normal(size=4)
    if seed % 3 == 0:  # straight down, where the corners of a finger lie upon one another
        w, x, y, z = 0.0, np.cos(w), np.sin(w), 0.0
    length = float(np.linalg.norm((w, x, y, z)))
    a, b, c = rng.uniform(-0.3, 0.3, 3).tolist()
    return Pose(position=(a, b, c), quaternion=(w / length, x / length, y / length, z / length))


def area(vertices: np.ndarray) -> float:
    x, y = vertices.T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


@given(st.integers(0, 100_000))
@settings(max_examples=80, deadline=None)
def test_fingers_cover_the_convex_hull_of_their_corners(seed):
    pose, opening = any_pose(seed), 0.05
    size = FINGERS if seed % 2 else Fingers(half_width=0.02, thickness=0.03, below=0.004, above=0.09)
    for finger, side in zip(fingers(pose, opening, size), (-1.0, 1.0), strict=True):
        across = (side * opening / 2, side * (opening / 2 + size.thickness))
        wide = (-size.half_width, size.half_width)
        corners = np.array([(x, y, z) for x in wide for y in across for z in (-size.above, size.below)])
        world = corners @ matrix_of(pose.quaternion).T + pose.position
        assert area(finger.vertices) == pytest.approx(ConvexHull(world[:, :2]).volume, abs=1e-9)  # so counter-clockwise too
        assert 4 <= len(finger.vertices) <= 6
        assert (finger.bottom, finger.top) == pytest.approx((world[:, 2].min(), world[:, 2].max()), abs=1e-12)


@given(st.integers(0, 100_000))
@settings(max_examples=80, deadline=None)
def test_gaps_bound_the_distance_of_any_two_points_from_below_and_are_negative_where_outlines_overlap(seed):
    rng = np.random.default_rng(seed)
    first, second = (
        Outline.of_points(rng.uniform(-0.1, 0.1, (9, 3)) + np.append(rng.uniform(-0.15, 0.15, 2), 0.0)) for _ in range(2)
    )
    shares = rng.dirichlet(np.ones(len(first.vertices)), 400) @ first.vertices
    others = rng.dirichlet(np.ones(len(second.vertices)), 400) @ second.vertices
    nearest = np.linalg.norm(shares[:, None] - others[None], axis=2).min()
    assert gap(first, second) <= nearest and gap(first, second) == gap(second, first)
    middle = 0.5 * (first.vertices.mean(axis=0) + second.vertices.mean(axis=0))
    around = [np.roll(one - middle, -1, axis=0) for one in (first.vertices, second.vertices)]
    inside = [(x * np.roll(y, -1) - y * np.roll(x, -1) > 0.0).all() for x, y in (corners.T for corners in around)]
    assert not all(inside) or gap(first, second) < 0.0


def test_the_gap_of_two_squares_is_the_way_between_their_sides():
    square = np.array([(x, y, z) for x in (-0.1, 0.1) for y in (-0.1, 0.1) for z in (0.0, 0.1)])
    shifted = square + np.array((0.25, 0.03, 0.0))
    first, second = Outline.of_points(square), Outline.of_points(shifted)
    assert gap(first, second) == pytest.approx(0.05)


@given(st.integers(0, 100_000))
@settings(max_examples=40, deadline=None)
def test_the_bottom_of_an_object_is_that_of_its_outline_bit_for_bit(seed):
    asset, pose = block(), any_pose(seed)
    assert bottom_of(asset, pose) == outline_of(asset, pose).bottom


def test_fingers_have_room_until_they_come_down_on_something():
    standing = outline_of(block(), yaw_pose(0.0, 0.0, 0.0, 0.0))
    down = turn((1.0, 0.0, 0.0), np.pi)
    assert room_for_fingers(Pose(position=(0.0, 0.0, 0.02), quaternion=down), 0.06, FINGERS, [standing]) == pytest.approx(0.01)
    assert room_for_fingers(Pose(position=(0.0, 0.0, 0.02), quaternion=down), 0.03, FINGERS, [standing]) < 0.0
    assert room_for_fingers(Pose(position=(0.0, 0.0, 0.06), quaternion=down), 0.03, FINGERS, [standing]) == 1.0
    thick = Fingers(thickness=0.2)
    beside = outline_of(block(), yaw_pose(0.0, 0.1, 0.0, 0.0))
    assert room_for_fingers(Pose(position=(0.0, 0.0, 0.02), quaternion=down), 0.06, FINGERS, [beside]) > 0.0
    assert room_for_fingers(Pose(position=(0.0, 0.0, 0.02), quaternion=down), 0.06, thick, [beside]) < 0.0
