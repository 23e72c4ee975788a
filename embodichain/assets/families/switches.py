"""Objects that a finger operates: lever switch, rotary switch, faucet and button panel, all bolted down."""

from __future__ import annotations

import math

import numpy as np

from embodichain.assets.families.design import PALETTE, STEEL, Color, Design, SolidPart, bolted, down, tint
from embodichain.assets.geometry.shapes import box, cylinder, lathe, pieces, slab, sweep
from embodichain.types import Joint, JointKind, Pose
from embodichain.types.poses import frame

_HOUSING: tuple[Color, ...] = ((0.86, 0.86, 0.84, 1.0), (0.30, 0.31, 0.33, 1.0), (0.70, 0.72, 0.74, 1.0))
_GAP = 0.0025
"""Gap between parts that move against each other [m]."""


def switch(rng: np.random.Generator) -> Design:
    """A lever switch: a housing, bolted down, and a lever that tilts about Y by half a radian either way, towards +X for on."""
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
    lever_color = PALETTE[int(rng.integers(4))]
    return Design(
        solids=(
            SolidPart(
                name="base",
                pieces=pieces(slab(plate, corner_radius=0.008, chamfer=0.001), *cheeks),
                material="abs",
                color=(0.86, 0.86, 0.84, 1.0),
            ),
            SolidPart(
                name="lever",
                pieces=pieces(hub, bar, knob),
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
        affordances={"lever_tip": ("lever", down(0.0, 0.0, reach))},
    )


def rotary_switch(rng: np.random.Generator) -> Design:
    """A rotary switch: a knob with a bar across it that turns about Z on a housing, bolted down, and stays where it is turned."""
    plate = (rng.uniform(0.080, 0.120), rng.uniform(0.070, 0.100), rng.uniform(0.014, 0.024))
    radius = rng.uniform(0.020, 0.027)
    skirt = rng.uniform(0.006, 0.010)
    bar = (1.7 * radius, rng.uniform(0.010, 0.015), rng.uniform(0.018, 0.026))
    reach = rng.uniform(0.7, 2.3)
    disc = lathe([(0.0, 0.0), (radius, 0.0), (radius, skirt - 0.001), (radius - 0.001, skirt), (0.0, skirt)], segments=64)
    grip = box(bar, chamfer=0.0015).translate((0.0, 0.0, skirt + bar[2] / 2 - 0.001))
    pointer = box((0.010, 0.004, 0.004)).translate((0.85 * radius + 0.004, 0.0, skirt + 0.001))
    return Design(
        solids=(
            SolidPart(
                name="base",
                pieces=pieces(slab(plate, corner_radius=0.008, chamfer=0.001)),
                material="abs",
                color=tint(rng, _HOUSING),
            ),
            SolidPart(
                name="knob",
                pieces=pieces(disc, grip, pointer),
                material="abs",
                color=tint(rng, PALETTE[:4]),
                pose=Pose(position=(0.0, 0.0, plate[2] + _GAP)),
            ),
        ),
        parameters={"length": plate[0], "width": plate[1], "knob_radius": radius, "bar_width": bar[1], "reach": reach},
        joints=(
            bolted("base"),
            Joint(
                name="knob",
                kind=JointKind.REVOLUTE,
                parent="base",
                child="knob",
                lower=-reach,
                upper=reach,
                damping=0.003,
                friction=rng.uniform(0.015, 0.040),
            ),
        ),
        affordances={"knob": ("knob", down(0.0, 0.0, skirt + 0.55 * bar[2]))},
    )


def faucet(rng: np.random.Generator) -> Design:
    """A faucet on a base, bolted down: a bent spout towards +X and a lever on top that turns about Z."""
    radius = rng.uniform(0.014, 0.019)
    height = rng.uniform(0.075, 0.120)
    foot = radius + rng.uniform(0.012, 0.020)
    spout = rng.uniform(0.0075, 0.0095)
    reach = rng.uniform(0.080, 0.120)
    drop = rng.uniform(0.018, 0.032)
    length = rng.uniform(0.060, 0.085)
    width = rng.uniform(0.0100, 0.0135)
    swing = rng.uniform(0.6, 1.2)
    column = lathe([(0.0, 0.0), (foot, 0.0), (foot, 0.008), (radius, 0.014), (radius, height), (0.0, height)], segments=64)
    rise = 0.72 * height
    bend = np.linspace(0.0, math.pi / 2, 14)
    outlet = [(reach + drop * (math.sin(a) - 1), 0.0, rise + drop * (math.cos(a) - 1)) for a in bend]
    path = np.array([(0.3 * radius, 0.0, rise), (0.5 * (reach - drop), 0.0, rise), *outlet, (reach, 0.0, rise - drop - 0.006)])
    material, color = ("stainless_steel", STEEL) if rng.random() < 0.7 else ("brass", (0.78, 0.62, 0.30, 1.0))
    hub_height = 0.014
    hub = lathe(
        [(0.0, 0.0), (radius, 0.0), (radius, hub_height - 0.002), (radius - 0.002, hub_height), (0.0, hub_height)], segments=48
    )
    bar = box((length, width, 0.010), chamfer=0.0015).translate((-length / 2, 0.0, hub_height + 0.003))
    knob = cylinder(0.5 * width + 0.002, 0.016, axis="z").translate((-length, 0.0, hub_height + 0.006))
    return Design(
        solids=(
            SolidPart(name="base", pieces=pieces(column, sweep(path, spout, spout, 24)), material=material, color=color),
            SolidPart(
                name="lever",
                pieces=pieces(hub, bar, knob),
                material=material,
                color=color,
                pose=Pose(position=(0.0, 0.0, height + _GAP)),
            ),
        ),
        parameters={
            "height": height,
            "radius": radius,
            "reach": reach,
            "lever_length": length,
            "swing": swing,
            "material": material,
        },
        joints=(
            bolted("base"),
            Joint(
                name="lever",
                kind=JointKind.REVOLUTE,
                parent="base",
                child="lever",
                lower=-swing,
                upper=swing,
                damping=0.01,
                friction=rng.uniform(0.04, 0.10),
            ),
        ),
        affordances={
            "lever_tip": ("lever", down(-length, 0.0, hub_height + 0.008)),
            "spout": ("base", frame((reach, 0.0, rise - drop - 0.006), (0.0, 0.0, -1.0), (0.0, 1.0, 0.0))),
        },
    )


def button_panel(rng: np.random.Generator) -> Design:
    """A panel with one to four push buttons between guard rails, each with a spring that returns it."""
    number = int(rng.integers(1, 5))
    radius = rng.uniform(0.010, 0.014)
    travel = rng.uniform(0.004, 0.007)
    cap = rng.uniform(0.010, 0.015)
    spacing = 2 * radius + rng.uniform(0.018, 0.028)
    plate = (2 * radius + rng.uniform(0.040, 0.060), number * spacing + 0.02, rng.uniform(0.018, 0.028))
    rail = travel + 0.004
    rails, buttons, joints, frames = [], [], [bolted("base")], {}
    colors = rng.permutation(len(PALETTE))
    for index in range(number):
        y = (index - (number - 1) / 2) * spacing
        rails += [
            box((2 * radius, 0.003, rail), chamfer=0.0005).translate(
                (0.0, y + side * (radius + _GAP + 0.0015), plate[2] + rail / 2 - 0.0005)
            )
            for side in (-1, 1)
        ]
        name = f"button_{index}"
        button = lathe([(0.0, 0.0), (radius, 0.0), (radius, cap - 0.002), (radius - 0.002, cap), (0.0, cap)], segments=48)
        buttons.append(
            SolidPart(
                name=name,
                pieces=pieces(button),
                material="abs",
                color=PALETTE[int(colors[index])],
                pose=Pose(position=(0.0, y, plate[2] + travel + 0.001)),
            )
        )
        joints.append(
            Joint(
                name=name,
                kind=JointKind.PRISMATIC,
                parent="base",
                child=name,
                lower=-travel,
                upper=0.0,
                damping=2.0,
                # The spring is preloaded: it pushes with one newton when the button is out and up to two and a half when it is in.
                stiffness=250.0,
                rest=0.004,
            )
        )
        frames[name] = (name, down(0.0, 0.0, cap))
    return Design(
        solids=(
            SolidPart(
                name="base",
                pieces=pieces(slab(plate, corner_radius=0.008, chamfer=0.001), *rails),
                material="abs",
                color=tint(rng, _HOUSING),
            ),
            *buttons,
        ),
        parameters={"buttons": number, "button_radius": radius, "travel": travel, "length": plate[0], "width": plate[1]},
        joints=tuple(joints),
        affordances=frames,
    )
