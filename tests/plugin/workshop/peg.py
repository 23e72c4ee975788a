"""An asset family: a wooden peg that stands on its foot."""

import numpy as np

from embodichain.assets.families.design import Design, SolidPart, down, tint
from embodichain.assets.geometry.shapes import cylinder, pieces


def peg(rng: np.random.Generator) -> Design:
    """A round peg, 25 to 30 mm thick; its affordance `top` is where a fingertip touches it from above."""
    radius, height = float(rng.uniform(0.0125, 0.015)), float(rng.uniform(0.05, 0.07))
    solid = cylinder(radius, height).translate((0.0, 0.0, height / 2))
    return Design(
        solids=(SolidPart(name="body", pieces=pieces(solid), material="wood", color=tint(rng)),),
        parameters={"radius": radius, "height": height},
        affordances={"top": ("body", down(0.0, 0.0, height))},
    )
