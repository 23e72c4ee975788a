import numpy as np
import pytest
from asset_parts import exact_union
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import ConvexHull

from embodichain.assets.families import source
from embodichain.assets.geometry.collision import CollisionConfig, convex_hull, decompose, measure, reduce_hull
from embodichain.assets.geometry.shapes import Solid, box, signed_volume, to_mesh
from embodichain.errors import AssetError, ConfigError
from embodichain.types import Mesh


@given(seed=st.integers(0, 10_000), count=st.integers(80, 500), budget=st.integers(16, 64))
@settings(max_examples=25, deadline=None)
def test_a_reduced_hull_is_convex_inside_and_within_budget(seed, count, budget):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(count, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    whole = convex_hull(points)
    small = reduce_hull(whole, budget)
    assert len(small.vertices) <= budget
    assert signed_volume(small) <= signed_volume(whole) * (1 + 1e-9)
    assert signed_volume(small) == pytest.approx(ConvexHull(small.vertices).volume, rel=1e-9)


def test_64_vertices_lose_little_of_a_bottle():
    bottle = exact_union(source.procedural("bottle", 0).parts[0].mesh).trim_by_plane((0, 0, -1), -0.1)
    whole = to_mesh(bottle.hull())
    assert signed_volume(reduce_hull(whole, 64)) > 0.977 * signed_volume(whole)


def test_a_convex_solid_is_one_hull():
    hulls = decompose(to_mesh(box((0.1, 0.1, 0.1), chamfer=0.01)))
    assert len(hulls) == 1
    assert signed_volume(hulls[0]) == pytest.approx(signed_volume(to_mesh(box((0.1, 0.1, 0.1), chamfer=0.01))))


def test_hulls_cover_a_hollow_thing_without_filling_it():
    cup = to_mesh(box((0.1, 0.1, 0.04)) - box((0.08, 0.08, 0.04)).translate((0, 0, 0.01)))
    hulls = decompose(cup)
    fit = measure(cup, hulls)
    assert fit.missing < 0.01
    assert fit.over < 0.05
    assert all(len(hull.vertices) <= 64 for hull in hulls)


def test_no_hull_reaches_across_a_seam():
    # A plate on a block: one hull of both fills the corner under the plate, where something else is to fit.
    flanged = to_mesh(box((0.04, 0.04, 0.02)).translate((0, 0, 0.01)) + box((0.05, 0.05, 0.002)).translate((0, 0, 0.021)))
    (whole,) = decompose(flanged, CollisionConfig(hull_cost=0.5))
    assert whole.vertices[:, 2].min() < 0.001 < 0.021 < whole.vertices[:, 2].max()
    hulls = decompose(flanged, CollisionConfig(hull_cost=0.5), seams=(0.0195,))
    heights = [(hull.vertices[:, 2].min(), hull.vertices[:, 2].max()) for hull in hulls]
    np.testing.assert_allclose(sorted(heights), [(0.0, 0.0195), (0.0195, 0.022)], atol=1e-9)
    assert measure(flanged, hulls).missing < 1e-6


def test_the_same_mesh_gives_the_same_hulls():
    mesh = to_mesh(exact_union(source.procedural("switch", 1).parts[0].mesh))
    first, second = (decompose(mesh) for _ in range(2))
    assert all(np.array_equal(a.vertices, b.vertices) for a, b in zip(first, second, strict=True))


def test_points_in_a_plane_are_no_hull():
    with pytest.raises(AssetError, match="no volume"):
        convex_hull(np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0.0]]))


def test_physics_feels_what_cameras_see(catalog):
    for asset in catalog.values():
        for body in asset.bodies:
            fit = measure(body.visual, body.hulls)
            assert fit.missing < 0.06, asset.name
            assert fit.over < 0.35, asset.name
            felt = np.concatenate([hull.vertices for hull in body.hulls])
            reach = np.abs(felt.min(axis=0) - body.visual.vertices.min(axis=0)).max()
            assert reach < 0.001
            assert isinstance(body.visual, Mesh)


def test_cheaper_hulls_fit_a_thin_shell_closer():
    mesh = to_mesh(Solid.cylinder(0.1, 0.04, 0.04, 48) - Solid.cylinder(0.1, 0.037, 0.037, 48).translate((0.0, 0.0, 0.003)))
    usual, finer = (measure(mesh, decompose(mesh, CollisionConfig(hull_cost=cost))) for cost in (0.003, 0.0007))
    assert finer.over < 0.7 * usual.over
    assert finer.over < 0.10
    with pytest.raises(ConfigError, match="between 0 and 1"):
        CollisionConfig(hull_cost=0.0)
