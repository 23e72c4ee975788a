"""Pictures of an asset without a renderer: a small z-buffer for thumbnails and turntables, with equal results on all machines."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from embodichain.assets.geometry.articulate import body_poses
from embodichain.assets.geometry.shapes import moved
from embodichain.machine_code import compiled
from embodichain.types import Asset, Mesh, Vec3

Color = tuple[float, float, float, float]

THUMBNAIL_SIZE = 256
_BACKGROUND = (0.80, 0.82, 0.85)
_SAMPLES = 2


def thumbnail_path(file: Path) -> Path:
    """Path of the picture of a USD file, where catalogues look for it."""
    return file.parent / ".thumbs" / "256x256" / f"{file.name}.png"


def save_thumbnail(asset: Asset, file: Path) -> Path:
    """Writes the thumbnail of the asset stored in `file` and returns its path."""
    path = thumbnail_path(file)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(asset, THUMBNAIL_SIZE)).save(path)
    return path


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """An orthographic camera that looks at `center` [m] from `azimuth` and `elevation` [rad] and shows `reach` [m] around it."""

    center: Vec3
    reach: float
    azimuth: float = -0.9
    elevation: float = 0.5


def view_of(bounds: NDArray[np.float64], azimuth: float = -0.9, elevation: float = 0.5, room: float = 1.08) -> View:
    """A view that shows all of a box, shape [2, 3], from any side; `room` is a factor for the space around it."""
    low, high = bounds
    x, y, z = ((low + high) / 2).tolist()
    return View(center=(x, y, z), reach=float(np.linalg.norm(high - low)) / 2 * room, azimuth=azimuth, elevation=elevation)


def picture(
    asset: Asset, size: int, azimuth: float = -0.9, elevation: float = 0.5, positions: Mapping[str, float] | None = None
) -> NDArray[np.uint8]:
    """A square picture, uint8 [size, size, 3], seen from `azimuth` and `elevation` [rad], with joints at `positions`."""
    return flattened(draw(visuals(asset, positions), size, view_of(asset.bounds, azimuth, elevation)), _BACKGROUND)


def visuals(asset: Asset, positions: Mapping[str, float] | None = None) -> list[tuple[Mesh, Color]]:
    """The visual meshes of an asset with its joints at `positions`, in the asset's frame."""
    poses = body_poses(asset.bodies, asset.joints, positions or {})
    return [(moved(body.visual, poses[body.name]), body.color) for body in asset.bodies]


def draw(shapes: Sequence[tuple[Mesh, Color]], size: int, view: View) -> NDArray[np.float64]:
    """Shaded meshes as red, green, blue and coverage, 0 to 1, [size, size, 4]."""
    cos, sin = math.cos(view.azimuth), math.sin(view.azimuth)
    right = np.array([-sin, cos, 0.0])
    towards = np.array([cos * math.cos(view.elevation), sin * math.cos(view.elevation), math.sin(view.elevation)])
    axes = np.stack([right, np.cross(towards, right), towards])
    pixels = size * _SAMPLES
    image = np.zeros((pixels, pixels, 4), np.float32)
    depth = np.full((pixels, pixels), -np.inf)
    for mesh, color in shapes:
        points = (mesh.vertices - view.center) @ axes.T / view.reach
        screen = np.column_stack([(points[:, 0] + 1) * pixels / 2, (1 - points[:, 1]) * pixels / 2, points[:, 2]])
        shades = np.clip(_shades(points, mesh.faces)[..., None] * np.array(color[:3]), 0.0, 1.0)
        # A copy, because the faces of some meshes are read-only, for which numba would compile the kernel a second time.
        _draw(screen, mesh.faces.copy(), shades, image, depth)
    parts = [image[row::_SAMPLES, column::_SAMPLES] for row in range(_SAMPLES) for column in range(_SAMPLES)]
    small = np.asarray(np.stack(parts).mean(axis=0), np.float64)
    # Uncovered samples are black, so a mean is divided by its coverage: it is the colour of the covered samples.
    small[..., :3] = np.clip(small[..., :3] / np.maximum(small[..., 3:], 1e-9), 0.0, 1.0)
    return small


def flattened(image: NDArray[np.float64], background: Sequence[float]) -> NDArray[np.uint8]:
    """A drawing on a background of one colour, uint8 [size, size, 3]."""
    over = image[..., :3] * image[..., 3:] + np.array(background[:3]) * (1.0 - image[..., 3:])
    return (np.clip(over, 0.0, 1.0) ** (1 / 1.2) * 255).astype(np.uint8)


def _shades(points: NDArray[np.float64], faces: NDArray[np.int32]) -> NDArray[np.float64]:
    """Brightness of each corner of each face, shape [F, 3]: smooth across small angles, with a step across sharp edges."""
    corners = points[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    smooth = np.zeros_like(points)
    for corner in range(3):
        np.add.at(smooth, faces[:, corner], normals)
    smooth /= np.maximum(np.linalg.norm(smooth, axis=1, keepdims=True), 1e-30)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)
    shared = smooth[faces]
    gentle = np.einsum("fci,fi->fc", shared, normals) > 0.95
    chosen = np.where(gentle[..., None], shared, normals[:, None])
    light = np.array([-0.4, 0.65, 0.65])
    return 0.38 + 0.68 * np.clip(chosen @ light, 0.0, 1.0)


@compiled()
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
                # Dividing by the signed area makes the weights independent of the face's orientation, so that both sides are drawn.
                u = ((b[0] - px) * (c[1] - py) - (b[1] - py) * (c[0] - px)) / area
                v = ((c[0] - px) * (a[1] - py) - (c[1] - py) * (a[0] - px)) / area
                w = 1.0 - u - v
                if u < 0.0 or v < 0.0 or w < 0.0:
                    continue
                z = u * a[2] + v * b[2] + w * c[2]
                # Larger is nearer: the camera looks along -Z of the screen's frame.
                if z > depth[y, x]:
                    depth[y, x] = z
                    for channel in range(3):
                        image[y, x, channel] = u * shades[f, 0, channel] + v * shades[f, 1, channel] + w * shades[f, 2, channel]
                    image[y, x, 3] = 1.0
