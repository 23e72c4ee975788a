"""Pictures of an asset without a renderer: a small z-buffer for thumbnails and turntables, the same on every machine."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numba
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from embodichain.assets.articulate import body_poses
from embodichain.types import Asset, rotate

THUMBNAIL_SIZE = 256
_BACKGROUND = (0.80, 0.82, 0.85)
_SAMPLES = 2


def thumbnail_path(file: Path) -> Path:
    """Where catalogues look for the picture of a USD file."""
    return file.parent / ".thumbs" / "256x256" / f"{file.name}.png"


def save_thumbnail(asset: Asset, file: Path) -> Path:
    """Writes the thumbnail of the asset stored in `file` and returns its path."""
    path = thumbnail_path(file)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(asset, THUMBNAIL_SIZE)).save(path)
    return path


def picture(
    asset: Asset, size: int, azimuth: float = -0.9, elevation: float = 0.5, positions: Mapping[str, float] | None = None
) -> NDArray[np.uint8]:
    """A square orthographic picture, shape [size, size, 3]: seen from `azimuth` and `elevation` [rad], joints at `positions`."""
    poses = body_poses(asset.bodies, asset.joints, positions or {})
    right = np.array([-math.sin(azimuth), math.cos(azimuth), 0.0])
    towards = np.array([math.cos(azimuth) * math.cos(elevation), math.sin(azimuth) * math.cos(elevation), math.sin(elevation)])
    view = np.stack([right, np.cross(towards, right), towards])
    low, high = asset.bounds
    center, reach = (low + high) / 2, np.linalg.norm(high - low) / 2 * 1.08
    pixels = size * _SAMPLES
    image = np.tile(np.array(_BACKGROUND), (pixels, pixels, 1))
    depth = np.full((pixels, pixels), -np.inf)
    for body in asset.bodies:
        pose = poses[body.name]
        points = (rotate(pose.quaternion, body.visual.vertices) + pose.position - center) @ view.T / reach
        screen = np.column_stack([(points[:, 0] + 1) * pixels / 2, (1 - points[:, 1]) * pixels / 2, points[:, 2]])
        shades = _shades(points, body.visual.faces)[..., None] * np.array(body.color[:3])
        _draw(screen, body.visual.faces, np.clip(shades, 0.0, 1.0), image, depth)
    small = image.reshape(size, _SAMPLES, size, _SAMPLES, 3).mean(axis=(1, 3))
    return (np.clip(small, 0.0, 1.0) ** (1 / 1.2) * 255).astype(np.uint8)


def _shades(points: NDArray[np.float64], faces: NDArray[np.int32]) -> NDArray[np.float64]:
    """Brightness of each corner of each face, shape [F, 3]: smooth across gentle bends, sharp across edges."""
    corners = points[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    smooth = np.zeros_like(points)
    for corner in range(3):
        np.add.at(smooth, faces[:, corner], normals)
    smooth /= np.maximum(np.linalg.norm(smooth, axis=1, keepdims=True), 1e-30)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)
    shared = smooth[faces]
    gentle = np.einsum("fci,fi->fc", shared, normals) > 0.8
    chosen = np.where(gentle[..., None], shared, normals[:, None])
    light = np.array([-0.4, 0.65, 0.65])
    return 0.38 + 0.68 * np.clip(chosen @ light, 0.0, 1.0)


@numba.njit(cache=True)
def _draw(screen, faces, shades, image, depth):  # noqa: ANN001, ANN202 - compiled, see picture
    height, width = depth.shape
    for f in range(len(faces)):
        a, b, c = screen[faces[f, 0]], screen[faces[f, 1]], screen[faces[f, 2]]
        area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
        if area == 0.0:
            continue
        x0 = max(int(min(a[0], b[0], c[0])), 0)
        x1 = min(int(max(a[0], b[0], c[0])) + 1, width - 1)
        y0 = max(int(min(a[1], b[1], c[1])), 0)
        y1 = min(int(max(a[1], b[1], c[1])) + 1, height - 1)
        for y in range(y0, y1 + 1):
            for x in range(x0, x1 + 1):
                px, py = x + 0.5, y + 0.5
                u = ((b[0] - px) * (c[1] - py) - (b[1] - py) * (c[0] - px)) / area
                v = ((c[0] - px) * (a[1] - py) - (c[1] - py) * (a[0] - px)) / area
                w = 1.0 - u - v
                if u < 0.0 or v < 0.0 or w < 0.0:
                    continue
                z = u * a[2] + v * b[2] + w * c[2]
                if z > depth[y, x]:
                    depth[y, x] = z
                    for channel in range(3):
                        image[y, x, channel] = u * shades[f, 0, channel] + v * shades[f, 1, channel] + w * shades[f, 2, channel]
