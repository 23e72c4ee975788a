"""The visible properties of a mesh file: texture coordinates, normals, colours and materials, read from trimesh's scene."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import trimesh
from numpy.typing import NDArray

from embodichain.assets.families.parts import Finish, Image, Look
from embodichain.assets.geometry.shapes import concatenate, moved
from embodichain.types import Mesh, Pose, rotate

GREY = (0.7, 0.7, 0.7, 1.0)
_MOST_FACE_COLORS = 64
"""Largest number of different face colours that become materials; beyond it their mean does."""
Color = tuple[float, float, float, float]


def plain(mesh: Mesh, color: Color, name: str = "") -> Look:
    """A mesh in a single colour."""
    return Look(mesh=mesh, finishes=(Finish(name=name, color=color),), finish=np.zeros(len(mesh.faces), np.int32))


def look_of(shape: trimesh.Trimesh, mesh: Mesh, turn: NDArray[np.float64]) -> Look:
    """The look of one geometry of a scene, placed as `mesh`; `turn` is the transformation of its normals, shape [3, 3]."""
    visual: Any = shape.visual
    normals = None
    if "vertex_normals" in shape._cache.cache and len(shape.vertex_normals) == len(mesh.vertices):
        normals = np.asarray(shape.vertex_normals, np.float64) @ turn.T
        normals = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)
    base = replace(plain(mesh, GREY), normals=normals)
    try:
        if getattr(visual, "kind", None) == "texture":
            uv = np.asarray(visual.uv, np.float64) if visual.uv is not None else None
            uv = uv[:, :2] if uv is not None and uv.ndim == 2 and len(uv) == len(mesh.vertices) and uv.shape[1] >= 2 else None
            colors = dict(getattr(visual, "vertex_attributes", {}) or {}).get("color")
            return replace(base, finishes=(finish_of(visual.material),), uv=uv, colors=_colors(colors, len(mesh.vertices)))
        if getattr(visual, "kind", None) == "vertex":
            colors = _colors(visual.vertex_colors, len(mesh.vertices))
            return replace(base, finishes=(Finish(color=_mean(colors)),), colors=colors)
        if getattr(visual, "kind", None) == "face":
            return _by_face(base, np.asarray(visual.face_colors, np.float64) / 255.0)
    except (AttributeError, ValueError, OSError, TypeError):  # a texture that cannot be decoded, or colours of an unexpected shape
        return base
    return base


def finish_of(material: Any) -> Finish:
    """A trimesh material as a `Finish`: its PBR values if it has them, otherwise its diffuse colour and texture."""
    name = str(getattr(material, "name", "") or "")
    if isinstance(material, trimesh.visual.material.PBRMaterial):
        images = {
            "diffuse": material.baseColorTexture,
            "normal": material.normalTexture,
            "orm": material.metallicRoughnessTexture,
            "emissive": material.emissiveTexture,
        }
        factor = material.baseColorFactor
        red, green, blue, alpha = _rgba(factor) if factor is not None else (1.0, 1.0, 1.0, 1.0)
        glow = material.emissiveFactor
        shine = tuple(float(value) for value in np.asarray(glow, np.float64).ravel()[:3]) if glow is not None else (0.0, 0.0, 0.0)
        return Finish(
            name=name,
            color=(red, green, blue, alpha),
            roughness=float(material.roughnessFactor) if material.roughnessFactor is not None else 1.0,
            metallic=float(material.metallicFactor) if material.metallicFactor is not None else 1.0,
            emissive=(shine[0], shine[1], shine[2]),
            images=_images(name, images),
        )
    image = getattr(material, "image", None)
    diffuse = getattr(material, "diffuse", None)
    color = _rgba(diffuse) if diffuse is not None else GREY
    color = (*color[:3], color[3] * _opacity(getattr(material, "kwargs", None) or {}))
    if image is not None:  # a texture replaces the colour, as in loaders of OBJ
        color = (1.0, 1.0, 1.0, color[3])
    return Finish(name=name, color=color, images=_images(name, {"diffuse": image}))


def _opacity(told: Mapping[str, Any]) -> float:
    """How opaque an OBJ's material is: it says either how much (`d`) or how little (`Tr`); 1 if it says no number, or zero."""
    for name, whole in (("d", False), ("tr", True)):
        words = told.get(name)
        try:
            value = float(words[-1]) if isinstance(words, list) and words else None
        except ValueError:
            continue
        if value is not None and 0.0 <= value <= 1.0:
            return (1.0 - value if whole else value) or 1.0
    return 1.0


def tint(finish: Finish) -> Color:
    """A single colour that stands for a material: its own, times the mean of its texture."""
    red, green, blue, alpha = finish.color
    if "diffuse" not in finish.images:
        return (red, green, blue, alpha)
    from PIL import Image as Picture

    with Picture.open(io.BytesIO(finish.images["diffuse"].data)) as picture:
        mean = np.asarray(picture.convert("RGB").resize((16, 16)), np.float64).reshape(-1, 3).mean(axis=0) / 255.0
    return (float(red * mean[0]), float(green * mean[1]), float(blue * mean[2]), alpha)


def joined(looks: Sequence[Look]) -> Look:
    """Joins several looks into one; data that some of them lack is zero there, and equal materials are merged."""
    if len(looks) == 1:
        return looks[0]
    finishes: list[Finish] = []
    numbers = []
    for look in looks:
        own = []
        for finish in look.finishes:
            same = [i for i, other in enumerate(finishes) if _same(other, finish)]
            if not same:
                finishes.append(finish)
            own.append(same[0] if same else len(finishes) - 1)
        numbers.append(np.array(own, np.int32)[look.finish])

    def filled(name: str, width: int, value: float) -> NDArray[np.float64] | None:
        values = [getattr(look, name) for look in looks]
        if all(entry is None for entry in values):
            return None
        counts = [len(look.mesh.vertices) for look in looks]
        return np.concatenate([np.full((n, width), value) if v is None else v for v, n in zip(values, counts, strict=True)])

    mesh = concatenate([look.mesh for look in looks])
    normals = None if any(look.normals is None for look in looks) else filled("normals", 3, 0.0)
    return Look(
        mesh=mesh,
        finishes=tuple(finishes),
        finish=np.concatenate(numbers),
        uv=filled("uv", 2, 0.0),
        normals=normals,
        colors=filled("colors", 4, 1.0),
    )


def moved_look(look: Look, pose: Pose) -> Look:
    """A look in the frame into which `pose` maps its own frame."""
    normals = None if look.normals is None else rotate(pose.quaternion, look.normals)
    return replace(look, mesh=moved(look.mesh, pose), normals=normals)


def stretched(look: Look, scale: NDArray[np.float64]) -> Look:
    """A look scaled by `scale` along each axis, shape [3]; mirrored when an odd number of factors is negative."""
    faces = look.mesh.faces[:, ::-1] if np.prod(scale) < 0 else look.mesh.faces
    mesh = Mesh(vertices=look.mesh.vertices * scale, faces=np.ascontiguousarray(faces))
    normals = look.normals
    if normals is not None and (np.ptp(scale) != 0.0 or scale[0] < 0.0):
        normals = normals / np.where(scale == 0.0, 1.0, scale)
        normals = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)
    return replace(look, mesh=mesh, normals=normals)


def _same(one: Finish, other: Finish) -> bool:
    plain = (one.name, one.color, one.roughness, one.metallic, one.emissive, one.images.keys())
    return plain == (other.name, other.color, other.roughness, other.metallic, other.emissive, other.images.keys()) and all(
        image.data == other.images[name].data for name, image in one.images.items()
    )


def _by_face(base: Look, colors: NDArray[np.float64]) -> Look:
    distinct, numbers = np.unique(colors.round(4), axis=0, return_inverse=True)
    if colors.shape != (len(base.mesh.faces), 4) or len(distinct) > _MOST_FACE_COLORS:
        return replace(base, finishes=(Finish(color=_mean(colors)),))
    finishes = tuple(Finish(name=f"color_{i}", color=_rgba(row * 255.0)) for i, row in enumerate(distinct))
    return replace(base, finishes=finishes, finish=numbers.reshape(-1).astype(np.int32))


def _colors(values: Any, count: int) -> NDArray[np.float64] | None:
    if values is None:
        return None
    colors = np.asarray(values, np.float64)
    if np.asarray(values).dtype.kind in "ui":
        colors = colors / 255.0
    if colors.ndim != 2 or len(colors) != count or colors.shape[1] not in (3, 4) or not np.isfinite(colors).all():
        return None
    return np.clip(colors if colors.shape[1] == 4 else np.column_stack([colors, np.ones(count)]), 0.0, 1.0)


def _mean(colors: NDArray[np.float64] | None) -> Color:
    if colors is None or not len(colors):
        return GREY
    red, green, blue = (float(value) for value in np.clip(colors[:, :3].mean(axis=0), 0.0, 1.0))
    return (red, green, blue, 1.0)


def _rgba(values: Any) -> Color:
    """Red, green, blue and opacity, 0 to 1, from three or four bytes or fractions."""
    raw = np.asarray(values)
    numbers = raw.astype(np.float64).ravel()
    if raw.dtype.kind in "ui" or numbers.max(initial=0.0) > 1.0:
        numbers = numbers / 255.0
    if len(numbers) not in (3, 4) or not np.isfinite(numbers).all():
        return GREY
    red, green, blue = (float(value) for value in np.clip(numbers[:3], 0.0, 1.0))
    alpha = float(np.clip(numbers[3], 0.0, 1.0)) if len(numbers) == 4 else 1.0
    return (red, green, blue, alpha)


def _images(name: str, pictures: Mapping[str, Any]) -> dict[str, Image]:
    """The images of a material as PNG files, which are lossless."""
    found = {}
    for role, picture in pictures.items():
        if picture is None:
            continue
        buffer = io.BytesIO()
        try:
            kept = picture if picture.mode in ("1", "L", "LA", "RGB", "RGBA", "P") else picture.convert("RGBA")
            kept.save(buffer, "PNG")
        except Exception:  # decoders raise errors of every kind; `unkept` has a row for it, and the material keeps its colour
            continue
        found[role] = Image(name=f"{name or 'material'}_{role}", data=buffer.getvalue())
    return found
