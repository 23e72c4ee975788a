"""Randomises sizes: scales whole assets, of the same material.

With factor s, lengths scale by s, mass by s^3 and inertia by s^5, so that the asset stays a possible solid. Frames and contact
points move with their surface. Objects that belong together get the same factor: a lid and its pan, and objects that are ranked by
size.
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
"""Factors are multiples of this if possible, so that cached results for one size can be reused."""


def resized(asset: Asset, factor: float) -> Asset:
    """Scales all lengths of an asset by `factor`; returns the asset itself if that is 1. Friction of joints is unchanged."""
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
    """Draws a log-uniform factor within `limits` for each object of a request.

    Required heights and size differences of the request are respected.

    Raises:
        SceneError: No factor within `limits` meets the request for an object; the message names the object and possible factors.
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
    """For each role, the first role of its group, which shares one factor: objects that lie on each other or are ranked."""
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
    """The range of factors for which an asset has the height that a request requires."""
    height = float(asset.bounds[1, 2] - asset.bounds[0, 2])
    low, high = wanted.height
    return (low / height, high / height)


def _keeping_apart(request: SceneRequest, assets: Sequence[Asset]) -> float:
    """The smallest factor at which ranked objects still differ as much as the request requires."""
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
