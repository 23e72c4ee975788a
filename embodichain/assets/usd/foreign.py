"""The meaning of somebody else's USD file as pxr resolves it: purposes, visibility, instances, bindings, and parsed physics.

Lengths and masses are in the file's units, which it states in `meters_per_unit` and `kilograms_per_unit`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pxr import Ar, Sdf, Usd, UsdGeom, UsdPhysics, UsdShade, UsdUtils

from embodichain.assets.families.parts import Finish, Look
from embodichain.assets.usd.foreign_looks import mesh_look
from embodichain.assets.usd.foreign_materials import skin_of, unkept
from embodichain.assets.usd.foreign_shapes import cone_look, shape_of
from embodichain.assets.usd.foreign_states import other_states
from embodichain.assets.usd.values import open_stage
from embodichain.errors import AssetError
from embodichain.types import Shape, Vec3

_KNOWN = (
    "physics:mass", "physics:density", "physics:centerOfMass", "physics:diagonalInertia", "physics:principalAxes",
    "physics:rigidBodyEnabled", "physics:kinematicEnabled", "physics:collisionEnabled", "physics:approximation",
    "physics:staticFriction", "physics:dynamicFriction", "physics:restitution", "physics:axis", "physics:lowerLimit",
    "physics:upperLimit", "physics:localPos0", "physics:localPos1", "physics:localRot0", "physics:localRot1",
    "physics:jointEnabled", "physics:excludeFromArticulation", "physics:coneAngle0Limit", "physics:coneAngle1Limit",
    "physxJoint:maxJointVelocity", "physxJoint:armature", "newton:armature", "newton:velocityLimit", "newton:friction",
    "newton:mimicCoef0", "newton:mimicCoef1", "newton:mimicEnabled",
)  # fmt: skip
"""Attributes that are read below; any other attribute in these namespaces gets a row."""
_OF_BODIES = ("physics:centerOfMass", "physics:diagonalInertia", "physics:principalAxes")
"""Attributes that are read on rigid bodies only, not on prims below them."""
_NAMESPACES = ("physics:", "physx", "newton:", "mjc:", "drive:", "limit:", "state:")
_DRIVE = ("type", "damping", "stiffness", "targetPosition", "maxForce")
_AXES: dict[str, Vec3] = {"X": (1.0, 0.0, 0.0), "Y": (0.0, 1.0, 0.0), "Z": (0.0, 0.0, 1.0)}
_FREEDOMS = ("transX", "transY", "transZ", "rotX", "rotY", "rotZ")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ForeignPiece:
    """A surface: an analytic `shape` or a `look`, and its transformation to the world (`matrix`, [4, 4] on row vectors)."""

    path: str
    matrix: NDArray[np.float64]
    look: Look | None
    shape: Shape | None
    finish: Finish
    visible: bool
    collides: bool
    approximation: str = ""
    friction: tuple[float | None, float | None, float | None] = (None, None, None)
    """Static friction, dynamic friction and restitution, if its physics material states them."""
    density: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ForeignBody:
    """A rigid body and its pieces; None for values that the file does not state."""

    path: str
    matrix: NDArray[np.float64]
    pieces: tuple[ForeignPiece, ...]
    mass: float | None = None
    density: float | None = None
    center_of_mass: Vec3 | None = None
    diagonal_inertia: Vec3 | None = None
    principal_axes: tuple[float, float, float, float] | None = None
    apart: tuple[str, ...] = ()
    kinematic: bool = False
    """Whether it is moved by who uses it, and by no force."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ForeignJoint:
    """A joint between two bodies, "" for the world; angles in degrees, as in USD."""

    path: str
    kind: str
    parent: str
    child: str
    frames: tuple[tuple[NDArray[np.float64], NDArray[np.float64]], ...]
    """Position and quaternion (w, x, y, z) of the joint's frame on each side."""
    axis: Vec3 = (1.0, 0.0, 0.0)
    lower: float = -math.inf
    upper: float = math.inf
    damping: float = 0.0
    stiffness: float = 0.0
    target: float = 0.0
    effort: float = math.inf
    velocity: float = math.inf
    armature: float = 0.0
    friction: float = 0.0
    mimic: tuple[str, float, float] | None = None
    """Path of the joint that this one follows, factor, and offset."""
    enabled: bool = True
    cones: tuple[float, float] = (math.inf, math.inf)
    """How far a ball joint may lean from its axis towards the next axis, and towards the one after that [degrees]."""
    freedoms: tuple[tuple[str, float, float], ...] = ()
    """For a joint without a type: the axes along or about which it moves, by USD's names, each with its range."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Foreign:
    """A whole file; `unread` lists attributes of physics that were not read, as (prim, name, value)."""

    meters_per_unit: float
    kilograms_per_unit: float
    up_axis: str
    bodies: tuple[ForeignBody, ...]
    loose: tuple[ForeignPiece, ...]
    """Pieces outside of any body."""
    joints: tuple[ForeignJoint, ...]
    unread: tuple[tuple[str, str, str], ...] = ()
    titles: dict[str, str] = field(default_factory=dict)
    faults: tuple[str, ...] = ()
    """Composition errors: references to missing files or in a circle."""
    left_out: tuple[tuple[str, str, str, str], ...] = ()
    """Looks, variants and motions that are not kept, as (prim, what, stated, reason)."""


def layers_of(path: Path) -> list[Path]:
    """The existing files that a stage consists of, including textures, without the file itself."""
    layers, assets, _ = UsdUtils.ComputeAllDependencies(Sdf.AssetPath(str(path)))
    named = [layer.realPath for layer in layers if layer.realPath] + [str(asset) for asset in assets]
    # Files in an archive are represented by the archive.
    found = [Path(Ar.SplitPackageRelativePathOuter(name)[0]) for name in named]
    return [file for file in dict.fromkeys(found) if file.is_file() and file.resolve() != path.resolve()]


def resolve(path: Path) -> Foreign:
    """The contents of a file; raises AssetError when it cannot be opened."""
    stage = open_stage(path)
    parsed = UsdPhysics.LoadUsdPhysicsFromRange(stage, [Sdf.Path("/")])
    every = [desc for _, descs in parsed.values() for desc in descs]
    # A prim may be a body and a collider at once, so its parsed descriptions are kept separately.
    shapes, rigid = (
        {str(desc.primPath): desc for desc in every if isinstance(desc, kind)}
        for kind in (UsdPhysics.ShapeDesc, UsdPhysics.RigidBodyDesc)
    )
    cache = UsdGeom.XformCache()
    owners = {path_: stage.GetPrimAtPath(desc.primPath) for path_, desc in rigid.items() if desc.rigidBodyEnabled}
    pieces: dict[str, list[ForeignPiece]] = {path_: [] for path_ in owners}
    loose: list[ForeignPiece] = []
    for piece in _pieces(stage, cache, shapes):
        owner = max((o for o in owners if piece.path == o or piece.path.startswith(o + "/")), key=len, default="")
        (pieces[owner] if owner else loose).append(piece)
    bodies = tuple(_body(prim, cache, pieces[name], rigid[name]) for name, prim in owners.items())
    joints = tuple(_joint(stage.GetPrimAtPath(desc.primPath), desc) for desc in every if isinstance(desc, UsdPhysics.JointDesc))
    return Foreign(
        meters_per_unit=UsdGeom.GetStageMetersPerUnit(stage),
        kilograms_per_unit=UsdPhysics.GetStageKilogramsPerUnit(stage),
        up_axis=str(UsdGeom.GetStageUpAxis(stage)),
        bodies=bodies,
        loose=tuple(loose),
        joints=joints,
        unread=tuple(_unread(stage)),
        left_out=(*unkept(stage), *other_states(stage)),
        faults=tuple(" ".join(str(error).split())[:200] for error in stage.GetCompositionErrors()),
    )


# ------------------------------------------------------------------------------------------------------------- geometry


def _pieces(stage: Usd.Stage, cache: UsdGeom.XformCache, descriptions: dict[str, Any]) -> Iterator[ForeignPiece]:
    instanced = set[str]()
    for prim in Usd.PrimRange(stage.GetPseudoRoot(), Usd.TraverseInstanceProxies()):
        if prim.IsA(UsdGeom.PointInstancer):
            instanced.add(str(prim.GetPath()))
            yield from _scattered(stage, prim, cache, descriptions)
    for prim in Usd.PrimRange(stage.GetPseudoRoot(), Usd.TraverseInstanceProxies()):
        if prim.IsA(UsdGeom.Gprim) and not any(str(prim.GetPath()).startswith(path + "/") for path in instanced):
            yield from _piece(prim, np.array(cache.GetLocalToWorldTransform(prim)), descriptions)


def _scattered(stage: Usd.Stage, prim: Usd.Prim, cache: UsdGeom.XformCache, descriptions: dict[str, Any]) -> Iterator[ForeignPiece]:
    """The pieces of a point instancer at all its positions, as parts of the instancer."""
    instancer = UsdGeom.PointInstancer(prim)
    time = Usd.TimeCode.Default()
    transforms = instancer.ComputeInstanceTransformsAtTime(time, time, UsdGeom.PointInstancer.ExcludeProtoXform)
    indices, targets = instancer.GetProtoIndicesAttr().Get() or (), instancer.GetPrototypesRel().GetTargets()
    mask = instancer.ComputeMaskAtTime(time)
    indices = [index for number, index in enumerate(indices) if not mask or mask[number]]
    base = np.array(cache.GetLocalToWorldTransform(prim))
    for number, (index, transform) in enumerate(zip(indices, transforms, strict=False)):
        root = stage.GetPrimAtPath(targets[index])
        above = np.array(cache.GetLocalToWorldTransform(root.GetParent()))
        for inner in Usd.PrimRange(root, Usd.TraverseInstanceProxies()):
            if inner.IsA(UsdGeom.Gprim):
                local = np.array(cache.GetLocalToWorldTransform(inner)) @ np.linalg.inv(above)
                for piece in _piece(inner, local @ np.array(transform) @ base, descriptions):
                    yield ForeignPiece(
                        **{n: getattr(piece, n) for n in ForeignPiece.__slots__ if n != "path"}, path=f"{prim.GetPath()}/{number}"
                    )


def _piece(prim: Usd.Prim, matrix: NDArray[np.float64], descriptions: dict[str, Any]) -> Iterator[ForeignPiece]:
    imageable, path = UsdGeom.Imageable(prim), str(prim.GetPath())
    hidden = imageable.ComputeVisibility() == UsdGeom.Tokens.invisible
    shown = imageable.ComputePurpose() in (UsdGeom.Tokens.default_, UsdGeom.Tokens.render)
    desc = descriptions.get(path)
    collides = desc is not None and isinstance(desc, UsdPhysics.ShapeDesc) and bool(desc.collisionEnabled)
    if hidden and not collides:
        return
    shape, skin = shape_of(prim), skin_of(prim)
    finish = skin.plain
    look = None
    if shape is None:
        look = mesh_look(prim, skin) if prim.IsA(UsdGeom.Mesh) else cone_look(prim, finish)
    if shape is None and look is None:
        return
    static, dynamic, bounce, density = _surface(prim)
    if prim.HasAPI(UsdPhysics.MassAPI):  # its own density overrides that of its material
        density = float(UsdPhysics.MassAPI(prim).GetDensityAttr().Get() or 0.0) or density
    yield ForeignPiece(
        path=path, matrix=matrix, look=look, shape=shape, finish=finish, visible=shown and not hidden, collides=collides,
        approximation=str(getattr(desc, "approximation", "")), friction=(static, dynamic, bounce), density=density,
    )  # fmt: skip


def _surface(prim: Usd.Prim) -> tuple[float | None, float | None, float | None, float | None]:
    """Static and dynamic friction, restitution and density of a prim's physics material."""
    bound, _ = UsdShade.MaterialBindingAPI(prim).ComputeBoundMaterial("physics")
    if not bound or not bound.GetPrim().HasAPI(UsdPhysics.MaterialAPI):
        return None, None, None, None
    api = UsdPhysics.MaterialAPI(bound.GetPrim())
    attributes = (api.GetStaticFrictionAttr(), api.GetDynamicFrictionAttr(), api.GetRestitutionAttr(), api.GetDensityAttr())
    static, dynamic, bounce, density = (float(a.Get()) if a.HasAuthoredValue() else None for a in attributes)
    return static, dynamic, bounce, density or None


# -------------------------------------------------------------------------------------------------------------- physics


def _body(prim: Usd.Prim, cache: UsdGeom.XformCache, pieces: list[ForeignPiece], desc: Any) -> ForeignBody:
    mass, density, center, moments, axes = None, None, None, None, None
    if prim.HasAPI(UsdPhysics.MassAPI):
        api = UsdPhysics.MassAPI(prim)
        mass, density = (float(a.Get() or 0.0) or None for a in (api.GetMassAttr(), api.GetDensityAttr()))
        value = api.GetCenterOfMassAttr().Get()
        if api.GetCenterOfMassAttr().HasAuthoredValue() and np.isfinite(value).all():
            center = (float(value[0]), float(value[1]), float(value[2]))
        value = api.GetDiagonalInertiaAttr().Get()
        if value is not None and any(value):
            moments = (float(value[0]), float(value[1]), float(value[2]))
        value = api.GetPrincipalAxesAttr().Get()
        if value is not None and value.GetLength() > 0.5:
            x, y, z = value.GetImaginary()
            axes = (float(value.GetReal()), float(x), float(y), float(z))
    if mass is None:
        below = [child for child in Usd.PrimRange(prim) if child != prim and child.HasAPI(UsdPhysics.MassAPI)]
        masses = [float(UsdPhysics.MassAPI(child).GetMassAttr().Get() or 0.0) for child in below]
        mass = sum(masses) if masses and min(masses) > 0.0 else None
    return ForeignBody(
        path=str(prim.GetPath()), matrix=np.array(cache.GetLocalToWorldTransform(prim)), pieces=tuple(pieces), mass=mass,
        density=density, center_of_mass=center, diagonal_inertia=moments, principal_axes=axes,
        apart=tuple(dict.fromkeys((*(str(other) for other in desc.filteredCollisions), *_filtered(prim)))),
        kinematic=bool(desc.kinematicBody),
    )  # fmt: skip


def _filtered(prim: Usd.Prim) -> Iterator[str]:
    """The bodies with which something below a body must not collide, by filters of colliders."""
    for inner in Usd.PrimRange(prim):
        if inner != prim and inner.HasAPI(UsdPhysics.FilteredPairsAPI):
            for target in UsdPhysics.FilteredPairsAPI(inner).GetFilteredPairsRel().GetTargets():
                other = prim.GetStage().GetPrimAtPath(target)
                while other and not other.HasAPI(UsdPhysics.RigidBodyAPI):
                    other = other.GetParent()
                if other and not other.IsPseudoRoot() and other != prim:
                    yield str(other.GetPath())


def _joint(prim: Usd.Prim, desc: Any) -> ForeignJoint:
    kind = str(prim.GetTypeName()).removeprefix("Physics")
    sides = [
        (np.array(getattr(desc, f"localPose{side}Position"), np.float64), _wxyz(getattr(desc, f"localPose{side}Orientation")))
        for side in (0, 1)
    ]
    values: dict[str, Any] = {}
    if hasattr(desc, "axis"):
        values["axis"] = _AXES[str(desc.axis)[-1].upper()]
    limit = getattr(desc, "limit", None)
    if kind in ("RevoluteJoint", "PrismaticJoint") and limit is not None and limit.enabled:
        values |= {"lower": _bound(limit.lower), "upper": _bound(limit.upper)}
    if kind == "SphericalJoint":
        spherical = UsdPhysics.SphericalJoint(prim)
        angles = [float(a.Get()) for a in (spherical.GetConeAngle0LimitAttr(), spherical.GetConeAngle1LimitAttr())]
        first, second = (angle if angle >= 0.0 else math.inf for angle in angles)
        values["cones"] = (first, second)
    if kind == "Joint":
        values["freedoms"] = tuple(_freedoms(prim))
    for name in ("angular", "linear"):
        if UsdPhysics.DriveAPI(prim, name) and prim.HasAPI(UsdPhysics.DriveAPI, name):
            drive = UsdPhysics.DriveAPI(prim, name)
            effort = float(drive.GetMaxForceAttr().Get() or 0.0)
            values |= {
                "damping": float(drive.GetDampingAttr().Get() or 0.0),
                "stiffness": float(drive.GetStiffnessAttr().Get() or 0.0),
                "target": float(drive.GetTargetPositionAttr().Get() or 0.0),
                "effort": effort if 0.0 < effort < 1e30 else math.inf,
            }
    for key, names in {
        "velocity": ("physxJoint:maxJointVelocity", "newton:velocityLimit"),
        "armature": ("physxJoint:armature", "newton:armature"),
        "friction": ("embodichain:jointFriction", "newton:friction"),
    }.items():
        found = [prim.GetAttribute(name) for name in names if prim.GetAttribute(name)]
        if found and found[0].HasAuthoredValue():
            values[key] = float(found[0].Get())
    return ForeignJoint(
        path=str(prim.GetPath()), kind=kind, parent=str(desc.body0 or ""), child=str(desc.body1 or ""), frames=tuple(sides),
        mimic=_mimic(prim), enabled=bool(desc.jointEnabled), **values,
    )  # fmt: skip


def _freedoms(prim: Usd.Prim) -> Iterator[tuple[str, float, float]]:
    """The degrees of freedom of a joint without a type: all that no limit locks. A lower limit above the upper one locks."""
    for name in _FREEDOMS:
        low, high = -math.inf, math.inf
        if prim.HasAPI(UsdPhysics.LimitAPI, name):
            limit = UsdPhysics.LimitAPI(prim, name)
            low, high = (_bound(float(a.Get())) for a in (limit.GetLowAttr(), limit.GetHighAttr()))
        if low <= high:
            yield name, low, high


def _mimic(prim: Usd.Prim) -> tuple[str, float, float] | None:
    """The mimicry that Newton's or PhysX's schema states for a joint."""
    relation, active = prim.GetRelationship("newton:mimicJoint"), prim.GetAttribute("newton:mimicEnabled")
    if relation and relation.GetTargets() and (not active or active.Get() is not False):
        factor, offset = (prim.GetAttribute(f"newton:mimicCoef{i}") for i in (1, 0))
        return str(relation.GetTargets()[0]), float(factor.Get()) if factor else 1.0, float(offset.Get()) if offset else 0.0
    for relation in prim.GetRelationships():
        name = relation.GetName()
        if name.startswith("physxMimicJoint:") and name.endswith(":referenceJoint") and relation.GetTargets():
            base = name.rpartition(":")[0]
            gear, offset = prim.GetAttribute(f"{base}:gearing"), prim.GetAttribute(f"{base}:offset")
            # PhysX: q + gearing * q_reference + offset = 0.
            return (
                str(relation.GetTargets()[0]),
                -float(gear.Get()) if gear else -1.0,
                -float(offset.Get()) if offset else 0.0,
            )
    return None


def _unread(stage: Usd.Stage) -> Iterator[tuple[str, str, str]]:
    for prim in Usd.PrimRange(stage.GetPseudoRoot(), Usd.TraverseInstanceProxies()):
        if str(prim.GetTypeName()) in ("PhysicsScene", "PhysicsCollisionGroup"):
            yield str(prim.GetPath()), str(prim.GetTypeName()), "authored"
            continue
        scheme = UsdGeom.Mesh(prim).GetSubdivisionSchemeAttr().Get() if prim.IsA(UsdGeom.Mesh) else "none"
        if scheme != "none" and UsdGeom.Mesh(prim).GetSubdivisionSchemeAttr().HasAuthoredValue():
            yield str(prim.GetPath()), "subdivisionScheme", str(scheme)
        for attribute in prim.GetAuthoredAttributes():
            name = attribute.GetName()
            drive = name.startswith(("drive:angular:", "drive:linear:")) and name.rpartition(":")[2] in _DRIVE
            drive = drive and not (name.endswith(":type") and str(attribute.Get()) != "force")
            limit = name.startswith("limit:") and name.split(":")[1] in _FREEDOMS and str(prim.GetTypeName()) == "PhysicsJoint"
            inner = name in _OF_BODIES and not prim.HasAPI(UsdPhysics.RigidBodyAPI)
            mimic = name.startswith("physxMimicJoint:") and name.rpartition(":")[2] in ("gearing", "offset")
            if (
                name.startswith(_NAMESPACES)
                and (name not in _KNOWN or inner)
                and not drive
                and not limit
                and not mimic
                and attribute.HasAuthoredValue()
            ):
                value = attribute.Get()
                neutral = name.endswith(("targetVelocity", "elocity")) and not np.any(np.asarray(value, np.float64))
                if not neutral:
                    yield str(prim.GetPath()), name, str(value)[:120]


def _bound(value: float) -> float:
    """A limit; huge numbers in the file mean infinity."""
    return math.copysign(math.inf, value) if abs(value) > 1e30 else float(value)


def _wxyz(value: Any) -> NDArray[np.float64]:
    return np.array([value.GetReal(), *value.GetImaginary()], np.float64)


def refuse_empty(foreign: Foreign, path: Path) -> None:
    """Raises AssetError when there is no visible or collision geometry."""
    if not any(body.pieces for body in foreign.bodies) and not foreign.loose:
        told = [f"{prim} may be {stated}" for prim, what, stated, _ in foreign.left_out if what.startswith("variants")]
        reason = f"choose its variants: {'; '.join(told)}"[:300] if told else "are its references there?"
        raise AssetError(f"read: {path.name} holds no geometry that is visible or collides; {reason}")
