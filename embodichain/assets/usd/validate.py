"""Our own physical checks of a USD file: finds faults that would make a simulation wrong, each with its name and prim."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull, QhullError

from embodichain.assets.geometry.shapes import drawn
from embodichain.assets.usd import files as usd
from embodichain.assets.usd.usd_contents import Issue, PrimFacts, StageFacts
from embodichain.errors import AssetError
from embodichain.types import Shape, ShapeKind
from embodichain.types.poses import matrix_of

_BODY, _MASS, _COLLIDER = "PhysicsRigidBodyAPI", "PhysicsMassAPI", "PhysicsCollisionAPI"
_MESH_COLLIDER, _MATERIAL, _ROOT = "PhysicsMeshCollisionAPI", "PhysicsMaterialAPI", "PhysicsArticulationRootAPI"
_JOINTS = ("PhysicsFixedJoint", "PhysicsRevoluteJoint", "PhysicsPrismaticJoint", "PhysicsSphericalJoint", "PhysicsJoint")
_DYNAMIC_SHAPES = ("convexHull", "convexDecomposition", "boundingCube", "boundingSphere", "sdf")
DENSITIES = (5.0, 25_000.0)
"""Range of mean densities [kg/m^3] of table-top objects: from foam to heavy metal."""
TRIANGLE = 1e-4
"""Tolerance for the triangle inequality of moments, in single precision."""
INERTIA_REACH = 2.0
"""Largest ratio of a moment to mass times the square of the farthest point's distance."""
OUTSIDE_M = 1e-5
"""How far a body's centre of mass may lie outside its hull [m], because of single precision."""
_SHAPES = ("Cube", "Sphere", "Cylinder", "Capsule", "Cone")


def check(path: Path) -> list[Issue]:
    """All faults found in the asset at `path`; empty when it can be simulated."""
    try:
        facts = usd.inspect(path)
    except AssetError as error:
        return [Issue(check="readable", prim="/", message=str(error))]
    issues = [
        *_stage(facts),
        *_bodies(facts),
        *_colliders(facts),
        *_joints(facts),
        *_meshes(facts),
        *_materials(facts),
    ]
    if not issues:
        try:
            if is_ours(facts):
                usd.read(path)
        except AssetError as error:
            issues.append(Issue(check="readable", prim="/", message=str(error)))
    return issues


def is_ours(facts: StageFacts) -> bool:
    """Whether this package wrote the file; other files are not checked for attributes that only this package writes."""
    return any(_ours(prim) for prim in facts.prims if prim.path == facts.default_prim)


def _ours(root: PrimFacts) -> bool:
    return any(name.startswith("embodichain:") for name in root.values)


def _stage(facts: StageFacts) -> Iterator[Issue]:
    if facts.meters_per_unit != 1.0:
        yield Issue(check="meters_per_unit", prim="/", message=f"metersPerUnit is {facts.meters_per_unit}, expected 1")
    if facts.kilograms_per_unit != 1.0:
        yield Issue(check="kilograms_per_unit", prim="/", message=f"kilogramsPerUnit is {facts.kilograms_per_unit}, expected 1")
    if facts.up_axis != "Z":
        yield Issue(check="up_axis", prim="/", message=f"upAxis is {facts.up_axis}, expected Z")
    if not facts.default_prim:
        yield Issue(check="default_prim", prim="/", message="no default prim: a reference to this file brings nothing")
        return
    root = next(prim for prim in facts.prims if prim.path == facts.default_prim)
    if root.kind != "component":
        yield Issue(check="kind", prim=root.path, message=f"kind is {root.kind or 'missing'}, expected component")
    if _ours(root) and not str(root.values.get("embodichain:licence", "")):
        yield Issue(check="licence", prim=root.path, message="no licence: nobody may use what states no terms")


def _bodies(facts: StageFacts) -> Iterator[Issue]:
    bodies = [prim for prim in facts.prims if _BODY in prim.schemas]
    if not bodies:
        yield Issue(check="rigid_body", prim=facts.default_prim or "/", message=f"no prim has {_BODY}")
    for body in bodies:
        outer = [other.path for other in bodies if body.path.startswith(other.path + "/")]
        if outer:
            yield Issue(check="nested_body", prim=body.path, message=f"lies inside body {outer[0]}; make them siblings")
        stretch = np.linalg.norm(body.matrix[:3, :3], axis=1)
        if not np.allclose(stretch, 1.0, atol=1e-6):
            yield Issue(check="scale", prim=body.path, message=f"scaled by {stretch.round(6).tolist()}; bake scale into points")
        mass = body.values.get("physics:mass")
        if _MASS not in body.schemas or mass is None:
            yield Issue(check="mass", prim=body.path, message="no authored mass")
            continue
        if not (np.isfinite(mass) and mass > 0):
            yield Issue(check="mass", prim=body.path, message=f"mass is {mass} kg")
        yield from _inertia(facts, body)


def _inertia(facts: StageFacts, body: PrimFacts) -> Iterator[Issue]:
    moments = body.values.get("physics:diagonalInertia")
    axes = body.values.get("physics:principalAxes")
    center = body.values.get("physics:centerOfMass")
    mass = body.values["physics:mass"]
    if moments is None or axes is None or center is None:
        yield Issue(check="inertia", prim=body.path, message="centerOfMass, diagonalInertia and principalAxes must be authored")
        return
    low, middle, high = np.sort(np.asarray(moments, np.float64))
    if not (np.isfinite(moments).all() and low > 0):
        yield Issue(check="inertia", prim=body.path, message=f"moments {np.asarray(moments).tolist()} kg m^2 are not positive")
    elif low + middle < high * (1 - TRIANGLE):
        yield Issue(check="inertia", prim=body.path, message=f"moments {[low, middle, high]} break the triangle inequality")
    if not abs(np.linalg.norm(axes) - 1.0) < 1e-4:
        yield Issue(check="inertia", prim=body.path, message=f"principalAxes {np.asarray(axes).tolist()} is no unit quaternion")
    points = _points_under(facts, body)
    if not len(points) or not np.isfinite(points).all():
        return
    try:
        hull = ConvexHull(points)
    except QhullError:
        yield Issue(check="volume", prim=body.path, message="meshes of the body span no volume")
        return
    outside = float((hull.equations[:, :3] @ np.asarray(center, np.float64) + hull.equations[:, 3]).max())
    if not outside <= OUTSIDE_M:
        yield Issue(check="center_of_mass", prim=body.path, message=f"centre of mass is {outside * 1e3:.2f} mm outside the body")
    if np.isfinite(mass) and mass > 0:
        density = mass / hull.volume
        if not DENSITIES[0] <= density <= DENSITIES[1]:
            yield Issue(
                check="density", prim=body.path, message=f"{mass:.4g} kg in a hull of {hull.volume:.3g} m^3: {density:.3g} kg/m^3"
            )
        reach = np.linalg.norm(points - np.asarray(center), axis=1).max()
        if high > INERTIA_REACH * mass * reach**2:
            yield Issue(check="inertia", prim=body.path, message=f"moment {high:.3g} kg m^2 exceeds mass times reach squared")


def _colliders(facts: StageFacts) -> Iterator[Issue]:
    bodies = [prim for prim in facts.prims if _BODY in prim.schemas]
    for body in bodies:
        below = [prim for prim in facts.prims if prim.path.startswith(body.path + "/")]
        colliders = [prim for prim in below if _COLLIDER in prim.schemas and prim.values.get("physics:collisionEnabled", True)]
        seen = any(prim.type_name in ("Mesh", *_SHAPES) for prim in below)
        if not colliders and seen and not _held(facts, body):  # a link of a robot may have no colliders
            yield Issue(
                check="collider", prim=body.path, message=f"no mesh below has {_COLLIDER}: the body falls through everything"
            )
        for prim in below:
            if prim.type_name != "Mesh" or _COLLIDER in prim.schemas:
                continue
            if prim.values.get("purpose") == "guide" or _MESH_COLLIDER in prim.schemas:
                yield Issue(check="collider", prim=prim.path, message=f"a collision mesh without {_COLLIDER}")
        yield from _covering(body, below, colliders)
    for prim in facts.prims:
        if _COLLIDER not in prim.schemas or prim.type_name != "Mesh":
            continue
        shape = prim.values.get("physics:approximation", "none")
        if any(prim.path.startswith(body.path + "/") for body in bodies) and shape not in _DYNAMIC_SHAPES:
            available = ", ".join(_DYNAMIC_SHAPES)
            yield Issue(
                check="approximation", prim=prim.path, message=f"approximation {shape} on a dynamic body; available: {available}"
            )


def _held(facts: StageFacts, body: PrimFacts) -> bool:
    """Whether a body without colliders is carried by a joint and other bodies have colliders, so that it does not fall through."""
    ends = {path for prim in facts.prims for name in ("physics:body0", "physics:body1") for path in prim.targets.get(name, ())}
    return body.path in ends and any(_COLLIDER in prim.schemas for prim in facts.prims)


def _covering(body: PrimFacts, below: list[PrimFacts], colliders: list[PrimFacts]) -> Iterator[Issue]:
    """Checks that colliders fill the same box as the visible geometry."""
    visible = [
        prim
        for prim in below
        if prim.type_name in ("Mesh", *_SHAPES) and prim not in colliders and prim.values.get("purpose") != "guide"
    ]
    if not visible or not colliders:
        return
    seen = np.concatenate([_points(prim) for prim in visible])
    felt = np.concatenate([_points(prim) for prim in colliders])
    if not (np.isfinite(seen).all() and np.isfinite(felt).all()) or not len(seen) or not len(felt):
        return
    gap = max(np.abs(seen.min(axis=0) - felt.min(axis=0)).max(), np.abs(seen.max(axis=0) - felt.max(axis=0)).max())
    if gap > 0.05 * np.linalg.norm(np.ptp(seen, axis=0)):
        yield Issue(check="collider_fit", prim=body.path, message=f"colliders and visual differ by {gap * 1e3:.1f} mm in extent")


def _joints(facts: StageFacts) -> Iterator[Issue]:
    by_path = {prim.path: prim for prim in facts.prims}
    roots = [prim.path for prim in facts.prims if _ROOT in prim.schemas]
    for path in roots:
        outer = [other for other in roots if path.startswith(other + "/")]
        if outer:
            yield Issue(check="articulation_root", prim=path, message=f"lies inside articulation root {outer[0]}; keep one")
    if len(roots) > 1 and not any(path.startswith(other + "/") for path in roots for other in roots if path != other):
        yield Issue(check="articulation_root", prim=roots[1], message=f"a second articulation root beside {roots[0]}; keep one")
    joints = [prim for prim in facts.prims if prim.type_name in _JOINTS]
    if not roots and any(prim.type_name != "PhysicsFixedJoint" for prim in joints):
        yield Issue(check="articulation_root", prim=joints[0].path, message=f"movable joints but no {_ROOT}")
    for joint in joints:
        first, second = joint.targets.get("physics:body0", ()), joint.targets.get("physics:body1", ())
        wrong = [path for path in (*first, *second) if path not in by_path or _BODY not in by_path[path].schemas]
        if not second or wrong:
            what = f"{wrong[0]} is no rigid body" if wrong else "body1 is missing"
            yield Issue(check="joint_body", prim=joint.path, message=what)
        else:
            yield from _frames(joint, by_path[first[0]].matrix if first else np.eye(4), by_path[second[0]].matrix)
        lower, upper = joint.values.get("physics:lowerLimit"), joint.values.get("physics:upperLimit")
        if joint.type_name in ("PhysicsRevoluteJoint", "PhysicsPrismaticJoint"):
            if np.isnan([value for value in (lower, upper) if value is not None]).any():
                yield Issue(check="joint_limits", prim=joint.path, message=f"limits {lower}..{upper} are not numbers")
            elif lower is not None and upper is not None and lower >= upper:
                yield Issue(check="joint_limits", prim=joint.path, message=f"lower limit {lower} is not below upper limit {upper}")


def _frames(joint: PrimFacts, first: NDArray[np.float64], second: NDArray[np.float64]) -> Iterator[Issue]:
    """Checks that the frames on both sides of a joint coincide in the world when the joint is at zero."""
    frames = []
    for index, world in ((0, first), (1, second)):
        position = joint.values.get(f"physics:localPos{index}", np.zeros(3))
        turn = np.asarray(joint.values.get(f"physics:localRot{index}", np.array([1.0, 0, 0, 0])), np.float64)
        w, x, y, z = turn / max(float(np.linalg.norm(turn)), 1e-12)
        local = np.eye(4)
        local[:3, :3] = matrix_of((w, x, y, z)).T
        local[3, :3] = position
        frames.append(local @ world)
    apart = float(np.linalg.norm(frames[0][3, :3] - frames[1][3, :3]))
    turned = float(np.arccos(np.clip((np.trace(frames[0][:3, :3] @ frames[1][:3, :3].T) - 1) / 2, -1.0, 1.0)))
    if not (apart <= 1e-4 and turned <= 5e-3):
        message = f"the two sides are {apart * 1e3:.2f} mm and {np.degrees(turned):.2f} degrees apart"
        yield Issue(check="joint_frames", prim=joint.path, message=message)


def _meshes(facts: StageFacts) -> Iterator[Issue]:
    for prim in facts.prims:
        if prim.type_name != "Mesh":
            continue
        points = np.asarray(prim.values.get("points", np.zeros((0, 3))), np.float64)
        faces = np.asarray(prim.values.get("faceVertexIndices", np.zeros(0, int)))
        if not len(points) or not len(faces):
            yield Issue(check="points", prim=prim.path, message="the mesh is empty")
            continue
        if not np.isfinite(points).all():
            yield Issue(
                check="points", prim=prim.path, message=f"{int((~np.isfinite(points)).any(axis=1).sum())} points are not finite"
            )
            continue
        if faces.min() < 0 or faces.max() >= len(points):
            yield Issue(check="points", prim=prim.path, message=f"face indices reach outside 0..{len(points) - 1}")
        extent = prim.values.get("extent")
        if extent is None or not np.allclose(extent, [points.min(axis=0), points.max(axis=0)], atol=1e-6):
            yield Issue(check="extent", prim=prim.path, message="extent is missing or does not bound the points")
        if prim.values.get("subdivisionScheme") != "none":
            yield Issue(check="subdivision", prim=prim.path, message="subdivisionScheme must be none: the mesh is no control cage")


def _materials(facts: StageFacts) -> Iterator[Issue]:
    by_path = {prim.path: prim for prim in facts.prims}
    for prim in facts.prims:
        if _MATERIAL in prim.schemas:
            static, dynamic = (prim.values.get(f"physics:{name}Friction", -1.0) for name in ("static", "dynamic"))
            restitution = prim.values.get("physics:restitution", -1.0)
            if not (np.isfinite([static, dynamic]).all() and 0.0 <= dynamic <= static + 1e-6):
                yield Issue(check="friction", prim=prim.path, message=f"friction static {static}, dynamic {dynamic}")
            if not 0.0 <= restitution <= 1.0:
                yield Issue(check="restitution", prim=prim.path, message=f"restitution {restitution} is outside 0..1")
        if _COLLIDER in prim.schemas:
            targets = prim.targets.get("material:binding:physics", ())
            if not targets or targets[0] not in by_path or _MATERIAL not in by_path[targets[0]].schemas:
                what = f"{targets[0]} is no physics material" if targets else "no physics material is bound"
                yield Issue(check="physics_material", prim=prim.path, message=what)


def _points(prim: PrimFacts) -> NDArray[np.float64]:
    """A mesh's points, or the corners of the box around a shape, in the world frame, shape [N, 3]."""
    points = np.asarray(prim.values.get("points", np.zeros((0, 3))), np.float64).reshape(-1, 3)
    if prim.type_name in _SHAPES:
        points = _drawn(prim)
    return points @ prim.matrix[:3, :3] + prim.matrix[3, :3]


def _drawn(prim: PrimFacts) -> NDArray[np.float64]:
    """Points on the surface of a shape in its own frame, shape [N, 3]; USD's fallback values apply where none are authored."""
    radius, height, edge = (
        float(prim.values.get(name, default)) for name, default in (("radius", 1.0), ("height", 2.0), ("size", 2.0))
    )
    if prim.type_name == "Cube":
        return np.array(np.meshgrid(*[(-edge / 2, edge / 2)] * 3)).reshape(3, -1).T
    kind = {"Sphere": ShapeKind.SPHERE, "Capsule": ShapeKind.CAPSULE}.get(prim.type_name, ShapeKind.CYLINDER)
    points = drawn(Shape(kind=kind, size=(radius, 0.0 if kind is ShapeKind.SPHERE else height, 0.0))).vertices
    return np.roll(points, {"X": 1, "Y": 2}.get(str(prim.values.get("axis", "Z")), 0), axis=1)


def _points_under(facts: StageFacts, body: PrimFacts) -> NDArray[np.float64]:
    """Points of all meshes and shapes below a body, in its frame, shape [N, 3]."""
    kinds = ("Mesh", *_SHAPES)
    meshes = [prim for prim in facts.prims if prim.type_name in kinds and prim.path.startswith(body.path + "/")]
    if not meshes or abs(np.linalg.det(body.matrix)) < 1e-12:
        return np.zeros((0, 3))
    world = np.concatenate([_points(prim) for prim in meshes])
    return (world - body.matrix[3, :3]) @ np.linalg.inv(body.matrix[:3, :3])
