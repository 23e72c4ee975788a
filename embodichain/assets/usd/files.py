"""Writes assets as OpenUSD files according to the delivery checklist, and reads them back with an accuracy of 1e-6.

Layout: `/<name>` (component, default prim) holds one Xform per body, never nested; under a body its `visual` mesh,
`collision/hull_*` meshes of guide purpose, and `affordances/*`; beside the bodies are `joints`, `materials` (physics) and `looks`.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from pxr import Gf, Kind, Sdf, Tf, Usd, UsdGeom, UsdPhysics, UsdShade

import embodichain
from embodichain.assets.families.parts import Look
from embodichain.assets.families.tables import wikidata_codes
from embodichain.assets.usd.joints import read_joint, write_joints
from embodichain.assets.usd.layers import write_layers
from embodichain.assets.usd.surfaces import read_collider, read_mesh, write_collider, write_look, write_textures
from embodichain.assets.usd.usd_contents import PrimFacts, StageFacts
from embodichain.assets.usd.values import bind, extent, label, number, open_stage, pose_of, quaternion, set_pose, text, vec3
from embodichain.errors import AssetError
from embodichain.types import Asset, Body, Material, Mesh, Pose, Vec3

GENERATOR = "embodichain"

# ---------------------------------------------------------------------------------------------------------------- writing


@dataclass(frozen=True, slots=True, kw_only=True)
class Extras:
    """Contents of a file in addition to the asset itself: looks by body, display names, credits, labels, levels of detail."""

    looks: Mapping[str, Look] = field(default_factory=dict)
    titles: Mapping[str, str] = field(default_factory=dict)
    attribution: Mapping[str, str] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    levels: Mapping[str, Mapping[str, Look]] = field(default_factory=dict)
    """Coarser looks of bodies by level of detail."""


_NOTHING = Extras()


def write(
    asset: Asset,
    path: Path,
    provenance: Mapping[str, str | float] | None = None,
    rates: Mapping[str, float] | None = None,
    extras: Extras = _NOTHING,
    *,
    layered: bool = False,
) -> None:
    """Writes `asset` to `path`: `.usd` and `.usdc` as crate, `.usda` as text.

    Args:
        asset: the asset; its `path` is not used.
        path: the file, replaced when it exists.
        provenance: parameters and other facts for the layer's metadata.
        rates: share of simulated lifts that held, by affordance.
        extras: looks and texts that are not part of the asset; textures are written beside the file.
        layered: whether to write an interface and a payload of layers beside it, or one file without levels of detail.

    Raises:
        AssetError: the file cannot be written, or a name is not a valid prim name.
    """
    for name in (asset.name, *(body.name for body in asset.bodies), *(joint.name for joint in asset.joints), *asset.affordances):
        if not Sdf.Path.IsValidIdentifier(name):
            raise AssetError(f"usd: {name!r} is no valid prim name; use letters, digits and underscores, not starting with a digit")
    stage = Usd.Stage.CreateInMemory()
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.z)
    UsdPhysics.SetStageKilogramsPerUnit(stage, 1.0)
    root = UsdGeom.Xform.Define(stage, f"/{asset.name}").GetPrim()
    stage.SetDefaultPrim(root)
    model = Usd.ModelAPI(root)
    model.SetKind(Kind.Tokens.component)
    model.SetAssetName(asset.name)
    model.SetAssetIdentifier(Sdf.AssetPath(f"./{path.name}"))
    model.SetAssetVersion(asset.content_hash or "unhashed")
    label(root, "class", wikidata_codes(), asset.category, *extras.labels)
    UsdGeom.ModelAPI.Apply(root).SetExtentsHint(extent(asset.bounds))
    text(root, "licence", asset.licence)
    text(root, "source", asset.source)
    text(root, "category", asset.category)
    text(root, "contentHash", asset.content_hash)
    for body in asset.bodies:
        _write_body(stage, root, body, extras.looks.get(body.name))
    for name, (body_name, pose) in asset.affordances.items():
        prim = _write_affordance(stage, f"/{asset.name}/{body_name}/affordances/{name}", pose)
        if rates and name in rates:
            number(prim, "liftSuccessRate", rates[name])
    write_joints(stage, root, asset)
    for name, title in extras.titles.items():
        prim = stage.GetPrimAtPath(f"/{asset.name}/{name}") or stage.GetPrimAtPath(f"/{asset.name}/joints/{name}")
        if prim:
            prim.SetDisplayName(title)
    layer = stage.GetRootLayer()
    metadata = {**_metadata(asset), **extras.attribution}
    layer.customLayerData = {
        **{key: metadata[key] for key in ("asset_name", "asset_type", "source_file", "usd_date_generated")},
        "SimReady_Metadata": metadata,
        "embodichain": {"version": embodichain.__version__, "content_hash": asset.content_hash, **(provenance or {})},
    }
    layer.documentation = f"{asset.name}: {asset.source}. Licence {asset.licence}."
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_textures(path.parent, extras.looks)
        coarser = {level: _level(asset, looks, extras.looks) for level, looks in extras.levels.items()}
        written = write_layers(layer, path, coarser) if layered else layer.Export(str(path))
    except (OSError, Tf.ErrorException) as error:
        raise AssetError(f"usd: cannot write {path}: {error}") from error
    if not written:
        raise AssetError(f"usd: cannot write {path}: is the folder writable and the ending one of .usd .usda .usdc?")


def _level(asset: Asset, coarse: Mapping[str, Look], full: Mapping[str, Look]) -> Sdf.Layer:
    """The visual meshes of one level of detail, at the paths of the full ones."""
    layer = Sdf.Layer.CreateAnonymous(".usda")
    stage = Usd.Stage.Open(layer)
    root = UsdGeom.Xform.Define(stage, f"/{asset.name}").GetPrim()
    stage.SetDefaultPrim(root)
    for body in asset.bodies:
        look = coarse.get(body.name)
        if look is not None:
            path = root.GetPath().AppendChild(body.name)
            stage.OverridePrim(path)
            own = body.name in full
            used = np.unique(full[body.name].finish) if own else None
            write_look(stage, root, path.AppendChild("visual"), replace(body, visual=look.mesh), look if own else None, used)
    return layer


def scene(things: Sequence[tuple[str, str, Vec3]]) -> str:
    """USD text of a scene that places assets, each (name, file, position [m]), by reference."""
    layer = Sdf.Layer.CreateAnonymous(".usda")
    stage = Usd.Stage.Open(layer)
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.z)
    UsdPhysics.SetStageKilogramsPerUnit(stage, 1.0)
    root = UsdGeom.Xform.Define(stage, "/scene").GetPrim()
    Usd.ModelAPI(root).SetKind(Kind.Tokens.assembly)
    stage.SetDefaultPrim(root)
    for name, _, position in things:
        xform = UsdGeom.Xform.Define(stage, f"/scene/{name}")
        xform.AddTranslateOp(UsdGeom.XformOp.PrecisionDouble).Set(Gf.Vec3d(*position))
    del root, xform, stage  # otherwise the anonymous stage would resolve the files relative to the working folder
    for name, file, _ in things:
        layer.GetPrimAtPath(Sdf.Path(f"/scene/{name}")).referenceList.Prepend(Sdf.Reference(file))
    return layer.ExportToString()


def _metadata(asset: Asset) -> dict[str, Any]:
    """The metadata that a catalogue needs without opening the stage's prims."""
    low, high = asset.bounds
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    day = datetime.datetime.fromtimestamp(int(epoch), datetime.UTC).date() if epoch else datetime.datetime.now(datetime.UTC).date()
    return {
        "author": GENERATOR,
        "asset_name": asset.name,
        "asset_type": "prop",
        "asset_license": asset.licence,
        "category": asset.category,
        "source_file": asset.source,
        "usd_date_generated": day.isoformat(),
        "qcode": wikidata_codes().get(asset.category, "Q488383"),  # the Wikidata item for "object"
        "mass": float(sum(body.mass for body in asset.bodies)),
        "asset_extents": Gf.Vec3f(*(high - low).tolist()),
        "rigid_body_count": len(asset.bodies),
    }


def _write_body(stage: Usd.Stage, root: Usd.Prim, body: Body, look: Look | None) -> None:
    path = root.GetPath().AppendChild(body.name)
    xform = UsdGeom.Xform.Define(stage, path)
    set_pose(xform, body.body_pose)
    prim = xform.GetPrim()
    UsdPhysics.RigidBodyAPI.Apply(prim).CreateRigidBodyEnabledAttr(True)
    mass = UsdPhysics.MassAPI.Apply(prim)
    mass.CreateMassAttr(body.mass)
    mass.CreateCenterOfMassAttr(Gf.Vec3f(*body.center_of_mass))
    mass.CreateDiagonalInertiaAttr(Gf.Vec3f(*body.diagonal_inertia))
    mass.CreatePrincipalAxesAttr(Gf.Quatf(*body.principal_axes))
    label(prim, "material", wikidata_codes(), body.material.name)

    if len(body.visual.faces):
        write_look(stage, root, path.AppendChild("visual"), body, look)

    material = _physics_material(stage, root, body.material)
    if not body.hulls:
        bind(prim, material, "physics")  # readers learn the material from this binding
        return
    collision = UsdGeom.Xform.Define(stage, path.AppendChild("collision"))
    collision.CreatePurposeAttr(UsdGeom.Tokens.guide)
    bound = {surface: _physics_material(stage, root, surface) for surface in dict.fromkeys(body.surfaces)}
    for index, (hull, surface) in enumerate(zip(body.hulls, body.touching, strict=True)):
        write_collider(stage, collision.GetPath().AppendChild(f"hull_{index:02d}"), hull, bound.get(surface, material))


def _write_affordance(stage: Usd.Stage, path: str, pose: Pose) -> Usd.Prim:
    group = UsdGeom.Xform.Define(stage, Sdf.Path(path).GetParentPath())
    group.CreatePurposeAttr(UsdGeom.Tokens.guide)
    xform = UsdGeom.Xform.Define(stage, path)
    xform.CreatePurposeAttr(UsdGeom.Tokens.guide)
    set_pose(xform, pose)
    text(xform.GetPrim(), "affordance", xform.GetPath().name)
    text(xform.GetPrim(), "convention", "Z approaches, Y closes")
    return xform.GetPrim()


def _physics_material(stage: Usd.Stage, root: Usd.Prim, material: Material) -> UsdShade.Material:
    scope = root.GetPath().AppendChild("materials")
    UsdGeom.Scope.Define(stage, scope)
    shade = UsdShade.Material.Define(stage, scope.AppendChild(material.name))
    api = UsdPhysics.MaterialAPI.Apply(shade.GetPrim())
    api.CreateStaticFrictionAttr(material.static_friction)
    api.CreateDynamicFrictionAttr(material.dynamic_friction)
    api.CreateRestitutionAttr(material.restitution)
    api.CreateDensityAttr(material.density)
    label(shade.GetPrim(), "material", wikidata_codes(), material.name)
    return shade


# ---------------------------------------------------------------------------------------------------------------- reading


def read(path: Path) -> Asset:
    """The asset in a USD file written by `write`, or by a tool with the same conventions.

    Raises:
        AssetError: the file is missing, empty or unreadable, or lacks data that physics needs; the message names the prim.
    """
    stage = open_stage(path)
    root = stage.GetDefaultPrim()
    if not root:
        raise AssetError(f"usd: {path} has no default prim; set one so that a reference to the file means something")
    bodies = tuple(_read_body(root, prim) for prim in Usd.PrimRange(root) if prim.HasAPI(UsdPhysics.RigidBodyAPI))
    if not bodies:
        raise AssetError(f"usd: {path} holds no prim with PhysicsRigidBodyAPI under {root.GetPath()}")
    names = {str(prim.GetPath()): prim.GetName() for prim in Usd.PrimRange(root) if prim.HasAPI(UsdPhysics.RigidBodyAPI)}
    joints = tuple(read_joint(prim, names) for prim in Usd.PrimRange(root) if prim.IsA(UsdPhysics.Joint))
    affordances = {}
    for body_path, body_name in names.items():
        group = stage.GetPrimAtPath(f"{body_path}/affordances")
        for prim in group.GetChildren() if group else ():
            affordances[prim.GetName()] = (body_name, pose_of(UsdGeom.Xformable(prim).GetLocalTransformation()))
    return Asset(
        name=root.GetName(),
        category=_read_text(root, "category"),
        bodies=bodies,
        joints=joints,
        affordances=affordances,
        licence=_read_text(root, "licence"),
        source=_read_text(root, "source"),
        content_hash=_read_text(root, "contentHash"),
        path=path,
        apart=tuple(_read_apart(stage, names)),
    )


def _read_apart(stage: Usd.Stage, names: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for path, name in names.items():
        pairs = UsdPhysics.FilteredPairsAPI(stage.GetPrimAtPath(path)).GetFilteredPairsRel()
        for target in pairs.GetTargets() if pairs else ():
            if str(target) in names:
                yield name, names[str(target)]


def lift_rates(path: Path) -> dict[str, float]:
    """Share of simulated lifts that held, for each affordance that states it; raises AssetError when the file is unreadable."""
    stage = open_stage(path)
    found = {prim.GetName(): prim.GetAttribute("embodichain:liftSuccessRate") for prim in stage.TraverseAll()}
    return {name: float(rate.Get()) for name, rate in found.items() if rate and rate.HasAuthoredValue()}


def _read_body(root: Usd.Prim, prim: Usd.Prim) -> Body:
    mass = UsdPhysics.MassAPI(prim)
    if not prim.HasAPI(UsdPhysics.MassAPI) or not mass.GetMassAttr().HasAuthoredValue():
        raise AssetError(
            f"usd: body {prim.GetPath()} has no authored mass; author PhysicsMassAPI with mass, centerOfMass and inertia"
        )
    hulls, surfaces, material, visual, color = [], [], None, None, (0.7, 0.7, 0.7, 1.0)
    for child in Usd.PrimRange(prim):
        if child.HasAPI(UsdPhysics.CollisionAPI):
            hull = read_collider(child, prim)
            touching = _read_material(child)
            hulls += [hull] if hull else []
            surfaces += [touching] if hull else []
            material = material or touching
        elif child.IsA(UsdGeom.Mesh):
            mesh = UsdGeom.Mesh(child)
            visual = read_mesh(mesh, prim)
            tint, opacity = mesh.GetDisplayColorPrimvar().Get(), mesh.GetDisplayOpacityPrimvar().Get()
            if tint:
                color = (*vec3(tint[0]), float(opacity[0]) if opacity else 1.0)
    if not hulls:  # a body without colliders states its material itself
        material = _read_material(prim)
    if not hulls and visual is None:  # the body only connects two joints
        visual = Mesh(vertices=np.zeros((0, 3)), faces=np.zeros((0, 3), np.int32))
    if material is None:
        raise AssetError(f"usd: body {prim.GetPath()} has no collider with a bound physics material")
    if visual is None:
        raise AssetError(f"usd: body {prim.GetPath()} has no visual mesh")
    axes = mass.GetPrincipalAxesAttr().Get()
    return Body(
        name=prim.GetName(),
        mass=float(mass.GetMassAttr().Get()),
        center_of_mass=vec3(mass.GetCenterOfMassAttr().Get()),
        diagonal_inertia=vec3(mass.GetDiagonalInertiaAttr().Get()),
        principal_axes=quaternion(axes),
        visual=visual,
        hulls=tuple(hulls),
        material=material,
        color=color,
        body_pose=pose_of(UsdGeom.XformCache().ComputeRelativeTransform(prim, root)[0]),
        surfaces=tuple(surface or material for surface in surfaces) if len({*surfaces} - {None}) > 1 else (),
    )


def _read_material(prim: Usd.Prim) -> Material | None:
    bound, _ = UsdShade.MaterialBindingAPI(prim).ComputeBoundMaterial("physics")
    if not bound or not bound.GetPrim().HasAPI(UsdPhysics.MaterialAPI):
        return None
    api = UsdPhysics.MaterialAPI(bound.GetPrim())
    return Material(
        name=bound.GetPrim().GetName(),
        density=float(api.GetDensityAttr().Get()),
        static_friction=float(api.GetStaticFrictionAttr().Get()),
        dynamic_friction=float(api.GetDynamicFrictionAttr().Get()),
        restitution=float(api.GetRestitutionAttr().Get()),
    )


def _read_text(prim: Usd.Prim, name: str) -> str:
    attribute = prim.GetAttribute(f"embodichain:{name}")
    return str(attribute.Get()) if attribute and attribute.HasAuthoredValue() else ""


# ------------------------------------------------------------------------------------------------------------- inspecting


def inspect(path: Path) -> StageFacts:
    """Everything authored in a file; raises AssetError when it cannot be opened."""
    stage = open_stage(path)
    cache = UsdGeom.XformCache()
    prims = []
    for prim in stage.TraverseAll():
        attributes = [attribute for attribute in prim.GetAuthoredAttributes() if attribute.HasAuthoredValue()]
        prims.append(
            PrimFacts(
                path=str(prim.GetPath()),
                type_name=prim.GetTypeName(),
                kind=Usd.ModelAPI(prim).GetKind(),
                schemas=frozenset(prim.GetAppliedSchemas()),
                values={attribute.GetName(): _plain(attribute.Get()) for attribute in attributes},
                targets={
                    relation.GetName(): tuple(str(target) for target in relation.GetTargets())
                    for relation in prim.GetAuthoredRelationships()
                },
                matrix=np.array(cache.GetLocalToWorldTransform(prim)),
            )
        )
    default = stage.GetDefaultPrim()
    return StageFacts(
        meters_per_unit=UsdGeom.GetStageMetersPerUnit(stage),
        kilograms_per_unit=UsdPhysics.GetStageKilogramsPerUnit(stage),
        up_axis=str(UsdGeom.GetStageUpAxis(stage)),
        default_prim=str(default.GetPath()) if default else "",
        prims=tuple(prims),
    )


def _plain(value: Any) -> Any:
    if isinstance(value, (Gf.Quatf, Gf.Quatd, Gf.Quath)):
        return np.array([value.GetReal(), *value.GetImaginary()], np.float64)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return np.asarray(value)
