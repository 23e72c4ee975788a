"""Reads which properties of bodies a stage itself authors, independently of our readers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pxr import Usd, UsdPhysics, UsdShade

from embodichain.assets.usd.values import open_stage


def said_of_bodies(source: Path) -> Iterator[tuple[str, frozenset[str]]]:
    """For each rigid body by path, which of mass, center, inertia and friction are authored; raises AssetError when unreadable."""
    stage = open_stage(source)
    for prim in stage.Traverse(Usd.TraverseInstanceProxies()):
        if not prim.HasAPI(UsdPhysics.RigidBodyAPI) or UsdPhysics.RigidBodyAPI(prim).GetRigidBodyEnabledAttr().Get() is False:
            continue
        said = set[str]()
        if prim.HasAPI(UsdPhysics.MassAPI):
            api = UsdPhysics.MassAPI(prim)
            said |= {"mass"} if api.GetMassAttr().Get() else set()
            said |= {"center"} if api.GetCenterOfMassAttr().HasAuthoredValue() else set()
            said |= {"inertia"} if any(api.GetDiagonalInertiaAttr().Get() or ()) else set()
        for inner in Usd.PrimRange(prim, Usd.TraverseInstanceProxies()):
            bound, _ = UsdShade.MaterialBindingAPI(inner).ComputeBoundMaterial("physics")
            if inner.HasAPI(UsdPhysics.CollisionAPI) and bound and bound.GetPrim().HasAPI(UsdPhysics.MaterialAPI):
                friction = UsdPhysics.MaterialAPI(bound.GetPrim()).GetDynamicFrictionAttr()
                said |= {"friction"} if friction.HasAuthoredValue() else set()
        yield str(prim.GetPath()), frozenset(said)
