"""Makes joints usable: friction that holds them against gravity where they should stay, and a range without self-contact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from embodichain.assets.geometry.shapes import Solid, to_solid
from embodichain.errors import AssetError
from embodichain.types import Body, Joint, JointKind, Mesh, Pose, rotate
from embodichain.types.poses import compose, inverse

GRAVITY = 9.81
"""Gravitational acceleration [m/s^2]."""
HOLD_MARGIN = 2.0
"""Coulomb friction of a joint that must stay where it is pushed, relative to the largest load of gravity on it."""


def body_poses(bodies: Sequence[Body], joints: Sequence[Joint], positions: Mapping[str, float]) -> dict[str, Pose]:
    """asset_from_body of every body when the named joints are at the given positions and all others at zero."""
    rest = {body.name: body.body_pose for body in bodies}
    poses = {name: pose for name, pose in rest.items() if name not in {joint.child for joint in joints if joint.parent}}
    pending = [joint for joint in joints if joint.parent]
    while pending:
        ready = [joint for joint in pending if joint.parent in poses]
        if not ready:
            raise AssetError(f"articulate: joints {[joint.name for joint in pending]} hang on no root body; check for a loop")
        for joint in ready:
            parent_from_child = compose(inverse(rest[joint.parent]), rest[joint.child])
            moved_child = compose(parent_from_child, joint.motion(positions.get(joint.name, 0.0)))
            poses[joint.child] = compose(poses[joint.parent], moved_child)
        pending = [joint for joint in pending if joint not in ready]
    return poses


def gravity_load(bodies: Sequence[Body], joints: Sequence[Joint], joint: Joint, samples: int = 33) -> float:
    """Largest torque [N m] or force [N] that gravity along -Z exerts on a joint over its range, with the others at zero."""
    carried = {joint.child}
    while grown := {other.child for other in joints if other.parent in carried} - carried:
        carried |= grown
    worst = 0.0
    for position in np.linspace(*joint.span, samples):
        poses = body_poses(bodies, joints, {joint.name: float(position)})
        child = poses[joint.child]
        axis = rotate(child.quaternion, np.asarray(joint.axis))
        anchor = rotate(child.quaternion, np.asarray(joint.anchor)) + child.position
        load = 0.0
        for body in bodies:
            if body.name in carried:
                pose = poses[body.name]
                center = rotate(pose.quaternion, np.asarray(body.center_of_mass)) + pose.position
                weight = np.array([0.0, 0.0, -body.mass * GRAVITY])
                load += float(axis @ (np.cross(center - anchor, weight) if joint.kind is JointKind.REVOLUTE else weight))
        worst = max(worst, abs(load))
    return worst


def hold(bodies: Sequence[Body], joints: Sequence[Joint]) -> tuple[Joint, ...]:
    """Raises the friction of each joint that has any until the joint stays against gravity, with a margin."""
    return tuple(
        replace(joint, friction=max(joint.friction, HOLD_MARGIN * gravity_load(bodies, joints, joint)))
        if joint.kind is not JointKind.FIXED and joint.friction > 0.0
        else joint
        for joint in joints
    )


def self_contact(
    bodies: Sequence[Body], joints: Sequence[Joint], samples: int = 9, *, once: bool = False
) -> dict[tuple[str, str], float]:
    """Volume [m^3] by which the colliders of two bodies overlap somewhere in the range of a joint, by pair; empty when clear.

    With `once`, a pair that was found to overlap is not tested again.

    Engines ignore contacts between parent and child, but not when the parent is bolted to the world, so the geometry must be clear.
    """
    solids = {body.name: _cover(body.hulls) for body in bodies}
    overlaps: dict[tuple[str, str], float] = {}
    for joint in joints:
        if joint.kind is JointKind.FIXED:
            continue
        for position in np.linspace(*joint.span, samples):
            poses = body_poses(bodies, joints, {joint.name: float(position)})
            placed = {name: _placed(solid, poses[name]) for name, solid in solids.items()}
            for index, first in enumerate(bodies):
                for second in bodies[index + 1 :]:
                    if (once and (first.name, second.name) in overlaps) or not _near(placed[first.name], placed[second.name]):
                        continue
                    volume = (placed[first.name] ^ placed[second.name]).volume()
                    if volume > 1e-12:
                        pair = (first.name, second.name)
                        overlaps[pair] = max(overlaps.get(pair, 0.0), volume)
    return overlaps


def _near(one: Solid, other: Solid) -> bool:
    """Whether the bounding boxes of two solids overlap, which is cheaper to test than the solids themselves."""
    if one.is_empty() or other.is_empty():
        return False
    (a, b), (c, d) = ((np.array(box[:3]), np.array(box[3:])) for box in (one.bounding_box(), other.bounding_box()))
    return bool((a <= d).all() and (c <= b).all())


def _cover(hulls: Sequence[Mesh]) -> Solid:
    cover = Solid.compose([])
    for hull in hulls:
        cover = cover + to_solid(hull)
    return cover


def _placed(solid: Solid, pose: Pose) -> Solid:
    columns = [rotate(pose.quaternion, axis) for axis in np.eye(3)]
    return solid.transform(np.column_stack([*columns, np.asarray(pose.position)]))
