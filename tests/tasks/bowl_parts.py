"""A bowl built from convex slabs, steep enough towards its rim that bowls nest with room for fingers between their rims."""

import itertools
import math

import numpy as np
import scene_parts as parts
import trimesh

from embodichain.types import Asset, Pose
from embodichain.types.poses import multiply, turn

_SECTORS = 16
_WALL = 0.004


def bowl(radius: float) -> Asset:
    rings = ((0.5 * radius, 0.0), (0.93 * radius, 0.026), (radius, 0.055))
    pieces = [trimesh.creation.cylinder(radius=0.5 * radius, height=0.005, sections=_SECTORS)]
    pieces[0].apply_translation((0.0, 0.0, 0.0025))
    for (inner, low), (outer, high) in itertools.pairwise(rings):
        for sector in range(_SECTORS):
            ends = [2 * math.pi * (sector + side) / _SECTORS for side in (0, 1)]
            corners = [
                (r * math.cos(angle), r * math.sin(angle), z)
                for angle in ends
                for r, z in ((inner, low), (inner - _WALL, low + 0.001), (outer, high), (outer - _WALL, high))
            ]
            pieces.append(trimesh.Trimesh(np.array(corners)).convex_hull)
    x, y, z = -(radius - _WALL / 2), 0.0, 0.045
    across = turn((0.0, 0.0, 1.0), math.pi / 2)
    grip = Pose(position=(x, y, z), quaternion=multiply(across, parts.DOWN))
    return Asset(
        name=f"bowl_{round(1000 * radius)}",
        category="bowl",
        bodies=(parts.body("body", *pieces, mass=0.25),),
        affordances={"grasp": ("body", grip)},
        content_hash=f"bowl{radius}",
    )
