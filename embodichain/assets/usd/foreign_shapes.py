"""The solids for which USD has prims: analytic shapes, and cones as triangles."""

from __future__ import annotations

import math

from pxr import Usd, UsdGeom

from embodichain.assets.families.parts import Finish, Look
from embodichain.assets.geometry.shapes import Solid, moved, to_mesh
from embodichain.assets.reading.looks import plain
from embodichain.types import Pose, Quaternion, Shape, ShapeKind

_SHAPES = {
    "Cube": ShapeKind.BOX, "Sphere": ShapeKind.SPHERE, "Cylinder": ShapeKind.CYLINDER, "Capsule": ShapeKind.CAPSULE,
    "Cylinder_1": ShapeKind.CYLINDER, "Capsule_1": ShapeKind.CAPSULE,
}  # fmt: skip
_HALF = math.sqrt(0.5)
_TURNS: dict[str, Quaternion] = {"X": (_HALF, 0.0, _HALF, 0.0), "Y": (_HALF, -_HALF, 0.0, 0.0), "Z": (1.0, 0.0, 0.0, 0.0)}
"""Rotation from Z to each named axis."""
_SIDES = 48


def shape_of(prim: Usd.Prim) -> Shape | None:
    """The analytic shape of a prim, in its own frame; None if it has none."""
    name = str(prim.GetTypeName())
    kind = _SHAPES.get(name)
    if kind is None:
        return None
    if kind is ShapeKind.BOX:
        edge = float(UsdGeom.Cube(prim).GetSizeAttr().Get())
        return Shape(kind=kind, size=(edge, edge, edge))
    if kind is ShapeKind.SPHERE:
        return Shape(kind=kind, size=(float(UsdGeom.Sphere(prim).GetRadiusAttr().Get()), 0.0, 0.0))
    radii = ("radiusBottom", "radiusTop") if name.endswith("_1") else ("radius", "radius")
    bottom, top = (float(prim.GetAttribute(radius).Get()) for radius in radii)
    if not math.isclose(bottom, top):
        return None
    size = (bottom, float(prim.GetAttribute("height").Get()), 0.0)
    return Shape(kind=kind, size=size, pose=Pose(quaternion=_TURNS[str(prim.GetAttribute("axis").Get())]))


def cone_look(prim: Usd.Prim, finish: Finish) -> Look | None:
    """The triangles of a cone, or of a cylinder with two radii; None for other prims."""
    name = str(prim.GetTypeName())
    if name not in ("Cone", "Cylinder_1"):
        return None
    bottom, top = (
        float(prim.GetAttribute(r).Get()) for r in (("radius", "radius") if name == "Cone" else ("radiusBottom", "radiusTop"))
    )
    height = float(prim.GetAttribute("height").Get())
    solid = Solid.cylinder(height, bottom, 0.0 if name == "Cone" else top, _SIDES, True)
    look = plain(moved(to_mesh(solid), Pose(quaternion=_TURNS[str(prim.GetAttribute("axis").Get())])), finish.color)
    return Look(mesh=look.mesh, finishes=(finish,), finish=look.finish)
