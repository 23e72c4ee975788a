"""Distractors: objects that the task does not ask for, placed anywhere on the table where they leave room for the hands."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from embodichain.scenes.layout import Footprint, signed_distance
from embodichain.types import TABLE_SIZE, Asset, ObjectPlacement
from embodichain.types.poses import yaw_pose

_TRIES = 40
_GAP = 0.07
"""Room between a distractor and any object of the task or part of the robot [m], enough for an open hand with an object."""
_BORDER = 0.01
_HALF_TABLE = tuple(extent / 2 for extent in TABLE_SIZE[:2])


def scatter(
    count: int,
    assets: Sequence[Asset],
    footprints: Mapping[str, Footprint],
    placements: Sequence[ObjectPlacement],
    taken: Sequence[Footprint],
    rng: np.random.Generator,
    hide: Callable[[Sequence[ObjectPlacement]], bool] = lambda extras: False,
) -> tuple[ObjectPlacement, ...]:
    """Up to `count` distractors; fewer where the table has no room left.

    Args:
        count: How many are wanted.
        assets: Assets to choose from. Bolted and articulated ones are left out, and categories that the task itself asks for.
        footprints: Outline of each asset, by name, in its own frame.
        placements: The task's objects.
        taken: Outlines of those objects and of the robot, in world coordinates.
        rng: Source of all randomness.
        hide: Whether given distractors would hide an object of the task from the cameras.
    """
    asked = {placement.asset.category for placement in placements}
    usable = [asset for asset in assets if asset.category not in asked and len(asset.bodies) == 1 and not asset.fixed_base]
    found: list[ObjectPlacement] = []
    occupied = list(taken)
    for _ in range(_TRIES * count if usable else 0):
        if len(found) == count:
            break
        asset = usable[int(rng.integers(len(usable)))]
        yaw = float(rng.uniform(-math.pi, math.pi))
        outline = footprints[asset.name].turned(yaw)
        low, high = outline.vertices.min(axis=0), outline.vertices.max(axis=0)
        room = [(-half + _BORDER - a, half - _BORDER - b) for half, a, b in zip(_HALF_TABLE, low, high, strict=True)]
        if any(first > last for first, last in room):
            continue
        x, y = (float(rng.uniform(*limits)) for limits in room)
        here = Footprint(vertices=outline.vertices + np.array((x, y)), normals=outline.normals)
        extra = ObjectPlacement(role=f"distractor_{len(found)}", asset=asset, pose=yaw_pose(x, y, 0.0, yaw))
        if all(signed_distance(other, here, np.zeros(2))[0] >= _GAP for other in occupied) and not hide([*found, extra]):
            occupied.append(here)
            found.append(extra)
    return tuple(found)
