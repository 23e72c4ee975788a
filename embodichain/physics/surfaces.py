"""Procedural textures of surfaces, and texture coordinates of meshes. Every world contains all textures; a scene chooses."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import mujoco
import numpy as np
from numpy.typing import NDArray

from embodichain.types import Mesh, Texture

Pattern = NDArray[np.float64]
_SIZE = 96
_PERIOD = 0.12
"""Edge length of one repetition of a texture [m]."""
_ROLE = int(mujoco.mjtTextureRole.mjTEXROLE_RGB)


def add_textures(spec: mujoco.MjSpec) -> None:
    """Adds every texture to a world's spec."""
    for name in Texture:
        texture = spec.add_texture(name=name.value, type=mujoco.mjtTexture.mjTEXTURE_2D, width=_SIZE, height=_SIZE, nchannel=3)
        texture.data = _pixels(name)


@lru_cache(maxsize=len(Texture))
def _pixels(name: Texture) -> bytes:
    """The RGB bytes of a texture; cached, because making them takes as long as compiling a small world."""
    grey = np.clip(_PATTERNS[name]() * 255.0, 0.0, 255.0).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1).tobytes()


def add_surface(spec: mujoco.MjSpec, role: str, *, spatial: bool = False) -> str:
    """Adds a material for `role`, plain at first; returns its name. `spatial` is for boxes, which have no texture coordinates."""
    material = spec.add_material(name=f"surface/{role}")
    material.textures[_ROLE] = Texture.PLAIN.value
    if spatial:
        material.texuniform = True
        material.texrepeat = (1.0 / _PERIOD / 2, 1.0 / _PERIOD / 2)
    return material.name


def paint(model: mujoco.MjModel, role: str, texture: Texture) -> None:
    """Sets the texture of the surface of `role`."""
    found = -1 if texture is Texture.PLAIN else model.texture(texture.value).id
    model.mat_texid[model.material(f"surface/{role}").id, _ROLE] = found


def coordinates(mesh: Mesh) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Texture coordinates [3 F, 2] and their indices [F, 3], by projecting each face along the axis closest to its normal."""
    corners = mesh.vertices[mesh.faces]
    normals = np.abs(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]))
    others = np.array(((1, 2), (0, 2), (0, 1)))[normals.argmax(axis=1)]
    flat = np.take_along_axis(corners, others[:, None, :], axis=2) / _PERIOD
    return flat.reshape(-1, 2), np.arange(3 * len(mesh.faces), dtype=np.int32).reshape(-1, 3)


# ------------------------------------------------------------------------------------------------------------ patterns


def _grid() -> tuple[Pattern, Pattern]:
    ticks = np.arange(_SIZE) / _SIZE
    y, x = np.meshgrid(ticks, ticks, indexing="ij")
    return x, y


def _clouds(seed: int, octaves: int, stretch: int = 1) -> Pattern:
    """Periodic noise of mean 0: a sum of random waves, fine ones with smaller amplitude."""
    rng = np.random.default_rng(seed)
    x, y = _grid()
    total = np.zeros_like(x)
    for octave in range(octaves):
        for _ in range(6):
            waves = rng.integers(-(2**octave) - 1, 2**octave + 2, 2)
            total += np.cos(2 * np.pi * (waves[0] * x + stretch * waves[1] * y + rng.random())) / 2**octave
    return total / np.abs(total).max()


def _plain() -> Pattern:
    return np.ones((_SIZE, _SIZE))


def _wood() -> Pattern:
    _, y = _grid()
    return 0.82 + 0.16 * np.sin(2 * np.pi * (5 * y + 0.5 * _clouds(1, 2, 2))) + 0.04 * _clouds(2, 5)


def _cloth() -> Pattern:
    x, y = _grid()
    return 0.84 + 0.09 * np.sin(2 * np.pi * 16 * x) + 0.09 * np.sin(2 * np.pi * 16 * y) + 0.05 * _clouds(3, 3)


def _speckle() -> Pattern:
    dots = np.random.default_rng(4).random((_SIZE // 3, _SIZE // 3)).repeat(3, axis=0).repeat(3, axis=1)
    return 0.6 + 0.45 * dots


def _checker() -> Pattern:
    x, y = _grid()
    return np.where((np.floor(4 * x) + np.floor(4 * y)) % 2 == 0, 1.0, 0.68)


def _stripes() -> Pattern:
    x, _ = _grid()
    return np.where(np.floor(6 * x) % 2 == 0, 1.0, 0.72)


def _marble() -> Pattern:
    return 0.98 - 0.35 * np.exp(-(np.abs(_clouds(5, 4)) / 0.09)) + 0.03 * _clouds(6, 5)


_PATTERNS: dict[Texture, Callable[[], Pattern]] = {
    Texture.PLAIN: _plain,
    Texture.WOOD: _wood,
    Texture.CLOTH: _cloth,
    Texture.SPECKLE: _speckle,
    Texture.CHECKER: _checker,
    Texture.STRIPES: _stripes,
    Texture.MARBLE: _marble,
}
