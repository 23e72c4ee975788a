"""Reads foreign USD files as sources: bodies with their visible meshes, joints with limits, in the file's units and up axis."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodichain.assets.families.parts import Part
from embodichain.assets.geometry.shapes import concatenate
from embodichain.assets.reading.mesh_files import GREY, Reading, check
from embodichain.assets.usd.usd_contents import PrimFacts, StageFacts
from embodichain.errors import AssetError
from embodichain.types import Joint, JointKind, Mesh, Pose, rotate
from embodichain.types.poses import inverse, quaternion_of

_BODY = "PhysicsRigidBodyAPI"
_KINDS = {
    "PhysicsFixedJoint": JointKind.FIXED,
    "PhysicsRevoluteJoint": JointKind.REVOLUTE,
    "PhysicsPrismaticJoint": JointKind.PRISMATIC,
}
_AXES = {"X": (1.0, 0.0, 0.0), "Y": (0.0, 1.0, 0.0), "Z": (0.0, 0.0, 1.0)}
_DRIVES = {JointKind.REVOLUTE: "drive:angular:physics", JointKind.PRISMATIC: "drive:linear:physics"}


def read_usd(path: Path) -> Reading:
    """The bodies and joints of a USD file; one body of all meshes when it says nothing about physics.

    Raises:
        AssetError: the file cannot be opened, holds no mesh, or a joint has no counterpart here.
    """
    check(path, (".usd", ".usda", ".usdc"))
    from embodichain.assets.usd import files as usd  # brings pxr

    facts = usd.inspect(path)
    bodies = [prim for prim in facts.prims if _BODY in prim.schemas]
    names = _names([prim.path for prim in bodies])
    warnings: list[str] = []
    parts = []
    for body in bodies:
        pose, stretch = _rigid(body)
        parts.append(_part(facts, names[body.path], body.path + "/", pose, body, warnings))
        if not np.allclose(stretch, 1.0, atol=1e-6):
            warnings.append(f"the scale of body {body.path} was baked into its meshes")
    if not bodies:
        parts.append(_part(facts, "body", "/", Pose(), None, warnings))
    joints = [_joint(prim, names) for prim in facts.prims if prim.type_name in _KINDS]
    odd = [prim.path for prim in facts.prims if prim.type_name.startswith("Physics") and prim.type_name.endswith("Joint")]
    odd = [name for name in odd if not any(prim.path == name and prim.type_name in _KINDS for prim in facts.prims)]
    if odd:
        raise AssetError(
            f"read: joint {odd[0]} of {path.name} is of a kind that has no counterpart; available: {', '.join(_KINDS)}"
        )
    return Reading(
        parts=tuple(parts),
        joints=tuple(joints),
        unit=facts.meters_per_unit,
        up=facts.up_axis.lower(),
        warnings=tuple(warnings),
    )


def _names(paths: list[str]) -> dict[str, str]:
    """A name for each body: the last word of its path, numbered where two agree."""
    names: dict[str, str] = {}
    for path in paths:
        name = path.rpartition("/")[2]
        names[path] = name if name not in names.values() else f"{name}_{len(names)}"
    return names


def _rigid(prim: PrimFacts) -> tuple[Pose, NDArray[np.float64]]:
    """Where a prim is, without its scale, and the scale."""
    axes = prim.matrix[:3, :3]
    stretch = np.linalg.norm(axes, axis=1)
    turn = (axes / np.maximum(stretch, 1e-300)[:, None]).T
    x, y, z = (float(value) for value in prim.matrix[3, :3])
    return Pose(position=(x, y, z), quaternion=quaternion_of(turn)), stretch


def _part(facts: StageFacts, name: str, below: str, pose: Pose, body: PrimFacts | None, warnings: list[str]) -> Part:
    meshes = [prim for prim in facts.prims if prim.type_name == "Mesh" and prim.path.startswith(below)]
    seen = [prim for prim in meshes if prim.values.get("purpose") not in ("guide", "proxy")] or meshes
    if not seen:
        raise AssetError(f"read: {'body ' + name if body else 'the file'} holds no mesh; bake what it references into it")
    back = inverse(pose)
    found = []
    for prim in seen:
        mesh = _mesh(prim)
        world = mesh.vertices @ prim.matrix[:3, :3] + prim.matrix[3, :3]
        faces = mesh.faces[:, ::-1] if np.linalg.det(prim.matrix[:3, :3]) < 0 else mesh.faces
        points = rotate(back.quaternion, world) + back.position
        found.append((Mesh(vertices=points, faces=np.ascontiguousarray(faces)), _color(prim)))
    largest = max(found, key=lambda pair: len(pair[0].faces))
    mass: Any = body.values.get("physics:mass") if body else None
    if any("material:binding" in prim.targets for prim in seen):
        warnings.append("bound materials were not kept, display colours were")
    return Part(
        name=name,
        mesh=concatenate([mesh for mesh, _ in found]),
        material="",
        color=largest[1],
        pose=pose,
        mass=float(mass) if mass is not None and np.isfinite(mass) and mass > 0 else None,
    )


def _mesh(prim: PrimFacts) -> Mesh:
    """A prim's faces as triangles, fans around their first corners."""
    points = np.asarray(prim.values.get("points", np.zeros((0, 3))), np.float64).reshape(-1, 3)
    counts = np.asarray(prim.values.get("faceVertexCounts", ()), np.int64)
    indices = np.asarray(prim.values.get("faceVertexIndices", ()), np.int64)
    if counts.sum() != len(indices) or (counts < 3).any():
        raise AssetError(f"read: mesh {prim.path} has faces of {int(counts.sum())} corners and {len(indices)} indices")
    starts = np.cumsum(counts) - counts
    fans = []
    for step in range(1, int(counts.max(initial=3)) - 1):
        first = starts[counts > step + 1]
        fans.append(np.stack([indices[first], indices[first + step], indices[first + step + 1]], axis=1))
    faces = np.concatenate(fans) if fans else np.zeros((0, 3), np.int64)
    if prim.values.get("orientation") == "leftHanded":
        faces = faces[:, ::-1]
    return Mesh(vertices=points, faces=np.ascontiguousarray(faces, np.int32))


def _color(prim: PrimFacts) -> tuple[float, float, float, float]:
    colors = np.asarray(prim.values.get("primvars:displayColor", ()), np.float64).reshape(-1, 3)
    if not len(colors) or not np.isfinite(colors).all():
        return GREY
    red, green, blue = (float(value) for value in np.clip(colors.mean(axis=0), 0.0, 1.0))
    return (red, green, blue, 1.0)


def _joint(prim: PrimFacts, names: dict[str, str]) -> Joint:
    parent, child = (prim.targets.get(f"physics:body{index}", ()) for index in (0, 1))
    if not child or child[0] not in names or (parent and parent[0] not in names):
        raise AssetError(f"read: joint {prim.path} does not join two bodies of the file")
    kind, name = _KINDS[prim.type_name], prim.path.rpartition("/")[2]
    owner = names[parent[0]] if parent else ""
    if kind is JointKind.FIXED:
        return Joint(name=name, kind=kind, parent=owner, child=names[child[0]])
    lower, upper = (float(prim.values.get(f"physics:{end}Limit", math.nan)) for end in ("lower", "upper"))
    turning = kind is JointKind.REVOLUTE
    scale = math.radians(1.0) if turning else 1.0
    if turning and not (math.isfinite(lower) and math.isfinite(upper)):
        lower, upper = -180.0, 180.0
    if not (math.isfinite(lower) and math.isfinite(upper) and lower < upper):
        raise AssetError(f"read: limits {lower}..{upper} of joint {prim.path} leave no range")
    turn = np.asarray(prim.values.get("physics:localRot1", (1.0, 0.0, 0.0, 0.0)), np.float64)
    w, x, y, z = (float(value) for value in turn)
    along = rotate((w, x, y, z), np.array(_AXES[str(prim.values.get("physics:axis", "X"))]))
    ax, ay, az = (float(value) for value in along)
    px, py, pz = (float(value) for value in np.asarray(prim.values.get("physics:localPos1", (0.0, 0.0, 0.0)), np.float64))
    damping, stiffness, rest = (
        float(prim.values.get(f"{_DRIVES[kind]}:{name}", 0.0) or 0.0) for name in ("damping", "stiffness", "targetPosition")
    )
    return Joint(
        name=name, kind=kind, parent=owner, child=names[child[0]], axis=(ax, ay, az), anchor=(px, py, pz),
        lower=lower * scale, upper=upper * scale, damping=damping / scale, stiffness=stiffness / scale, rest=rest * scale,
    )  # fmt: skip
