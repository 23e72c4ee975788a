"""Laws of the layout: distances agree with geometry, overlaps vanish, ranges hold."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from embodichain.scenes.config import LayoutConfig
from embodichain.scenes.layout import Footprint, separate, signed_distance

seeds = st.integers(0, 2**32 - 1)


def polygon(rng: np.random.Generator, size: float = 0.06) -> Footprint:
    return Footprint.of_points(rng.uniform(-size, size, (rng.integers(4, 12), 2)))


def overlap(first: Footprint, second: Footprint, offset: np.ndarray) -> bool:
    """Independent of separating axes: whether a point exists that is inside both, by linear programming."""
    a = np.concatenate([first.normals, second.normals])
    b = np.concatenate(
        [
            np.einsum("ij,ij->i", first.normals, first.vertices),
            np.einsum("ij,ij->i", second.normals, second.vertices + offset),
        ]
    )
    return linprog(np.zeros(2), A_ub=a, b_ub=b, bounds=(None, None)).success


@given(seeds)
@settings(max_examples=60, deadline=None)
def test_sign_says_whether_two_footprints_overlap(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second, offset = polygon(rng), polygon(rng), rng.uniform(-0.12, 0.12, 2)
    distance, _ = signed_distance(first, second, offset)
    if abs(distance) > 1e-6:
        assert (distance < 0) == overlap(first, second, offset)


@given(seeds)
@settings(max_examples=60, deadline=None)
def test_moving_along_the_normal_changes_the_distance_one_to_one_under_overlap(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second, offset = polygon(rng), polygon(rng), rng.uniform(-0.03, 0.03, 2)
    distance, normal = signed_distance(first, second, offset)
    assert np.isclose(np.linalg.norm(normal), 1.0)
    out, _ = signed_distance(first, second, offset + (0.01 - distance) * normal)
    assert out >= 0.01 - 1e-9


@given(seeds)
@settings(max_examples=30, deadline=None)
def test_distance_is_symmetric_with_opposite_normals(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second, offset = polygon(rng), polygon(rng), rng.uniform(-0.12, 0.12, 2)
    there, back = signed_distance(first, second, offset), signed_distance(second, first, -offset)
    assert np.isclose(there[0], back[0])


@pytest.mark.parametrize("seed", range(5))
def test_fifteen_overlapping_objects_come_free_inside_their_ranges(seed: int) -> None:
    rng = np.random.default_rng(seed)
    footprints = [polygon(rng) for _ in range(15)]
    positions = rng.uniform(-0.06, 0.06, (15, 2))
    lower, upper = np.full((15, 2), -0.3), np.full((15, 2), 0.3)
    config = LayoutConfig(clearance=0.005)
    layout = separate(footprints, positions, lower, upper, config)
    assert layout.gap >= config.clearance - config.tolerance
    assert (layout.positions >= lower).all() and (layout.positions <= upper).all()
    for i in range(15):
        for j in range(i):
            assert not overlap(footprints[i], footprints[j], layout.positions[j] - layout.positions[i])


def test_objects_already_apart_stay_where_they_are() -> None:
    square = Footprint.of_points(np.array([[-0.05, -0.05], [0.05, -0.05], [0.05, 0.05], [-0.05, 0.05]]))
    positions = np.array([[0.0, 0.0], [0.2, 0.0], [0.0, 0.2]])
    layout = separate([square] * 3, positions, positions - 1, positions + 1)
    assert layout.iterations == 0
    np.testing.assert_array_equal(layout.positions, positions)


def test_a_crowd_that_cannot_fit_is_reported_with_its_tightest_pair() -> None:
    square = Footprint.of_points(np.array([[-0.05, -0.05], [0.05, -0.05], [0.05, 0.05], [-0.05, 0.05]]))
    positions = np.zeros((3, 2))
    layout = separate([square] * 3, positions, np.full((3, 2), -0.04), np.full((3, 2), 0.04))
    assert layout.gap < 0
    assert layout.tightest[0] < layout.tightest[1]


def test_points_without_area_are_refused() -> None:
    with pytest.raises(ValueError, match="area"):
        Footprint.of_points(np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]]))
