"""The exhibit of an asset: visual meshes, hulls, inertia ellipsoids, tested grasps, and movable joints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from embodichain.assets.geometry.articulate import body_poses
from embodichain.assets.geometry.shapes import Solid, moved, to_mesh
from embodichain.assets.pictures.turntable import ellipsoid, gripper_glyph
from embodichain.assets.usd import files
from embodichain.types import Asset, Body, Pose
from embodichain.viewing.exhibit import Exhibit, Layer, ShownMesh, Slider

_HULLS = (
    (0.90, 0.45, 0.30, 1.0),
    (0.35, 0.65, 0.90, 1.0),
    (0.55, 0.80, 0.40, 1.0),
    (0.85, 0.70, 0.30, 1.0),
    (0.65, 0.50, 0.85, 1.0),
)
_MASS, _CENTRE, _HELD, _LOST = (0.95, 0.75, 0.20, 0.6), (0.1, 0.1, 0.1, 1.0), (0.15, 0.70, 0.30, 1.0), (0.80, 0.20, 0.15, 1.0)
_CENTRE_RADIUS = 0.003
"""Radius of the balls at centres of mass [m]."""


def of_asset(path: Path) -> Exhibit:
    """The exhibit of the asset in a USD file; raises AssetError if it cannot be read."""
    asset = files.read(path)
    rates = files.lift_rates(path)
    parts = [part for body in asset.bodies for part in _of_body(body)]
    parts += _grasps(asset, rates)
    low, high = asset.bounds
    facts = {
        "category": asset.category,
        "licence": asset.licence or "none stated",
        "source": asset.source,
        "size": " x ".join(f"{1000 * edge:.0f}" for edge in high - low) + " mm",
        "mass": f"{sum(body.mass for body in asset.bodies):.4g} kg in {len(asset.bodies)} bodies",
        "materials": ", ".join(sorted({body.material.name for body in asset.bodies})),
        "colliders": f"{sum(len(body.hulls) for body in asset.bodies)} convex pieces",
        "grasps": f"{sum(rate > 0.0 for rate in rates.values())} of {len(rates)} held when lifted" if rates else "",
    }
    sliders = [
        Slider(name=joint.name, lower=joint.span[0], upper=joint.span[1], start=min(max(0.0, joint.span[0]), joint.span[1]))
        for joint in asset.movable_joints
        if joint.mimic is None
    ]
    return Exhibit(
        title=asset.name,
        facts={name: value for name, value in facts.items() if value},
        parts=parts,
        posed=lambda positions: _posed(asset, positions),
        sliders=sliders,
    )


def _posed(asset: Asset, positions: Mapping[str, float]) -> Mapping[str, Pose]:
    followed = {
        joint.name: joint.mimic.multiplier * positions.get(joint.mimic.joint, 0.0) + joint.mimic.offset
        for joint in asset.movable_joints
        if joint.mimic is not None
    }
    return body_poses(asset.bodies, asset.joints, {**positions, **followed})


def _of_body(body: Body) -> Iterator[ShownMesh]:
    if len(body.visual.faces):
        yield ShownMesh(frame=body.name, layer=Layer.LOOKS, mesh=body.visual, color=body.color)
    for number, hull in enumerate(body.hulls):
        yield ShownMesh(frame=body.name, layer=Layer.HULLS, mesh=hull, color=_HULLS[number % len(_HULLS)])
    if body.mass > 0.0:
        principal = Pose(position=body.center_of_mass, quaternion=body.principal_axes)
        yield ShownMesh(frame=body.name, layer=Layer.INERTIA, mesh=moved(ellipsoid(body), principal), color=_MASS)
        ball = to_mesh(Solid.sphere(_CENTRE_RADIUS, 16))
        yield ShownMesh(frame=body.name, layer=Layer.INERTIA, mesh=moved(ball, principal), color=_CENTRE)


def _grasps(asset: Asset, rates: Mapping[str, float]) -> Iterator[ShownMesh]:
    glyph = gripper_glyph()
    for name, rate in rates.items():
        owner, frame = asset.affordances[name]
        yield ShownMesh(frame=owner, layer=Layer.GRASPS, mesh=moved(glyph, frame), color=_HELD if rate > 0.0 else _LOST)
