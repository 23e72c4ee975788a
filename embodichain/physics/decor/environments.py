"""The library of environment maps: what light comes from where, made by procedure from a number, and what surfaces need of it.

A map is a function of direction. Its brightest part lies at azimuth 0, towards +X, so that a setting can turn it to its lights.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embodichain.errors import SceneError
from embodichain.types.settings import NUM_ENVIRONMENTS

__all__ = ["LEVELS", "SIZE", "EnvironmentLight", "environment", "panorama", "radiance"]

SIZE = 32
"""Edge length of each octahedral table [texels]."""
LEVELS = 4
_SHARPNESS = (0.0, 200.0, 30.0, 5.0)
"""Exponent of the lobe over which each table averages; the first is the map itself."""
_SAMPLES = 2048
_KINDS = 6
_MEAN = 0.46
"""Mean of the diffuse light that a map without its factor of strength sheds on a surface that faces up."""
Floats = NDArray[np.float64]


class EnvironmentLight(NamedTuple):
    """What surfaces need of a map."""

    diffuse: NDArray[np.float32]
    """Nine coefficients of spherical harmonics for each colour, of irradiance over pi, [9, 3] (Ramamoorthi and Hanrahan 2001)."""
    tables: NDArray[np.float32]
    """The map and its averages over ever wider lobes, octahedral, [LEVELS * SIZE * SIZE, 3]."""


@lru_cache(maxsize=NUM_ENVIRONMENTS)
def environment(number: int) -> EnvironmentLight:
    """The map with this number; raises SceneError when there is none."""
    if not 0 <= number < NUM_ENVIRONMENTS:
        raise SceneError(f"there is no environment map {number}: the library has 0 to {NUM_ENVIRONMENTS - 1}")
    around = _sphere(_SAMPLES)
    light = radiance(number, around)
    basis = _harmonics(around)
    falls = np.array((1.0, *(2.0 / 3.0,) * 3, *(0.25,) * 5))  # of a cosine lobe, over pi
    diffuse = falls[:, None] * (basis.T @ light) * (4.0 * np.pi / _SAMPLES)
    up = float((_harmonics(np.array(((0.0, 0.0, 1.0),))) @ diffuse).mean())
    scale = _MEAN / up
    here = _octahedral(SIZE)
    tables = [radiance(number, here)]
    cosines = here.astype(np.float32) @ around.T.astype(np.float32) - np.float32(1.0)
    for sharpness in _SHARPNESS[1:]:
        weights = np.exp(np.float32(sharpness) * cosines)
        tables.append((weights @ light.astype(np.float32)) / weights.sum(axis=1, keepdims=True))
    return EnvironmentLight((scale * diffuse).astype(np.float32), (scale * np.concatenate(tables)).astype(np.float32))


def panorama(number: int, height: int = 128) -> NDArray[np.uint8]:
    """The map as a picture of all directions, azimuth 0 in the middle and up above, brightened: uint8 [height, 2 height, 3]."""
    azimuth, up = np.meshgrid(np.linspace(np.pi, -np.pi, 2 * height), np.linspace(np.pi / 2, -np.pi / 2, height))
    towards = np.stack([np.cos(azimuth) * np.cos(up), np.sin(azimuth) * np.cos(up), np.sin(up)], axis=-1)
    light = radiance(number, towards.reshape(-1, 3)).reshape(height, 2 * height, 3)
    return (255.0 * np.clip(light / 1.5, 0.0, 1.0) ** 0.6).astype(np.uint8)


def radiance(number: int, towards: Floats) -> Floats:
    """Radiance from these directions, unit vectors [N, 3]: relative values [N, 3]."""
    rng = np.random.default_rng((1, number))
    kind = number % _KINDS
    x, y, z = towards.T
    azimuth = np.arctan2(y, x)
    up = np.clip(z, -1.0, 1.0)
    warm = np.array((1.0, rng.uniform(0.85, 0.97), rng.uniform(0.68, 0.92)))
    cold = np.array((rng.uniform(0.75, 0.92), rng.uniform(0.88, 0.97), 1.0))
    if kind in (0, 5):  # a room with windows; at night one with lamps
        wall, ceiling, floor = 0.30 * warm, 0.55 * np.ones(3), 0.16 * warm
        found = _bands(up, ceiling, wall, floor)
        if kind == 0:
            for place in (0.0, *rng.uniform(1.2, 5.0, int(rng.integers(0, 3)))):
                pane = _rectangle(azimuth - place, up, rng.uniform(0.25, 0.6), rng.uniform(0.1, 0.3), rng.uniform(0.55, 0.8))
                frame = 1.0 - 0.7 * (np.abs(_wrapped(azimuth - place)) < 0.015)
                found += (pane * frame)[:, None] * cold * rng.uniform(4.0, 8.0)
        else:
            for place in (0.0, *rng.uniform(0.8, 5.5, int(rng.integers(1, 4)))):
                found += _spot(towards, place, rng.uniform(0.4, 1.2), 60.0)[:, None] * warm * rng.uniform(6.0, 14.0)
    elif kind == 1:  # a studio: dark, with soft boxes
        found = _bands(up, np.full(3, 0.18), np.full(3, 0.12), np.full(3, 0.08))
        for place in (0.0, *rng.uniform(1.0, 5.2, int(rng.integers(1, 3)))):
            box = _rectangle(azimuth - place, up, rng.uniform(0.3, 0.7), rng.uniform(0.2, 0.5), rng.uniform(0.75, 0.97))
            found += box[:, None] * (warm if rng.random() < 0.5 else cold) * rng.uniform(3.0, 6.0)
    elif kind == 2:  # under the sky, with the sun
        haze, zenith = rng.uniform(0.7, 1.0) * np.array((0.9, 0.95, 1.0)), np.array((0.45, 0.6, 0.9)) * rng.uniform(0.6, 1.0)
        found = _bands(up, zenith, haze, rng.uniform(0.15, 0.4) * warm, width=0.5)
        found += _spot(towards, 0.0, rng.uniform(0.5, 1.1), 900.0)[:, None] * warm * 60.0
    elif kind == 3:  # overcast, with trees or houses at the horizon
        found = _bands(up, np.full(3, 1.0), np.full(3, 0.7), np.full(3, 0.22) * warm, width=0.4)
        edge = 0.08 * np.sin(3.0 * azimuth + rng.uniform(0, 6)) + 0.05 * np.sin(11.0 * azimuth + rng.uniform(0, 6)) + 0.08
        dark = np.array((0.10, rng.uniform(0.11, 0.18), 0.09))
        found = np.where(((up < edge) & (up > -0.02))[:, None], dark, found) + 0.5 * _spot(towards, 0.0, 0.9, 3.0)[:, None]
    else:  # a hall with rows of lamps
        found = _bands(up, np.full(3, 0.30), 0.34 * cold, np.full(3, 0.20))
        above = np.maximum(up, 0.05)
        across, along = x / above - 0.9, y / above
        pitch, length = rng.uniform(1.2, 2.0), rng.uniform(0.5, 1.2)
        lamps = (np.abs((across / pitch + 0.5) % 1.0 - 0.5) * pitch < 0.12) & (
            np.abs((along / 1.8 + 0.5) % 1.0 - 0.5) * 1.8 < 0.5 * length
        )
        found += (lamps & (up > 0.25))[:, None] * cold * rng.uniform(4.0, 7.0)
        found += 0.6 * _spot(towards, 0.0, 0.9, 4.0)[:, None]
    return np.asarray(found)


def _bands(up: Floats, above: Floats, beside: Floats, below: Floats, width: float = 0.35) -> Floats:
    high = np.clip(up / width, 0.0, 1.0)[:, None]
    low = np.clip(-up / 0.15, 0.0, 1.0)[:, None]
    return beside * (1.0 - high) * (1.0 - low) + above * high + below * low


def _wrapped(angle: Floats) -> Floats:
    return (angle + np.pi) % (2.0 * np.pi) - np.pi


def _rectangle(azimuth: Floats, up: Floats, half: float, low: float, high: float) -> Floats:
    return ((np.abs(_wrapped(azimuth)) < half) & (up > low) & (up < high)).astype(float)


def _spot(towards: Floats, azimuth: float, elevation: float, sharpness: float) -> Floats:
    there = np.array((np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)))
    return np.exp(sharpness * (towards @ there - 1.0))


def _sphere(count: int) -> Floats:
    """Unit vectors that cover the sphere evenly, [count, 3] (a Fibonacci lattice)."""
    index = np.arange(count) + 0.5
    z = 1.0 - 2.0 * index / count
    turn = np.pi * (1.0 + np.sqrt(5.0)) * index
    radius = np.sqrt(1.0 - z * z)
    return np.stack([radius * np.cos(turn), radius * np.sin(turn), z], axis=-1)


def _octahedral(size: int) -> Floats:
    """The direction of each texel of an octahedral table, [size * size, 3]."""
    ticks = (np.arange(size) + 0.5) / size * 2.0 - 1.0
    v, u = np.meshgrid(ticks, ticks, indexing="ij")
    z = 1.0 - np.abs(u) - np.abs(v)
    x = np.where(z < 0.0, (1.0 - np.abs(v)) * np.sign(u), u)
    y = np.where(z < 0.0, (1.0 - np.abs(u)) * np.sign(v), v)
    found = np.stack([x, y, z], axis=-1).reshape(-1, 3)
    return found / np.linalg.norm(found, axis=-1, keepdims=True)


def _harmonics(towards: Floats) -> Floats:
    """The nine real spherical harmonics up to degree 2 in these directions, [N, 9], in the order that the shading kernel uses."""
    x, y, z = towards.T
    return np.stack(
        [
            np.full_like(x, 0.282095), 0.488603 * x, 0.488603 * y, 0.488603 * z,
            1.092548 * x * y, 1.092548 * y * z, 1.092548 * x * z, 0.315392 * (3.0 * z * z - 1.0), 0.546274 * (x * x - y * y),
        ],
        axis=-1,
    )  # fmt: skip
