"""Poses of things: composing rigid transforms, and where an asset's affordances are once it stands somewhere."""

from __future__ import annotations

import math

from embodichain.errors import AssetError
from embodichain.types import Asset, JointKind, Pose, Quaternion, Vec3


def multiply(first: Quaternion, second: Quaternion) -> Quaternion:
    """The Hamilton product: the rotation that applies `second`, then `first`."""
    w1, x1, y1, z1 = first
    w2, x2, y2, z2 = second
    return (
        w1 * w2 - x1 * x2 - y1 * y2 - z1 * z2,
        w1 * x2 + x1 * w2 + y1 * z2 - z1 * y2,
        w1 * y2 - x1 * z2 + y1 * w2 + z1 * x2,
        w1 * z2 + x1 * y2 - y1 * x2 + z1 * w2,
    )


def turned(quaternion: Quaternion, vector: Vec3) -> Vec3:
    """One vector turned by a unit quaternion: `types.rotate` without the cost of an array."""
    w, x, y, z = quaternion
    a, b, c = vector
    cx, cy, cz = 2 * (y * c - z * b), 2 * (z * a - x * c), 2 * (x * b - y * a)
    return (a + w * cx + y * cz - z * cy, b + w * cy + z * cx - x * cz, c + w * cz + x * cy - y * cx)


def compose(a_from_b: Pose, b_from_c: Pose) -> Pose:
    """a_from_c."""
    dx, dy, dz = turned(a_from_b.quaternion, b_from_c.position)
    x, y, z = a_from_b.position
    return Pose(position=(x + dx, y + dy, z + dz), quaternion=multiply(a_from_b.quaternion, b_from_c.quaternion))


def inverse(a_from_b: Pose) -> Pose:
    """b_from_a."""
    w, x, y, z = a_from_b.quaternion
    conjugate = (w, -x, -y, -z)
    px, py, pz = turned(conjugate, a_from_b.position)
    return Pose(position=(-px, -py, -pz), quaternion=conjugate)


def turn(axis: Vec3, angle: float) -> Quaternion:
    """The rotation about a unit axis by `angle` [rad]."""
    s = math.sin(angle / 2)
    return (math.cos(angle / 2), s * axis[0], s * axis[1], s * axis[2])


def angle_between(first: Quaternion, second: Quaternion) -> float:
    """The angle [rad] of the rotation that takes one orientation to the other, 0..pi."""
    return 2.0 * math.acos(min(1.0, abs(sum(a * b for a, b in zip(first, second, strict=True)))))


def yaw_pose(x: float, y: float, z: float, yaw: float) -> Pose:
    """A pose that stands upright at (x, y, z) [m], turned about the vertical by `yaw` [rad]."""
    return Pose(position=(x, y, z), quaternion=turn((0.0, 0.0, 1.0), yaw))


def yaw_of(quaternion: Quaternion) -> float:
    """Heading [rad] of the frame's X axis seen from above."""
    w, x, y, z = quaternion
    return math.atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))


def wrap(angle: float) -> float:
    """The same angle in -pi..pi [rad]."""
    return math.remainder(angle, 2 * math.pi)


def asset_from_body(asset: Asset, name: str, joint_positions: tuple[float, ...] = ()) -> Pose:
    """Where one body of an asset stands in the asset's frame, its joints at `joint_positions` [rad or m], zero when not given."""
    values = dict(zip((joint.name for joint in asset.movable_joints), joint_positions, strict=False))
    at_zero = {body.name: body.body_pose for body in asset.bodies}
    if name not in at_zero:
        raise AssetError(f"asset {asset.name!r} has no body {name!r}; bodies: {sorted(at_zero)}")
    for joint in asset.joints:
        if joint.child != name:
            continue
        value = values.get(joint.name, 0.0)
        if joint.kind is JointKind.PRISMATIC:
            x, y, z = joint.axis
            motion = Pose(position=(value * x, value * y, value * z))
        elif joint.kind is JointKind.REVOLUTE:
            quaternion = turn(joint.axis, value)
            x, y, z = joint.anchor
            dx, dy, dz = turned(quaternion, joint.anchor)
            motion = Pose(position=(x - dx, y - dy, z - dz), quaternion=quaternion)
        else:
            motion = Pose()
        if joint.parent == "":
            return compose(at_zero[name], motion)
        parent_from_child = compose(inverse(at_zero[joint.parent]), at_zero[name])
        return compose(compose(asset_from_body(asset, joint.parent, joint_positions), parent_from_child), motion)
    return at_zero[name]


def world_from_asset(asset: Asset, world_from_root: Pose) -> Pose:
    """Where an asset's frame is when its root body is at `world_from_root`, the pose that `WorldState` reports."""
    children = {joint.child for joint in asset.joints if joint.parent}
    root = next(body for body in asset.bodies if body.name not in children)
    return compose(world_from_root, inverse(root.body_pose))


def affordance(asset: Asset, name: str, world_from_asset: Pose, joint_positions: tuple[float, ...] = ()) -> Pose:
    """World pose of an asset's affordance; raises AssetError naming those it has."""
    if name not in asset.affordances:
        raise AssetError(
            f"asset {asset.name!r} has no affordance {name!r}; it has: {', '.join(sorted(asset.affordances)) or 'none'}"
        )
    body, body_from_frame = asset.affordances[name]
    return compose(world_from_asset, compose(asset_from_body(asset, body, joint_positions), body_from_frame))
