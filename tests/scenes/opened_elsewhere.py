"""Opens a packed scene with pxr alone, in a process that knows nothing of this engine, and prints what it finds as JSON."""

import json
import sys

from pxr import Gf, Usd, UsdGeom, UsdPhysics, UsdShade, UsdUtils


def frames(stage: Usd.Stage, joint: UsdPhysics.Joint) -> float:
    """How far [m] the two frames of a joint are apart once the joint's position is taken into account, at points 1 m from them."""
    prim = joint.GetPrim()
    ends = []
    for side in (0, 1):
        position, rotation = (prim.GetAttribute(f"physics:local{part}{side}").Get() for part in ("Pos", "Rot"))
        local = Gf.Matrix4d().SetRotate(Gf.Quatd(rotation)) * Gf.Matrix4d().SetTranslate(Gf.Vec3d(position))
        bodies = prim.GetRelationship(f"physics:body{side}").GetTargets()
        world = UsdGeom.XformCache().GetLocalToWorldTransform(stage.GetPrimAtPath(bodies[0])) if bodies else Gf.Matrix4d(1)
        ends.append(local * world)
    axis = {"X": Gf.Vec3d(1, 0, 0), "Y": Gf.Vec3d(0, 1, 0), "Z": Gf.Vec3d(0, 0, 1)}[prim.GetAttribute("physics:axis").Get() or "X"]
    motion = Gf.Matrix4d(1)
    if angle := prim.GetAttribute("state:angular:physics:position"):
        motion.SetRotate(Gf.Rotation(axis, angle.Get()))
    elif travel := prim.GetAttribute("state:linear:physics:position"):
        motion.SetTranslate(axis * travel.Get())
    moved = motion * ends[0]
    points = [Gf.Vec3d(0, 0, 0), Gf.Vec3d(1, 0, 0), Gf.Vec3d(0, 1, 0)]
    return max((moved.Transform(point) - ends[1].Transform(point)).GetLength() for point in points)


stage = Usd.Stage.Open(sys.argv[1])
layers, others, missing = UsdUtils.ComputeAllDependencies(sys.argv[1])
cache = UsdGeom.XformCache()
found: dict = {
    "files": [layer.realPath for layer in layers] + [str(other) for other in others],
    "absolute": [layer.identifier for layer in layers for path in layer.GetExternalReferences() if path.startswith("/")],
    "missing": [str(path) for path in missing],
    "gravity": [list(UsdPhysics.Scene(p).GetGravityDirectionAttr().Get()) for p in stage.Traverse() if p.IsA(UsdPhysics.Scene)],
    "cameras": {},
    "bodies": {},
    "colors": {},
    "frictions": {},
    "states": {},
    "apart": {},
    "roots": [str(p.GetPath()) for p in stage.Traverse() if p.HasAPI(UsdPhysics.ArticulationRootAPI)],
}
for prim in stage.Traverse():
    path = str(prim.GetPath())
    if prim.IsA(UsdGeom.Camera):
        seen = UsdGeom.Camera(prim).GetCamera(Usd.TimeCode.Default())
        matrix = cache.GetLocalToWorldTransform(prim)
        place, backwards = matrix.ExtractTranslation(), matrix.TransformDir(Gf.Vec3d(0, 0, 1))
        lens = seen.GetFieldOfView(Gf.Camera.FOVVertical)
        found["cameras"][prim.GetName()] = [*place, *backwards, lens]
    if prim.HasAPI(UsdPhysics.RigidBodyAPI):
        found["bodies"][path] = list(cache.GetLocalToWorldTransform(prim).ExtractTranslation())
    if prim.IsA(UsdGeom.Mesh) and UsdGeom.Imageable(prim).ComputePurpose() != "guide":
        bound, _ = UsdShade.MaterialBindingAPI(prim).ComputeBoundMaterial()
        if bound:
            shader = UsdShade.Shader(bound.ComputeSurfaceSource()[0].GetPrim())
            found["colors"][path] = list(shader.GetInput("diffuseColor").Get() or ())
    if prim.HasAPI(UsdPhysics.CollisionAPI) and path.startswith("/scene/objects"):
        bound, _ = UsdShade.MaterialBindingAPI(prim).ComputeBoundMaterial("physics")
        found["frictions"][path] = UsdPhysics.MaterialAPI(bound.GetPrim()).GetDynamicFrictionAttr().Get()
    if prim.IsA(UsdPhysics.Joint):
        found["apart"][path] = frames(stage, UsdPhysics.Joint(prim))
        for word in ("angular", "linear"):
            if state := prim.GetAttribute(f"state:{word}:physics:position"):
                found["states"][path] = state.Get()
print(json.dumps(found))
