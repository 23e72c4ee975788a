"""Vessels for liquids: mug, cup, bowl, bottle and carafe, made as solids of revolution."""

from __future__ import annotations

import math

import numpy as np

from embodichain.assets.families.design import Design, SolidPart, down, tint
from embodichain.assets.geometry.shapes import lathe, pieces, sweep
from embodichain.types.poses import frame


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
        solids=(SolidPart(name="body", pieces=pieces(cup, handle), material="ceramic", color=tint(rng)),),
        parameters={"radius": radius, "height": height, "wall": wall, "bottom": bottom, "taper": taper, "handle_reach": reach},
        affordances={
            "grasp": ("body", down(-(radius - wall / 2), 0.0, height - 0.012, (1.0, 0.0, 0.0))),
            "handle": ("body", down(handle_x, 0.0, middle + 0.3 * span)),
            "handle_side": ("body", frame((handle_x, 0.0, middle), (-1.0, 0.0, 0.0), (0.0, 1.0, 0.0))),
            "rim_left": ("body", down(0.0, radius - wall / 2, height - 0.012)),
            "rim_right": ("body", down(0.0, -(radius - wall / 2), height - 0.012)),
            "mouth": ("body", down(0.0, 0.0, height)),
            "hang_loop": ("body", frame(((start + handle_x) / 2 + 0.002, 0.0, middle), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))),
            "pour_rim": ("body", frame((-(radius - wall / 2), 0.0, height), (-1.0, 0.0, 0.0), (0.0, 1.0, 0.0))),
        },
    )


def bowl(rng: np.random.Generator) -> Design:
    """A ceramic bowl on a foot ring; all bowls of this family nest in each other."""
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
        solids=(SolidPart(name="body", pieces=pieces(solid), material="ceramic", color=tint(rng)),),
        parameters={"radius": radius, "height": height, "wall": wall, "foot_radius": foot},
        affordances={
            "grasp": ("body", down(-(radius - wall / 2), 0.0, height - 0.010, (1.0, 0.0, 0.0))),
            "rim_left": ("body", down(0.0, radius - wall / 2, height - 0.010)),
            "rim_right": ("body", down(0.0, -(radius - wall / 2), height - 0.010)),
            "mouth": ("body", down(0.0, 0.0, height)),
        },
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
                name="body", pieces=pieces(vessel, cap), material="pet", color=tint(rng), shell_thickness=thickness, mass=None
            ),
        ),
        parameters={"radius": radius, "height": height, "neck_radius": neck, "wall": thickness},
        affordances={
            "grasp": ("body", down(0.0, 0.0, height - cap_height / 2)),
            "side_grasp": ("body", frame((0.0, 0.0, 0.36 * height), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0))),
            "pour_rim": ("body", frame((neck, 0.0, height), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0))),
        },
    )


def carafe(rng: np.random.Generator) -> Design:
    """An open bottle to pour from: hollow, with straight walls from a belly that a gripper can hold to a narrower mouth."""
    radius = rng.uniform(0.0270, 0.0290)
    mouth = radius * rng.uniform(0.80, 0.88)
    height = rng.uniform(0.135, 0.160)
    wall = rng.uniform(0.0028, 0.0036)
    bottom = rng.uniform(0.006, 0.010)
    material = ("polypropylene", "glass")[int(rng.integers(2))]
    belly, round_ = rng.uniform(0.46, 0.52) * height, rng.uniform(0.002, 0.005)
    corner = [(radius - round_ * (1 - math.sin(a)), round_ * (1 - math.cos(a))) for a in np.linspace(0, math.pi / 2, 6)]
    lip = wall / 2
    rim = [(mouth - lip + lip * math.cos(a), height - lip + lip * math.sin(a)) for a in np.linspace(0, math.pi, 8)]
    inner = [
        (radius - wall - round_ * (1 - math.cos(a)), bottom + round_ * (1 - math.sin(a))) for a in np.linspace(0, math.pi / 2, 6)
    ]
    vessel = lathe([(0.0, 0.0), *corner, (radius, belly), *rim, (radius - wall, belly), *inner, (0.0, bottom)])
    return Design(
        solids=(SolidPart(name="body", pieces=pieces(vessel), material=material, color=tint(rng)),),
        parameters={
            "radius": radius, "mouth_radius": mouth, "height": height, "wall": wall, "bottom": bottom, "belly": belly,
            "material": material,
        },
        affordances={
            "grasp": ("body", down(-(mouth - wall / 2), 0.0, height - 0.012, (1.0, 0.0, 0.0))),
            "side_grasp": ("body", frame((0.0, 0.0, 0.7 * belly), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0))),
            "inside": ("body", frame((0.0, 0.0, bottom), (0.0, 0.0, 1.0), (0.0, 1.0, 0.0))),
            "mouth": ("body", down(0.0, 0.0, height)),
            "pour_rim": ("body", frame((mouth - wall / 2, 0.0, height), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0))),
        },
    )  # fmt: skip


def cup(rng: np.random.Generator) -> Design:
    """A tumbler without a handle, slim enough to be held around its body; of plastic, glass or ceramic."""
    radius = rng.uniform(0.0270, 0.0315)
    height = rng.uniform(0.075, 0.115)
    base = radius * rng.uniform(0.78, 0.97)
    material = ("polypropylene", "ceramic", "glass")[int(rng.integers(3))]
    wall = rng.uniform(0.0028, 0.0040)
    bottom = rng.uniform(0.005, 0.010)
    round_ = rng.uniform(0.002, 0.005)
    corner = [(base - round_ * (1 - math.sin(a)), round_ * (1 - math.cos(a))) for a in np.linspace(0, math.pi / 2, 6)]
    lip = wall / 2
    rim = [(radius - lip + lip * math.cos(a), height - lip + lip * math.sin(a)) for a in np.linspace(0, math.pi, 8)]
    inner = [
        (base - wall - round_ * (1 - math.cos(a)), bottom + round_ * (1 - math.sin(a))) for a in np.linspace(0, math.pi / 2, 6)
    ]
    vessel = lathe([(0.0, 0.0), *corner, *rim, *inner, (0.0, bottom)])
    return Design(
        solids=(SolidPart(name="body", pieces=pieces(vessel), material=material, color=tint(rng)),),
        parameters={
            "radius": radius, "base_radius": base, "height": height, "wall": wall, "bottom": bottom, "material": material,
        },
        affordances={
            "grasp": ("body", down(-(radius - wall / 2), 0.0, height - 0.012, (1.0, 0.0, 0.0))),
            "side_grasp": ("body", frame((0.0, 0.0, 0.55 * height), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0))),
            "mouth": ("body", down(0.0, 0.0, height)),
            "pour_rim": ("body", frame((radius - wall / 2, 0.0, height), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0))),
        },
    )  # fmt: skip
