"""The library of textures: 20 kinds of 16, each made by procedure from its number, periodic in both directions, and kept on disk.

A texture is a function of its number alone. `VERSION` is raised when another picture is made of a number.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from embodichain.cache import cache_dir
from embodichain.errors import SceneError
from embodichain.types.settings import NUM_TEXTURES, NUM_VARIANTS, OBJECT_KINDS, TextureKind

__all__ = ["SIZE", "VERSION", "made", "period", "texture"]

SIZE = 512
"""Edge length of every texture [texels]."""
VERSION = 1
Grey = NDArray[np.floating]
Colour = NDArray[np.floating]

_PERIODS = {
    TextureKind.PLANKS: 1.0,
    TextureKind.VENEER: 0.8,
    TextureKind.PARQUET: 0.8,
    TextureKind.MARBLE: 0.9,
    TextureKind.GRANITE: 0.5,
    TextureKind.TERRAZZO: 0.6,
    TextureKind.TILES: 0.9,
    TextureKind.BRICK: 0.9,
    TextureKind.CONCRETE: 1.2,
    TextureKind.PLASTER: 0.9,
    TextureKind.CARPET: 0.5,
    TextureKind.WEAVE: 0.16,
    TextureKind.WALLPAPER: 0.7,
    TextureKind.LINOLEUM: 0.7,
}
_SMALL_PERIOD = 0.12
"""Edge length of one repetition [m] of the kinds that cover objects, as of the older textures."""


def period(number: int) -> float:
    """Edge length of one repetition of a texture [m]; raises SceneError when there is none with this number."""
    return _PERIODS.get(_kind(number), _SMALL_PERIOD)


def texture(number: int) -> NDArray[np.uint8]:
    """The pixels of a texture, uint8 [512, 512, 3]; made when it is first asked for on this machine, and then read from disk.

    Raises SceneError when there is no texture with this number.
    """
    file = cache_dir() / "textures" / f"v{VERSION}" / f"{number:03d}.npy"
    try:
        found = np.load(file)
        if found.shape == (SIZE, SIZE, 3) and found.dtype == np.uint8:
            return found
    except (OSError, ValueError, EOFError):
        pass  # not made yet, or torn by a crash: made again
    pixels = made(number)
    _keep(file, pixels)
    return pixels


def _keep(file: Path, pixels: NDArray[np.uint8]) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=file.parent, suffix=".part", delete=False) as part:
            np.save(part, pixels)
        Path(part.name).replace(file)  # other processes see the whole file or none
    except OSError:
        return  # a full or read-only disk costs time, and nothing else


def made(number: int) -> NDArray[np.uint8]:
    """The pixels of a texture, made anew: uint8 [512, 512, 3]; raises SceneError when there is none with this number."""
    kind = _kind(number)
    drawn = _MAKERS[kind](np.random.default_rng((VERSION, number)))
    if kind in OBJECT_KINDS:  # these only modulate the colour of an object, with a mean near that of the older textures
        drawn = np.repeat(np.clip(0.86 * drawn / drawn.mean(), 0.35, 1.0)[..., None], 3, axis=-1)
    return np.rint(np.clip(drawn, 0.0, 1.0) * 255.0).astype(np.uint8)


def _kind(number: int) -> TextureKind:
    if not 0 <= number < NUM_TEXTURES:
        raise SceneError(f"there is no texture {number}: the library has 0 to {NUM_TEXTURES - 1}")
    return list(TextureKind)[number // NUM_VARIANTS]


# --------------------------------------------------------------------------------------------------------- ingredients


def _grid() -> tuple[Grey, Grey]:
    ticks = np.arange(SIZE, dtype=np.float32) / np.float32(SIZE)
    y, x = np.meshgrid(ticks, ticks, indexing="ij")
    return x, y


def _noise(rng: np.random.Generator, slope: float = 1.6, across: float = 1.0, along: float = 1.0, low: float = 1.0) -> Grey:
    """Periodic noise of mean 0 and deviation 1 whose amplitude falls with frequency to the power -`slope`.

    `across` and `along` stretch it; frequencies below `low` are left out.
    """
    waves = np.fft.rfft2(rng.standard_normal((SIZE, SIZE)))
    fy, fx = np.fft.fftfreq(SIZE, 1.0 / SIZE)[:, None], np.fft.rfftfreq(SIZE, 1.0 / SIZE)[None, :]
    radius = np.hypot(fx * across, fy * along)
    gain = np.where(radius >= low, np.maximum(radius, 1e-6) ** -slope, 0.0)
    found = np.fft.irfft2(waves * gain, (SIZE, SIZE))
    return ((found - found.mean()) / found.std()).astype(np.float32)


def _cells(rng: np.random.Generator, count: int) -> tuple[Grey, Grey, NDArray[np.int64]]:
    """Distances to the nearest and second nearest of `count` points on the torus, in units of their spacing, and the nearest."""
    points = rng.random((count, 2))
    x, y = _grid()
    where = np.stack([x, y], axis=-1).reshape(-1, 2).astype(np.float64)
    distance, nearest = cKDTree(points, boxsize=1.0).query(where, k=2)
    scaled = (distance * np.sqrt(count)).astype(np.float32).reshape(SIZE, SIZE, 2)
    return scaled[..., 0], scaled[..., 1], nearest[:, 0].reshape(SIZE, SIZE)


def _hue(rng: np.random.Generator, hue: tuple[float, float], saturation: tuple[float, float], value: tuple[float, float]) -> Colour:
    """A colour drawn from ranges of hue, saturation and value, [3]."""
    h, s, v = rng.uniform(*hue) % 1.0, rng.uniform(*saturation), rng.uniform(*value)
    ramp = np.clip(np.abs((h * 6.0 + np.array((0.0, 4.0, 2.0))) % 6.0 - 3.0) - 1.0, 0.0, 1.0)
    return (v * (1.0 - s + s * ramp)).astype(np.float32)


def _mixed(first: Colour, second: Colour, share: Grey) -> Colour:
    part = np.clip(share, 0.0, 1.0)[..., None]
    return first * (1.0 - part) + second * part


def _smooth(low: float, high: float, values: Grey) -> Grey:
    part = np.clip((values - low) / (high - low), 0.0, 1.0)
    return part * part * (3.0 - 2.0 * part)


def _wood(rng: np.random.Generator) -> tuple[Colour, Colour]:
    """The light and the dark colour of a kind of wood, each [3]."""
    light = _hue(rng, (0.055, 0.105), (0.25, 0.62), (0.45, 0.92))
    return light, (light * rng.uniform(0.5, 0.78) * np.array((1.0, 0.93, 0.86))).astype(np.float32)


def _grain(rng: np.random.Generator, rings: float) -> Grey:
    """The grain of wood along y, 0 to 1."""
    x, _ = _grid()
    bent = x * rings + 0.55 * _noise(rng, 2.0, 1.0, 5.0) + 0.03 * _noise(rng, 1.0, 0.3, 6.0)
    veins = 0.5 + 0.5 * np.sin(2.0 * np.pi * bent)
    return np.clip(0.75 * veins**1.5 + 0.14 * _noise(rng, 0.7, 0.25, 12.0) + 0.12, 0.0, 1.0)


def _joints(x: Grey, count: int, width: float) -> Grey:
    """1 within `width` of the borders between `count` cells along x, else 0, with a soft edge."""
    distance = np.abs((x * count + 0.5) % 1.0 - 0.5) / count
    return 1.0 - _smooth(0.4 * width, width, distance)


# --------------------------------------------------------------------------------------------------------------- kinds


def _planks(rng: np.random.Generator) -> Colour:
    x, y = _grid()
    light, dark = _wood(rng)
    count = int(rng.integers(4, 9))
    board = np.floor(x * count).astype(int) % count
    shift, shade = rng.random(count), rng.uniform(0.8, 1.1, count)
    grain = _grain(rng, 1.0 * count)
    rows = np.floor(y * SIZE + shift[board] * SIZE).astype(int) % SIZE
    grain = grain[rows, np.arange(SIZE)[None, :]]
    seams = np.maximum(_joints(x, count, 0.004), _joints((y + shift[board]) % 1.0, int(rng.integers(1, 3)), 0.004))
    return _mixed(light, dark, grain * rng.uniform(0.6, 1.0)) * (shade[board] * (1.0 - 0.55 * seams))[..., None]


def _veneer(rng: np.random.Generator) -> Colour:
    light, dark = _wood(rng)
    return _mixed(light, dark, _grain(rng, float(rng.integers(3, 10))) * rng.uniform(0.35, 0.9))


def _parquet(rng: np.random.Generator) -> Colour:
    x, y = _grid()
    light, dark = _wood(rng)
    fields, strips = int(rng.choice((2, 4))), int(rng.integers(3, 6))
    turned = (np.floor(x * fields) + np.floor(y * fields)).astype(int) % 2 == 1
    grain = _grain(rng, 2.0 * fields)
    grain = np.where(turned, grain.T, grain)
    across = np.where(turned, y, x)
    board = (np.floor(across * fields * strips) + 31 * np.floor(x * fields) + 17 * np.floor(y * fields)).astype(int) % 64
    shade = rng.uniform(0.8, 1.12, 64)[board]
    seams = np.maximum(_joints(across, fields * strips, 0.003), np.maximum(_joints(x, fields, 0.003), _joints(y, fields, 0.003)))
    return _mixed(light, dark, 0.8 * grain) * (shade * (1.0 - 0.5 * seams))[..., None]


def _marble(rng: np.random.Generator) -> Colour:
    base = _hue(rng, (0.0, 1.0), (0.0, 0.12), (0.2, 0.97))
    vein = (
        _hue(rng, (0.05, 0.65), (0.0, 0.35), (0.25, 0.6)) if base.mean() > 0.55 else _hue(rng, (0.05, 0.2), (0.0, 0.3), (0.7, 0.95))
    )
    thin = np.exp(-np.abs(_noise(rng, 1.9)) / rng.uniform(0.03, 0.09))
    wide = np.exp(-np.abs(_noise(rng, 2.2)) / rng.uniform(0.1, 0.3))
    return _mixed(base, vein, 0.65 * thin + 0.25 * wide) * (1.0 + 0.03 * _noise(rng, 1.2))[..., None]


def _granite(rng: np.random.Generator) -> Colour:
    _, _, cell = _cells(rng, int(rng.integers(2500, 7000)))
    palette = np.stack([_hue(rng, (0.0, 0.15), (0.0, 0.3), (0.1, 0.9)) for _ in range(4)])
    chosen = rng.choice(4, cell.max() + 1, p=(0.45, 0.3, 0.17, 0.08))
    return palette[chosen[cell]] * (1.0 + 0.06 * _noise(rng, 0.5))[..., None]


def _terrazzo(rng: np.random.Generator) -> Colour:
    near, second, cell = _cells(rng, int(rng.integers(250, 700)))
    ground = _hue(rng, (0.0, 1.0), (0.0, 0.15), (0.55, 0.95))
    palette = np.stack([_hue(rng, (0.0, 1.0), (0.05, 0.5), (0.2, 0.9)) for _ in range(6)])
    chip = palette[rng.integers(6, size=cell.max() + 1)[cell]]
    kept = rng.uniform(0.25, 0.8, cell.max() + 1)[cell]
    inside = _smooth(0.12, 0.2, second - near) * _smooth(0.0, 0.06, kept - near)
    return ground * (1.0 - inside[..., None]) + chip * inside[..., None] + 0.012 * _noise(rng, 0.6)[..., None]


def _tiles(rng: np.random.Generator) -> Colour:
    x, y = _grid()
    count = int(rng.choice((2, 3, 4, 6)))
    across, along = np.floor(x * count).astype(int), np.floor(y * count).astype(int)
    first = _hue(rng, (0.0, 1.0), (0.0, 0.4), (0.45, 0.97))
    other = _hue(rng, (0.0, 1.0), (0.0, 0.4), (0.2, 0.97)) if rng.random() < 0.35 and count % 2 == 0 else first
    shade = rng.uniform(0.93, 1.04, (count, count))[along, across]
    tile = np.where(((across + along) % 2 == 1)[..., None], other, first) * (shade * (1.0 + 0.025 * _noise(rng, 1.7)))[..., None]
    grout = np.maximum(_joints(x, count, 0.007), _joints(y, count, 0.007))
    return _mixed(tile, np.full(3, rng.uniform(0.35, 0.85), np.float32), grout)


def _brick(rng: np.random.Generator) -> Colour:
    x, y = _grid()
    rows, columns = 2 * int(rng.integers(4, 7)), int(rng.integers(3, 5))
    row = np.floor(y * rows).astype(int)
    moved = (x + 0.5 / columns * (row % 2)) % 1.0
    shade = rng.uniform(0.7, 1.15, (rows, columns))[row, np.floor(moved * columns).astype(int) % columns]
    brick = _hue(rng, (0.0, 0.08), (0.1, 0.6), (0.4, 0.85)) * (shade * (1.0 + 0.07 * _noise(rng, 0.9)))[..., None]
    mortar = np.maximum(_joints(moved, columns, 0.009), _joints(y, rows, 0.009))
    return _mixed(brick, np.full(3, rng.uniform(0.5, 0.85), np.float32), mortar)


def _concrete(rng: np.random.Generator) -> Colour:
    base = _hue(rng, (0.05, 0.6), (0.0, 0.08), (0.35, 0.8))
    pores = _smooth(2.2, 3.0, _noise(rng, 0.4))
    return base * (1.0 + 0.1 * _noise(rng, 1.7) + 0.04 * _noise(rng, 0.5) - 0.35 * pores)[..., None]


def _plaster(rng: np.random.Generator) -> Colour:
    base = _hue(rng, (0.0, 1.0), (0.0, 0.16), (0.55, 0.97))
    return base * (1.0 + 0.035 * _noise(rng, rng.uniform(0.6, 1.3)) + 0.02 * _noise(rng, 2.0))[..., None]


def _carpet(rng: np.random.Generator) -> Colour:
    first, other = _hue(rng, (0.0, 1.0), (0.05, 0.4), (0.2, 0.75)), _hue(rng, (0.0, 1.0), (0.05, 0.35), (0.2, 0.8))
    share = 0.15 + 0.12 * _noise(rng, 0.3) + (0.5 * _smooth(0.2, 0.5, _noise(rng, 2.2)) if rng.random() < 0.4 else 0.0)
    return _mixed(first, other, share) * (1.0 + 0.11 * _noise(rng, 0.15, low=20.0))[..., None]


def _threads(rng: np.random.Generator, count: int) -> tuple[Grey, NDArray[np.bool_]]:
    """A weave of `count` threads each way: its shade, 0 to 1, and where the lengthwise threads are on top."""
    x, y = _grid()
    twill = int(rng.integers(2, 4))
    over = (np.floor(x * count).astype(int) + np.floor(y * count).astype(int)) % twill == 0
    across, along = np.abs(np.sin(np.pi * count * x)), np.abs(np.sin(np.pi * count * y))
    return np.where(over, across, along) ** 0.5, over


def _weave(rng: np.random.Generator) -> Colour:
    shade, over = _threads(rng, 6 * int(rng.integers(3, 8)))
    first, other = _hue(rng, (0.0, 1.0), (0.05, 0.7), (0.3, 0.95)), _hue(rng, (0.0, 1.0), (0.0, 0.5), (0.35, 0.95))
    return np.where(over[..., None], first, other) * (0.6 + 0.4 * shade + 0.05 * _noise(rng, 0.4))[..., None]


def _wallpaper(rng: np.random.Generator) -> Colour:
    x, y = _grid()
    ground, figure = _hue(rng, (0.0, 1.0), (0.0, 0.35), (0.6, 0.97)), _hue(rng, (0.0, 1.0), (0.05, 0.6), (0.3, 0.9))
    count = int(rng.integers(2, 7))
    row = np.floor(y * count)
    u, v = (x * count + 0.5 * (row % 2) * (count % 2 == 0)) % 1.0 - 0.5, (y * count) % 1.0 - 0.5
    style = int(rng.integers(4))
    if style == 0:
        share = _smooth(0.48, 0.52, (x * count) % 1.0) * (1.0 - _smooth(0.96, 1.0, (x * count) % 1.0))
    elif style == 1:
        share = 1.0 - _smooth(0.18, 0.24, np.hypot(u, v))
    elif style == 2:
        petals = 0.22 + 0.1 * np.cos(int(rng.integers(4, 8)) * np.arctan2(v, u))
        share = 1.0 - _smooth(0.9, 1.1, np.hypot(u, v) / petals)
    else:
        share = 1.0 - _smooth(0.03, 0.07, np.abs(np.abs(u) + np.abs(v) - 0.35))
    return _mixed(ground, figure, 0.8 * share) * (1.0 + 0.02 * _noise(rng, 0.6))[..., None]


def _linoleum(rng: np.random.Generator) -> Colour:
    base = _hue(rng, (0.0, 1.0), (0.03, 0.3), (0.3, 0.85))
    flecks = _smooth(0.6, 1.6, _noise(rng, 0.9, 0.6, 1.6)) - _smooth(0.8, 1.8, _noise(rng, 0.9, 1.6, 0.6))
    return base * (1.0 + 0.22 * flecks + 0.04 * _noise(rng, 0.4))[..., None]


def _brushed(rng: np.random.Generator) -> Grey:
    return 1.0 + rng.uniform(0.03, 0.07) * _noise(rng, 0.4, 0.05, 14.0) + 0.02 * _noise(rng, 1.8)


def _speckled(rng: np.random.Generator) -> Grey:
    return 1.0 - rng.uniform(0.2, 0.5) * _smooth(rng.uniform(1.0, 1.6), 2.0, _noise(rng, rng.uniform(0.5, 1.0), low=12.0))


def _knitted(rng: np.random.Generator) -> Grey:
    shade, over = _threads(rng, 6 * int(rng.integers(3, 9)))
    return 0.6 + 0.4 * shade - rng.uniform(0.0, 0.15) * over + 0.03 * _noise(rng, 0.5)


def _hammered(rng: np.random.Generator) -> Grey:
    near, _, _ = _cells(rng, int(rng.integers(120, 500)))
    return 0.75 + rng.uniform(0.2, 0.35) * (1.0 - np.clip(near, 0.0, 1.0) ** 2)


def _leather(rng: np.random.Generator) -> Grey:
    near, second, _ = _cells(rng, int(rng.integers(500, 1500)))
    return 1.0 - rng.uniform(0.2, 0.4) * (1.0 - _smooth(0.0, 0.3, second - near)) + 0.04 * _noise(rng, 1.5)


def _ribbed(rng: np.random.Generator) -> Grey:
    x, y = _grid()
    count, style = int(rng.integers(5, 20)), int(rng.integers(3))
    u = np.sin(2.0 * np.pi * count * (x if style != 1 else x + y))
    v = np.sin(2.0 * np.pi * count * y) if style == 2 else 1.0
    return 0.9 + rng.uniform(0.08, 0.16) * u * v + 0.02 * _noise(rng, 0.8)


_MAKERS: dict[TextureKind, Callable[[np.random.Generator], NDArray[np.floating]]] = {
    TextureKind.PLANKS: _planks,
    TextureKind.VENEER: _veneer,
    TextureKind.PARQUET: _parquet,
    TextureKind.MARBLE: _marble,
    TextureKind.GRANITE: _granite,
    TextureKind.TERRAZZO: _terrazzo,
    TextureKind.TILES: _tiles,
    TextureKind.BRICK: _brick,
    TextureKind.CONCRETE: _concrete,
    TextureKind.PLASTER: _plaster,
    TextureKind.CARPET: _carpet,
    TextureKind.WEAVE: _weave,
    TextureKind.WALLPAPER: _wallpaper,
    TextureKind.LINOLEUM: _linoleum,
    TextureKind.BRUSHED: _brushed,
    TextureKind.SPECKLED: _speckled,
    TextureKind.KNITTED: _knitted,
    TextureKind.HAMMERED: _hammered,
    TextureKind.LEATHER: _leather,
    TextureKind.RIBBED: _ribbed,
}
