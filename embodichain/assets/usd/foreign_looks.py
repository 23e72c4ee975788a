"""The looks of prims in somebody else's USD file: triangles with their primvars, and preview surfaces with their textures."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pxr import Usd, UsdGeom, UsdShade

from embodichain.assets.families.parts import Finish, Look
from embodichain.assets.usd.foreign_materials import FIRST_TILE, Skin, skin_of
from embodichain.errors import AssetError
from embodichain.types import Mesh

_USUAL = ("st", "UVMap", "st0", "uv")
"""Names of texture coordinates where no material says which ones it means."""
_ACROSS = 10
"""Number of tiles of a tiled picture beside each other."""


def mesh_look(prim: Usd.Prim, skin: Skin) -> Look | None:
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
    skins, numbers = _subsets(prim, skin, len(counts))
    uv, finishes, numbers = _laid(primvars, skins, numbers[owners], (corners, faces, owners))
    normals: Any = primvars.GetPrimvar("normals")
    if not (normals and normals.HasValue()):
        normals = mesh.GetNormalsAttr()
    sets = {
        "uv": uv,
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
            red, green, blue = (float(value) for value in colors[0])
            own = Finish(color=(red, green, blue, 1.0))
            finishes = tuple(own if finish.name == "" and finish == skin.plain else finish for finish in finishes)
            colors = None
        else:
            colors = np.column_stack([np.clip(colors, 0.0, 1.0), np.ones(len(colors))])
    return Look(
        mesh=Mesh(vertices=vertices, faces=np.ascontiguousarray(faces, np.int32)),
        finishes=finishes,
        finish=numbers,
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


def _subsets(prim: Usd.Prim, skin: Skin, faces: int) -> tuple[list[Skin], NDArray[np.int32]]:
    """The materials of a mesh's subsets, with its own first, and the index of each face's material."""
    skins, numbers = [skin], np.zeros(faces, np.int32)
    for subset in UsdShade.MaterialBindingAPI(prim).GetMaterialBindSubsets():
        chosen = np.asarray(subset.GetIndicesAttr().Get() or (), np.int64)
        numbers[chosen[(chosen >= 0) & (chosen < faces)]] = len(skins)
        skins.append(skin_of(subset.GetPrim()))
    used = np.unique(numbers)
    return [skins[i] for i in used], np.searchsorted(used, numbers).astype(np.int32)


def _laid(
    primvars: UsdGeom.PrimvarsAPI,
    skins: list[Skin],
    numbers: NDArray[np.int32],
    where: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
) -> tuple[NDArray[np.float64] | None, tuple[Finish, ...], NDArray[np.int32]]:
    """Texture coordinates of every corner in the pictures of its material, shape [3 T, 2], the looks, and each triangle's.

    A picture of several tiles becomes one look a tile, whose coordinates begin at zero. `numbers` is the material of each
    triangle; `where` is what `_per_corner` takes.
    """
    count = len(numbers)
    laid: NDArray[np.float64] | None = None
    finishes: list[Finish] = []
    result = np.zeros(count, np.int32)
    for number, skin in enumerate(skins):
        mine = numbers == number
        names = dict.fromkeys((skin.lay.primvar, *_USUAL)) if skin.lay.primvar else dict.fromkeys(_USUAL)
        primvar = next((p for p in (primvars.FindPrimvarWithInheritance(name) for name in names) if p and p.HasValue()), None)
        uv = _per_corner(primvar, *where, 2)
        if uv is not None:
            uv = skin.lay.moved(uv)
        tiles = np.full(count, FIRST_TILE)
        if uv is not None and skin.tiles:
            middle = np.floor(uv.reshape(-1, 3, 2).mean(axis=1)).astype(np.int64)
            tiles = FIRST_TILE + middle[:, 0] + _ACROSS * middle[:, 1]
            uv = uv - np.repeat(middle, 3, axis=0)
        for tile in np.unique(tiles[mine]):
            result[mine & (tiles == tile)] = len(finishes)
            finishes.append(skin.finish(int(tile)))
        if uv is not None:
            laid = np.zeros((3 * count, 2)) if laid is None else laid
            laid[np.repeat(mine, 3)] = uv[np.repeat(mine, 3)]
    return laid, tuple(finishes), result
