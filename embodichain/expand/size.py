"""Sizes of objects: an asset made a little larger or smaller as a whole, of the same material.

Lengths follow the factor s, mass s^3 and inertia s^5 (Galilei's square-cube law), so that the inertia stays one that a solid has.
Frames and contact points move with the surface they lie on. What belongs together keeps its proportions: a lid and the pan that
it lies on, and objects that are told apart by their size.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from embodichain.errors import SceneError
from embodichain.types import Asset, Body, Joint, JointKind, ObjectRequest, Pose, Range, SceneRequest, Vec3

STEP = 0.005
"""Factors are multiples of this where nothing limits them, so that what is known of one size serves others of it."""


def resized(asset: Asset, factor: float) -> Asset:
    """The asset with all lengths multiplied by `factor`; the asset itself when that is 1. Joints turn as hard as before."""
    if factor == 1.0:
        return asset
    return replace(
        asset,
        bodies=tuple(_body(body, factor) for body in asset.bodies),
        joints=tuple(_joint(joint, factor) for joint in asset.joints),
        affordances={name: (body, _pose(pose, factor)) for name, (body, pose) in asset.affordances.items()},
        scale=asset.scale * factor,
    )


def draw_sizes(request: SceneRequest, assets: Sequence[Asset], rng: np.random.Generator, limits: Range) -> list[float]:
    """A factor for each object of a request, within `limits`, its logarithm uniform.

    Heights and differences in size that the request asks for stay as asked.

    Raises:
        SceneError: No factor within `limits` leaves an object as the request wants it; the message names it and what would.
    """
    groups = _groups(request)
    found: dict[str, float] = {}
    for wanted in request.objects:
        leader = groups[wanted.role]
        if leader in found:
            continue
        low, high = limits
        for other, asset in zip(request.objects, assets, strict=True):
            if groups[other.role] == leader:
                least, most = _fitting(other, asset)
                low, high = max(low, least), min(high, most)
        if leader in request.ascending:
            low = max(low, _keeping_apart(request, assets))
        if not low <= high:
            raise SceneError(
                f"role {leader!r} cannot be made {limits[0]:.3g} to {limits[1]:.3g} times as large: the task needs at least "
                f"{low:.3g} and at most {high:.3g} times; widen the range `scale` of the physical expansion"
            )
        drawn = math.exp(float(rng.uniform(math.log(low), math.log(high))))
        found[leader] = min(max(round(STEP * round(drawn / STEP), 6), low), high)
    return [found[groups[wanted.role]] for wanted in request.objects]


def _groups(request: SceneRequest) -> dict[str, str]:
    """For each role the first of those that must keep their proportions to it: what lies on it, and what is ranked with it."""
    groups: dict[str, str] = {}
    for wanted in request.objects:
        leader = wanted.role
        if wanted.onto is not None:
            leader = groups.get(wanted.onto[0], leader)
        elif wanted.role in request.ascending:
            leader = next((role for role in groups if role in request.ascending), leader)
        groups[wanted.role] = leader
    return groups


def _fitting(wanted: ObjectRequest, asset: Asset) -> Range:
    """Factors with which an asset has the height that a request asks for."""
    height = float(asset.bounds[1, 2] - asset.bounds[0, 2])
    low, high = wanted.height
    return (low / height, high / height)


def _keeping_apart(request: SceneRequest, assets: Sequence[Asset]) -> float:
    """The least factor with which ranked objects still differ as the request asks for."""
    edges = {}
    for wanted, asset in zip(request.objects, assets, strict=True):
        lower, upper = asset.bounds
        edges[wanted.role] = float(np.prod(upper - lower)) ** (1 / 3)
    ranked = [edges[role] for role in request.ascending]
    return max((request.size_step / (b - a) for a, b in itertools.pairwise(ranked) if b > a), default=0.0)


def _body(body: Body, factor: float) -> Body:
    ixx, iyy, izz = (factor**5 * moment for moment in body.diagonal_inertia)
    return replace(
        body,
        mass=factor**3 * body.mass,
        center_of_mass=_lengths(body.center_of_mass, factor),
        diagonal_inertia=(ixx, iyy, izz),
        visual=body.visual.scaled(factor),
        hulls=tuple(hull.scaled(factor) for hull in body.hulls),
        body_pose=_pose(body.body_pose, factor),
    )


def _joint(joint: Joint, factor: float) -> Joint:
    slides = factor if joint.kind is JointKind.PRISMATIC else 1.0
    return replace(
        joint,
        anchor=_lengths(joint.anchor, factor),
        lower=slides * joint.lower,
        upper=slides * joint.upper,
        rest=slides * joint.rest,
    )


def _pose(pose: Pose, factor: float) -> Pose:
    return Pose(position=_lengths(pose.position, factor), quaternion=pose.quaternion)


def _lengths(point: Vec3, factor: float) -> Vec3:
    x, y, z = point
    return (factor * x, factor * y, factor * z)
