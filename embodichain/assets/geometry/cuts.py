"""Cuts a solid into nearly convex pieces: by planes through hollows, and into equal sectors where it is round.

The cost of a piece is the volume that its hull adds, plus a fixed price for one more hull. For cups, bowls and rings a greedy
search finds no gain, because the hull of half a ring is as hollow as that of the ring. So a cut that does not reduce the cost at
once is judged by the best next cut of its pieces.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from embodichain.assets.geometry.shapes import Solid

_SHARES = (0.2, 0.35, 0.5, 0.65, 0.8)
"""Positions of planes that are tried along an axis, as shares of the extent."""
_PIES = (6, 8, 10, 12, 16, 20, 24, 32)
_TRIAL_PIE = 16
_LEVELS = 3
"""Most flat levels of a piece along an axis at which planes are tried."""
_CLEAR_GAIN = 0.7
"""A cut that leaves at most this share of the cost is accepted without looking further."""
_ROUNDING = 1.0 + 1e-9
"""A search stops above its limit times this factor, so that rounding alone does not stop it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CutConfig:
    """The price of one more hull, as a share of the solid's volume, and the added share from which a piece is searched deeply."""

    hull_cost: float = 0.003
    deep: float = 0.04


class Piece:
    """A connected solid, the volume that its hull adds to it [m^3], and the axes along which it may be cut."""

    def __init__(self, solid: Solid) -> None:
        self.solid = solid
        self.hull = solid.hull()
        self.volume = solid.volume()
        self.excess = max(self.hull.volume() - self.volume, 0.0)

    @cached_property
    def _surface(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Vertices, centres of faces, their unit normals and areas."""
        mesh = self.solid.to_mesh()
        vertices = np.asarray(mesh.vert_properties[:, :3], np.float64)
        corners = vertices[mesh.tri_verts]
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        areas = np.linalg.norm(normals, axis=1)
        return vertices, corners.mean(axis=1), normals / np.maximum(areas, 1e-300)[:, None], areas

    @cached_property
    def _spread(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Centre of the surface, and its variances in ascending order along their axes (columns)."""
        _, middles, _, areas = self._surface
        middle = areas @ middles / areas.sum()
        scatter = (middles - middle).T @ ((middles - middle) * areas[:, None]) / areas.sum()
        variances, axes = np.linalg.eigh(scatter)
        return middle, variances, axes

    def split(self, axis: NDArray[np.float64], offset: float) -> list[Piece]:
        """The pieces on both sides of a plane; empty when all of the solid is on one side."""
        above, below = self.solid.split_by_plane(axis, offset)
        return [] if above.is_empty() or below.is_empty() else [*connected(above), *connected(below)]

    def halves(self) -> Iterator[list[Piece]]:
        """Cuts through the centre across the two longest axes."""
        _, _, axes = self._spread
        for axis in axes.T[:0:-1]:
            along = self._surface[0] @ axis
            yield self.split(axis, float(along.min() + along.max()) / 2)

    def planes(self) -> Iterator[tuple[NDArray[np.float64], float, bool]]:
        """Planes to try, as (axis, offset, promising): beside large flat faces (promising), and evenly spaced."""
        vertices, middles, normals, areas = self._surface
        axes = [*np.eye(3), *(axis for axis in self._spread[2].T if np.abs(axis).max() < 0.995)]
        for axis in axes:
            along = vertices @ axis
            low, high = float(along.min()), float(along.max())
            span = high - low
            for share in _SHARES:
                yield axis, low + share * span, share == 0.5
            facing = normals @ axis
            flat = np.abs(facing) > 0.99
            level = middles[flat] @ axis
            inner = (level > low + 0.01 * span) & (level < high - 0.01 * span)
            if not inner.any():
                continue
            weights, level, side = areas[flat][inner], level[inner], np.sign(facing[flat][inner])
            counts, edges = np.histogram(level, bins=64, range=(low, high), weights=weights)
            for best in np.argsort(-counts, kind="stable")[:_LEVELS]:
                if counts[best] <= 0.01 * areas.sum():
                    break
                here = (level >= edges[best]) & (level <= edges[best + 1])
                mean = float(np.average(level[here], weights=weights[here]))
                rough = float(np.sqrt(np.average((level[here] - mean) ** 2, weights=weights[here])))
                # Just beyond the face on its empty side, clear of its roughness: then no thin film of it is left on the other part.
                yield axis, mean + max(0.001 * span, 3.0 * rough) * float(np.sign(side[here] @ weights[here])), True

    def round_axes(self) -> list[NDArray[np.float64]]:
        """Axes about which the piece spreads evenly, as solids of revolution do."""
        _, variances, axes = self._spread
        found = [axes[:, 0]] if variances[1] > 0.5 * variances[2] else []
        return [*found, axes[:, 2]] if variances[0] > 0.5 * variances[1] else found

    def pie(self, axis: NDArray[np.float64], number: int) -> Iterator[list[Piece]]:
        """Cuts the piece into `number` equal sectors about an axis through its centre, and yields one sector after another."""
        middle = self._spread[0]
        first = np.cross(axis, np.eye(3)[np.argmin(np.abs(axis))])
        first /= np.linalg.norm(first)
        second = np.cross(axis, first)
        angles = 2 * math.pi * np.arange(number) / number
        normals = -np.sin(angles)[:, None] * first + np.cos(angles)[:, None] * second
        for start, rest in zip((0, number // 2), self.solid.split_by_plane(normals[0], float(normals[0] @ middle)), strict=True):
            for normal in normals[start + 1 : start + number // 2]:
                rest, sector = rest.split_by_plane(normal, float(normal @ middle))
                yield connected(sector)
            yield connected(rest)


def connected(solid: Solid) -> list[Piece]:
    """The connected parts of a solid."""
    return [Piece(part) for part in solid.decompose() if part.num_tri() > 0] if solid.num_tri() else []


def pieces(solid: Solid, config: CutConfig | None = None) -> list[Piece]:
    """Nearly convex pieces that together make the solid, without slivers."""
    config = config or CutConfig()
    volume = solid.volume()
    price, sliver = config.hull_cost * volume, 1e-5 * volume
    todo, done = connected(solid), []
    while todo:
        piece = todo.pop()
        if piece.volume < sliver:
            continue
        cut = _best_cut(piece, price, deep=piece.excess > config.deep * volume) if piece.excess > price else []
        if cut:
            todo += cut
        else:
            done.append(piece)
    return done


def _cost(found: list[Piece], price: float) -> float:
    return sum(piece.excess for piece in found) + price * len(found)


def _cheap(sectors: Iterator[list[Piece]], price: float, limit: float) -> list[Piece]:
    """The pieces of all sectors; empty as soon as their cost exceeds `limit`, because further sectors can only add to it."""
    found: list[Piece] = []
    for sector in sectors:
        found += sector
        if _cost(found, price) > limit * _ROUNDING:
            return []
    return found


def _best_cut(piece: Piece, price: float, *, deep: bool) -> list[Piece]:
    """The cheapest cut of a piece; empty when the piece is best left whole."""
    whole = piece.excess + price
    best, chosen = whole, []
    for axis, offset, promising in piece.planes():
        found = piece.split(axis, offset)
        if not found:
            continue
        cost = _cost(found, price)
        if deep and promising and cost > _CLEAR_GAIN * whole:
            cost = min(cost, _outlooks(found, price, min(cost, best)))
        if cost < best * (1 - 1e-9):
            best, chosen = cost, found
    if deep:
        for axis in piece.round_axes():
            for number in _PIES:
                found = _cheap(piece.pie(axis, number), price, best)
                if found and (cost := _cost(found, price)) < best * (1 - 1e-9):
                    best, chosen = cost, found
    return chosen


def _outlooks(found: list[Piece], price: float, limit: float) -> float:
    """The cost of pieces after the best simple cut of each; infinite as soon as it is known to exceed `limit`."""
    known: list[float] = []
    for number, part in enumerate(found):
        # Each remaining piece costs at least the price of one hull.
        if sum(known) + price * (len(found) - number) > limit * _ROUNDING:
            return math.inf
        known.append(_outlook(part, price))
    return sum(known)


def _outlook(piece: Piece, price: float) -> float:
    """The cost of a piece after its best simple cut."""
    cost = piece.excess + price
    if piece.excess <= price:
        return cost
    for found in piece.halves():
        if found:
            cost = min(cost, _cost(found, price))
    for axis in piece.round_axes():
        if found := _cheap(piece.pie(axis, _TRIAL_PIE), price, cost):
            cost = min(cost, _cost(found, price))
    return cost
