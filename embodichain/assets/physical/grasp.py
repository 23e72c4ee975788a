"""Tests grasps in simulation: a parallel gripper closes on an affordance, lifts the object, and holds it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from xml.etree import ElementTree

import numpy as np

from embodichain.assets.physical.mjcf import to_mjcf
from embodichain.assets.physical.simulation import Simulation
from embodichain.assets.usd.usd_contents import Issue
from embodichain.types import Asset, Pose, rotate
from embodichain.types.poses import compose, turn

_GRASPS = ("grasp", "side_grasp", "handle")
"""Affordances that promise to be graspable, on assets that have them."""
_HOLDS = ("handle_side", "pan_handle", "rim_")
"""Prefixes of affordances at which a hand may hold an object, without being able to carry all of it there."""
_OWN = "gripper/"
"""Prefix of the gripper's names, because the lifted object may have fingers of its own."""
FOUND = "antipodal_"
"""Prefix of grasps that were found by search."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GripperConfig:
    """A parallel gripper of two box-shaped pads: opening and half sizes [m], force [N] of each finger, friction of the pads."""

    opening: float = 0.070
    pad_half: tuple[float, float, float] = (0.010, 0.004, 0.010)
    """Half size of a pad along the frame's X, its closing axis Y, and its approach axis Z [m]."""
    force: float = 15.0
    friction: float = 0.8
    palm_distance: float = 0.058
    """Distance from the middle between the pads back to the palm [m]."""
    palm_half: tuple[float, float, float] = (0.022, 0.050, 0.016)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lift:
    """The result of a lift: whether the object was held to the end, how far it rose [m] and slid between the pads [m]."""

    affordance: str
    held: bool
    rise: float
    slip: float
    reason: str
    success_rate: float = 0.0
    """Share of lifts that held, among the exact one and slightly displaced ones; 0 or 1 if only the exact one was tried."""


def grasps(asset: Asset) -> tuple[str, ...]:
    """The affordances by which a gripper may lift an asset; none when it is bolted down."""
    found = (name for name in asset.affordances if name.startswith(FOUND))
    return () if asset.fixed_base else (*(name for name in _GRASPS if name in asset.affordances), *found)


def holds(asset: Asset) -> tuple[str, ...]:
    """All affordances by which a lift is tried: the grasps first, then other places at which a hand may hold the asset."""
    if asset.fixed_base:
        return ()
    promised = grasps(asset)
    return (*promised, *(name for name in asset.affordances if name.startswith(_HOLDS) and name not in promised))


def prove(asset: Asset, affordance: str, gripper: GripperConfig | None = None, *, misses: int = 2, seed: int = 0) -> Lift:
    """Lifts by an affordance, and computes the success rate over this lift and, if it held, `misses` displaced ones.

    The displaced ones are up to 2 mm beside the affordance and up to 3 degrees askew.
    """
    first = lift(asset, affordance, gripper)
    if not first.held:
        return first
    rng = np.random.default_rng(seed)
    held = 1
    for _ in range(misses):
        x, y, z = (float(value) for value in rng.uniform(-0.002, 0.002, 3))
        direction = rng.normal(size=3)
        ax, ay, az = (float(value) for value in direction / np.linalg.norm(direction))
        miss = Pose(position=(x, y, z), quaternion=turn((ax, ay, az), float(rng.uniform(0.0, math.radians(3.0)))))
        held += lift(asset, affordance, gripper, hold_s=1.0, miss=miss).held
    return replace(first, success_rate=held / (1 + misses))


def check(asset: Asset, rates: Mapping[str, float], gripper: GripperConfig | None = None) -> list[Issue]:
    """Repeats the lift by every affordance that is stated to hold, by its success rate or, without one, by its name."""
    said = [name for name, rate in rates.items() if rate > 0.0] if rates else grasps(asset)
    issues = []
    for name in said:
        found = lift(asset, name, gripper)
        if not found.held:
            issues.append(
                Issue(check="lift", prim=f"/{asset.name}/{asset.affordances[name][0]}", message=f"{name}: {found.reason}")
            )
    return issues


def lift(
    asset: Asset,
    affordance: str,
    gripper: GripperConfig | None = None,
    *,
    height: float = 0.10,
    hold_s: float = 3.0,
    miss: Pose | None = None,
) -> Lift:
    """Closes a gripper on an affordance of an asset at rest, raises it by `height` [m] within a second, and holds it there.

    With `miss`, the gripper is displaced by that pose, in the affordance's frame.

    Raises:
        KeyError: the asset has no such affordance.
    """
    gripper = gripper or GripperConfig()
    owner, frame = asset.affordances[affordance]
    frame = compose(frame, miss) if miss else frame
    body = next(body for body in asset.bodies if body.name == owner)
    world = Simulation.of(_world(asset, compose(body.body_pose, frame), gripper))
    model, data = world.model, world.data
    hand, thing = model.body(f"{_OWN}hand").id, model.body(asset.bodies[0].name).id
    fingers = {model.geom(f"{_OWN}pad_{side}").id for side in ("left", "right")}
    if _blocked(world, fingers):
        return Lift(affordance=affordance, held=False, rise=0.0, slip=0.0, reason="the open gripper does not fit around the object")
    start = float(data.xpos[thing][2])

    def run(seconds: float, target: float, raised: float) -> None:
        steps = round(seconds / model.opt.timestep)
        before = float(data.ctrl[0])
        for step in world.steps(seconds):
            data.ctrl[0] = before + (raised - before) * min((step + 1) / steps, 1.0)
            data.ctrl[1:] = target

    run(0.6, gripper.force, 0.0)
    held_at = _relative(world, hand, thing)
    run(1.0, gripper.force, height)
    run(hold_s, gripper.force, height)
    rise = float(data.xpos[thing][2]) - start
    slip = float(np.linalg.norm(_relative(world, hand, thing) - held_at))
    touching = {geom for contact in data.contact[: data.ncon] for geom in contact.geom.tolist() if geom in fingers}
    if rise < 0.8 * height:
        reason = f"it rose only {rise * 1e3:.0f} of {height * 1e3:.0f} mm"
    elif slip > 0.01:
        reason = f"it slipped {slip * 1e3:.1f} mm in the hand"
    elif touching != fingers:
        reason = "not both fingers touch it"
    else:
        reason = "held"
    held = reason == "held"
    return Lift(affordance=affordance, held=held, rise=rise, slip=slip, reason=reason, success_rate=float(held))


def _blocked(world: Simulation, fingers: set[int]) -> bool:
    """Whether a pad starts inside of something."""
    contacts = [contact for contact in world.data.contact[: world.data.ncon] if contact.dist < 0]
    return any(geom in fingers for contact in contacts for geom in contact.geom.tolist())


def _relative(world: Simulation, hand: int, thing: int) -> np.ndarray:
    """Position of the hand in the object's frame [m], shape [3]."""
    data = world.data
    return data.xmat[thing].reshape(3, 3).T @ (data.xpos[hand] - data.xpos[thing])


def _world(asset: Asset, frame: Pose, gripper: GripperConfig) -> str:
    """MJCF of the asset on a floor, with the gripper open around `frame`."""
    root = ElementTree.fromstring(to_mjcf(asset, floor=True, visual=False))
    world = root.find("worldbody")
    assert world is not None
    w, x, y, z = frame.quaternion
    up = rotate((w, -x, -y, -z), np.array([0.0, 0.0, 1.0]))
    hand = ElementTree.SubElement(
        world, "body", name=f"{_OWN}hand", pos=_text(frame.position), quat=_text(frame.quaternion), gravcomp="1"
    )
    ElementTree.SubElement(hand, "joint", name=f"{_OWN}raise", type="slide", axis=_text(up), damping="50")
    ElementTree.SubElement(hand, "inertial", pos="0 0 0", mass="1", diaginertia="0.01 0.01 0.01")
    half = gripper.pad_half
    actuator = root.find("actuator")
    actuator = ElementTree.SubElement(root, "actuator") if actuator is None else actuator
    ElementTree.SubElement(actuator, "position", joint=f"{_OWN}raise", kp="5000")
    equality = root.find("equality")
    equality = ElementTree.SubElement(root, "equality") if equality is None else equality
    for name, side in (("left", 1.0), ("right", -1.0)):
        finger = ElementTree.SubElement(
            hand, "body", name=_OWN + name, pos=_text((0.0, side * (gripper.opening / 2 + half[1]), 0.0)), gravcomp="1"
        )
        ElementTree.SubElement(
            finger,
            "joint",
            name=_OWN + name,
            type="slide",
            axis=_text((0.0, -side, 0.0)),
            range=f"0 {gripper.opening / 2}",
            damping="20",
        )
        ElementTree.SubElement(finger, "inertial", pos="0 0 0", mass="0.1", diaginertia="1e-4 1e-4 1e-4")
        ElementTree.SubElement(
            finger, "geom", name=f"{_OWN}pad_{name}", type="box", size=_text(half), condim="4", priority="1", solref="0.005 1",
            friction=f"{gripper.friction} 0.005 0.0001",
        )  # fmt: skip
        ElementTree.SubElement(actuator, "motor", joint=_OWN + name)
    # One motor drives both fingers, so they move together.
    ElementTree.SubElement(equality, "joint", joint1=f"{_OWN}left", joint2=f"{_OWN}right", polycoef="0 1 0 0 0")
    return ElementTree.tostring(root, encoding="unicode")


def _text(values: object) -> str:
    return " ".join(f"{value:.9g}" for value in np.asarray(values, np.float64).tolist())
