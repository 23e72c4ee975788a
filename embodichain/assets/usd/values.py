"""Small functions for writing and reading USD: poses, bindings, labels, numbers and texts on prims."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pxr import Gf, Sdf, Tf, Usd, UsdGeom, UsdSemantics, UsdShade, Vt

from embodichain.errors import AssetError
from embodichain.types import Pose, Quaternion, Vec3


def open_stage(path: Path) -> Usd.Stage:
    """Opens the stage at `path`; raises AssetError when it does not exist or cannot be parsed."""
    if not path.is_file():
        raise AssetError(f"usd: no file {path}")
    if path.stat().st_size == 0:
        raise AssetError(f"usd: {path} is empty")
    try:
        return Usd.Stage.Open(str(path))
    except Tf.ErrorException as error:
        told = re.findall(r": '(.*)'", str(error))
        reason = told[0] if told and "Failed to open layer" not in told[0] else "it is damaged, or no USD"
        raise AssetError(f"usd: {path} cannot be read: {reason}") from error


def set_pose(xform: UsdGeom.Xformable, pose: Pose) -> None:
    """Sets the pose of a prim."""
    xform.AddTranslateOp(UsdGeom.XformOp.PrecisionDouble).Set(Gf.Vec3d(*pose.position))
    xform.AddOrientOp(UsdGeom.XformOp.PrecisionDouble).Set(Gf.Quatd(*pose.quaternion))


def bind(prim: Usd.Prim, material: UsdShade.Material, purpose: str) -> None:
    """Binds a material to a prim for a purpose."""
    UsdShade.MaterialBindingAPI.Apply(prim).Bind(material, UsdShade.Tokens.weakerThanDescendants, purpose)


def label(prim: Usd.Prim, taxonomy: str, codes: Mapping[str, str], *names: str) -> None:
    """Labels a prim with its semantics, and with its Wikidata item if `codes` has one."""
    UsdSemantics.LabelsAPI.Apply(prim, taxonomy).CreateLabelsAttr(Vt.TokenArray(list(names)))
    code = codes.get(names[0])
    if code:
        UsdSemantics.LabelsAPI.Apply(prim, "wikidata_qcode").CreateLabelsAttr(Vt.TokenArray([code]))


def text(prim: Usd.Prim, name: str, value: str) -> None:
    """Writes a text attribute in our namespace."""
    prim.CreateAttribute(f"embodichain:{name}", Sdf.ValueTypeNames.String, custom=True).Set(value)


def number(prim: Usd.Prim, name: str, value: float) -> None:
    """Writes a number attribute in our namespace."""
    prim.CreateAttribute(f"embodichain:{name}", Sdf.ValueTypeNames.Double, custom=True).Set(value)


def extent(bounds: NDArray[np.float64]) -> Vt.Vec3fArray:
    """Lowest and highest corner in USD's form."""
    return Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(bounds, np.float32))


def vec3(value: Any) -> Vec3:
    """Converts a vector of three numbers from pxr."""
    return (float(value[0]), float(value[1]), float(value[2]))


def quaternion(value: Any) -> Quaternion:
    """A pxr quaternion as (w, x, y, z), normalised."""
    q = np.array([value.GetReal(), *value.GetImaginary()], np.float64)
    w, x, y, z = (float(entry) for entry in q / np.linalg.norm(q))
    return (w, x, y, z)


def pose_of(matrix: Gf.Matrix4d) -> Pose:
    """The pose in a matrix of pxr."""
    return Pose(position=vec3(matrix.ExtractTranslation()), quaternion=quaternion(matrix.ExtractRotationQuat()))
