"""Objects for laying a table and cooking: plate, pan, lid, basket and the mug rack.

Any lid fits any pan: the ring below a lid is narrower than every pan, its flange wider than every pan's rim. A lid sits on a pan
when its `fit` frame coincides with the pan's `lid_seat` frame up to a turn about Z. A loop hangs on a branch of a rack when its
`hang_loop` frame coincides with the rack's `seat_*` frame, or with that frame turned by half a turn about X.
"""

from __future__ import annotations

import math

import numpy as np

from embodichain.assets.families.design import PALETTE, STEEL, Color, Design, SolidPart, down, tint
from embodichain.assets.geometry.shapes import Solid, lathe, loft, pieces, slab
from embodichain.types.poses import frame

PAN_INNER_RADII = (0.0600, 0.0640)
"""Range of the inner radius of pans [m]. A lid must fit into each, and still cover it when it lies off-centre."""
_RING_RADII = (0.0572, 0.0586)
_FLANGE_RADII = (0.0735, 0.0760)
_SEAM = 0.0008
"""Distance of a lid's seam below its flange [m], so that noise and simplification of the flange do not reach it."""
_LACQUERS: tuple[Color, ...] = (*PALETTE, (0.13, 0.13, 0.14, 1.0), STEEL)


def plate(rng: np.random.Generator) -> Design:
    """A coupe plate: a flat middle and a rim steep enough to be pinched from above; ceramic when small, otherwise melamine."""
    radius = rng.uniform(0.062, 0.080)
    material = "melamine" if radius > 0.068 or rng.random() < 0.5 else "ceramic"
    height = rng.uniform(0.025, 0.032)
    # Light enough to be lifted by its rim: there, a gripper is limited by the torque of the weight, not by the weight itself.
    wall = rng.uniform(0.0024, 0.0029) if material == "melamine" else rng.uniform(0.0031, 0.0036)
    flat = radius - height * rng.uniform(0.5, 0.75)
    foot = 0.86 * flat
    # A quarter of an ellipse, bulged outwards: level where it leaves the flat middle, upright at the rim where a gripper holds it.
    quarter = [(math.sin(a) ** 0.5, 1 - math.cos(a)) for a in np.linspace(0.0, math.pi / 2, 12)]
    rise = height - wall / 2 - 0.002
    outer = [(flat + (radius - flat) * across, 0.002 + rise * up) for across, up in quarter]
    lip = wall / 2
    rim = [(radius - lip + lip * math.cos(a), height - lip + lip * math.sin(a)) for a in np.linspace(0, math.pi, 8)][1:]
    inner_flat, inner_radius = flat - 0.2 * wall, radius - wall
    inner = [
        (inner_flat + (inner_radius - inner_flat) * across, 0.002 + wall + (rise - wall) * up) for across, up in quarter[::-1]
    ][1:]
    solid = lathe([(0.0, 0.0), (foot, 0.0), *outer, *rim, *inner, (0.0, 0.002 + wall)], segments=112)
    # Pads reach 10 mm below the frame: the inner pad stays clear of the plate's floor while the gripper is open.
    grip_z = max(height - 0.010, 0.002 + wall + 0.0115)
    return Design(
        solids=(SolidPart(name="body", pieces=pieces(solid), material=material, color=tint(rng)),),
        parameters={"radius": radius, "height": height, "wall": wall, "flat_radius": flat, "material": material},
        affordances={
            "grasp": ("body", down(-(radius - wall / 2), 0.0, grip_z, (1.0, 0.0, 0.0))),
            "rim_front": ("body", down(radius - wall / 2, 0.0, grip_z, (1.0, 0.0, 0.0))),
            "rim_left": ("body", down(0.0, radius - wall / 2, grip_z)),
            "rim_right": ("body", down(0.0, -(radius - wall / 2), grip_z)),
            "center": ("body", down(0.0, 0.0, 0.002 + wall)),
        },
    )


def pan(rng: np.random.Generator) -> Design:
    """A small aluminium saucepan with a stick handle along +X; every `lid` fits it."""
    inner = rng.uniform(*PAN_INNER_RADII)
    wall = rng.uniform(0.0024, 0.0030)
    height = rng.uniform(0.042, 0.062)
    bottom = rng.uniform(0.0024, 0.0034)
    round_ = rng.uniform(0.004, 0.009)
    radius = inner + wall
    corner = [(radius - round_ * (1 - math.sin(a)), round_ * (1 - math.cos(a))) for a in np.linspace(0, math.pi / 2, 7)]
    hollow = max(round_ - wall, 0.002)
    inside = [(inner - hollow * (1 - math.cos(a)), bottom + hollow * (1 - math.sin(a))) for a in np.linspace(0, math.pi / 2, 7)]
    vessel = lathe([(0.0, 0.0), *corner, (radius, height), (inner, height), *inside, (0.0, bottom)], segments=112)
    length = rng.uniform(0.090, 0.125)
    rise = rng.uniform(0.0, 0.09)
    half_width, half_height = rng.uniform(0.0070, 0.0095), rng.uniform(0.0042, 0.0058)
    start_z = height - rng.uniform(0.014, 0.018)
    along = np.linspace(0.0, 1.0, 16)
    path = np.stack(
        [
            inner + 0.4 * wall + (length + wall) * along,
            np.zeros_like(along),
            start_z + rise * length * along * (1.25 - 0.25 * along),
        ],
        axis=1,
    )
    widths = half_width * (0.72 + 0.28 * np.sin(np.clip(along * 1.6, 0.0, 1.0) * math.pi / 2))
    heights = np.full_like(along, half_height)
    heights[-1], widths[-1] = 0.6 * half_height, 0.75 * widths[-1]
    handle = loft(path, widths, heights, segments=20, exponent=3.0)
    grip = path[6]
    shade: Color = (0.24, 0.25, 0.27, 1.0) if rng.random() < 0.5 else STEEL
    return Design(
        solids=(SolidPart(name="body", pieces=pieces(vessel, handle), material="aluminium", color=shade),),
        parameters={
            "inner_radius": inner, "wall": wall, "height": height, "handle_length": length, "handle_width": 2 * half_width,
        },
        affordances={
            "grasp": ("body", down(-(inner + wall / 2), 0.0, height - 0.012, (1.0, 0.0, 0.0))),
            "pan_handle": ("body", down(float(grip[0]), 0.0, float(grip[2]))),
            "rim_left": ("body", down(0.0, inner + wall / 2, height - 0.012)),
            "rim_right": ("body", down(0.0, -(inner + wall / 2), height - 0.012)),
            "center": ("body", down(0.0, 0.0, bottom)),
            "mouth": ("body", down(0.0, 0.0, height)),
            "lid_seat": ("body", down(0.0, 0.0, height)),
            "pour_rim": ("body", frame((0.0, radius, height), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))),
        },
    )  # fmt: skip


def lid(rng: np.random.Generator) -> Design:
    """A lid for any `pan`: a ring that fits into it, a flange that rests on its rim, a shallow dome and a knob."""
    ring = rng.uniform(*_RING_RADII)
    flange = rng.uniform(*_FLANGE_RADII)
    depth = rng.uniform(0.0055, 0.0080)
    wall = rng.uniform(0.0022, 0.0028)
    dome = rng.uniform(0.004, 0.012)
    radii = np.linspace(1.0, 0.0, 9)
    upper = [(0.9 * ring * r, depth + wall + dome * (1 - r * r)) for r in radii]
    lower = [(0.9 * ring * r, depth + dome * (1 - r * r)) for r in radii[::-1]]
    cover = lathe(
        [
            *lower,
            (ring - wall, depth),
            (ring - wall, 0.0),
            (ring, 0.0),
            (ring, depth),
            (flange - wall / 2, depth),
            (flange, depth + wall / 2),
            (flange - wall / 2, depth + wall),
            *upper,
        ],
        segments=112,
    )
    knob_radius = rng.uniform(0.0125, 0.0165)
    neck = knob_radius * rng.uniform(0.55, 0.8)
    knob_height = rng.uniform(0.022, 0.030)
    top = depth + wall + dome
    knob = lathe(
        [
            (0.0, top - 0.6 * wall),
            (neck, top - 0.6 * wall),
            (neck, top + 0.3 * knob_height),
            (knob_radius, top + 0.42 * knob_height),
            (knob_radius, top + 0.88 * knob_height),
            (0.85 * knob_radius, top + knob_height),
            (0.0, top + knob_height),
        ],
        segments=48,
    )
    return Design(
        solids=(
            # A piece of ring and flange together would fill the corner between them, where the pan's rim has to be.
            SolidPart(name="body", pieces=pieces(cover, knob), material="aluminium", color=STEEL, seams=(depth - _SEAM,)),
        ),
        parameters={"ring_radius": ring, "flange_radius": flange, "dome": dome, "knob_radius": knob_radius, "ring_depth": depth},
        affordances={
            "grasp": ("body", down(0.0, 0.0, top + 0.62 * knob_height)),
            "fit": ("body", down(0.0, 0.0, depth)),
        },
    )


def basket(rng: np.random.Generator) -> Design:
    """An open plastic box with a folded rim, into which objects are put; two arms carry it by its short walls."""
    length = rng.uniform(0.15, 0.24)
    width = rng.uniform(0.12, 0.18)
    height = rng.uniform(0.050, 0.085)
    wall = rng.uniform(0.0028, 0.0036)
    corner = rng.uniform(0.015, 0.030)
    outer = slab((length, width, height), corner_radius=corner)
    inner = slab((length - 2 * wall, width - 2 * wall, height), corner_radius=corner - wall).translate((0.0, 0.0, wall))
    fold = rng.uniform(0.003, 0.005)
    band = slab((length + 2 * fold, width + 2 * fold, 0.006), corner_radius=corner + fold)
    band = (
        band - slab((length - 2 * wall, width - 2 * wall, 0.02), corner_radius=corner - wall).translate((0, 0, -0.005))
    ).translate((0.0, 0.0, height - 0.006))
    grip_x, grip_y, grip_z = length / 2 - wall / 2, width / 2 - wall / 2, height - 0.008
    return Design(
        solids=(SolidPart(name="body", pieces=pieces((outer - inner) + band), material="polypropylene", color=tint(rng)),),
        parameters={"length": length, "width": width, "height": height, "wall": wall, "corner_radius": corner, "fold": fold},
        affordances={
            "rim_front": ("body", down(grip_x, 0.0, grip_z, (1.0, 0.0, 0.0))),
            "rim_back": ("body", down(-grip_x, 0.0, grip_z, (1.0, 0.0, 0.0))),
            "rim_left": ("body", down(0.0, grip_y, grip_z)),
            "rim_right": ("body", down(0.0, -grip_y, grip_z)),
            "center": ("body", down(0.0, 0.0, wall)),
            "mouth": ("body", down(0.0, 0.0, height)),
        },
    )


def rack(rng: np.random.Generator) -> Design:
    """A mug tree: a heavy steel foot, a post, and two to four branches that tilt up.

    `branch_*` is at a branch's tip; `seat_*` is where a hanging loop comes to rest: Z along the branch towards the post, X down.
    """
    foot = rng.uniform(0.070, 0.085)
    foot_height = rng.uniform(0.012, 0.018)
    post = rng.uniform(0.007, 0.010)
    number = int(rng.integers(2, 5))
    tilt = math.radians(rng.uniform(18.0, 32.0))
    length = rng.uniform(0.085, 0.105)
    thickness = rng.uniform(0.0036, 0.0046)
    root_z = rng.uniform(0.155, 0.185)
    top = root_z + rng.uniform(0.020, 0.045)
    step = rng.uniform(0.0, 0.012)
    edge = 0.003
    base = lathe([(0.0, 0.0), (foot, 0.0), (foot, foot_height - edge), (foot - edge, foot_height), (0.0, foot_height)])
    stem = lathe(
        [(0.0, 0.5 * foot_height), (post, 0.5 * foot_height), (post, top - post / 2), (0.6 * post, top), (0.0, top)], segments=48
    )
    solids, frames = [base, stem], {}
    for index in range(number):
        turn = 2 * math.pi * index / number
        height = root_z + (step if index % 2 else 0.0)
        outwards = np.array([math.cos(turn) * math.cos(tilt), math.sin(turn) * math.cos(tilt), math.sin(tilt)])
        side = np.array([-math.sin(turn), math.cos(turn), 0.0])
        # A rod with rounded ends: the hull of a sphere at each end.
        ball = Solid.sphere(thickness, 24)
        root, tip = outwards * (0.3 * post) + [0, 0, height], outwards * (length - thickness) + [0, 0, height]
        solids.append((ball.translate(root) + ball.translate(tip)).hull())
        for name, along in (("branch", length), ("seat", min(0.62 * length, post + 0.052))):
            x, y, z = (float(value) for value in outwards * along + [0, 0, height])
            # Y such that X = Y x Z points down: along -side for Z = -outwards.
            pose = frame((x, y, z), (-outwards).tolist(), (-side).tolist())
            frames[f"{name}_{index}"] = ("body", pose)
    return Design(
        solids=(SolidPart(name="body", pieces=pieces(*solids), material="steel", color=tint(rng, _LACQUERS)),),
        parameters={
            "foot_radius": foot, "post_radius": post, "branches": number, "tilt": tilt, "branch_length": length,
            "branch_radius": thickness, "branch_height": root_z, "height": top,
        },
        affordances={**frames, "post": ("body", frame((0.0, 0.0, 0.5 * (foot_height + root_z)), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)))},
    )  # fmt: skip
