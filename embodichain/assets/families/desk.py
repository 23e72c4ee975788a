"""Objects on a desk: block, mark, mouse pad, mouse."""

from __future__ import annotations

import math

import numpy as np

from embodichain.assets.families.design import Design, SolidPart, bolted, down, tint
from embodichain.assets.geometry.shapes import Solid, box, cylinder, pieces, slab
from embodichain.types import Pose


def block(rng: np.random.Generator) -> Design:
    """A wooden toy block with chamfered edges."""
    edge = rng.uniform(0.034, 0.050)
    size = (edge, edge * rng.uniform(0.85, 1.0), edge * rng.uniform(0.85, 1.0))
    solid = box(size, chamfer=0.0015).translate((0, 0, size[2] / 2))
    return Design(
        solids=(SolidPart(name="body", pieces=pieces(solid), material="wood", color=tint(rng)),),
        parameters={"length": size[0], "width": size[1], "height": size[2]},
        affordances={"grasp": ("body", down(0.0, 0.0, size[2] / 2))},
    )


def mark(rng: np.random.Generator) -> Design:
    """A square mark of foam rubber glued to the table, on which objects may stand."""
    edge, height = rng.uniform(0.072, 0.080), 0.002
    solid = box((edge, edge, height)).translate((0.0, 0.0, height / 2))
    return Design(
        solids=(SolidPart(name="body", pieces=pieces(solid), material="rubber_foam", color=tint(rng)),),
        parameters={"length": edge, "width": edge, "height": height},
        joints=(bolted("body"),),
        affordances={"top": ("body", Pose(position=(0.0, 0.0, height))), "center": ("body", down(0.0, 0.0, height))},
    )


def pad(rng: np.random.Generator) -> Design:
    """A mouse pad of foam rubber."""
    size = (rng.uniform(0.21, 0.23), rng.uniform(0.17, 0.19), 0.003)
    solid = slab(size, corner_radius=0.012, chamfer=0.0006)
    return Design(
        solids=(SolidPart(name="body", pieces=pieces(solid), material="rubber_foam", color=tint(rng)),),
        parameters={"length": size[0], "width": size[1], "height": size[2]},
        affordances={"center": ("body", down(0.0, 0.0, size[2]))},
    )


def mouse(rng: np.random.Generator) -> Design:
    """A computer mouse, front along +X, with upright sides in its middle on which a 70 mm parallel gripper can close from above."""
    length = rng.uniform(0.096, 0.104)
    width = rng.uniform(0.055, 0.058)
    height = rng.uniform(0.033, 0.037)
    hump = rng.uniform(-0.16, -0.08)
    a, b, n = length / 2, width / 2, 4.0
    angles = np.linspace(0.0, 2 * math.pi, 73)[:-1]
    cos, sin = np.cos(angles), np.sin(angles)
    outline = np.stack([a * np.sign(cos) * np.abs(cos) ** (2 / n), b * np.sign(sin) * np.abs(sin) ** (2 / n)], axis=1)
    points = [np.column_stack([outline * 0.97, np.zeros(len(outline))]), np.column_stack([outline, np.full(len(outline), 0.002)])]
    for inset, rise in zip(np.cos(np.linspace(0.0, 1.45, 9)), np.sin(np.linspace(0.0, 1.45, 9)), strict=True):
        ring = outline * inset
        crown = height * (1.0 - 0.42 * np.abs(ring[:, 0] / a - hump) ** 2.0 / (1 + abs(hump)) ** 2)
        side = 0.62 * crown
        points.append(np.column_stack([ring, side + (crown - side) * rise]))
    shell = Solid.hull_points(np.concatenate(points))
    wheel_x = 0.24 * length
    wheel_top = height * (1.0 - 0.42 * (wheel_x / a - hump) ** 2 / (1 + abs(hump)) ** 2)
    wheel = cylinder(0.009, 0.006, axis="y").translate((wheel_x, 0.0, wheel_top - 0.0075))
    shade = float(rng.uniform(0.12, 0.30))
    return Design(
        solids=(
            SolidPart(
                name="body",
                pieces=pieces(shell, wheel),
                material="abs",
                color=(shade, shade, shade * 1.08, 1.0),
                mass=float(rng.uniform(0.075, 0.105)),
            ),
        ),
        parameters={"length": length, "width": width, "height": height},
        affordances={"grasp": ("body", down(0.0, 0.0, 0.45 * height))},
    )
