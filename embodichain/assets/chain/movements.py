"""How a source and its asset fall and slide, each played by MuJoCo itself; by mechanics where MuJoCo cannot read the source.

Both are played under one set of options, for those belong to the world and not to the thing. They slide on a plane that has no
friction of its own, so that every collider rubs as it says; their turning is held by a large inertia, so that they slide and
do not tip over.
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
    """How far [m] a thing fell and slid in the time for it; None where it does not, or nobody can say."""

    fall: float | None = None
    slide: float | None = None


def falls(asset: Asset) -> bool:
    """Whether an asset is loose: what is bolted down does not fall."""
    return not any(joint.parent == "" for joint in asset.joints)


def slides(asset: Asset) -> bool:
    """Whether an asset is one rigid thing, which slides as a whole."""
    return falls(asset) and not asset.movable_joints


def root_of(asset: Asset) -> Body:
    """The body that the others hang on."""
    carried = {joint.child for joint in asset.joints if joint.parent}
    return next(body for body in asset.bodies if body.name not in carried)


def of_asset(asset: Asset) -> Moved:
    """How the asset moves, by the MJCF that it is delivered with."""
    root, text = root_of(asset).name, to_mjcf(asset, visual=False)
    return Moved(fall=fallen(text, root) if falls(asset) else None, slide=slid(text, root) if slides(asset) else None)


def of_source(source: Path, root: str, asset: Asset, motion: Motion | None, *, rubs: bool) -> Moved:
    """How a URDF or MJCF file moves by itself; its own `root` is what becomes the asset's.

    Args:
        source: the file.
        root: the name of the body that everything else hangs on, in the file.
        asset: what it became: loose or bolted down, rigid or not.
        motion: from the file's frame to the asset's, in which it slides; it is not asked to where nobody knows.
        rubs: whether the file says how it rubs; else it is played with the asset's friction, for MuJoCo would make one up.

    Raises:
        AssetError: MuJoCo cannot play it.
    """
    friction = None if rubs else root_of(asset).material.dynamic_friction
    fall = fallen(source, root) if falls(asset) else None
    slide = slid(source, root, motion, friction) if motion is not None and slides(asset) else None
    return Moved(fall=fall, slide=slide)


def by_mechanics(asset: Asset) -> Moved:
    """How the asset shall move: by Galilei, and where it rubs the same everywhere, by Coulomb."""
    steps = round(DROP_S / STEP_S)
    fall = GRAVITY * STEP_S**2 * steps * (steps + 1) / 2  # as steps of this length have it
    frictions = {surface.dynamic_friction for body in asset.bodies for surface in body.touching}
    if len(frictions) != 1 or not slides(asset):
        return Moved(fall=fall if falls(asset) else None)
    pull = max(math.sin(SLOPE) - frictions.pop() * math.cos(SLOPE), 0.0)
    return Moved(fall=fall, slide=GRAVITY * pull * SLIDE_S**2 / 2)
