"""Cheats that every grader must reject, for any task: the goal reached in a wrong way, or nothing done at all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from embodichain.motion.action import ActionCodec
from embodichain.physics.mujoco import MujocoPhysics
from embodichain.protocols import Task
from embodichain.types import Scene, WorldState

CHEATS = ("idle", "teleport", "slide", "drop", "ghost")
"""In order: no motion; objects are set to where an expert left them; they glide there; the gripper opens at the highest point; the
expert's motions far above the table."""
_TAIL = 75


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """One successful episode: its scene, its stored actions, the state after every control step."""

    scene: Scene
    actions: np.ndarray
    states: list[WorldState]


def cheat(which: str, task: Task, played: Played, physics: MujocoPhysics, codec: ActionCodec) -> bool:
    """Plays one cheat; True when the grader wrongly passes it."""
    grader = task.grader(played.scene)
    state = physics.reset(played.scene)
    home = state.measured.copy()
    commands = [codec.decode(action) for action in played.actions.reshape(-1, played.actions.shape[-1])]
    steps = len(commands)
    released = _highest(played) if which == "drop" else steps
    if which == "drop" and released < 0:
        return False  # nothing is ever lifted, so nothing can be dropped
    start = physics.world.data.qpos.copy()
    for number in range(steps + _TAIL):
        command = home
        if which == "drop":
            command = commands[min(number, released)].copy()
            if number >= released:
                command[_grippers(codec)] = [arm.gripper_open for arm in codec.robot.arms]
        elif which == "ghost":  # raised shoulders: the same motions in free space
            command = commands[min(number, steps - 1)].copy()
            for first in _first_columns(codec):
                command[first + 1] = home[first + 1] - 0.9 * abs(home[first + 1])
        elif which in ("teleport", "slide"):
            share = min((number + 1) / (steps // 2), 1.0) if which == "slide" else float(number >= steps // 2)
            if share > 0.0 and number <= steps // 2:
                _move(physics, played.states[-1], start, share)
        state = physics.step(command)
        grader.observe(state)
    return grader.verdict().success


def _highest(played: Played) -> int:
    """The control step at which some object is farthest above where it began; -1 when none is lifted by 3 cm."""
    best, found = 0.03, -1
    first = played.states[0].object_poses
    for number, state in enumerate(played.states):
        for role, pose in state.object_poses.items():
            height = pose.position[2] - first[role].position[2]
            if height > best and state.touching("robot/", f"{role}/"):
                best, found = height, number
    return found


def _grippers(codec: ActionCodec) -> list[int]:
    return (np.cumsum([arm.command_size for arm in codec.robot.arms]) - 1).tolist()


def _first_columns(codec: ActionCodec) -> list[int]:
    return [end + 1 - arm.command_size for end, arm in zip(_grippers(codec), codec.robot.arms, strict=True)]


def _move(physics: MujocoPhysics, end: WorldState, start: np.ndarray, share: float) -> None:
    """Moves every object and grain to a fraction `share` of its way from start to end, with zero velocity."""
    data = physics.world.data
    grains = physics.world.grains
    data.qpos[grains.qpos] = start[grains.qpos] + share * (end.grain_positions.ravel() - start[grains.qpos])
    data.qvel[grains.qvel] = 0.0
    for index in physics.world.objects:
        if index.free_qpos:
            address = index.free_qpos[0]
            pose = end.object_poses[index.role]
            goal = np.array((*pose.position, *pose.quaternion))
            now = start[address : address + 7]
            goal[3:] *= 1.0 if np.dot(goal[3:], now[3:]) >= 0.0 else -1.0
            mixed = now + share * (goal - now)
            mixed[3:] /= np.linalg.norm(mixed[3:])
            data.qpos[address : address + 7] = mixed
            data.qvel[index.free_qvel[0] : index.free_qvel[0] + 6] = 0.0
        for address, dof, value in zip(index.joint_qpos, index.joint_qvel, end.object_joints[index.role], strict=True):
            data.qpos[address] = start[address] + share * (value - start[address])
            data.qvel[dof] = 0.0
