"""Filling: packs grains into a vessel in a scene, without touching its walls or one another."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull

from embodichain.errors import SceneError
from embodichain.motion.frames import affordance, asset_from_body
from embodichain.types import Asset, Filling, Grains, ObjectPlacement, Pose, rotate
from embodichain.types.poses import compose, inverse

Array = NDArray[np.float64]

_GAP = 0.0003
"""Gap between grains, and from grains to walls [m]."""
_PROBES = 6
"""Number of points tested between the vessel's axis and a grain, to make sure that no wall lies between."""
_LAYERS = 60
_KEPT = 128
"""Number of vessels whose walls are cached. The cache is bounded because streams of assets are endless."""


class Vessels:
    """Fills vessels with grains, and caches the vessels' walls."""

    def __init__(self) -> None:
        self._walls: dict[str, list[Array]] = {}

    def fill(self, wanted: Filling, placements: Sequence[ObjectPlacement], rng: np.random.Generator) -> Grains:
        """Grains in one of the objects, in layers from its floor up, each layer rotated and shifted at random.

        Positions are rounded to 32-bit numbers, so that a scene file keeps them exactly. Raises SceneError when the object is
        missing, or when the grains do not all fit in below its rim.
        """
        found = [placement for placement in placements if placement.role == wanted.role]
        if not found:
            raise SceneError(f"grains are asked for in {wanted.role!r}; the scene has {[entry.role for entry in placements]}")
        placement = found[0]
        walls, floor, height, width = self._inside(placement.asset)
        spacing = 2.0 * wanted.radius + _GAP
        points: list[Array] = []
        for layer in range(_LAYERS):
            z = wanted.radius + _GAP + layer * spacing
            if len(points) >= wanted.count or z + wanted.radius > height:
                break
            points += list(self._layer(walls, width - wanted.radius, z, spacing, wanted.radius, rng))
        if len(points) < wanted.count:
            raise SceneError(
                f"{placement.asset.name!r} holds {len(points)} grains of radius {wanted.radius} m, {wanted.count} are asked for: "
                "ask for fewer or smaller ones, or use a larger vessel"
            )
        world_from_floor = compose(placement.pose, floor)
        world = rotate(world_from_floor.quaternion, np.array(points[: wanted.count])) + world_from_floor.position
        rows = world.astype(np.float32).astype(np.float64).tolist()
        return Grains(radius=wanted.radius, color=wanted.color, positions=tuple((x, y, z) for x, y, z in rows))

    def _inside(self, asset: Asset) -> tuple[list[Array], Pose, float, float]:
        """The vessel's hulls as planes in the frame of its floor, asset_from_floor, the height of its rim and its radius [m]."""
        floor = affordance(asset, "inside", Pose())
        key = f"{asset.name}:{asset.content_hash}:{asset.scale!r}"
        if key not in self._walls:
            walls: list[Array] = []
            for body in asset.bodies:
                pose = compose(inverse(floor), asset_from_body(asset, body.name))
                walls += [ConvexHull(rotate(pose.quaternion, hull.vertices) + pose.position).equations for hull in body.hulls]
            if len(self._walls) >= _KEPT:
                self._walls.pop(next(iter(self._walls)))
            self._walls[key] = walls  # all of them or none: a hull may be refused
        return self._walls[key], floor, float(asset.bounds[1, 2]) - floor.position[2], float(asset.bounds[1, 0])

    def _layer(self, walls: list[Array], reach: float, z: float, spacing: float, radius: float, rng: np.random.Generator) -> Array:
        """Centres [N, 3] of one layer in the frame of the floor, nearest to the axis first."""
        angle, shift = float(rng.uniform(0.0, math.pi / 3)), rng.uniform(-0.5, 0.5, 2) * spacing
        steps = np.arange(-12, 13)
        rows, columns = np.meshgrid(steps, steps, indexing="ij")
        grid = spacing * np.stack([columns + 0.5 * rows, math.sqrt(0.75) * rows], axis=-1).reshape(-1, 2) + shift
        turned = grid @ np.array(((math.cos(angle), math.sin(angle)), (-math.sin(angle), math.cos(angle))))
        turned = turned[np.argsort(np.linalg.norm(turned, axis=1), kind="stable")]
        turned = turned[np.linalg.norm(turned, axis=1) < reach]
        centers = np.column_stack([turned, np.full(len(turned), z)])
        shares = np.arange(1, _PROBES + 1) / _PROBES
        probes = np.concatenate([centers * (share, share, 1.0) for share in shares])
        free = np.full(len(probes), np.inf)
        for planes in walls:  # the largest plane value is a lower bound of the distance outside a hull
            free = np.minimum(free, (probes @ planes[:, :3].T + planes[:, 3]).max(axis=1))
        return centers[(free.reshape(_PROBES, -1) >= radius + _GAP).all(axis=0)]
