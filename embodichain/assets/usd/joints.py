"""Joints of assets in USD: limits, drives and the equivalents in other engines' schemas, written and read back."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from pxr import Gf, Sdf, Usd, UsdGeom, UsdPhysics

from embodichain.assets.usd.values import number, quaternion, vec3
from embodichain.errors import AssetError
from embodichain.types import Asset, Joint, JointKind, Mimic, Pose, Quaternion, Vec3, rotate
from embodichain.types.poses import compose, inverse, quaternion_between

_DEGREES = 180.0 / math.pi
_AXES: Mapping[str, Vec3] = {"X": (1.0, 0.0, 0.0), "Y": (0.0, 1.0, 0.0), "Z": (0.0, 0.0, 1.0)}
_JOINTS = {
    JointKind.FIXED: UsdPhysics.FixedJoint,
    JointKind.REVOLUTE: UsdPhysics.RevoluteJoint,
    JointKind.PRISMATIC: UsdPhysics.PrismaticJoint,
}


def write_joints(stage: Usd.Stage, root: Usd.Prim, asset: Asset) -> None:
    """Writes the joints of an asset, its articulation root, and the pairs that do not collide."""
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
            if math.isfinite(joint.lower):
                prim_joint.CreateLowerLimitAttr(joint.lower * scale)
            if math.isfinite(joint.upper):
                prim_joint.CreateUpperLimitAttr(joint.upper * scale)
            # USD stores damping and springs in a drive, whose target is the spring's rest position; per degree for revolute joints.
            drive = UsdPhysics.DriveAPI.Apply(prim, "angular" if joint.kind is JointKind.REVOLUTE else "linear")
            drive.CreateTypeAttr(UsdPhysics.Tokens.force)
            drive.CreateStiffnessAttr(joint.stiffness / scale)
            drive.CreateTargetPositionAttr(joint.rest * scale)
            drive.CreateDampingAttr(joint.damping / scale)
            drive.CreateTargetVelocityAttr(0.0)
            number(prim, "jointDamping", joint.damping)
            number(prim, "jointFriction", joint.friction)
            _write_drive_limits(prim, drive, joint, scale)
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
        # UsdPhysics expects the articulation root on the fixed joint of a bolted base, or on the default prim of a floating one.
        mounts = [joint for joint in asset.joints if joint.parent == ""]
        target = stage.GetPrimAtPath(scope.AppendChild(mounts[0].name)) if mounts else root
        UsdPhysics.ArticulationRootAPI.Apply(target)
    for joint in asset.movable_joints:
        if joint.mimic:
            _write_mimic(stage.GetPrimAtPath(scope.AppendChild(joint.name)), joint, scope.AppendChild(joint.mimic.joint))
    for first, second in asset.apart:
        prim = stage.GetPrimAtPath(root.GetPath().AppendChild(first))
        pairs = UsdPhysics.FilteredPairsAPI.Apply(prim).CreateFilteredPairsRel()
        pairs.AddTarget(root.GetPath().AppendChild(second))


def _write_drive_limits(prim: Usd.Prim, drive: UsdPhysics.DriveAPI, joint: Joint, scale: float) -> None:
    """Writes the limits of a drive and its armature: in USD's standard attributes, and in those of PhysX and Newton."""
    if math.isfinite(joint.effort):
        drive.CreateMaxForceAttr(joint.effort)
        number(prim, "jointEffort", joint.effort)
    if math.isfinite(joint.velocity):
        for name in ("physxJoint:maxJointVelocity", "newton:velocityLimit"):
            prim.CreateAttribute(name, Sdf.ValueTypeNames.Float).Set(joint.velocity * scale)
        number(prim, "jointVelocity", joint.velocity)
    if joint.armature:
        for name in ("physxJoint:armature", "newton:armature"):
            prim.CreateAttribute(name, Sdf.ValueTypeNames.Float).Set(joint.armature)
        number(prim, "jointArmature", joint.armature)
    if math.isfinite(joint.velocity) or joint.armature:
        prim.AddAppliedSchema("PhysxJointAPI")
        prim.AddAppliedSchema("NewtonJointAPI")


def _write_mimic(prim: Usd.Prim, joint: Joint, leader: Sdf.Path) -> None:
    """Writes that a joint follows another one, in Newton's and PhysX's schemas and in our own attributes.

    Newton: q = coef0 + coef1 q_leader. PhysX: q + gearing q_leader + offset = 0. Both use degrees for revolute joints.
    """
    assert joint.mimic is not None
    factor, scale = joint.mimic.multiplier, _DEGREES if joint.kind is JointKind.REVOLUTE else 1.0
    offset, float_ = joint.mimic.offset * scale, Sdf.ValueTypeNames.Float
    prim.AddAppliedSchema("NewtonMimicAPI")
    prim.CreateRelationship("newton:mimicJoint").SetTargets([leader])
    prim.CreateAttribute("newton:mimicCoef0", float_).Set(offset)
    prim.CreateAttribute("newton:mimicCoef1", float_).Set(factor)
    instance = "rotX" if joint.kind is JointKind.REVOLUTE else "transX"
    prim.AddAppliedSchema(f"PhysxMimicJointAPI:{instance}")
    prim.CreateRelationship(f"physxMimicJoint:{instance}:referenceJoint").SetTargets([leader])
    prim.CreateAttribute(f"physxMimicJoint:{instance}:gearing", float_).Set(-factor)
    prim.CreateAttribute(f"physxMimicJoint:{instance}:offset", float_).Set(-offset)
    number(prim, "mimicMultiplier", factor)
    number(prim, "mimicOffset", joint.mimic.offset)


def _axis(axis: Vec3) -> tuple[str, Quaternion]:
    """USD's axis token, and the rotation that turns this axis onto `axis`; exact for an axis along X, Y or Z."""
    for token, unit in _AXES.items():
        if np.allclose(axis, unit, atol=1e-12):
            return token, (1.0, 0.0, 0.0, 0.0)
    return "X", quaternion_between(_AXES["X"], axis)


def read_joint(prim: Usd.Prim, names: Mapping[str, str]) -> Joint:
    """Reads a joint prim; raises AssetError when its type is not supported, or when it connects no bodies."""
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
        "anchor": vec3(joint.GetLocalPos1Attr().Get()),
    }
    if kind is JointKind.FIXED:
        return Joint(**common)
    typed = _JOINTS[kind](prim)
    scale = _DEGREES if kind is JointKind.REVOLUTE else 1.0
    drive = UsdPhysics.DriveAPI(prim, "angular" if kind is JointKind.REVOLUTE else "linear")
    damping, friction = prim.GetAttribute("embodichain:jointDamping"), prim.GetAttribute("embodichain:jointFriction")
    turned = rotate(quaternion(joint.GetLocalRot1Attr().Get()), np.array(_AXES[typed.GetAxisAttr().Get()]))
    return Joint(
        **common,
        axis=vec3(turned / np.linalg.norm(turned)),
        lower=_bound(typed.GetLowerLimitAttr(), -math.inf) / scale,
        upper=_bound(typed.GetUpperLimitAttr(), math.inf) / scale,
        damping=float(damping.Get()) if damping else float(drive.GetDampingAttr().Get() or 0.0) * scale,
        friction=float(friction.Get()) if friction else 0.0,
        stiffness=float(drive.GetStiffnessAttr().Get() or 0.0) * scale,
        rest=float(drive.GetTargetPositionAttr().Get() or 0.0) / scale,
        effort=_own(prim, "jointEffort", math.inf),
        velocity=_own(prim, "jointVelocity", math.inf),
        armature=_own(prim, "jointArmature", 0.0),
        mimic=_read_mimic(prim),
    )


def _bound(attribute: Usd.Attribute, otherwise: float) -> float:
    """A limit; infinite if it is not authored."""
    return float(attribute.Get()) if attribute.HasAuthoredValue() else otherwise


def _own(prim: Usd.Prim, name: str, otherwise: float) -> float:
    attribute = prim.GetAttribute(f"embodichain:{name}")
    return float(attribute.Get()) if attribute else otherwise


def _read_mimic(prim: Usd.Prim) -> Mimic | None:
    leader = prim.GetRelationship("newton:mimicJoint")
    if not leader or not leader.GetTargets():
        return None
    name = leader.GetTargets()[0].name
    return Mimic(joint=name, multiplier=_own(prim, "mimicMultiplier", 1.0), offset=_own(prim, "mimicOffset", 0.0))
