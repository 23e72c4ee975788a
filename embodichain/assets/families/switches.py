"""What a finger works: lever switch, rotary switch, faucet and button panel, all bolted down."""

from __future__ import annotations

import numpy as np

from embodichain.assets.families.design import PALETTE, Design, SolidPart, down, pieces
from embodichain.assets.shapes import box, cylinder, slab
from embodichain.types import Joint, JointKind, Pose


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
