"""Ways to spoil a switch's USD file, each with the check that must notice: the specification's eighteen faults and some more."""

import math

import numpy as np
from pxr import Gf, Sdf, Usd, UsdGeom, UsdPhysics, UsdShade, Vt


def body(stage, name="base"):
    return stage.GetPrimAtPath(f"{stage.GetDefaultPrim().GetPath()}/{name}")


def hull(stage, index=0):
    return stage.GetPrimAtPath(f"{body(stage).GetPath()}/collision/hull_{index:02d}")


def lever(stage):
    return stage.GetPrimAtPath(f"{stage.GetDefaultPrim().GetPath()}/joints/lever")


def nan_mass(stage):
    UsdPhysics.MassAPI(body(stage)).GetMassAttr().Set(math.nan)


def negative_mass(stage):
    UsdPhysics.MassAPI(body(stage)).GetMassAttr().Set(-1.0)


def missing_mass(stage):
    body(stage).RemoveProperty("physics:mass")


def impossible_inertia(stage):
    UsdPhysics.MassAPI(body(stage)).GetDiagonalInertiaAttr().Set(Gf.Vec3f(1e-4, 1e-4, 9e-4))


def center_of_mass_outside(stage):
    UsdPhysics.MassAPI(body(stage)).GetCenterOfMassAttr().Set(Gf.Vec3f(0, 0, 0.5))


def nested_bodies(stage):
    UsdPhysics.RigidBodyAPI.Apply(stage.GetPrimAtPath(f"{body(stage).GetPath()}/collision"))


def stretched_body(stage):
    UsdGeom.Xformable(body(stage)).AddScaleOp().Set(Gf.Vec3f(1, 1, 2))


def reversed_limits(stage):
    joint = UsdPhysics.RevoluteJoint(lever(stage))
    low, high = joint.GetLowerLimitAttr().Get(), joint.GetUpperLimitAttr().Get()
    joint.GetLowerLimitAttr().Set(high)
    joint.GetUpperLimitAttr().Set(low)


def joint_frames_apart(stage):
    UsdPhysics.Joint(lever(stage)).GetLocalPos0Attr().Set(Gf.Vec3f(0.0, 0.05, 0.0))


def joint_frames_turned(stage):
    UsdPhysics.Joint(lever(stage)).GetLocalRot0Attr().Set(Gf.Quatf(0.7071068, 0.7071068, 0, 0))


def joint_without_body(stage):
    UsdPhysics.Joint(lever(stage)).GetBody1Rel().SetTargets([Sdf.Path("/nowhere")])


def joint_of_nothing(stage):
    UsdPhysics.Joint(lever(stage)).GetBody1Rel().ClearTargets(True)


def nested_articulation_root(stage):
    UsdPhysics.ArticulationRootAPI.Apply(stage.GetDefaultPrim())


def approximation_none(stage):
    UsdPhysics.MeshCollisionAPI(hull(stage)).GetApproximationAttr().Set("none")


def material_without_target(stage):
    UsdShade.MaterialBindingAPI(hull(stage)).GetDirectBindingRel("physics").ClearTargets(False)


def material_of_no_physics(stage):
    UsdShade.MaterialBindingAPI(hull(stage)).GetDirectBindingRel("physics").SetTargets([stage.GetDefaultPrim().GetPath()])


def missing_kind(stage):
    stage.GetRootLayer().GetPrimAtPath(stage.GetDefaultPrim().GetPath()).ClearKind()


def nan_points(stage):
    mesh = UsdGeom.Mesh(hull(stage))
    points = np.array(mesh.GetPointsAttr().Get())
    points[2] = math.nan
    mesh.GetPointsAttr().Set(Vt.Vec3fArray.FromNumpy(points))


def collision_removed(stage):
    hull(stage).RemoveAPI(UsdPhysics.CollisionAPI)


def centimetres(stage):
    UsdGeom.SetStageMetersPerUnit(stage, 0.01)


def y_up(stage):
    UsdGeom.SetStageUpAxis(stage, "Y")


def far_collider(stage):
    mesh = UsdGeom.Mesh(hull(stage))
    points = np.array(mesh.GetPointsAttr().Get()) + np.float32(0.2)
    mesh.GetPointsAttr().Set(Vt.Vec3fArray.FromNumpy(points))
    mesh.GetExtentAttr().Set(Vt.Vec3fArray.FromNumpy(np.stack([points.min(axis=0), points.max(axis=0)])))


def mass_of_a_car(stage):
    UsdPhysics.MassAPI(body(stage)).GetMassAttr().Set(1500.0)


def negative_friction(stage):
    material = UsdShade.MaterialBindingAPI(hull(stage)).GetDirectBindingRel("physics").GetTargets()[0]
    UsdPhysics.MaterialAPI(stage.GetPrimAtPath(material)).GetDynamicFrictionAttr().Set(-0.5)


def no_licence(stage):
    stage.GetDefaultPrim().GetAttribute("embodichain:licence").Set("")


MUTATIONS = {
    nan_mass: "mass",
    negative_mass: "mass",
    missing_mass: "mass",
    impossible_inertia: "inertia",
    center_of_mass_outside: "center_of_mass",
    nested_bodies: "nested_body",
    stretched_body: "scale",
    reversed_limits: "joint_limits",
    joint_frames_apart: "joint_frames",
    joint_frames_turned: "joint_frames",
    joint_without_body: "joint_body",
    joint_of_nothing: "joint_body",
    nested_articulation_root: "articulation_root",
    approximation_none: "approximation",
    material_without_target: "physics_material",
    material_of_no_physics: "physics_material",
    missing_kind: "kind",
    nan_points: "points",
    collision_removed: "collider",
    centimetres: "meters_per_unit",
    y_up: "up_axis",
    far_collider: "collider_fit",
    mass_of_a_car: "density",
    negative_friction: "friction",
    no_licence: "licence",
}


def spoil(source, path, mutation):
    """Writes a spoiled copy of the asset at `source` to `path`."""
    flat = Usd.Stage.Open(Usd.Stage.Open(str(source)).Flatten())
    mutation(flat)
    assert flat.Export(str(path))
