"""The looks of prims in somebody else's USD file: triangles with their primvars, and preview surfaces with their textures."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pxr import Ar, Usd, UsdGeom, UsdShade

from embodichain.assets.families.parts import Finish, Image, Look
from embodichain.errors import AssetError
from embodichain.types import Mesh

GREY = (0.7, 0.7, 0.7, 1.0)


def mesh_look(prim: Usd.Prim, finish: Finish) -> Look | None:
    """The triangles of a mesh prim, as fans around first corners, in its own frame; None when it has no faces.

    Raises:
        AssetError: its face counts and indices contradict each other.
    """
    mesh = UsdGeom.Mesh(prim)
    points = np.asarray(mesh.GetPointsAttr().Get() or np.zeros((0, 3)), np.float64).reshape(-1, 3)
    counts = np.asarray(mesh.GetFaceVertexCountsAttr().Get() or (), np.int64)
    indices = np.asarray(mesh.GetFaceVertexIndicesAttr().Get() or (), np.int64)
    if counts.sum() != len(indices) or (counts < 3).any():
        raise AssetError(f"read: mesh {prim.GetPath()} has faces of {int(counts.sum())} corners and {len(indices)} indices")
    if not len(counts):
        return None
    if indices.min() < 0 or indices.max() >= len(points):
        raise AssetError(f"read: face indices of mesh {prim.GetPath()} reach outside 0..{len(points) - 1}")
    corners, owners = _fans(counts)
    if mesh.GetOrientationAttr().Get() == UsdGeom.Tokens.leftHanded:
        corners = corners[:, ::-1]
    faces = indices[corners]
    primvars = UsdGeom.PrimvarsAPI(prim)
    uv = next((p for p in (primvars.GetPrimvar(name) for name in ("st", "UVMap", "st0", "uv")) if p and p.HasValue()), None)
    normals: Any = primvars.GetPrimvar("normals")
    if not (normals and normals.HasValue()):
        normals = mesh.GetNormalsAttr()
    sets = {
        "uv": _per_corner(uv, corners, faces, owners, 2),
        "normals": _per_corner(normals, corners, faces, owners, 3, str(mesh.GetNormalsInterpolation())),
        "colors": _per_corner(primvars.GetPrimvar("displayColor"), corners, faces, owners, 3),
    }
    sets = {name: values for name, values in sets.items() if values is not None}
    if sets:  # each corner gets its own vertex; equal ones are shared
        rows = np.column_stack([faces.ravel(), *(np.round(values, 7) for values in sets.values())])
        _, first, inverse = np.unique(rows, axis=0, return_index=True, return_inverse=True)
        vertices, faces = points[faces.ravel()[first]], inverse.reshape(-1, 3)
        sets = {name: values[first] for name, values in sets.items()}
    else:
        vertices = points
    colors = sets.get("colors")
    if colors is not None:
        if np.ptp(colors, axis=0).max() < 1e-9:  # a single colour is treated as the material's
            if finish.name == "":
                red, green, blue = (float(value) for value in colors[0])
                finish = Finish(color=(red, green, blue, 1.0))
            colors = None
        else:
            colors = np.column_stack([np.clip(colors, 0.0, 1.0), np.ones(len(colors))])
    finishes, numbers = _subsets(prim, finish, len(counts))
    return Look(
        mesh=Mesh(vertices=vertices, faces=np.ascontiguousarray(faces, np.int32)),
        finishes=finishes,
        finish=numbers[owners],
        uv=sets.get("uv"),
        normals=sets.get("normals"),
        colors=colors,
    )


def _fans(counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Corner numbers of every triangle, shape [T, 3], and the face that each belongs to."""
    starts = np.cumsum(counts) - counts
    fans, owners = [], []
    for step in range(1, int(counts.max(initial=3)) - 1):
        wide = np.flatnonzero(counts > step + 1)
        first = starts[wide]
        fans.append(np.stack([first, first + step, first + step + 1], axis=1))
        owners.append(wide)
    order = np.argsort(np.concatenate(owners), kind="stable")
    return np.concatenate(fans)[order], np.concatenate(owners)[order]


def _per_corner(
    primvar: Any, corners: NDArray[np.int64], faces: NDArray[np.int64], owners: NDArray[np.int64], width: int, how: str = ""
) -> NDArray[np.float64] | None:
    """The values of a primvar at every corner of every triangle, shape [3 T, width]; None if it has no usable ones."""
    if not primvar or not primvar.Get():
        return None
    is_primvar = isinstance(primvar, UsdGeom.Primvar)
    values = np.asarray(primvar.ComputeFlattened() if is_primvar else primvar.Get(), np.float64).reshape(-1, width)
    how = str(primvar.GetInterpolation()) if is_primvar else how
    where = {
        "faceVarying": corners.ravel(),
        "vertex": faces.ravel(),
        "varying": faces.ravel(),
        "uniform": np.repeat(owners, 3),
        "constant": np.zeros(corners.size, np.int64),
    }.get(how)
    if where is None or not np.isfinite(values).all() or where.max(initial=0) >= len(values):
        return None
    return values[where]


def _subsets(prim: Usd.Prim, finish: Finish, faces: int) -> tuple[tuple[Finish, ...], NDArray[np.int32]]:
    """The materials of a mesh's subsets, with its own first, and the index of each face's material."""
    finishes, numbers = [finish], np.zeros(faces, np.int32)
    for subset in UsdShade.MaterialBindingAPI(prim).GetMaterialBindSubsets():
        chosen = np.asarray(subset.GetIndicesAttr().Get() or (), np.int64)
        numbers[chosen[(chosen >= 0) & (chosen < faces)]] = len(finishes)
        finishes.append(bound_finish(subset.GetPrim()))
    used = np.unique(numbers)
    return tuple(finishes[i] for i in used), np.searchsorted(used, numbers).astype(np.int32)


def bound_finish(prim: Usd.Prim) -> Finish:
    """The look of the material bound to a prim, otherwise its display colour, otherwise grey."""
    material, _ = UsdShade.MaterialBindingAPI(prim).ComputeBoundMaterial()
    surface = material.ComputeSurfaceSource()[0] if material else None
    if not surface:
        return Finish(color=_display_color(prim))
    name = material.GetPrim().GetName()
    red, green, blue = (float(v) for v in _value(surface, "diffuseColor", (0.18, 0.18, 0.18)))
    glow = tuple(float(v) for v in _value(surface, "emissiveColor", (0.0, 0.0, 0.0)))
    images = {}
    for role, slot in {"diffuse": "diffuseColor", "normal": "normal", "orm": "roughness", "emissive": "emissiveColor"}.items():
        data = _texture(surface, slot)
        if data:
            images[role] = Image(name=f"{name}_{role}", data=data)
    if "diffuse" in images:
        red, green, blue = 1.0, 1.0, 1.0
    return Finish(
        name=name,
        color=(red, green, blue, float(_value(surface, "opacity", 1.0))),
        roughness=float(_value(surface, "roughness", 0.5)),
        metallic=float(_value(surface, "metallic", 0.0)),
        emissive=(glow[0], glow[1], glow[2]),
        images=images,
    )


def _display_color(prim: Usd.Prim) -> tuple[float, float, float, float]:
    primvar = UsdGeom.PrimvarsAPI(prim).FindPrimvarWithInheritance("displayColor")
    colors = np.asarray(primvar.Get(), np.float64).reshape(-1, 3) if primvar and primvar.HasValue() and primvar.Get() else None
    if colors is None or not len(colors) or not np.isfinite(colors).all():
        return GREY
    red, green, blue = (float(value) for value in np.clip(colors.mean(axis=0), 0.0, 1.0))
    return (red, green, blue, 1.0)


def _value(surface: UsdShade.Shader, name: str, default: Any) -> Any:
    """The value of an input, through connections to interfaces; the default if a texture provides it."""
    entry = surface.GetInput(name)
    if not entry:
        return default
    found = entry.GetValueProducingAttributes()
    if found and UsdShade.Utils.GetType(found[0].GetName()) == UsdShade.AttributeType.Input:
        value = found[0].Get()
        return default if value is None else value
    return default


def _texture(surface: UsdShade.Shader, name: str) -> bytes | None:
    """The bytes of the image that provides an input."""
    entry = surface.GetInput(name)
    if not entry or not entry.HasConnectedSource():
        return None
    source = UsdShade.Shader(entry.GetConnectedSource()[0].GetPrim())
    file = source.GetInput("file").Get() if source and source.GetInput("file") else None
    place = file.resolvedPath if file else ""
    if not place:
        return None
    asset = Ar.GetResolver().OpenAsset(Ar.ResolvedPath(place))
    return bytes(asset.GetBuffer()) if asset else None
