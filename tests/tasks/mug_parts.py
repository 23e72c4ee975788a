"""A mug and a mug tree built from convex pieces, of the sizes that the procedural families have."""

import itertools
import math

import numpy as np
import scene_parts as parts
import trimesh

from embodichain.types import Asset, Pose
from embodichain.types.poses import frame, multiply, turn

_SECTORS = 12
STEEL = parts.Material(name="steel", density=7800.0, static_friction=0.5, dynamic_friction=0.4, restitution=0.2)


def mug(radius: float = 0.039, height: float = 0.092, wall: float = 0.004, reach: float = 0.028) -> Asset:
    pieces = [trimesh.creation.cylinder(radius=radius, height=0.007, sections=_SECTORS)]
    pieces[0].apply_translation((0.0, 0.0, 0.0035))
    for first, last in itertools.pairwise(2 * math.pi * np.arange(_SECTORS + 1) / _SECTORS):
        corners = [
            (r * math.cos(angle), r * math.sin(angle), z)
            for angle in (first, last)
            for r in (radius, radius - wall)
            for z in (0.005, height)
        ]
        pieces.append(trimesh.Trimesh(np.array(corners)).convex_hull)
    middle, span, bar = 0.52 * height, 0.30 * height, 0.008
    outer = radius + reach
    pieces.append(parts.box((bar, 0.010, 2 * span), (outer - bar / 2, 0.0, middle)))
    for side in (-1.0, 1.0):
        arm = (reach + wall / 2, 0.010, bar)
        pieces.append(parts.box(arm, (radius + (reach - wall / 2) / 2, 0.0, middle + side * (span - bar / 2))))
    across = multiply(turn((0.0, 0.0, 1.0), math.pi / 2), parts.DOWN)
    hole = (radius + outer - bar) / 2
    return Asset(
        name="mug",
        category="mug",
        bodies=(parts.body("body", *pieces, mass=0.28),),
        affordances={
            "grasp": ("body", Pose(position=(-(radius - wall / 2), 0.0, height - 0.012), quaternion=across)),
            "hang_loop": ("body", frame((hole, 0.0, middle), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))),
        },
        content_hash=f"mug{radius}{height}{reach}",
    )


def rack(branches: int = 4, root: float = 0.170, tilt: float = math.radians(24.0), length: float = 0.095) -> Asset:
    base = trimesh.creation.cylinder(radius=0.078, height=0.015, sections=24)
    base.apply_translation((0.0, 0.0, 0.0075))
    post = trimesh.creation.cylinder(radius=0.008, height=0.20, sections=16)
    post.apply_translation((0.0, 0.0, 0.10))
    pieces, frames = [base, post], {}
    for index in range(branches):
        yaw = 2 * math.pi * index / branches
        out = np.array([math.cos(yaw) * math.cos(tilt), math.sin(yaw) * math.cos(tilt), math.sin(tilt)])
        rod = trimesh.creation.cylinder(
            radius=0.004, segment=[[0.0, 0.0, root], [*(length * out[:2]), root + length * out[2]]], sections=12
        )
        pieces.append(rod)
        for name, along in (("branch", length), ("seat", 0.058)):
            x, y, z = (float(value) for value in along * out + [0.0, 0.0, root])
            frames[f"{name}_{index}"] = ("body", frame((x, y, z), (-out).tolist(), (math.sin(yaw), -math.cos(yaw), 0.0)))
    return Asset(
        name="rack",
        category="rack",
        bodies=(parts.body("body", *pieces, mass=2.8, material=STEEL),),
        affordances=frames,
        content_hash=f"rack{branches}{root}{tilt}{length}",
    )
