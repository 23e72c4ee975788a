import numpy as np
import pytest
import trimesh
from asset_parts import exact_union

from embodichain.assets.families import source
from embodichain.assets.geometry.corrupt import MessConfig, broken
from embodichain.assets.geometry.remesh import remesh, surface_distances, winding_numbers
from embodichain.assets.geometry.repair import RepairConfig, RepairMethod, refuse, repair
from embodichain.assets.geometry.shapes import (
    Solid,
    box,
    concatenate,
    cylinder,
    diagonal,
    moved,
    signed_volume,
    sweep,
    to_mesh,
    to_solid,
)
from embodichain.assets.geometry.topology import boundary_loops, close_holes, components, drop_fins, oriented, weld
from embodichain.assets.physical.mass import solid_properties
from embodichain.errors import AssetError
from embodichain.types import Mesh, Pose


def flipped(mesh):
    return Mesh(vertices=mesh.vertices, faces=mesh.faces[:, ::-1].copy())


DIFFERENT = ("block", "carafe", "drawer_cabinet", "mug", "rack", "switch")
"""Families whose solids differ in kind: massive, thin and hollow, of drawers, with a handle, of rods, of parts that move."""
OTHERS = [pytest.param(name, marks=pytest.mark.slow) for name in source.categories() if name not in DIFFERENT]


@pytest.mark.parametrize("category", [*DIFFERENT, *OTHERS])
def test_a_broken_mesh_gives_back_the_solid_it_came_from(category):
    clean, messy = source.procedural(category, 7), source.procedural(category, 7, MessConfig())
    for before, part in zip(clean.parts, messy.parts, strict=True):
        truth = exact_union(before.mesh)
        result, report = repair(part.mesh)
        solid = to_solid(result)
        assert trimesh.Trimesh(result.vertices, result.faces, process=False).is_watertight
        assert report.method is RepairMethod.UNION
        assert report.floaters_dropped >= 1
        assert report.holes_filled >= 1
        assert (solid ^ truth).volume() / (solid + truth).volume() > 0.97
        exact, found = (solid_properties(mesh, 1000.0) for mesh in (to_mesh(truth), result))
        assert found.mass == pytest.approx(exact.mass, rel=0.01)
        assert np.linalg.norm(np.subtract(found.center_of_mass, exact.center_of_mass)) < 0.01 * diagonal(before.mesh)
        assert np.abs(found.inertia - exact.inertia).max() < 0.01 * np.abs(exact.inertia).max()


def test_repair_is_deterministic():
    mesh = source.procedural("block", 3, MessConfig()).parts[0].mesh
    (first, _), (second, _) = repair(mesh), repair(mesh)
    assert np.array_equal(first.vertices, second.vertices)
    assert np.array_equal(first.faces, second.faces)


CUBE = to_mesh(box((0.1, 0.1, 0.1)))
NAN = CUBE.vertices.copy()
NAN[3, 1] = np.nan
REFUSED = {
    "empty": (Mesh(vertices=np.zeros((0, 3)), faces=np.zeros((0, 3), np.int32)), "empty"),
    "point cloud": (Mesh(vertices=CUBE.vertices, faces=np.zeros((0, 3), np.int32)), "point cloud"),
    "nan": (Mesh(vertices=NAN, faces=CUBE.faces), "NaN"),
    "index too large": (Mesh(vertices=CUBE.vertices, faces=CUBE.faces + 3), "indices"),
    "index negative": (Mesh(vertices=CUBE.vertices, faces=CUBE.faces - 1), "indices"),
    "no area": (Mesh(vertices=np.ones((8, 3)), faces=CUBE.faces), "no area"),
    "plane": (Mesh(vertices=CUBE.vertices * [1, 1, 0], faces=CUBE.faces), "one plane"),
    "quads": (Mesh(vertices=CUBE.vertices, faces=np.array([[0, 1, 2, 3]], np.int32)), "triangulate"),
    "too many faces": (Mesh(vertices=CUBE.vertices, faces=np.tile(CUBE.faces, (500_000, 1))), "limit"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_hopeless_input_is_refused_with_its_stage_and_reason(name):
    mesh, reason = REFUSED[name]
    with pytest.raises(AssetError, match=reason) as caught:
        refuse(mesh)
    assert str(caught.value).startswith("read: ")


def test_a_bent_sheet_of_no_thickness_is_refused():
    grid = np.stack(np.meshgrid(np.linspace(0, 0.2, 20), np.linspace(0, 0.2, 20)), axis=-1).reshape(-1, 2)
    points = np.column_stack([grid, 0.01 * np.sin(30 * grid[:, 0])])
    i = np.arange(19)[:, None] * 20 + np.arange(19)
    faces = np.concatenate([np.stack([i, i + 1, i + 21], -1).reshape(-1, 3), np.stack([i, i + 21, i + 20], -1).reshape(-1, 3)])
    sheet = Mesh(vertices=points, faces=faces.astype(np.int32))
    with pytest.raises(AssetError, match=r"repair|remesh"):
        repair(sheet, RepairConfig(resolution=48))


def test_an_inside_out_solid_is_turned_round():
    result, _ = repair(flipped(CUBE))
    assert signed_volume(result) == pytest.approx(0.001)


def test_a_cavity_stays_hollow():
    hollow = concatenate([CUBE, flipped(to_mesh(box((0.06, 0.06, 0.06))))])
    result, report = repair(hollow)
    assert signed_volume(result) == pytest.approx(0.001 - 0.06**3, rel=1e-6)
    assert report.agreement > 0.99


def test_junk_inside_a_solid_is_swallowed():
    junk = concatenate([CUBE, to_mesh(box((0.06, 0.06, 0.06)))])
    assert signed_volume(repair(junk)[0]) == pytest.approx(0.001, rel=1e-6)


def test_a_solid_that_passes_through_itself_counts_the_overlap_once():
    # A tube along an eight that crosses itself in the middle; its ends stay apart.
    turn = np.linspace(-0.4 * np.pi, 1.4 * np.pi, 121)
    path = np.stack([0.06 * np.sin(turn), np.zeros_like(turn), 0.04 * np.sin(2 * turn)], axis=1)
    tube = to_mesh(sweep(path, 0.008, 0.008, 16))
    truth = (sweep(path[:62], 0.008, 0.008, 16) + sweep(path[60:], 0.008, 0.008, 16)).volume()
    assert signed_volume(tube) > 1.03 * truth
    result, report = repair(tube, RepairConfig(resolution=96))
    assert signed_volume(result) == pytest.approx(truth, rel=0.01)
    assert report.method is RepairMethod.REMESH
    assert "passes through itself" in report.note


def test_thousands_of_shells_are_dropped_beside_a_thing_and_refused_alone():
    rng = np.random.default_rng(0)
    crumb = to_mesh(box((0.004, 0.004, 0.004)))
    crumbs = [Mesh(vertices=crumb.vertices + rng.uniform(-0.2, 0.2, 3), faces=crumb.faces) for _ in range(3000)]
    with pytest.raises(AssetError, match="none of 3000 components"):
        repair(concatenate(crumbs))
    result, report = repair(concatenate([CUBE, *crumbs]))
    assert report.floaters_dropped == 3000
    assert signed_volume(result) == pytest.approx(0.001)


def test_solids_that_share_an_edge_come_apart_and_unite():
    other = moved(CUBE, Pose(position=(0.1, 0.1, 0.0)))
    result, report = repair(concatenate([CUBE, other]))
    assert report.components == 2
    assert signed_volume(result) == pytest.approx(0.002, rel=1e-6)


def test_a_one_sided_surface_does_not_pass_for_a_solid():
    angles = np.linspace(0, 2 * np.pi, 61)[:-1]
    rims = [
        np.stack(
            [
                (0.1 + s * 0.03 * np.cos(angles / 2)) * np.cos(angles),
                (0.1 + s * 0.03 * np.cos(angles / 2)) * np.sin(angles),
                s * 0.03 * np.sin(angles / 2),
            ],
            axis=1,
        )
        for s in (-1, 1)
    ]
    n, i = 60, np.arange(60)
    j, twist = (i + 1) % n, i == n - 1
    a, b = i, i + n
    c, d = np.where(twist, j + n, j), np.where(twist, j, j + n)
    band = Mesh(
        vertices=np.concatenate(rims), faces=np.concatenate([np.stack([a, c, b], 1), np.stack([b, c, d], 1)]).astype(np.int32)
    )
    assert not oriented(band)[1]
    with pytest.raises(AssetError):
        repair(band, RepairConfig(resolution=48))


def test_fins_are_peeled_and_the_solid_stays():
    fin = np.concatenate([CUBE.vertices, [[0.0, 0.0, 0.3]]])
    faces = np.concatenate([CUBE.faces, [[CUBE.faces[0, 0], CUBE.faces[0, 1], 8]]]).astype(np.int32)
    assert len(fin) == 9
    assert len(drop_fins(faces)) == len(CUBE.faces)


def test_welding_joins_a_torn_solid():
    torn = Mesh(vertices=CUBE.vertices[CUBE.faces].reshape(-1, 3), faces=np.arange(36, dtype=np.int32).reshape(-1, 3))
    assert len(components(torn)) == 12
    assert len(components(weld(torn, 1e-6))) == 1


def test_filling_a_hole_in_a_sphere_keeps_its_volume():
    ball = to_mesh(Solid.sphere(0.05, 64))
    pole = np.argsort(-ball.vertices[ball.faces].mean(axis=1)[:, 2])[:24]
    open_ball = Mesh(vertices=ball.vertices, faces=np.delete(ball.faces, pole, axis=0))
    assert len(boundary_loops(open_ball.faces)) == 1
    closed, holes = close_holes(open_ball)
    assert holes == 1
    assert not boundary_loops(closed.faces)
    assert signed_volume(closed) == pytest.approx(signed_volume(ball), rel=1e-3)


def test_winding_numbers_count_what_is_around_a_point():
    points = np.array([[0.0, 0.0, 0.0], [0.3, 0.0, 0.0], [0.049, 0.0, 0.0], [0.051, 0.0, 0.0]])
    ball = to_mesh(Solid.sphere(0.05, 96))
    assert np.allclose(winding_numbers(points, ball), [1, 0, 1, 0], atol=1e-2)
    assert winding_numbers(points[:1], concatenate([ball, ball]))[0] == pytest.approx(2.0, abs=3e-2)


def test_surface_distance_to_a_sphere_is_radial():
    points = np.random.default_rng(0).normal(size=(200, 3)) * 0.05
    found = surface_distances(points, to_mesh(Solid.sphere(0.05, 256)))
    assert np.allclose(found, np.abs(np.linalg.norm(points, axis=1) - 0.05), atol=5e-5)


def test_remeshing_gives_a_watertight_solid_of_the_same_volume():
    soup = concatenate([CUBE, moved(to_mesh(cylinder(0.02, 0.2)), Pose(position=(0.03, 0.0, 0.0)))])
    mesh = remesh(soup, 48)
    assert to_solid(mesh).volume() == pytest.approx(exact_union(soup).volume(), rel=0.01)
    assert trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).is_watertight


def test_what_the_union_cannot_close_is_remeshed_and_said_so():
    # Two faces of every corner fan are gone and an inner wall meets the side: edges of three faces, no closed component.
    wall = Mesh(
        vertices=np.array([[-0.05, 0.0, -0.05], [0.05, 0.0, -0.05], [0.05, 0.0, 0.05], [-0.05, 0.0, 0.05]]),
        faces=np.array([[0, 1, 2], [0, 2, 3]], np.int32),
    )
    halves = to_mesh(box((0.1, 0.05, 0.1)).translate((0, 0.025, 0))), to_mesh(box((0.1, 0.05, 0.1)).translate((0, -0.025, 0)))
    shared = concatenate([*halves, wall])
    result, report = repair(shared, RepairConfig(resolution=64))
    assert signed_volume(result) == pytest.approx(0.001, rel=0.02), report


def test_the_mess_maker_leaves_no_closed_mesh():
    mesh = broken(CUBE, np.random.default_rng(0), MessConfig())
    assert not trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).is_watertight
