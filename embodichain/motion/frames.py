"""World poses of the bodies and affordances of a placed asset."""

from __future__ import annotations

from functools import lru_cache

from embodichain.errors import AssetError
from embodichain.types import Asset, Pose
from embodichain.types.poses import compose, inverse


def asset_from_body(asset: Asset, name: str, joint_positions: tuple[float, ...] = ()) -> Pose:
    """Pose of a body in the asset's frame, with its joints at `joint_positions` [rad or m], by default zero."""
    values = dict(zip((joint.name for joint in asset.movable_joints), joint_positions, strict=False))
    at_zero = {body.name: body.body_pose for body in asset.bodies}
    if name not in at_zero:
        raise AssetError(f"asset {asset.name!r} has no body {name!r}; bodies: {sorted(at_zero)}")
    for joint in asset.joints:
        if joint.child != name:
            continue
        motion = joint.motion(values.get(joint.name, 0.0))
        if joint.parent == "":
            return compose(at_zero[name], motion)
        parent_from_child = compose(inverse(at_zero[joint.parent]), at_zero[name])
        return compose(compose(asset_from_body(asset, joint.parent, joint_positions), parent_from_child), motion)
    return at_zero[name]


def world_from_asset(asset: Asset, world_from_root: Pose) -> Pose:
    """World pose of an asset's frame, from the pose of its root body, which `WorldState` reports."""
    return compose(world_from_root, _root_from_asset(asset))


@lru_cache(maxsize=256)
def _root_from_asset(asset: Asset) -> Pose:
    children = {joint.child for joint in asset.joints if joint.parent}
    return inverse(next(body for body in asset.bodies if body.name not in children).body_pose)


def affordance(asset: Asset, name: str, world_from_asset: Pose, joint_positions: tuple[float, ...] = ()) -> Pose:
    """World pose of an asset's affordance; raises AssetError, listing its affordances, for an unknown one."""
    if name not in asset.affordances:
        raise AssetError(
            f"asset {asset.name!r} has no affordance {name!r}; it has: {', '.join(sorted(asset.affordances)) or 'none'}"
        )
    body, body_from_frame = asset.affordances[name]
    return compose(world_from_asset, compose(asset_from_body(asset, body, joint_positions), body_from_frame))
