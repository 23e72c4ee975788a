"""Table-top furniture that opens: drawer cabinet, door box and laptop. Drawers and doors open towards +X."""

from __future__ import annotations

import numpy as np

from embodichain.assets.families.design import STEEL, WOODS, Design, SolidPart, bolted, down, tint
from embodichain.assets.geometry.shapes import Solid, box, pieces, slab
from embodichain.types import Joint, JointKind, Pose
from embodichain.types.poses import frame

_GAP = 0.003
"""Gap between parts that move against each other [m]."""
_REACH = 0.030
"""Gap between a handle's bar and the surface behind it [m]: room for a finger."""


def _block(low: tuple[float, float, float], high: tuple[float, float, float]) -> Solid:
    """The box between two opposite corners."""
    size = (high[0] - low[0], high[1] - low[1], high[2] - low[2])
    return Solid.cube(size).translate(low)


def _pull(span: float, thickness: float, *, upright: bool) -> Solid:
    """A handle: a bar on two posts in front of the plane x = 0, centred on it."""
    half = thickness / 2
    posts = [
        _block((-0.001, side * (span / 2 - half) - half, -half), (_REACH + thickness, side * (span / 2 - half) + half, half))
        for side in (-1, 1)
    ]
    bar = box((thickness, span, thickness), chamfer=0.001).translate((_REACH + half, 0.0, 0.0))
    handle = bar + posts[0] + posts[1]
    return handle.rotate((90.0, 0.0, 0.0)) if upright else handle


def drawer_cabinet(rng: np.random.Generator) -> Design:
    """A cabinet, bolted down, with one or two drawers that slide out and stay where they are left."""
    number = int(rng.integers(1, 3))
    depth, width = rng.uniform(0.15, 0.22), rng.uniform(0.17, 0.25)
    each = rng.uniform(0.070, 0.095)
    wall = rng.uniform(0.008, 0.011)
    side = rng.uniform(0.005, 0.007)
    thickness = rng.uniform(0.008, 0.011)
    span = rng.uniform(0.065, 0.090)
    pitch = each + wall
    height = number * pitch + wall
    carcass = _block((-depth / 2, -width / 2, 0.0), (depth / 2, width / 2, height))
    for index in range(number):
        floor = wall + index * pitch
        carcass = carcass - _block((-depth / 2 + wall, -width / 2 + wall, floor), (depth, width / 2 - wall, floor + each))
    inner_depth, inner_width, inner_height = depth - wall - 2 * _GAP, width - 2 * wall - 2 * _GAP, each - 2 * _GAP
    wood, front = tint(rng, WOODS), tint(rng)
    drawers, joints, frames = [], [bolted("cabinet")], {}
    slide = rng.uniform(0.55, 0.68) * inner_depth
    for index in range(number):
        name = f"drawer_{index}"
        outer = _block((-inner_depth, -inner_width / 2, 0.0), (0.0, inner_width / 2, inner_height))
        hollow = _block((side - inner_depth, side - inner_width / 2, side), (-wall, inner_width / 2 - side, inner_height + 0.01))
        pull = _pull(span, thickness, upright=False).translate((0.0, 0.0, inner_height / 2))
        drawers.append(
            SolidPart(
                name=name,
                pieces=pieces((outer - hollow) + pull),
                material="wood",
                color=front,
                pose=Pose(position=(depth / 2, 0.0, wall + index * pitch + _GAP)),
            )
        )
        joints.append(
            Joint(
                name=name,
                kind=JointKind.PRISMATIC,
                parent="cabinet",
                child=name,
                axis=(1.0, 0.0, 0.0),
                lower=0.0,
                upper=slide,
                damping=rng.uniform(4.0, 10.0),
                friction=rng.uniform(0.8, 2.0),
            )
        )
        grip_x = _REACH + thickness / 2
        frames[f"handle_{index}"] = (name, frame((grip_x, 0.0, inner_height / 2), (-1.0, 0.0, 0.0), (0.0, 0.0, 1.0)))
        frames[f"handle_{index}_top"] = (name, down(grip_x, 0.0, inner_height / 2, (1.0, 0.0, 0.0)))
        frames[f"inside_{index}"] = (name, down((side - inner_depth - wall) / 2, 0.0, side))
    return Design(
        solids=(SolidPart(name="cabinet", pieces=pieces(carcass), material="wood", color=wood), *drawers),
        parameters={"drawers": number, "depth": depth, "width": width, "height": height, "wall": wall, "slide": slide},
        joints=tuple(joints),
        affordances=frames,
    )


def door_box(rng: np.random.Generator) -> Design:
    """A box, bolted down, whose front is a door hinged on the left (+Y) side."""
    depth, width, height = rng.uniform(0.12, 0.18), rng.uniform(0.15, 0.22), rng.uniform(0.13, 0.19)
    wall = rng.uniform(0.008, 0.011)
    panel = rng.uniform(0.007, 0.010)
    thickness = rng.uniform(0.008, 0.011)
    span = rng.uniform(0.060, 0.085)
    swing = rng.uniform(1.5, 1.9)
    carcass = _block((-depth / 2, -width / 2, 0.0), (depth / 2, width / 2, height))
    carcass = carcass - _block((-depth / 2 + wall, -width / 2 + wall, wall), (depth, width / 2 - wall, height - wall))
    # The door's frame is on its hinge: the door extends to -Y, and behind the axis by its thickness.
    back = panel / 2
    leaf = _block((-back, back - width, 0.0), (back, back, height - _GAP))
    grip_y = back - width + 0.022
    pull = _pull(span, thickness, upright=True).translate((back, grip_y, height / 2))
    return Design(
        solids=(
            SolidPart(name="cabinet", pieces=pieces(carcass), material="wood", color=tint(rng, WOODS)),
            SolidPart(
                name="door",
                pieces=pieces(leaf + pull),
                material="wood",
                color=tint(rng),
                pose=Pose(position=(depth / 2 + _GAP + back, width / 2 - back, _GAP)),
            ),
        ),
        parameters={"depth": depth, "width": width, "height": height, "wall": wall, "panel": panel, "swing": swing},
        joints=(
            bolted("cabinet"),
            Joint(
                name="door",
                kind=JointKind.REVOLUTE,
                parent="cabinet",
                child="door",
                lower=0.0,
                upper=swing,
                damping=rng.uniform(0.02, 0.05),
                friction=rng.uniform(0.03, 0.08),
            ),
        ),
        affordances={
            "door_handle": ("door", frame((back + _REACH + thickness / 2, grip_y, height / 2), (-1.0, 0.0, 0.0), (0.0, 1.0, 0.0))),
            "door_handle_top": ("door", down(back + _REACH + thickness / 2, grip_y, height / 2 + span / 2 - 0.012)),
            "inside": ("cabinet", down(0.0, 0.0, wall)),
        },
    )


def laptop(rng: np.random.Generator) -> Design:
    """A small laptop, delivered closed; its screen turns up about the rear edge and stays there. The keyboard faces +X."""
    depth, width = rng.uniform(0.145, 0.180), rng.uniform(0.20, 0.26)
    base_height, panel = rng.uniform(0.014, 0.019), rng.uniform(0.007, 0.009)
    swing = rng.uniform(1.9, 2.3)
    overhang = rng.uniform(0.003, 0.006)
    base = slab((depth, width, base_height), corner_radius=0.010, chamfer=0.001)
    # The screen's frame is on the hinge, at its rear edge.
    behind = panel / 2
    screen = slab((depth - 0.002 + overhang, width - 0.002, panel), corner_radius=0.010, chamfer=0.001)
    screen = screen.translate(((depth - 0.002 + overhang) / 2 - behind, 0.0, -panel / 2))
    hinge = (-depth / 2 + behind + 0.001, 0.0, base_height + _GAP + panel / 2)
    color = tint(rng, (STEEL, (0.25, 0.26, 0.28, 1.0), (0.55, 0.56, 0.60, 1.0)))
    edge = depth - 0.002 + overhang - behind
    return Design(
        solids=(
            SolidPart(name="base", pieces=pieces(base), material="aluminium", color=color, mass=float(rng.uniform(0.75, 1.05))),
            SolidPart(
                name="screen",
                pieces=pieces(screen),
                material="aluminium",
                color=color,
                pose=Pose(position=hinge),
                mass=float(rng.uniform(0.22, 0.32)),
            ),
        ),
        parameters={"depth": depth, "width": width, "base_height": base_height, "panel": panel, "swing": swing},
        joints=(
            Joint(
                name="hinge",
                kind=JointKind.REVOLUTE,
                parent="base",
                child="screen",
                axis=(0.0, -1.0, 0.0),
                lower=0.0,
                upper=swing,
                damping=0.02,
                friction=0.3,
            ),
        ),
        affordances={
            "screen_edge": ("screen", frame((edge, 0.0, 0.0), (-1.0, 0.0, 0.0), (0.0, 0.0, 1.0))),
            "keyboard": ("base", down(0.0, 0.0, base_height)),
        },
    )
