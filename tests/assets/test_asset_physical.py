import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embodichain.assets.geometry.shapes import Solid, box, concatenate, cylinder, moved, to_mesh
from embodichain.assets.physical.mass import principal, shell_properties, solid_properties, with_mass
from embodichain.errors import AssetError
from embodichain.types import Mesh, Pose
from embodichain.types.poses import matrix_of, quaternion_of


def unit(values):
    w, x, y, z = np.asarray(values) / np.linalg.norm(values)
    return (float(w), float(x), float(y), float(z))


quaternions = st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: np.linalg.norm(q) > 0.1).map(unit)


def test_a_box_has_the_textbook_inertia():
    a, b, c = 0.1, 0.2, 0.3
    properties = solid_properties(to_mesh(box((a, b, c))), 1000.0)
    mass = 1000 * a * b * c
    expected = sorted([mass * (b * b + c * c) / 12, mass * (a * a + c * c) / 12, mass * (a * a + b * b) / 12])
    assert properties.mass == pytest.approx(mass, rel=1e-12)
    assert properties.center_of_mass == pytest.approx((0, 0, 0), abs=1e-12)
    assert properties.diagonal_inertia == pytest.approx(expected, rel=1e-12)


def test_a_fine_cylinder_approaches_the_textbook_inertia():
    radius, length = 0.05, 0.2
    properties = solid_properties(to_mesh(cylinder(radius, length, segments=512)), 500.0)
    mass = 500 * math.pi * radius**2 * length
    assert properties.mass == pytest.approx(mass, rel=1e-4)
    assert properties.inertia[2, 2] == pytest.approx(mass * radius**2 / 2, rel=1e-4)
    assert properties.inertia[0, 0] == pytest.approx(mass * (3 * radius**2 + length**2) / 12, rel=1e-4)


@given(turn=quaternions, x=st.floats(-1, 1), y=st.floats(-1, 1), z=st.floats(-1, 1))
@settings(max_examples=50, deadline=None)
def test_a_rigid_motion_moves_the_centre_and_turns_the_inertia(turn, x, y, z):
    mesh = to_mesh(box((0.1, 0.17, 0.3)) + cylinder(0.02, 0.5, "x", segments=12).translate((0.1, 0.02, 0.0)))
    still, pose = solid_properties(mesh, 800.0), Pose(position=(x, y, z), quaternion=turn)
    went = solid_properties(moved(mesh, pose), 800.0)
    rotation = matrix_of(turn)
    assert went.mass == pytest.approx(still.mass, rel=1e-9)
    assert np.allclose(went.center_of_mass, rotation @ still.center_of_mass + (x, y, z), atol=1e-9)
    assert np.allclose(went.inertia, rotation @ still.inertia @ rotation.T, atol=1e-9)
    assert went.diagonal_inertia == pytest.approx(still.diagonal_inertia, rel=1e-6)


@given(quaternions, st.tuples(*[st.floats(0.01, 1.0)] * 3))
@settings(max_examples=50, deadline=None)
def test_principal_axes_are_a_proper_rotation_that_rebuilds_the_inertia(turn, masses):
    # Point masses on three axes make every inertia that obeys the triangle inequality.
    second = matrix_of(turn) @ np.diag(masses) @ matrix_of(turn).T
    inertia = np.trace(second) * np.eye(3) - second
    diagonal, axes = principal(inertia)
    rotation = matrix_of(axes)
    assert np.linalg.det(rotation) == pytest.approx(1.0, abs=1e-9)
    assert np.allclose(rotation @ np.diag(diagonal) @ rotation.T, inertia, atol=1e-9)
    assert diagonal[0] + diagonal[1] >= diagonal[2] * (1 - 1e-9)


def test_an_inertia_of_no_body_is_refused():
    with pytest.raises(AssetError, match="triangle inequality"):
        principal(np.diag([1.0, 1.0, 3.0]))


@pytest.mark.parametrize("thickness", [0.0005, 0.002, 0.005])
def test_a_shell_is_the_difference_of_two_solids(thickness):
    outer, inner = box((0.06, 0.08, 0.2)), box((0.06 - 2 * thickness, 0.08 - 2 * thickness, 0.2 - 2 * thickness))
    truth = solid_properties(to_mesh(outer - inner), 1000.0)
    shell = shell_properties(to_mesh(outer), 1000.0, thickness)
    assert shell.mass == pytest.approx(truth.mass, rel=0.005)
    assert np.abs(shell.inertia - truth.inertia).max() < 0.01 * truth.inertia.max()


def test_a_shell_of_a_sphere_keeps_the_volume_between_the_spheres():
    shell = shell_properties(to_mesh(Solid.sphere(0.05, 128)), 1000.0, 0.002)
    assert shell.mass == pytest.approx(1000 * 4 / 3 * math.pi * (0.05**3 - 0.048**3), rel=0.005)


def test_a_wall_thicker_than_the_object_is_refused():
    with pytest.raises(AssetError, match="wall of"):
        shell_properties(to_mesh(box((0.02, 0.02, 0.02))), 1000.0, 0.05)


def test_a_given_mass_wins_and_rescales_the_inertia():
    properties = solid_properties(to_mesh(box((0.1, 0.1, 0.2))), 1000.0)
    light = with_mass(properties, 0.5)
    assert light.mass == 0.5
    assert np.allclose(light.inertia, properties.inertia * 0.5 / properties.mass)


def test_an_inside_out_mesh_has_no_mass():
    cube = to_mesh(box((0.1, 0.1, 0.1)))
    with pytest.raises(AssetError, match="closed, outward"):
        solid_properties(Mesh(vertices=cube.vertices, faces=cube.faces[:, ::-1].copy()), 1000.0)


def test_separate_solids_add():
    cube = to_mesh(box((0.1, 0.1, 0.1)))
    other = moved(cube, Pose(position=(0.5, 0.0, 0.0)))
    both = solid_properties(concatenate([cube, other]), 1000.0)
    assert both.mass == pytest.approx(2 * 1000 * 0.001)
    assert both.center_of_mass == pytest.approx((0.25, 0.0, 0.0))


@given(quaternions)
@settings(max_examples=100, deadline=None)
def test_a_quaternion_survives_its_matrix(turn):
    assert np.allclose(matrix_of(quaternion_of(matrix_of(turn))), matrix_of(turn), atol=1e-9)
