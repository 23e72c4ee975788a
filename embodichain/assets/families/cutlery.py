"""Fork, knife and spoon with thick arched handles, like cutlery for small children, so that a gripper can close on them from above.

The handle runs along -X and the head along +X; the end of the handle and the head touch the table, the neck is raised.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embodichain.assets.families.design import STEEL, WOODS, Color, Design, SolidPart, down, tint
from embodichain.assets.geometry.shapes import Solid, box, loft, pieces
from embodichain.types.poses import frame

_MATERIALS = ("aluminium", "wood", "abs")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Handle:
    """An arched handle, and the sizes that the head follows; the handle ends at x = `neck_x`, its middle at height `neck_z` [m]."""

    solid: Solid
    length: float
    width: float
    thickness: float
    neck_x: float
    neck_z: float
    material: str
    color: Color

    def design(self, head: Solid, head_length: float, parameters: dict[str, float | str]) -> Design:
        """The piece of cutlery with this head, centred on its footprint."""
        shift = -(self.neck_x + head_length - self.length) / 2
        whole = self.solid + head.trim_by_plane((0.0, 0.0, 1.0), 0.0)
        whole = whole.translate((shift, 0.0, 0.0))
        low = float(whole.bounding_box()[2])
        whole = whole.translate((0.0, 0.0, -low))
        grip = self.neck_x - 0.42 * self.length + shift
        tip = self.neck_x + head_length + shift
        return Design(
            solids=(SolidPart(name="body", pieces=pieces(whole), material=self.material, color=self.color),),
            parameters={
                "handle_length": self.length, "handle_width": self.width, "handle_thickness": self.thickness,
                "head_length": head_length, "material": self.material, **parameters,
            },
            affordances={
                "grasp": ("body", down(grip, 0.0, 0.0108)),
                "neck": ("body", down(self.neck_x - 0.012 + shift, 0.0, max(self.neck_z - low, 0.0108))),
                "tip": ("body", frame((tip, 0.0, 0.004), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0))),
            },
        )  # fmt: skip


def _handle(rng: np.random.Generator) -> Handle:
    length = rng.uniform(0.095, 0.125)
    width = rng.uniform(0.0115, 0.0160)
    thickness = rng.uniform(0.0085, 0.0115)
    rise = rng.uniform(0.006, 0.010)
    material = _MATERIALS[int(rng.integers(len(_MATERIALS)))]
    color = {"aluminium": STEEL, "wood": tint(rng, WOODS), "abs": tint(rng)}[material]
    along = np.linspace(0.0, 1.0, 24)
    path = np.stack(
        [length * (along - 1.0), np.zeros_like(along), thickness / 2 + rise * along**1.5],
        axis=1,
    )
    widths = 0.5 * width * (0.86 + 0.14 * np.cos(2 * math.pi * along))
    widths *= 1 - 0.35 * np.clip((along - 0.75) / 0.25, 0.0, 1.0) ** 2
    heights = 0.5 * thickness * (1 - 0.30 * np.clip((along - 0.7) / 0.3, 0.0, 1.0))
    ends = np.sqrt(np.clip(along / 0.04, 0.25, 1.0))
    solid = loft(path, widths * ends, heights * ends, segments=24, exponent=3.0)
    return Handle(
        solid=solid,
        length=length,
        width=width,
        thickness=thickness,
        neck_x=0.0,
        neck_z=float(path[-1, 2]),
        material=material,
        color=color,
    )


def _falling(handle: Handle, length: float, low: float, count: int = 20) -> NDArray[np.float64]:
    """The middle line of a head that falls from the neck to the height `low` and levels out there, shape [count, 3]."""
    along = np.linspace(0.0, 1.0, count)
    fall = 0.5 * (1 + np.cos(math.pi * np.clip(along / 0.62, 0.0, 1.0)))
    return np.stack([handle.neck_x - 0.006 + (length + 0.006) * along, np.zeros(count), low + (handle.neck_z - low) * fall], axis=1)


def spoon(rng: np.random.Generator) -> Design:
    """A spoon: a hollowed ellipsoid on an arched handle; the affordance `bowl` is the middle of its hollow."""
    handle = _handle(rng)
    half_length = rng.uniform(0.024, 0.032)
    half_width = rng.uniform(0.015, 0.021)
    depth = rng.uniform(0.009, 0.013)
    wall = rng.uniform(0.0024, 0.0032)
    middle = handle.neck_x + 0.012 + half_length
    outer = Solid.sphere(1.0, 64).scale((half_length, half_width, depth))
    inner = Solid.sphere(1.0, 64).scale((half_length - wall, half_width - wall, depth - wall))
    shell = (outer - inner).trim_by_plane((0.0, 0.0, -1.0), 0.0).translate((middle, 0.0, depth))
    along = np.linspace(0.0, 1.0, 12)
    end = (middle - half_length + 0.7 * wall, depth - 1.2 * wall)
    path = np.stack(
        [
            handle.neck_x - 0.006 + (end[0] - handle.neck_x + 0.006) * along,
            np.zeros_like(along),
            handle.neck_z + (end[1] - handle.neck_z) * 0.5 * (1 - np.cos(math.pi * along)),
        ],
        axis=1,
    )
    neck = loft(path, np.full_like(along, 0.30 * handle.width), np.full_like(along, 0.30 * handle.thickness), segments=16)
    head_length = middle + half_length - handle.neck_x
    design = handle.design(
        shell + neck, head_length, {"bowl_length": 2 * half_length, "bowl_width": 2 * half_width, "bowl_depth": depth}
    )
    shift = -(handle.neck_x + head_length - handle.length) / 2
    return Design(
        solids=design.solids,
        parameters=design.parameters,
        affordances={**design.affordances, "bowl": ("body", down(middle + shift, 0.0, depth))},
    )


def fork(rng: np.random.Generator) -> Design:
    """A fork with three or four tines that curve down to the table."""
    handle = _handle(rng)
    tines = int(rng.integers(3, 5))
    tine_width = rng.uniform(0.0030, 0.0036)
    gap = rng.uniform(0.0032, 0.0040)
    thickness = rng.uniform(0.0030, 0.0038)
    length = rng.uniform(0.058, 0.072)
    half_width = (tines * tine_width + (tines - 1) * gap) / 2
    path = _falling(handle, length, thickness / 2)
    along = np.linspace(0.0, 1.0, len(path))
    widen = np.clip((along - 0.08) / 0.22, 0.0, 1.0)
    widths = 0.32 * handle.width + (half_width - 0.32 * handle.width) * (3 * widen**2 - 2 * widen**3)
    heights = np.full_like(along, thickness / 2)
    heights[:4] = np.linspace(0.32 * handle.thickness, thickness / 2, 4)
    head = loft(path, widths, heights, segments=32, exponent=5.0)
    slot_length = 0.58 * length
    for index in range(tines - 1):
        y = -half_width + tine_width + gap / 2 + index * (tine_width + gap)
        slot = box((slot_length, gap, 0.05)).translate((handle.neck_x + length - slot_length / 2 + 0.001, y, 0.0))
        head = head - slot
    return handle.design(head, length, {"tines": tines, "tine_width": tine_width, "gap": gap, "head_thickness": thickness})


def knife(rng: np.random.Generator) -> Design:
    """A table knife whose blade lies flat on the table, with a rounded tip."""
    handle = _handle(rng)
    length = rng.uniform(0.070, 0.095)
    half_width = rng.uniform(0.0080, 0.0105)
    thickness = rng.uniform(0.0024, 0.0032)
    path = _falling(handle, length, thickness / 2, 28)
    along = np.linspace(0.0, 1.0, len(path))
    widen = np.clip((along - 0.05) / 0.25, 0.0, 1.0)
    widths = 0.32 * handle.width + (half_width - 0.32 * handle.width) * (3 * widen**2 - 2 * widen**3)
    widths *= np.sqrt(np.clip((1.02 - along) / 0.16, 0.05, 1.0))
    heights = np.full_like(along, thickness / 2)
    heights[:4] = np.linspace(0.32 * handle.thickness, thickness / 2, 4)
    blade = loft(path, widths, heights, segments=24, exponent=4.0)
    return handle.design(blade, length, {"blade_width": 2 * half_width, "blade_thickness": thickness})
