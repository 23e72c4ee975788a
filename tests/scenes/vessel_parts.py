"""Open vessels of boards around a floor: real parts to fill, to pour from and to pour into, made in milliseconds."""

import math

import numpy as np
import scene_parts as parts
import trimesh

from embodichain.types import Asset, Pose
from embodichain.types.poses import frame

WALL, FLOOR = 0.003, 0.006


def vessel(category: str, radius: float, height: float, *, mass: float = 0.09, mouth: float = 1.0, sides: int = 16) -> Asset:
    """A tumbler of that outer radius [m]; its walls lean inwards until the mouth is `mouth` of the radius."""
    angles = 2 * math.pi * np.arange(sides) / sides
    pieces = [trimesh.creation.cylinder(radius=radius - WALL, height=FLOOR, sections=sides)]
    pieces[0].apply_translation((0.0, 0.0, FLOOR / 2))
    for angle in angles:
        corners = []
        for z, share in ((0.0, 1.0), (height, mouth)):
            for r in (radius * share - WALL, radius * share):
                for side in (-1.0, 1.0):
                    turn = angle + side * math.pi / sides
                    corners.append((r * math.cos(turn), r * math.sin(turn), z))
        pieces.append(trimesh.PointCloud(corners).convex_hull)
    return Asset(
        name=f"{category}_{round(1000 * radius)}_{round(1000 * height)}",
        category=category,
        bodies=(parts.body("body", *pieces, mass=mass),),
        affordances={
            "inside": ("body", Pose(position=(0.0, 0.0, FLOOR))),
            "grasp": ("body", Pose(position=(0.0, 0.0, height - 0.012), quaternion=parts.DOWN)),
            "side_grasp": ("body", frame((0.0, 0.0, 0.36 * height), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0))),
            "mouth": ("body", Pose(position=(0.0, 0.0, height), quaternion=parts.DOWN)),
            "pour_rim": ("body", frame((radius * mouth - WALL / 2, 0.0, height), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0))),
        },
        content_hash=f"{category}{radius}{height}{mouth}",
    )
