"""The views of an asset in the gallery, frame by frame: its look, hulls, mass, grasps and joints."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from embodichain.assets.geometry.articulate import body_poses
from embodichain.assets.geometry.shapes import Solid, box, moved, to_mesh
from embodichain.assets.physical.grasp import GripperConfig
from embodichain.assets.pictures.preview import Color, draw, view_of, visuals
from embodichain.types import Asset, Body, JointKind, Mesh, Pose
from embodichain.types.poses import compose

FRAME_SIZE = 224
_GOLDEN = 0.61803398875
_MASS_COLOR: Color = (0.93, 0.52, 0.16, 1.0)
_CENTER_COLOR: Color = (0.85, 0.12, 0.12, 1.0)
_HELD_COLOR: Color = (0.16, 0.62, 0.34, 1.0)
_LOST_COLOR: Color = (0.82, 0.20, 0.18, 1.0)

Frames = list[NDArray[np.float64]]
"""Drawings of one size, each [size, size, 4] with values 0 to 1."""


def views(asset: Asset, grasps: Mapping[str, bool], frames: int = 16) -> dict[str, Frames]:
    """All views that this asset has, by title.

    Args:
        asset: the asset.
        grasps: affordances that were tested as grasps, and whether they held.
        frames: number of pictures of a full turn, and of a joint's motion there and back.
    """
    shown: dict[str, Frames] = {"Look": _turn(asset, lambda: visuals(asset), frames)}
    shown["Hulls"] = _turn(asset, lambda: hulls(asset), frames)
    shown["Mass"] = _ghosted(asset, frames)
    if grasps:
        shown["Grasps"] = _turn(asset, lambda: [*visuals(asset), *grippers(asset, grasps)], frames, room=1.5)
    if asset.movable_joints:
        shown["Joints"] = _moving(asset, frames)
    return shown


def hulls(asset: Asset) -> list[tuple[Mesh, Color]]:
    """The collision hulls, each in a different colour."""
    poses = body_poses(asset.bodies, asset.joints, {})
    every = [(body, hull) for body in asset.bodies for hull in body.hulls]
    return [(moved(hull, poses[body.name]), _hue(index * _GOLDEN)) for index, (body, hull) in enumerate(every)]


def masses(asset: Asset) -> tuple[list[tuple[Mesh, Color]], list[tuple[Mesh, Color]]]:
    """For each body, the ellipsoid of its mass and inertia, and a ball at its centre of mass."""
    poses = body_poses(asset.bodies, asset.joints, {})
    ball = to_mesh(Solid.sphere(0.018 * float(np.linalg.norm(asset.bounds[1] - asset.bounds[0])), 24))
    ellipsoids, centers = [], []
    for body in asset.bodies:
        principal = compose(poses[body.name], Pose(position=body.center_of_mass, quaternion=body.principal_axes))
        ellipsoids.append((moved(ellipsoid(body), principal), _MASS_COLOR))
        centers.append((moved(ball, principal), _CENTER_COLOR))
    return ellipsoids, centers


def ellipsoid(body: Body) -> Mesh:
    """The uniform solid ellipsoid with the mass and principal moments of a body, along its principal axes.

    Its moments are I_x = m (b^2 + c^2) / 5 and so on; solved for the semi-axes a^2 = 5 (I_y + I_z - I_x) / (2 m).
    """
    moments = np.asarray(body.diagonal_inertia)
    squares = 2.5 * (moments.sum() - 2 * moments) / body.mass
    axes = np.sqrt(np.maximum(squares, 1e-12))
    sphere = to_mesh(Solid.sphere(1.0, 40))
    return Mesh(vertices=sphere.vertices * axes, faces=sphere.faces)


def grippers(asset: Asset, grasps: Mapping[str, bool], gripper: GripperConfig | None = None) -> list[tuple[Mesh, Color]]:
    """An open gripper at every tested grasp: green where it held, red where it did not."""
    poses, glyph = body_poses(asset.bodies, asset.joints, {}), gripper_glyph(gripper)
    shapes = []
    for name, held in grasps.items():
        owner, frame = asset.affordances[name]
        shapes.append((moved(glyph, compose(poses[owner], frame)), _HELD_COLOR if held else _LOST_COLOR))
    return shapes


def gripper_glyph(gripper: GripperConfig | None = None) -> Mesh:
    """An open gripper made of bars, in the frame of a grasp [m]."""
    gripper = gripper or GripperConfig()
    tall, wide = 0.045, gripper.opening / 2 + 0.003
    bar = 0.006
    pieces = [box((bar, bar, tall)).translate((0.0, side * wide, gripper.pad_half[2] - tall / 2)) for side in (-1.0, 1.0)]
    palm = box((bar, 2 * wide + bar, bar)).translate((0.0, 0.0, gripper.pad_half[2] - tall))
    stem = box((bar, bar, 0.03)).translate((0.0, 0.0, gripper.pad_half[2] - tall - 0.015))
    return to_mesh(pieces[0] + pieces[1] + palm + stem)


def sweep_bounds(asset: Asset, samples: int = 5) -> NDArray[np.float64]:
    """Bounds of everything that the asset covers while its joints move one by one [m], shape [2, 3]."""
    corners = [asset.bounds]
    for joint in asset.movable_joints:
        for position in np.linspace(*joint.span, samples):
            points = np.concatenate([mesh.vertices for mesh, _ in visuals(asset, {joint.name: float(position)})])
            corners.append(np.stack([points.min(axis=0), points.max(axis=0)]))
    return np.stack([np.min([low for low, _ in corners], axis=0), np.max([high for _, high in corners], axis=0)])


def _turn(asset: Asset, shapes: Callable[[], Sequence[tuple[Mesh, Color]]], frames: int, room: float = 1.08) -> Frames:
    seen = shapes()
    return [draw(seen, FRAME_SIZE, view_of(asset.bounds, azimuth, room=room)) for azimuth in _azimuths(frames)]


def _ghosted(asset: Asset, frames: int) -> Frames:
    """Ellipsoids visible through the surface, and centres of mass visible through both."""
    ellipsoids, centers = masses(asset)
    points = np.concatenate([mesh.vertices for mesh, _ in [*visuals(asset), *ellipsoids]])
    bounds = np.stack([points.min(axis=0), points.max(axis=0)])
    result = []
    for azimuth in _azimuths(frames):
        layers = [draw(shapes, FRAME_SIZE, view_of(bounds, azimuth)) for shapes in (ellipsoids, visuals(asset), centers)]
        image = layers[0]
        for layer, opacity in zip(layers[1:], (0.38, 0.9), strict=True):
            image = _over(layer, opacity, image)
        result.append(image)
    return result


def _over(top: NDArray[np.float64], opacity: float, below: NDArray[np.float64]) -> NDArray[np.float64]:
    """Composites one drawing over another (Porter and Duff 1984)."""
    front = opacity * top[..., 3:]
    behind = below[..., 3:] * (1 - front)
    coverage = front + behind
    color = (top[..., :3] * front + below[..., :3] * behind) / np.maximum(coverage, 1e-9)
    return np.concatenate([color, coverage], axis=-1)


def _moving(asset: Asset, frames: int) -> Frames:
    """Moves one joint after another from zero through its range and back, seen from a fixed side."""
    view = view_of(sweep_bounds(asset), azimuth=-0.7)
    result = []
    for joint in asset.movable_joints:
        for step in range(frames):
            share = 0.5 - 0.5 * math.cos(2 * math.pi * step / frames)
            lower, upper = joint.span
            start = lower if joint.kind is JointKind.PRISMATIC or lower >= 0 else 0.0
            way = math.sin(2 * math.pi * step / frames)
            position = lower + share * (upper - lower)
            if start == 0.0 and lower < 0.0:
                position = way * (upper if way > 0 else -lower)
            result.append(draw(visuals(asset, {joint.name: position}), FRAME_SIZE, view))
    return result


def _azimuths(frames: int) -> list[float]:
    return [-0.9 + 2 * math.pi * index / frames for index in range(frames)]


def _hue(turn: float) -> Color:
    """A bright colour of the colour circle, by its angle in turns."""
    red, green, blue = (0.62 + 0.34 * math.cos(2 * math.pi * (turn + shift)) for shift in (0.0, 1 / 3, 2 / 3))
    return (red, green, blue, 1.0)
