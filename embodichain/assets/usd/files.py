"""Assets as OpenUSD files: written per the delivery checklist and read back to 1e-6. The only file that imports pxr.

Layout: `/<name>` (component, default prim) holds one Xform per body, never nested; under a body its `visual` mesh,
`collision/hull_*` meshes of guide purpose and `affordances/*`; beside the bodies `joints`, `materials` (physics) and `looks`.
"""

from __future__ import annotations

import datetime
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pxr import Gf, Kind, Sdf, Tf, Usd, UsdGeom, UsdPhysics, UsdSemantics, UsdShade, Vt

import embodichain
from embodichain.assets.families.tables import wikidata_codes
from embodichain.assets.usd.usd_contents import PrimFacts, StageFacts
from embodichain.errors import AssetError
from embodichain.types import Asset, Body, Joint, JointKind, Material, Mesh, Pose, Quaternion, Vec3, rotate
from embodichain.types.poses import compose, inverse, quaternion_between

GENERATOR = "embodichain"
_DEGREES = 180.0 / math.pi
_AXES: Mapping[str, Vec3] = {"X": (1.0, 0.0, 0.0), "Y": (0.0, 1.0, 0.0), "Z": (0.0, 0.0, 1.0)}
_JOINTS = {
    JointKind.FIXED: UsdPhysics.FixedJoint,
    JointKind.REVOLUTE: UsdPhysics.RevoluteJoint,
    JointKind.PRISMATIC: UsdPhysics.PrismaticJoint,
}


# ---------------------------------------------------------------------------------------------------------------- writing


def write(
    asset: Asset, path: Path, provenance: Mapping[str, str | float] | None = None, rates: Mapping[str, float] | None = None
) -> None:
    """Writes `asset` to `path`: `.usd` and `.usdc` as crate, `.usda` as text.

    Args:
        asset: what to write; its `path` is not used.
        path: the file, replaced when it exists.
        provenance: parameters and other facts to keep in the layer's metadata.
        rates: share of simulated lifts that held, of the affordances that were lifted by.

    Raises:
        AssetError: the file cannot be written, or a name is no valid prim name.
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
    _label(root, "class", asset.category)
    UsdGeom.ModelAPI.Apply(root).SetExtentsHint(_extent(asset.bounds))
    _text(root, "licence", asset.licence)
    _text(root, "source", asset.source)
    _text(root, "category", asset.category)
    _text(root, "contentHash", asset.content_hash)
    for body in asset.bodies:
        _write_body(stage, root, body)
    for name, (body_name, pose) in asset.affordances.items():
        prim = _write_affordance(stage, f"/{asset.name}/{body_name}/affordances/{name}", pose)
        if rates and name in rates:
            _number(prim, "liftSuccessRate", rates[name])
    _write_joints(stage, root, asset)
    layer = stage.GetRootLayer()
    metadata = _metadata(asset)
    layer.customLayerData = {
        **{key: metadata[key] for key in ("asset_name", "asset_type", "source_file", "usd_date_generated")},
        "SimReady_Metadata": metadata,
        "embodichain": {"version": embodichain.__version__, "content_hash": asset.content_hash, **(provenance or {})},
    }
    layer.documentation = f"{asset.name}: {asset.source}. Licence {asset.licence}."
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        written = layer.Export(str(path))
    except (OSError, Tf.ErrorException) as error:
        raise AssetError(f"usd: cannot write {path}: {error}") from error
    if not written:
        raise AssetError(f"usd: cannot write {path}: is the folder writable and the ending one of .usd .usda .usdc?")


def _metadata(asset: Asset) -> dict[str, Any]:
    """What a catalogue needs to know without opening the stage's prims."""
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
        "qcode": wikidata_codes().get(asset.category, "Q488383"),  # object
        "mass": float(sum(body.mass for body in asset.bodies)),
        "asset_extents": Gf.Vec3f(*(high - low).tolist()),
        "rigid_body_count": len(asset.bodies),
    }


def _write_body(stage: Usd.Stage, root: Usd.Prim, body: Body) -> None:
    path = root.GetPath().AppendChild(body.name)
    xform = UsdGeom.Xform.Define(stage, path)
    _set_pose(xform, body.body_pose)
    prim = xform.GetPrim()
    UsdPhysics.RigidBodyAPI.Apply(prim).CreateRigidBodyEnabledAttr(True)
    mass = UsdPhysics.MassAPI.Apply(prim)
    mass.CreateMassAttr(body.mass)
    mass.CreateCenterOfMassAttr(Gf.Vec3f(*body.center_of_mass))
    mass.CreateDiagonalInertiaAttr(Gf.Vec3f(*body.diagonal_inertia))
    mass.CreatePrincipalAxesAttr(Gf.Quatf(*body.principal_axes))
    _label(prim, "material", body.material.name)

    visual = UsdGeom.Mesh.Define(stage, path.AppendChild("visual"))
    _set_mesh(visual, body.visual)
    visual.CreateDisplayColorPrimvar(UsdGeom.Tokens.constant).Set(Vt.Vec3fArray([Gf.Vec3f(*body.color[:3])]))
    visual.CreateDisplayOpacityPrimvar(UsdGeom.Tokens.constant).Set(Vt.FloatArray([body.color[3]]))
    _bind(visual.GetPrim(), _look(stage, root, body), UsdShade.Tokens.allPurpose)

    material = _physics_material(stage, root, body.material)
    collision = UsdGeom.Xform.Define(stage, path.AppendChild("collision"))
    collision.CreatePurposeAttr(UsdGeom.Tokens.guide)
    for index, hull in enumerate(body.hulls):
        mesh = UsdGeom.Mesh.Define(stage, collision.GetPath().AppendChild(f"hull_{index:02d}"))
        _set_mesh(mesh, hull)
        mesh.CreatePurposeAttr(UsdGeom.Tokens.guide)
        UsdPhysics.CollisionAPI.Apply(mesh.GetPrim()).CreateCollisionEnabledAttr(True)
        UsdPhysics.MeshCollisionAPI.Apply(mesh.GetPrim()).CreateApproximationAttr(UsdPhysics.Tokens.convexHull)
        _bind(mesh.GetPrim(), material, "physics")


def _set_mesh(geometry: UsdGeom.Mesh, mesh: Mesh) -> None:
    geometry.CreatePointsAttr(Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(mesh.vertices, np.float32)))
    geometry.CreateFaceVertexCountsAttr(Vt.IntArray.FromNumpy(np.full(len(mesh.faces), 3, np.int32)))
    geometry.CreateFaceVertexIndicesAttr(Vt.IntArray.FromNumpy(np.ascontiguousarray(mesh.faces, np.int32).ravel()))
    geometry.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
    geometry.CreateOrientationAttr(UsdGeom.Tokens.rightHanded)
    geometry.CreateExtentAttr(_extent(np.stack([mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)])))
    a, b, c = (mesh.vertices[mesh.faces[:, i]] for i in range(3))
    normals = np.cross(b - a, c - a)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)
    geometry.CreateNormalsAttr(Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(normals, np.float32)))
    geometry.SetNormalsInterpolation(UsdGeom.Tokens.uniform)


def _set_pose(xform: UsdGeom.Xform, pose: Pose) -> None:
    xform.AddTranslateOp(UsdGeom.XformOp.PrecisionDouble).Set(Gf.Vec3d(*pose.position))
    xform.AddOrientOp(UsdGeom.XformOp.PrecisionDouble).Set(Gf.Quatd(*pose.quaternion))


def _write_affordance(stage: Usd.Stage, path: str, pose: Pose) -> Usd.Prim:
    group = UsdGeom.Xform.Define(stage, Sdf.Path(path).GetParentPath())
    group.CreatePurposeAttr(UsdGeom.Tokens.guide)
    xform = UsdGeom.Xform.Define(stage, path)
    xform.CreatePurposeAttr(UsdGeom.Tokens.guide)
    _set_pose(xform, pose)
    _text(xform.GetPrim(), "affordance", xform.GetPath().name)
    _text(xform.GetPrim(), "convention", "Z approaches, Y closes")
    return xform.GetPrim()


def _write_joints(stage: Usd.Stage, root: Usd.Prim, asset: Asset) -> None:
    bodies = {body.name: body for body in asset.bodies}
    scope = root.GetPath().AppendChild("joints")
    if asset.joints:
        UsdGeom.Scope.Define(stage, scope)
    for joint in asset.joints:
        prim_joint = _JOINTS[joint.kind].Define(stage, scope.AppendChild(joint.name))
        prim = prim_joint.GetPrim()
        child = bodies[joint.child]
        frame = Pose(position=joint.anchor)
        if joint.kind is not JointKind.FIXED:
            token, turn = _axis(joint.axis)
            frame = Pose(position=joint.anchor, quaternion=turn)
            prim_joint.CreateAxisAttr(token)
            scale = _DEGREES if joint.kind is JointKind.REVOLUTE else 1.0
            prim_joint.CreateLowerLimitAttr(joint.lower * scale)
            prim_joint.CreateUpperLimitAttr(joint.upper * scale)
            # USD's standard place for damping and for a spring, whose rest is the drive's target; per degree where the joint turns.
            drive = UsdPhysics.DriveAPI.Apply(prim, "angular" if joint.kind is JointKind.REVOLUTE else "linear")
            drive.CreateTypeAttr(UsdPhysics.Tokens.force)
            drive.CreateStiffnessAttr(joint.stiffness / scale)
            drive.CreateTargetPositionAttr(joint.rest * scale)
            drive.CreateDampingAttr(joint.damping / scale)
            drive.CreateTargetVelocityAttr(0.0)
            _number(prim, "jointDamping", joint.damping)
            _number(prim, "jointFriction", joint.friction)
        in_asset = compose(child.body_pose, frame)
        in_parent = in_asset
        if joint.parent:
            in_parent = compose(inverse(bodies[joint.parent].body_pose), in_asset)
            prim_joint.CreateBody0Rel().SetTargets([root.GetPath().AppendChild(joint.parent)])
        prim_joint.CreateBody1Rel().SetTargets([root.GetPath().AppendChild(joint.child)])
        prim_joint.CreateLocalPos0Attr(Gf.Vec3f(*in_parent.position))
        prim_joint.CreateLocalRot0Attr(Gf.Quatf(*in_parent.quaternion))
        prim_joint.CreateLocalPos1Attr(Gf.Vec3f(*frame.position))
        prim_joint.CreateLocalRot1Attr(Gf.Quatf(*frame.quaternion))
    if asset.movable_joints:
        # On the fixed joint for a bolted base, on the default prim for a floating one: where UsdPhysics wants the root.
        mounts = [joint for joint in asset.joints if joint.parent == ""]
        target = stage.GetPrimAtPath(scope.AppendChild(mounts[0].name)) if mounts else root
        UsdPhysics.ArticulationRootAPI.Apply(target)


def _physics_material(stage: Usd.Stage, root: Usd.Prim, material: Material) -> UsdShade.Material:
    scope = root.GetPath().AppendChild("materials")
    UsdGeom.Scope.Define(stage, scope)
    shade = UsdShade.Material.Define(stage, scope.AppendChild(material.name))
    api = UsdPhysics.MaterialAPI.Apply(shade.GetPrim())
    api.CreateStaticFrictionAttr(material.static_friction)
    api.CreateDynamicFrictionAttr(material.dynamic_friction)
    api.CreateRestitutionAttr(material.restitution)
    api.CreateDensityAttr(material.density)
    _label(shade.GetPrim(), "material", material.name)
    return shade


def _look(stage: Usd.Stage, root: Usd.Prim, body: Body) -> UsdShade.Material:
    scope = root.GetPath().AppendChild("looks")
    UsdGeom.Scope.Define(stage, scope)
    shade = UsdShade.Material.Define(stage, scope.AppendChild(body.name))
    surface = UsdShade.Shader.Define(stage, shade.GetPath().AppendChild("surface"))
    surface.CreateIdAttr("UsdPreviewSurface")
    surface.CreateInput("diffuseColor", Sdf.ValueTypeNames.Color3f).Set(Gf.Vec3f(*body.color[:3]))
    surface.CreateInput("opacity", Sdf.ValueTypeNames.Float).Set(body.color[3])
    surface.CreateInput("roughness", Sdf.ValueTypeNames.Float).Set(0.5)
    shade.CreateSurfaceOutput().ConnectToSource(surface.ConnectableAPI(), "surface")
    _label(shade.GetPrim(), "material", body.material.name)
    return shade


def _bind(prim: Usd.Prim, material: UsdShade.Material, purpose: str) -> None:
    UsdShade.MaterialBindingAPI.Apply(prim).Bind(material, UsdShade.Tokens.weakerThanDescendants, purpose)


def _label(prim: Usd.Prim, taxonomy: str, label: str) -> None:
    UsdSemantics.LabelsAPI.Apply(prim, taxonomy).CreateLabelsAttr(Vt.TokenArray([label]))
    code = wikidata_codes().get(label)
    if code:
        UsdSemantics.LabelsAPI.Apply(prim, "wikidata_qcode").CreateLabelsAttr(Vt.TokenArray([code]))


def _text(prim: Usd.Prim, name: str, value: str) -> None:
    prim.CreateAttribute(f"embodichain:{name}", Sdf.ValueTypeNames.String, custom=True).Set(value)


def _number(prim: Usd.Prim, name: str, value: float) -> None:
    prim.CreateAttribute(f"embodichain:{name}", Sdf.ValueTypeNames.Double, custom=True).Set(value)


def _extent(bounds: NDArray[np.float64]) -> Vt.Vec3fArray:
    return Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(bounds, np.float32))


def _axis(axis: Vec3) -> tuple[str, Quaternion]:
    """USD's axis token and the rotation that turns it onto `axis`: exact for an axis along X, Y or Z."""
    for token, unit in _AXES.items():
        if np.allclose(axis, unit, atol=1e-12):
            return token, (1.0, 0.0, 0.0, 0.0)
    return "X", quaternion_between(_AXES["X"], axis)


# ---------------------------------------------------------------------------------------------------------------- reading


def read(path: Path) -> Asset:
    """The asset in a USD file that `write` or a tool with the same conventions wrote.

    Raises:
        AssetError: the file is missing, empty or unreadable, or lacks what physics needs; the message names the prim.
    """
    stage = open_stage(path)
    root = stage.GetDefaultPrim()
    if not root:
        raise AssetError(f"usd: {path} has no default prim; set one so that a reference to the file means something")
    bodies = tuple(_read_body(root, prim) for prim in Usd.PrimRange(root) if prim.HasAPI(UsdPhysics.RigidBodyAPI))
    if not bodies:
        raise AssetError(f"usd: {path} holds no prim with PhysicsRigidBodyAPI under {root.GetPath()}")
    names = {str(prim.GetPath()): prim.GetName() for prim in Usd.PrimRange(root) if prim.HasAPI(UsdPhysics.RigidBodyAPI)}
    joints = tuple(_read_joint(prim, names) for prim in Usd.PrimRange(root) if prim.IsA(UsdPhysics.Joint))
    affordances = {}
    for body_path, body_name in names.items():
        group = stage.GetPrimAtPath(f"{body_path}/affordances")
        for prim in group.GetChildren() if group else ():
            affordances[prim.GetName()] = (body_name, _pose(UsdGeom.Xformable(prim).GetLocalTransformation()))
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
    )


def lift_rates(path: Path) -> dict[str, float]:
    """Share of simulated lifts that held, of every affordance that says so in a file; raises AssetError when it is unreadable."""
    stage = open_stage(path)
    found = {prim.GetName(): prim.GetAttribute("embodichain:liftSuccessRate") for prim in stage.TraverseAll()}
    return {name: float(rate.Get()) for name, rate in found.items() if rate and rate.HasAuthoredValue()}


def open_stage(path: Path) -> Usd.Stage:
    """The stage at `path`; raises AssetError when there is none or it cannot be parsed."""
    if not path.is_file():
        raise AssetError(f"usd: no file {path}")
    if path.stat().st_size == 0:
        raise AssetError(f"usd: {path} is empty")
    try:
        return Usd.Stage.Open(str(path))
    except Tf.ErrorException as error:
        raise AssetError(f"usd: {path} cannot be read: {str(error).strip().splitlines()[-1]}") from error


def _read_body(root: Usd.Prim, prim: Usd.Prim) -> Body:
    mass = UsdPhysics.MassAPI(prim)
    if not prim.HasAPI(UsdPhysics.MassAPI) or not mass.GetMassAttr().HasAuthoredValue():
        raise AssetError(
            f"usd: body {prim.GetPath()} has no authored mass; author PhysicsMassAPI with mass, centerOfMass and inertia"
        )
    hulls, material, visual, color = [], None, None, (0.7, 0.7, 0.7, 1.0)
    for child in Usd.PrimRange(prim):
        if not child.IsA(UsdGeom.Mesh):
            continue
        mesh = UsdGeom.Mesh(child)
        if child.HasAPI(UsdPhysics.CollisionAPI):
            hulls.append(_read_mesh(mesh, prim))
            material = material or _read_material(child)
        else:
            visual = _read_mesh(mesh, prim)
            tint, opacity = mesh.GetDisplayColorPrimvar().Get(), mesh.GetDisplayOpacityPrimvar().Get()
            if tint:
                color = (*_vec3(tint[0]), float(opacity[0]) if opacity else 1.0)
    if not hulls or material is None:
        raise AssetError(f"usd: body {prim.GetPath()} has no collider with a bound physics material")
    if visual is None:
        raise AssetError(f"usd: body {prim.GetPath()} has no visual mesh")
    axes = mass.GetPrincipalAxesAttr().Get()
    return Body(
        name=prim.GetName(),
        mass=float(mass.GetMassAttr().Get()),
        center_of_mass=_vec3(mass.GetCenterOfMassAttr().Get()),
        diagonal_inertia=_vec3(mass.GetDiagonalInertiaAttr().Get()),
        principal_axes=_quaternion(axes),
        visual=visual,
        hulls=tuple(hulls),
        material=material,
        color=color,
        body_pose=_pose(UsdGeom.XformCache().ComputeRelativeTransform(prim, root)[0]),
    )


def _read_mesh(mesh: UsdGeom.Mesh, body: Usd.Prim) -> Mesh:
    """The triangles of a mesh in its body's frame."""
    counts = np.asarray(mesh.GetFaceVertexCountsAttr().Get())
    if not np.all(counts == 3):
        raise AssetError(f"usd: mesh {mesh.GetPath()} has polygons; triangulate it")
    points = np.asarray(mesh.GetPointsAttr().Get(), np.float64)
    matrix, resets = UsdGeom.XformCache().ComputeRelativeTransform(mesh.GetPrim(), body)
    matrix = np.array(matrix)
    if resets or not np.array_equal(matrix, np.eye(4)):
        points = points @ matrix[:3, :3] + matrix[3, :3]
    return Mesh(vertices=points, faces=np.asarray(mesh.GetFaceVertexIndicesAttr().Get(), np.int32).reshape(-1, 3))


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


def _read_joint(prim: Usd.Prim, names: Mapping[str, str]) -> Joint:
    kind = next((kind for kind, schema in _JOINTS.items() if prim.IsA(schema)), None)
    if kind is None:
        raise AssetError(f"usd: joint {prim.GetPath()} is a {prim.GetTypeName()}; available: {', '.join(JointKind)}")
    joint = UsdPhysics.Joint(prim)
    parents, children = joint.GetBody0Rel().GetTargets(), joint.GetBody1Rel().GetTargets()
    if not children or str(children[0]) not in names or (parents and str(parents[0]) not in names):
        raise AssetError(f"usd: joint {prim.GetPath()} refers to no rigid body of this asset")
    common = {
        "name": prim.GetName(),
        "kind": kind,
        "parent": names[str(parents[0])] if parents else "",
        "child": names[str(children[0])],
        "anchor": _vec3(joint.GetLocalPos1Attr().Get()),
    }
    if kind is JointKind.FIXED:
        return Joint(**common)
    typed = _JOINTS[kind](prim)
    scale = _DEGREES if kind is JointKind.REVOLUTE else 1.0
    drive = UsdPhysics.DriveAPI(prim, "angular" if kind is JointKind.REVOLUTE else "linear")
    damping, friction = prim.GetAttribute("embodichain:jointDamping"), prim.GetAttribute("embodichain:jointFriction")
    turned = rotate(_quaternion(joint.GetLocalRot1Attr().Get()), np.array(_AXES[typed.GetAxisAttr().Get()]))
    return Joint(
        **common,
        axis=_vec3(turned / np.linalg.norm(turned)),
        lower=float(typed.GetLowerLimitAttr().Get()) / scale,
        upper=float(typed.GetUpperLimitAttr().Get()) / scale,
        damping=float(damping.Get()) if damping else float(drive.GetDampingAttr().Get() or 0.0) * scale,
        friction=float(friction.Get()) if friction else 0.0,
        stiffness=float(drive.GetStiffnessAttr().Get() or 0.0) * scale,
        rest=float(drive.GetTargetPositionAttr().Get() or 0.0) / scale,
    )


def _read_text(prim: Usd.Prim, name: str) -> str:
    attribute = prim.GetAttribute(f"embodichain:{name}")
    return str(attribute.Get()) if attribute and attribute.HasAuthoredValue() else ""


def _vec3(value: Any) -> Vec3:
    return (float(value[0]), float(value[1]), float(value[2]))


def _quaternion(value: Any) -> Quaternion:
    """A pxr quaternion as (w, x, y, z) of unit length."""
    q = np.array([value.GetReal(), *value.GetImaginary()], np.float64)
    w, x, y, z = (float(entry) for entry in q / np.linalg.norm(q))
    return (w, x, y, z)


def _pose(matrix: Gf.Matrix4d) -> Pose:
    return Pose(position=_vec3(matrix.ExtractTranslation()), quaternion=_quaternion(matrix.ExtractRotationQuat()))


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
