"""The materials of somebody else's USD file: preview surfaces and OmniPBR, with their pictures and where these lie.

A picture lies by a set of texture coordinates, moved by a transformation (`Lay`). Channels that a surface takes from different
pictures are put together into one, as `Finish` has them. What cannot be kept is listed by `unkept`.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pxr import Ar, Sdf, Usd, UsdGeom, UsdShade

from embodichain.assets.families.parts import Finish, Image

GREY = (0.7, 0.7, 0.7, 1.0)
FIRST_TILE = 1001
"""Number of the tile of a tiled picture (UDIM) whose texture coordinates lie between 0 and 1."""
_SLOTS = {"diffuse": "diffuseColor", "normal": "normal", "emissive": "emissiveColor"}
_CHANNELS = ("occlusion", "roughness", "metallic")
"""What the red, green and blue channel of a picture called `orm` hold."""
_KEPT = {*_SLOTS.values(), *_CHANNELS, "opacity"}
_OMNI = {
    "diffuse_color_constant", "diffuse_texture", "reflection_roughness_constant", "metallic_constant", "normalmap_texture",
    "emissive_color", "enable_emission", "opacity_constant", "enable_opacity", "texture_translate", "texture_scale",
    "texture_rotate",
}  # fmt: skip
"""Inputs of OmniPBR that are read."""
_NEUTRAL: dict[str, Any] = {
    "useSpecularWorkflow": 0, "clearcoat": 0.0, "clearcoatRoughness": 0.01, "opacityThreshold": 0.0, "opacityMode": "transparent",
    "ior": 1.5, "displacement": 0.0, "specularColor": (0.0, 0.0, 0.0),
}  # fmt: skip
"""Defaults of UsdPreviewSurface, which state nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lay:
    """How a picture lies: the name of the texture coordinates, "" for the usual ones, and what moves them.

    `matrix` is [2, 3], as nested tuples: it takes (u, v, 1) to the coordinates in the picture.
    """

    primvar: str = ""
    matrix: tuple[tuple[float, float, float], tuple[float, float, float]] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))

    def moved(self, uv: NDArray[np.float64]) -> NDArray[np.float64]:
        """Texture coordinates, shape [N, 2], in the picture."""
        turn = np.asarray(self.matrix)
        return uv if self == replace(self, matrix=Lay().matrix) else uv @ turn[:, :2].T + turn[:, 2]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tap:
    """A picture from which an input of a surface is taken: its file, channel, factor, addend, and how it lies."""

    name: str
    paths: dict[int, str]
    """Resolved paths by tile; a picture without tiles is the first tile. Empty if there is no such file."""
    channel: str = "rgb"
    scale: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)
    bias: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)
    fallback: tuple[float, ...] | None = None
    lay: Lay = Lay()

    def data(self, tile: int) -> bytes | None:
        path = self.paths.get(tile)
        asset = Ar.GetResolver().OpenAsset(Ar.ResolvedPath(path)) if path else None
        return bytes(asset.GetBuffer()) if asset else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Skin:
    """A material as a surface needs it: how its pictures lie, and the tiles that they have."""

    material: UsdShade.Material | None
    plain: Finish
    lay: Lay = Lay()
    tiles: tuple[int, ...] = ()
    """Tiles of pictures that have some (UDIM)."""

    def finish(self, tile: int = FIRST_TILE) -> Finish:
        """Its look, with the pictures of a tile."""
        return self.plain if self.material is None or tile == FIRST_TILE else _finish(self.material, tile)


def skin_of(prim: Usd.Prim) -> Skin:
    """The material bound to a prim, otherwise its display colour, otherwise grey."""
    material, _ = UsdShade.MaterialBindingAPI(prim).ComputeBoundMaterial()
    surface, taps = _taps(material) if material else (None, {})
    if not surface:
        return Skin(material=None, plain=Finish(color=_display_color(prim)))
    first = _leading(taps)
    tiles = tuple(first.paths) if first and set(first.paths) - {FIRST_TILE} else ()
    return Skin(material=material, plain=_finish(material, FIRST_TILE), lay=first.lay if first else Lay(), tiles=tiles)


def unkept(stage: Usd.Stage) -> Iterator[tuple[str, str, str, str]]:
    """What the materials of a stage state and a look does not keep, as (prim, what, stated, reason)."""
    for prim in Usd.PrimRange(stage.GetPseudoRoot(), Usd.TraverseInstanceProxies()):
        if not prim.IsA(UsdShade.Material):
            continue
        path, material = str(prim.GetPath()), UsdShade.Material(prim)
        surface, taps = _taps(material)
        if not surface:
            if outputs := [out.GetFullName() for out in material.GetSurfaceOutputs() if out.HasConnectedSource()]:
                yield path, "material", ", ".join(outputs), "neither a preview surface nor OmniPBR: seen in its display colour"
            continue
        first = _leading(taps)
        for slot, tap in taps.items():
            if not tap.paths:
                yield path, f"picture of {slot}", tap.name, "there is no such file"
            elif first and tap.lay != first.lay:
                yield path, f"lay of {slot}", str(tap.lay), "the pictures of a material lie by one set of texture coordinates"
            if slot == "opacity":
                yield path, "picture of opacity", tap.name, "what is seen through is not told apart by picture"
            if slot in ("diffuseColor", "emissiveColor") and any(tap.bias):
                yield path, f"bias of {slot}", str(tap.bias), "a picture is multiplied by a colour, and nothing is added"
        for entry in surface.GetInputs():
            name = entry.GetBaseName()
            value = entry.Get()
            if _omni(surface):
                stated = name not in _OMNI and value is not None
            else:
                usual = np.allclose(value, _NEUTRAL[name]) if isinstance(_NEUTRAL.get(name), float) and value is not None else (
                    name in _NEUTRAL and (tuple(value) if isinstance(_NEUTRAL[name], tuple) and value else value) == _NEUTRAL[name]
                )  # fmt: skip
                stated = name not in _KEPT and (entry.HasConnectedSource() or (value is not None and not usual))
            if stated:
                yield path, name, str(value)[:120], "a look has no such property"


# ------------------------------------------------------------------------------------------------------------- surfaces


def _omni(surface: UsdShade.Shader) -> bool:
    return surface.GetSourceAssetSubIdentifier("mdl") in ("OmniPBR", "OmniPBR_Opacity")


def _taps(material: UsdShade.Material) -> tuple[UsdShade.Shader | None, dict[str, _Tap]]:
    """The surface of a material that can be read, and its pictures by the name of the input."""
    surface = material.ComputeSurfaceSource()[0]
    if surface and surface.GetIdAttr().Get() in ("UsdPreviewSurface", None) and not _omni(surface):
        found = {slot: _tap(surface, slot) for slot in (*_SLOTS.values(), *_CHANNELS, "opacity")}
        return surface, {slot: tap for slot, tap in found.items() if tap is not None}
    surface = material.ComputeSurfaceSource("mdl")[0]
    if not surface or not _omni(surface):
        return None, {}
    taps = {}
    for slot, name in (("diffuseColor", "diffuse_texture"), ("normal", "normalmap_texture")):
        entry = surface.GetInput(name)
        if entry and entry.Get() and entry.Get().path:
            taps[slot] = _Tap(name=entry.Get().path, paths=_tiles(entry), lay=_omni_lay(surface))
    return surface, taps


def _leading(taps: dict[str, _Tap]) -> _Tap | None:
    """The picture by whose coordinates all pictures of a material lie: that of the colour if it has one."""
    there = {slot: tap for slot, tap in taps.items() if tap.paths}
    return there.get("diffuseColor") or next(iter(there.values()), None)


def _finish(material: UsdShade.Material, tile: int) -> Finish:
    surface, taps = _taps(material)
    assert surface is not None
    name = material.GetPrim().GetName()
    images = {}
    for role, slot in _SLOTS.items():
        data = taps[slot].data(tile) if slot in taps else None
        if data:
            images[role] = Image(name=f"{name}_{role}" + (f"_{tile}" if tile != FIRST_TILE else ""), data=data)
    if _omni(surface):
        tint = _value(surface, "diffuse_color_constant", (0.2, 0.2, 0.2))
        color = (1.0, 1.0, 1.0) if "diffuse" in images else tint
        opacity = _value(surface, "opacity_constant", 1.0) if _value(surface, "enable_opacity", False) else 1.0
        roughness, metallic = _value(surface, "reflection_roughness_constant", 0.5), _value(surface, "metallic_constant", 0.0)
        glow = _value(surface, "emissive_color", (1.0, 0.1, 0.1)) if _value(surface, "enable_emission", False) else (0.0, 0.0, 0.0)
    else:
        tap = taps.get("diffuseColor")
        color = _value(surface, "diffuseColor", (0.18, 0.18, 0.18))
        if tap is not None:
            color = tap.scale[:3] if "diffuse" in images else (tap.fallback or (0.18, 0.18, 0.18))[:3]
        opacity = _value(surface, "opacity", 1.0)
        roughness, metallic = _value(surface, "roughness", 0.5), _value(surface, "metallic", 0.0)
        glow = _value(surface, "emissiveColor", (0.0, 0.0, 0.0))
        data = _together({slot: taps[slot] for slot in _CHANNELS if slot in taps}, tile, float(roughness), float(metallic))
        if data:
            images["orm"] = Image(name=f"{name}_orm" + (f"_{tile}" if tile != FIRST_TILE else ""), data=data)
    red, green, blue = (float(value) for value in color)
    shine = tuple(float(value) for value in glow)
    return Finish(
        name=name,
        color=(red, green, blue, float(opacity)),
        roughness=float(roughness),
        metallic=float(metallic),
        emissive=(shine[0], shine[1], shine[2]),
        images=images,
    )


def _together(taps: dict[str, _Tap], tile: int, roughness: float, metallic: float) -> bytes | None:
    """One picture with occlusion, roughness and metalness in its channels: as it is if the file has it, else put together."""
    from PIL import Image as Picture

    read = {slot: data for slot, tap in taps.items() if (data := tap.data(tile))}
    if not read.keys() & {"roughness", "metallic"}:
        return None
    usual = {"occlusion": "r", "roughness": "g", "metallic": "b"}
    same = len({tuple(tap.paths.items()) for tap in taps.values()}) == 1
    if same and {"roughness", "metallic"} <= read.keys() and all(_plain(tap, usual[slot]) for slot, tap in taps.items()):
        return read["roughness"]
    planes: dict[str, Picture.Image] = {}
    for slot, data in read.items():
        tap = taps[slot]
        try:
            with Picture.open(io.BytesIO(data)) as picture:
                index = "rgba".find(tap.channel[:1])
                plane = picture.convert("RGBA").getchannel(max(index, 0))
        except Exception:  # decoders of pictures raise errors of every kind
            continue
        factor, addend = tap.scale[max(index, 0)], 255.0 * tap.bias[max(index, 0)]
        planes[slot] = plane.point([round(min(max(factor * value + addend, 0.0), 255.0)) for value in range(256)])
    if not planes:
        return None
    size = max((plane.size for plane in planes.values()), key=math.prod)
    constant = {"occlusion": 1.0, "roughness": roughness, "metallic": metallic}
    bands = [
        planes[slot].resize(size) if slot in planes else Picture.new("L", size, round(255 * min(max(constant[slot], 0.0), 1.0)))
        for slot in _CHANNELS
    ]
    buffer = io.BytesIO()
    Picture.merge("RGB", bands).save(buffer, "PNG")
    return buffer.getvalue()


def _plain(tap: _Tap, channel: str) -> bool:
    return tap.channel == channel and tap.scale == _Tap(name="", paths={}).scale and not any(tap.bias)


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


# ------------------------------------------------------------------------------------------------------------- pictures


def _tap(surface: UsdShade.Shader, name: str) -> _Tap | None:
    """The picture that provides an input; None if none does."""
    entry = surface.GetInput(name)
    found = entry.GetValueProducingAttributes() if entry else ()
    if not found or UsdShade.Utils.GetType(found[0].GetName()) != UsdShade.AttributeType.Output:
        return None
    source = UsdShade.Shader(found[0].GetPrim())
    file = source.GetInput("file") if source else None
    if not file:
        return None
    file = _told(file)
    path = file.Get().path if file and file.Get() else ""
    return _Tap(
        name=path[:200], paths=_tiles(file) if path else {}, channel=found[0].GetName().rpartition(":")[2],
        scale=_four(source, "scale", 1.0), bias=_four(source, "bias", 0.0),
        fallback=_four(source, "fallback", 0.0) if _value(source, "fallback", None) is not None else None, lay=_lay(source),
    )  # fmt: skip


def _told(entry: Any) -> Any:
    """The attribute that provides an input, through connections to interfaces."""
    found = entry.GetValueProducingAttributes()
    return found[0] if found else entry.GetAttr()


def _tiles(entry: Any) -> dict[int, str]:
    """The resolved paths of a picture by tile; of one without tiles as the first."""
    attribute = entry.GetAttr() if isinstance(entry, UsdShade.Input) else entry
    value = attribute.Get()
    if not UsdShade.UdimUtils.IsUdimIdentifier(value.path):
        return {FIRST_TILE: value.resolvedPath} if value.resolvedPath else {}
    specs = attribute.GetPropertyStack(Usd.TimeCode.Default())
    layer = specs[0].layer if specs else Sdf.Layer.CreateAnonymous()
    return {int(tile): str(path) for path, tile in UsdShade.UdimUtils.ResolveUdimTilePaths(value.path, layer)}


def _four(source: UsdShade.Shader, name: str, default: float) -> tuple[float, ...]:
    value = _value(source, name, None)
    return (default,) * 4 if value is None else tuple(float(number) for number in value)


def _lay(source: UsdShade.Shader) -> Lay:
    """How a picture lies: from the reader of texture coordinates, through transformations."""
    matrix, primvar = np.eye(3), ""
    entry = source.GetInput("st")
    for _ in range(8):  # transformations may follow each other, and a file may connect them in a ring
        found = entry.GetValueProducingAttributes() if entry else ()
        if not found or UsdShade.Utils.GetType(found[0].GetName()) != UsdShade.AttributeType.Output:
            break
        node = UsdShade.Shader(found[0].GetPrim())
        kind = str(node.GetIdAttr().Get() or "")
        if kind.startswith("UsdPrimvarReader"):
            primvar = str(_value(node, "varname", "") or "")
            break
        if kind != "UsdTransform2d":
            break
        scale, move = _value(node, "scale", (1.0, 1.0)), _value(node, "translation", (0.0, 0.0))
        matrix = matrix @ _affine(scale, math.radians(float(_value(node, "rotation", 0.0))), move)
        entry = node.GetInput("in")
    return _lay_of(primvar, matrix)


def _omni_lay(surface: UsdShade.Shader) -> Lay:
    scale, move = _value(surface, "texture_scale", (1.0, 1.0)), _value(surface, "texture_translate", (0.0, 0.0))
    return _lay_of("", _affine(scale, math.radians(float(_value(surface, "texture_rotate", 0.0))), move))


def _lay_of(primvar: str, matrix: NDArray[np.float64]) -> Lay:
    (a, b, c), (d, e, f) = ([float(value) for value in row] for row in matrix[:2])
    return Lay(primvar=primvar, matrix=((a, b, c), (d, e, f)))


def _affine(scale: Any, angle: float, move: Any) -> NDArray[np.float64]:
    """Scales, then turns counter-clockwise by `angle` [rad], then moves, as UsdTransform2d does; shape [3, 3]."""
    cos, sin = math.cos(angle), math.sin(angle)
    turn = np.array([[cos, -sin, float(move[0])], [sin, cos, float(move[1])], [0.0, 0.0, 1.0]])
    return turn @ np.diag([float(scale[0]), float(scale[1]), 1.0])
