"""Settling: simulates a scene until its objects are at rest, and updates the scene with the poses reached."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from embodichain.errors import SceneError
from embodichain.motion.frames import world_from_asset
from embodichain.protocols import Physics
from embodichain.scenes.config import SettleConfig
from embodichain.types import ObjectPlacement, Pose, Scene, WorldState
from embodichain.types.poses import turned


def settle(physics: Physics, scene: Scene, config: SettleConfig | None = None) -> Scene:
    """`scene` with its objects where they come to rest, and its grains where they are by then; the robot stays at home.

    Raises SceneError naming the object that does not come to rest, moves away, tips or falls.
    """
    config = config or SettleConfig()
    loose = [placement for placement in scene.objects if not placement.asset.fixed_base]
    if not config.enabled or not scene.objects:
        return scene
    state, quiet = physics.reset(scene), 0
    home = state.measured
    for _ in range(round(config.longest_s * state.control_hz)):
        state = physics.step(home)
        quiet = quiet + 1 if all(_at_rest(state, placement.role, config) for placement in loose) else 0
        if quiet >= round(config.quiet_s * state.control_hz):
            break
    else:
        moving = max(loose, key=lambda placement: _unrest(state, placement.role, config))  # it may be at rest just now
        speed, turning = _speeds(state, moving.role)
        raise SceneError(
            f"{_where(scene, moving)} does not come to rest within {config.longest_s} s: it still moved within the last "
            f"{config.quiet_s} s, now at {1e3 * speed:.1f} mm/s and {turning:.2f} rad/s; "
            "give it a flat place, or another pose"
        )
    loosely = state.grain_positions.astype(np.float32).astype(np.float64).tolist()  # rounded as a scene file stores them
    return replace(
        scene,
        objects=tuple(_settled(scene, placement, state, config) for placement in scene.objects),
        grains=replace(scene.grains, positions=tuple((x, y, z) for x, y, z in loosely)),
    )


def _at_rest(state: WorldState, role: str, config: SettleConfig) -> bool:
    return _unrest(state, role, config) < 1.0


def _unrest(state: WorldState, role: str, config: SettleConfig) -> float:
    """Speed of an object relative to the limit below which it counts as at rest."""
    speed, turning = _speeds(state, role)
    return max(speed / config.speed, turning / config.turning)


def _speeds(state: WorldState, role: str) -> tuple[float, float]:
    """Speed [m/s] and angular speed [rad/s] of an object."""
    velocity = state.object_velocities[role]
    return float(np.linalg.norm(velocity[:3])), float(np.linalg.norm(velocity[3:]))


def _settled(scene: Scene, placement: ObjectPlacement, state: WorldState, config: SettleConfig) -> ObjectPlacement:
    """The object's placement now; raises SceneError when that is too far from where it was put."""
    joints = state.object_joints[placement.role]
    for joint, before, after in zip(placement.asset.movable_joints, placement.joint_positions, joints, strict=False):
        if abs(after - before) > config.give:
            raise SceneError(
                f"{_where(scene, placement)} does not hold its {joint.name}: {before:.3f} becomes {after:.3f}, "
                f"{config.give} allowed; give it friction, or start where it rests"
            )
    if placement.asset.fixed_base:
        return replace(placement, joint_positions=joints)
    pose = world_from_asset(placement.asset, state.object_poses[placement.role])
    _check(scene, placement, pose, config)
    return replace(placement, pose=pose, joint_positions=joints)


def _check(scene: Scene, placement: ObjectPlacement, pose: Pose, config: SettleConfig) -> None:
    before = placement.pose
    up, was_up = (np.array(turned(q, (0.0, 0.0, 1.0))) for q in (pose.quaternion, before.quaternion))
    tilt = math.acos(float(np.clip(up @ was_up, -1.0, 1.0)))
    fall, shift = before.position[2] - pose.position[2], math.dist(before.position, pose.position)
    if tilt > config.tilt:
        problem = f"tips by {math.degrees(tilt):.0f} degrees, {math.degrees(config.tilt):.0f} allowed"
    elif fall > config.shift:
        problem = f"falls by {1e3 * fall:.0f} mm, {1e3 * config.shift:.0f} mm allowed"
    elif shift > config.shift:
        problem = f"moves by {1e3 * shift:.0f} mm, {1e3 * config.shift:.0f} mm allowed"
    else:
        return
    raise SceneError(f"{_where(scene, placement)} {problem}, before anybody touches it: give it a flat place, or another pose")


def _where(scene: Scene, placement: ObjectPlacement) -> str:
    return f"scene {scene.seed} of {scene.task!r}: {placement.role!r} ({placement.asset.name})"
