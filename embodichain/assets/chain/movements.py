"""How a source and its asset fall and slide in MuJoCo, or by the laws of mechanics where MuJoCo cannot read the source.

Both are simulated with the same options, because options belong to the world and not to the object. The plane has no friction of
its own, so that every collider has its own friction on it. A large inertia keeps the object from turning, so that it slides and
does not tip over.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from embodichain.assets.physical.mjcf import to_mjcf
from embodichain.assets.physical.simulation import DROP_S, GRAVITY, SLIDE_S, SLOPE, STEP_S, Motion, fallen, slid
from embodichain.types import Asset, Body


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """How far an object fell and slid in the given time [m]; None where it does not move so, or where that is unknown."""

    fall: float | None = None
    slide: float | None = None


def falls(asset: Asset) -> bool:
    """Whether an asset is free to fall; one that is bolted down is not."""
    return not any(joint.parent == "" for joint in asset.joints)


def slides(asset: Asset) -> bool:
    """Whether an asset is a single free rigid body, which slides as a whole."""
    return falls(asset) and not asset.movable_joints


def root_of(asset: Asset) -> Body:
    """The body that no joint carries."""
    carried = {joint.child for joint in asset.joints if joint.parent}
    return next(body for body in asset.bodies if body.name not in carried)


def of_asset(asset: Asset) -> Moved:
    """How the asset moves, simulated from the MJCF that is delivered with it."""
    root, text = root_of(asset).name, to_mjcf(asset, visual=False)
    return Moved(fall=fallen(text, root) if falls(asset) else None, slide=slid(text, root) if slides(asset) else None)


def of_source(source: Path, root: str, asset: Asset, motion: Motion | None, *, rubs: bool) -> Moved:
    """How a URDF or MJCF file moves by itself; its body `root` became the asset's root.

    Args:
        source: the file.
        root: name in the file of the body that carries all others.
        asset: the asset made from the file, which decides whether it can fall and slide.
        motion: from the file's frame to the asset's, in which it slides; None if unknown, and then sliding is not simulated.
        rubs: whether the file states friction; otherwise the asset's is used, because MuJoCo would assume a default.

    Raises:
        AssetError: MuJoCo cannot simulate it.
    """
    friction = None if rubs else root_of(asset).material.dynamic_friction
    fall = fallen(source, root) if falls(asset) else None
    slide = slid(source, root, motion, friction) if motion is not None and slides(asset) else None
    return Moved(fall=fall, slide=slide)


def by_mechanics(asset: Asset) -> Moved:
    """How the asset has to move: in free fall and, where all its colliders have the same friction, sliding by Coulomb's law."""
    steps = round(DROP_S / STEP_S)
    fall = GRAVITY * STEP_S**2 * steps * (steps + 1) / 2  # the sum over steps of this length, as the integrator computes it
    frictions = {surface.dynamic_friction for body in asset.bodies for surface in body.touching}
    if len(frictions) != 1 or not slides(asset):
        return Moved(fall=fall if falls(asset) else None)
    pull = max(math.sin(SLOPE) - frictions.pop() * math.cos(SLOPE), 0.0)
    return Moved(fall=fall, slide=GRAVITY * pull * SLIDE_S**2 / 2)
