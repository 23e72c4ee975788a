"""USD from elsewhere, in the ways that its schemas allow to say things."""

import math

import numpy as np
import pytest

from embodichain.assets.families.parts import Preservation
from embodichain.assets.reading.usd_source import read_usd
from embodichain.types import JointKind, ShapeKind

HEAD = '#usda 1.0\n(\n defaultPrim = "o"\n metersPerUnit = 1\n upAxis = "Z"\n)\n'
BODY = 'prepend apiSchemas = ["PhysicsRigidBodyAPI", "PhysicsCollisionAPI"]'
ENDS = """ rel physics:body0 = </o/a>
 rel physics:body1 = </o/b>
 point3f physics:localPos0 = (0, 0, 0.055)
 point3f physics:localPos1 = (0, 0, -0.055)
"""


def stage(path, inner):
    path.write_text(f'{HEAD}def Xform "o" {{\n{inner}\n}}\n')
    return read_usd(path)


def cube(name, height, extra="", schemas=BODY):
    return (
        f' def Cube "{name}" ({schemas}) {{\n  double size = 0.1\n  double3 xformOp:translate = (0, 0, {height})\n'
        f'  uniform token[] xformOpOrder = ["xformOp:translate"]\n{extra} }}\n'
    )


def two(joint):
    return cube("a", 0.05) + cube("b", 0.16) + joint


def test_a_prim_that_is_body_and_collider_at_once_is_both(tmp_path):
    reading = stage(tmp_path / "s.usda", cube("a", 0.05))
    (part,) = reading.parts
    assert [collider.shape.kind for collider in part.stated.colliders] == [ShapeKind.BOX]


def test_a_joint_without_a_kind_moves_as_its_limits_let_it(tmp_path):
    locked = "".join(
        f"  float limit:{axis}:physics:low = 1\n  float limit:{axis}:physics:high = -1\n" for axis in ("transZ", "rotX", "rotY")
    )
    limits = "  float limit:rotZ:physics:low = -30\n  float limit:rotZ:physics:high = 60\n"
    schemas = ", ".join(f'"PhysicsLimitAPI:{axis}"' for axis in ("transZ", "rotX", "rotY", "rotZ"))
    reading = stage(
        tmp_path / "s.usda", two(f' def PhysicsJoint "j" (prepend apiSchemas = [{schemas}]) {{\n{ENDS}{locked}{limits} }}\n')
    )
    x, y, turn = reading.joints
    assert [joint.kind for joint in (x, y, turn)] == [JointKind.PRISMATIC, JointKind.PRISMATIC, JointKind.REVOLUTE]
    assert np.allclose([x.axis, y.axis, turn.axis], np.eye(3))
    assert (turn.lower, turn.upper) == pytest.approx((math.radians(-30), math.radians(60)))
    assert (x.parent, turn.child) == ("a", "b")
    assert not [row for row in reading.fidelity if "limit:" in row.what], "all of its limits are read"


def test_a_ball_leans_as_far_as_its_cone(tmp_path):
    turned = (
        " quatf physics:localRot0 = (0.70710678, 0, 0, 0.70710678)\n quatf physics:localRot1 = (0.70710678, 0, 0, 0.70710678)\n"
    )
    for axis, first, second, expected in (
        ("X", 30, 20, (math.inf, 20, 30)),
        ("Z", 30, 20, (20, 30, math.inf)),
        ("X", 30, -1, (math.inf, math.inf, 30)),
        ("X", 25, 25, (math.inf, 25, 25)),
    ):
        cone = f'  uniform token physics:axis = "{axis}"\n  float physics:coneAngle0Limit = {first}\n'
        cone += f"  float physics:coneAngle1Limit = {second}\n"
        reading = stage(tmp_path / f"{axis}{second}.usda", two(f' def PhysicsSphericalJoint "j" {{\n{ENDS}{turned}{cone} }}\n'))
        assert [math.degrees(joint.upper) for joint in reading.joints] == pytest.approx(expected, abs=1e-4)
        assert [joint.lower for joint in reading.joints] == [-joint.upper for joint in reading.joints]
        assert np.allclose([joint.axis for joint in reading.joints], [(0, 1, 0), (-1, 0, 0), (0, 0, 1)], atol=1e-6)
        assert "cone limit" in {row.what for row in reading.fidelity}


def test_a_surface_may_state_its_bounce_or_its_density_alone(tmp_path):
    for number, (line, name, value) in enumerate(
        (("float physics:restitution = 0.6", "restitution", 0.6), ("float physics:density = 700", "density", 700.0))
    ):
        bound = "  rel material:binding:physics = </o/m>\n"
        schemas = 'prepend apiSchemas = ["PhysicsRigidBodyAPI", "PhysicsCollisionAPI", "MaterialBindingAPI"]'
        material = f' def Material "m" (prepend apiSchemas = ["PhysicsMaterialAPI"]) {{\n  {line}\n }}\n'
        (part,) = stage(tmp_path / f"s{number}.usda", cube("a", 0.05, bound, schemas) + material).parts
        assert getattr(part.stated, name) == pytest.approx(value)


def test_masses_below_a_body_are_read_or_listed(tmp_path):
    body = ' def Xform "a" (prepend apiSchemas = ["PhysicsRigidBodyAPI"]) {\n'
    schemas = 'prepend apiSchemas = ["PhysicsCollisionAPI", "PhysicsMassAPI"]'
    stated = "   float physics:density = 700\n   point3f physics:centerOfMass = (0.01, 0, 0)\n"
    reading = stage(tmp_path / "s.usda", f"{body}{cube('c', 0.05, stated, schemas)} }}\n")
    assert reading.parts[0].stated.density == pytest.approx(700.0)
    assert [(row.what, row.fate) for row in reading.fidelity] == [("physics:centerOfMass", Preservation.DROPPED)]


def test_drives_of_axes_that_a_joint_does_not_have_are_listed(tmp_path):
    drive = '(prepend apiSchemas = ["PhysicsDriveAPI:rotX"])'
    reading = stage(
        tmp_path / "s.usda", two(f' def PhysicsRevoluteJoint "j" {drive} {{\n{ENDS}  float drive:rotX:physics:damping = 3\n }}\n')
    )
    assert [row.what for row in reading.fidelity] == ["drive:rotX:physics:damping"]


def test_cones_are_seen_and_felt(tmp_path):
    schemas = 'prepend apiSchemas = ["PhysicsCollisionAPI"]'
    cone = f' def Cone "c" ({schemas}) {{\n  double radius = 0.05\n  double height = 0.1\n  uniform token axis = "X"\n }}\n'
    (part,) = stage(tmp_path / "s.usda", cone).parts
    assert np.ptp(part.mesh.vertices, axis=0) == pytest.approx([0.1, 0.1, 0.1], rel=1e-6)
    tip = part.mesh.vertices[np.abs(part.mesh.vertices[:, 1:]).max(axis=1) < 1e-9]
    assert tip[:, 0].max() == pytest.approx(0.05)
    assert len(part.stated.colliders) == 1
