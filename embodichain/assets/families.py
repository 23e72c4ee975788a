"""Procedural families of table-top objects: random parameters in, clean solids with joints and affordances out.

Frames: origin at the centre of the footprint, resting on z = 0, front along +X. In an affordance's frame Z is the direction in
which a gripper approaches (into the object) and Y the direction in which it closes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from embodichain.assets.shapes import Solid, box, cylinder, lathe, slab, sweep, to_mesh
from embodichain.types import Joint, JointKind, Mesh, Pose
from embodichain.types.poses import frame

Color = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SolidPart:
    """One body of a design: closed pieces that may overlap; their union is the body. See `source.Part` for the other fields."""

    name: str
    pieces: tuple[Mesh, ...]
    material: str
    color: Color
    pose: Pose = field(default_factory=Pose)
    shell_thickness: float = 0.0
    mass: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Design:
    """An instance of a family, clean and exact."""

    solids: tuple[SolidPart, ...]
    parameters: Mapping[str, float | str]
    joints: tuple[Joint, ...] = ()
    affordances: Mapping[str, tuple[str, Pose]] = field(default_factory=dict)


Family = Callable[[np.random.Generator], Design]

_PALETTE: tuple[Color, ...] = (
    (0.80, 0.22, 0.20, 1.0),
    (0.20, 0.42, 0.75, 1.0),
    (0.24, 0.60, 0.34, 1.0),
    (0.93, 0.76, 0.26, 1.0),
    (0.90, 0.88, 0.84, 1.0),
    (0.45, 0.30, 0.58, 1.0),
    (0.92, 0.54, 0.24, 1.0),
)


def _down(x: float, y: float, z: float, closing: Sequence[float] = (0.0, 1.0, 0.0)) -> Pose:
    """A top-down grasp at a point."""
    return frame((x, y, z), (0.0, 0.0, -1.0), closing)


def _color(rng: np.random.Generator) -> Color:
    """A palette colour with a little variation."""
    red, green, blue, _ = _PALETTE[int(rng.integers(len(_PALETTE)))]
    shade = rng.uniform(0.85, 1.1)
    return (min(red * shade, 1.0), min(green * shade, 1.0), min(blue * shade, 1.0), 1.0)


def _pieces(*solids: Solid) -> tuple[Mesh, ...]:
    return tuple(to_mesh(solid) for solid in solids)


def mug(rng: np.random.Generator) -> Design:
    """A ceramic mug: a turned cup and a swept handle on its +X side."""
    radius = rng.uniform(0.036, 0.042)
    height = rng.uniform(0.085, 0.100)
    wall = rng.uniform(0.0035, 0.0050)
    bottom = rng.uniform(0.006, 0.008)
    taper = rng.uniform(0.90, 1.0)
    reach = rng.uniform(0.026, 0.031)
    grip_half = rng.uniform(0.0045, 0.0055)
    base, round_ = radius * taper, 0.005
    corner = [(base - round_ * (1 - math.sin(a)), round_ * (1 - math.cos(a))) for a in np.linspace(0, math.pi / 2, 6)]
    lip = wall / 2
    rim = [(radius - lip + lip * math.cos(a), height - lip + lip * math.sin(a)) for a in np.linspace(0, math.pi, 8)]
    inner = [
        (base - wall - round_ * (1 - math.cos(a)), bottom + round_ * (1 - math.sin(a))) for a in np.linspace(0, math.pi / 2, 6)
    ]
    cup = lathe([(0.0, 0.0), *corner, *rim, *inner, (0.0, bottom)])
    middle, span = 0.52 * height, 0.30 * height
    angles = np.linspace(-math.pi / 2, math.pi / 2, 28)
    start = radius * (taper + (1 - taper) * middle / height) - 0.6 * wall
    bulge = np.sign(np.cos(angles)) * np.abs(np.cos(angles)) ** 0.7
    path = np.stack([start + reach * bulge, np.zeros_like(angles), middle + span * np.sin(angles)], axis=1)
    path[0, 0] -= 0.1 * wall
    path[-1, 0] -= 0.1 * wall
    handle = sweep(path, half_width=grip_half, half_height=0.8 * grip_half)
    handle_x = start + reach
    return Design(
        solids=(SolidPart(name="body", pieces=_pieces(cup, handle), material="ceramic", color=_color(rng)),),
        parameters={"radius": radius, "height": height, "wall": wall, "bottom": bottom, "taper": taper, "handle_reach": reach},
        affordances={
            "grasp": ("body", _down(-(radius - wall / 2), 0.0, height - 0.012, (1.0, 0.0, 0.0))),
            "handle": ("body", _down(handle_x, 0.0, middle + 0.3 * span)),
            "hang_loop": ("body", frame(((start + handle_x) / 2 + 0.002, 0.0, middle), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))),
            "pour_rim": ("body", frame((-(radius - wall / 2), 0.0, height), (-1.0, 0.0, 0.0), (0.0, 1.0, 0.0))),
        },
    )


def bowl(rng: np.random.Generator) -> Design:
    """A ceramic bowl on a foot ring; bowls of one family nest."""
    radius = rng.uniform(0.062, 0.075)
    height = rng.uniform(0.048, 0.060)
    wall = rng.uniform(0.0035, 0.0045)
    foot = rng.uniform(0.42, 0.50) * radius
    power = rng.uniform(0.75, 0.95)
    angles = np.linspace(0.0, math.pi / 2, 22)
    outer = [
        (foot + (radius - foot) * math.sin(a) ** power, 0.004 + (height - 0.004 - wall / 2) * (1 - math.cos(a)) ** 0.9)
        for a in angles
    ]
    lip = wall / 2
    rim = [(radius - lip + lip * math.cos(a), height - lip + lip * math.sin(a)) for a in np.linspace(0, math.pi, 8)][1:]
    scale = (radius - wall) / radius
    inner = [(r * scale, z + wall * 1.2 * (1 - z / height)) for r, z in outer[::-1]][1:]
    foot_profile = [(0.0, 0.0), (foot * 0.96, 0.0), (foot, 0.002)]
    solid = lathe([*foot_profile, *outer, *rim, *inner, (0.0, inner[-1][1])], segments=112)
    return Design(
        solids=(SolidPart(name="body", pieces=_pieces(solid), material="ceramic", color=_color(rng)),),
        parameters={"radius": radius, "height": height, "wall": wall, "foot_radius": foot},
        affordances={"grasp": ("body", _down(-(radius - wall / 2), 0.0, height - 0.010, (1.0, 0.0, 0.0)))},
    )


def block(rng: np.random.Generator) -> Design:
    """A wooden toy block with broken edges."""
    edge = rng.uniform(0.034, 0.050)
    size = (edge, edge * rng.uniform(0.85, 1.0), edge * rng.uniform(0.85, 1.0))
    solid = box(size, chamfer=0.0015).translate((0, 0, size[2] / 2))
    return Design(
        solids=(SolidPart(name="body", pieces=_pieces(solid), material="wood", color=_color(rng)),),
        parameters={"length": size[0], "width": size[1], "height": size[2]},
        affordances={"grasp": ("body", _down(0.0, 0.0, size[2] / 2))},
    )


def pad(rng: np.random.Generator) -> Design:
    """A mouse pad of foamed rubber."""
    size = (rng.uniform(0.21, 0.23), rng.uniform(0.17, 0.19), 0.003)
    solid = slab(size, corner_radius=0.012, chamfer=0.0006)
    return Design(
        solids=(SolidPart(name="body", pieces=_pieces(solid), material="rubber_foam", color=_color(rng)),),
        parameters={"length": size[0], "width": size[1], "height": size[2]},
        affordances={"center": ("body", _down(0.0, 0.0, size[2]))},
    )


def bottle(rng: np.random.Generator) -> Design:
    """A closed plastic bottle with a screw cap: a hollow shell, empty."""
    radius = rng.uniform(0.027, 0.031)
    height = rng.uniform(0.170, 0.200)
    neck = rng.uniform(0.0125, 0.0150)
    thickness = rng.uniform(0.0010, 0.0016)
    cap_height, round_ = 0.018, 0.005
    shoulder, throat = 0.66 * height, height - cap_height - 0.012
    corner = [(radius - round_ * (1 - math.sin(a)), round_ * (1 - math.cos(a))) for a in np.linspace(0, math.pi / 2, 7)]
    blend = [
        (neck + (radius - neck) * 0.5 * (1 + math.cos(math.pi * t)), shoulder + (throat - shoulder) * t)
        for t in np.linspace(0.0, 1.0, 16)
    ]
    vessel = lathe([(0.0, 0.0), *corner, *blend, (neck, height - 0.002), (0.0, height - 0.002)])
    cap = lathe(
        [
            (0.0, height - cap_height),
            (neck + 0.0025, height - cap_height),
            (neck + 0.0025, height - 0.001),
            (neck + 0.0015, height),
            (0.0, height),
        ],
        segments=64,
    )
    return Design(
        solids=(
            SolidPart(
                name="body", pieces=_pieces(vessel, cap), material="pet", color=_color(rng), shell_thickness=thickness, mass=None
            ),
        ),
        parameters={"radius": radius, "height": height, "neck_radius": neck, "wall": thickness},
        affordances={
            "grasp": ("body", _down(0.0, 0.0, height - cap_height / 2)),
            "side_grasp": ("body", frame((0.0, 0.0, 0.36 * height), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0))),
            "pour_rim": ("body", frame((neck, 0.0, height), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0))),
        },
    )


def mouse(rng: np.random.Generator) -> Design:
    """A computer mouse, front along +X: upright sides along its middle that a 70 mm parallel gripper closes on from above."""
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
                pieces=_pieces(shell, wheel),
                material="abs",
                color=(shade, shade, shade * 1.08, 1.0),
                mass=float(rng.uniform(0.075, 0.105)),
            ),
        ),
        parameters={"length": length, "width": width, "height": height},
        affordances={"grasp": ("body", _down(0.0, 0.0, 0.45 * height))},
    )


def switch(rng: np.random.Generator) -> Design:
    """A lever switch: a housing bolted down and a lever that tilts about Y by half a radian either way, towards +X for on."""
    reach = rng.uniform(0.060, 0.072)
    lever_width = rng.uniform(0.010, 0.013)
    plate = (rng.uniform(0.095, 0.11), rng.uniform(0.070, 0.080), 0.018)
    hub_radius, gap, cheek = 0.008, 0.002, 0.007
    pivot_z = plate[2] + hub_radius + 0.004
    cheek_y = lever_width / 2 + gap + cheek / 2
    cheeks = [
        box((0.030, cheek, pivot_z + 0.010), chamfer=0.001).translate((0, side * cheek_y, (pivot_z + 0.010) / 2))
        for side in (-1, 1)
    ]
    hub = cylinder(hub_radius, lever_width, axis="y")
    bar = box((0.008, lever_width, reach), chamfer=0.001).translate((0, 0, reach / 2))
    knob = cylinder(0.0095, lever_width + 0.012, axis="y").translate((0, 0, reach))
    lever_color = _PALETTE[int(rng.integers(4))]
    return Design(
        solids=(
            SolidPart(
                name="base",
                pieces=_pieces(slab(plate, corner_radius=0.008, chamfer=0.001), *cheeks),
                material="abs",
                color=(0.86, 0.86, 0.84, 1.0),
            ),
            SolidPart(
                name="lever",
                pieces=_pieces(hub, bar, knob),
                material="abs",
                color=lever_color,
                pose=Pose(position=(0.0, 0.0, pivot_z)),
            ),
        ),
        parameters={"reach": reach, "lever_width": lever_width, "pivot_height": pivot_z, "length": plate[0], "width": plate[1]},
        joints=(
            Joint(name="mount", kind=JointKind.FIXED, parent="", child="base"),
            Joint(
                name="lever",
                kind=JointKind.REVOLUTE,
                parent="base",
                child="lever",
                axis=(0.0, 1.0, 0.0),
                lower=-0.5,
                upper=0.5,
                damping=0.005,
                friction=0.02,
            ),
        ),
        affordances={"lever_tip": ("lever", _down(0.0, 0.0, reach))},
    )


FAMILIES: Mapping[str, Family] = {
    "mug": mug,
    "bowl": bowl,
    "block": block,
    "switch": switch,
    "pad": pad,
    "bottle": bottle,
    "mouse": mouse,
}
