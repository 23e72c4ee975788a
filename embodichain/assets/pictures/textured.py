"""Pictures with textures: a z-buffer that samples them, for thumbnails and for comparing input with output."""

from __future__ import annotations

import io
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from embodichain.assets.families.parts import Look
from embodichain.assets.pictures.preview import View
from embodichain.machine_code import compiled

_SAMPLES = 3
_WHITE = np.full((1, 1, 3), 1.0, np.float32)


def painted(looks: list[Look], size: int, view: View, background: float = 0.8) -> NDArray[np.uint8]:
    """A square picture of looks in a common frame, lit by a lamp at the camera, uint8 [size, size, 3]."""
    cos, sin = math.cos(view.azimuth), math.sin(view.azimuth)
    right = np.array([-sin, cos, 0.0])
    towards = np.array([cos * math.cos(view.elevation), sin * math.cos(view.elevation), math.sin(view.elevation)])
    axes = np.stack([right, np.cross(towards, right), towards])
    size *= _SAMPLES
    image = np.full((size, size, 3), background, np.float32)
    depth = np.full((size, size), -np.inf)
    for look in looks:
        points = (look.mesh.vertices - view.center) @ axes.T / view.reach
        screen = np.column_stack([(points[:, 0] + 1) * size / 2, (1 - points[:, 1]) * size / 2, points[:, 2]])
        corners = points[look.mesh.faces]
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        lit = 0.35 + 0.65 * np.abs(normals[:, 2]) / np.maximum(np.linalg.norm(normals, axis=1), 1e-30)
        uv = look.uv if look.uv is not None else np.zeros((len(points), 2))
        colors = look.colors[:, :3] if look.colors is not None else np.ones((len(points), 3))
        for number, finish in enumerate(look.finishes):
            chosen = np.flatnonzero(look.finish == number)
            if not len(chosen):
                continue
            texture = _WHITE
            if "diffuse" in finish.images and look.uv is not None:
                with Image.open(io.BytesIO(finish.images["diffuse"].data)) as picture:
                    texture = np.asarray(picture.convert("RGB"), np.float32) / 255.0
            base = np.array(finish.color[:3]) if look.colors is None or "diffuse" in finish.images else np.ones(3)
            _paint(screen, look.mesh.faces[chosen], lit[chosen], uv, colors, base, np.ascontiguousarray(texture), image, depth)
    small = image.reshape(size // _SAMPLES, _SAMPLES, size // _SAMPLES, _SAMPLES, 3).mean(axis=(1, 3))
    return (np.clip(small, 0.0, 1.0) * 255).astype(np.uint8)


def psnr(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio of two pictures [dB]; 99 for equal ones."""
    error = float(np.mean((one.astype(np.float64) - other.astype(np.float64)) ** 2))
    return 99.0 if error == 0.0 else min(10.0 * math.log10(255.0**2 / error), 99.0)


@compiled()
def _paint(screen, faces, lit, uv, colors, base, texture, image, depth):  # noqa: ANN001, ANN202 - compiled, see painted
    height, width = depth.shape
    rows, columns = texture.shape[0], texture.shape[1]
    for f in range(len(faces)):
        i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
        a, b, c = screen[i], screen[j], screen[k]
        area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
        if area == 0.0:
            continue
        x0, x1 = max(int(min(a[0], b[0], c[0])), 0), min(int(max(a[0], b[0], c[0])) + 1, width - 1)
        y0, y1 = max(int(min(a[1], b[1], c[1])), 0), min(int(max(a[1], b[1], c[1])) + 1, height - 1)
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
                if z > depth[y, x]:
                    depth[y, x] = z
                    s = u * uv[i, 0] + v * uv[j, 0] + w * uv[k, 0]
                    t = u * uv[i, 1] + v * uv[j, 1] + w * uv[k, 1]
                    # Textures repeat outside 0..1. Rounding may give exactly the number of columns, which is the last column then.
                    column = min(int((s - math.floor(s)) * columns), columns - 1)
                    # Row 0 of an image is its top, where v is 1.
                    row = min(int((1.0 - (t - math.floor(t))) * rows), rows - 1)
                    for channel in range(3):
                        tint = u * colors[i, channel] + v * colors[j, channel] + w * colors[k, channel]
                        image[y, x, channel] = lit[f] * base[channel] * tint * texture[row, column, channel]
