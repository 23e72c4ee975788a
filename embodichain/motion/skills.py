"""Skills: the basic motions of experts, as generators that yield steps and return the final state.

A skill drives one `Hand`; other arms do not move. Skills are composed by `state = yield from reach(hand, state, pose)`. Paths obey
the joint limits in the hand's configuration and start at the last command; goals depend on the measured state.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Generator, Sequence
from typing import TypeVar

import numpy as np

from embodichain.errors import MotionError
from embodichain.motion.clearance import Floats
from embodichain.motion.hand import Hand, Waypoint, moved
from embodichain.motion.plan import joint_path, timing
from embodichain.types import Pose, Step, Vec3, WorldState
from embodichain.types.poses import turned

Skill = Generator[Step, WorldState, WorldState]
"""A motion: yields a Step for each control step, is sent the state after it, and returns the last state."""

Chosen = TypeVar("Chosen")
_DETOURS = ((0.0, 0.0), (0.05, 0.0), (0.10, 0.0), (0.16, 0.0), (0.0, 0.06), (0.06, 0.06), (0.0, 0.12), (0.12, 0.12))
"""Detours before an arm goes home: distances up, and back against the hand's approach [m]."""


def follow(hand: Hand, state: WorldState, path: Floats, *, opening: float | None = None) -> Skill:
    """Drives the joints along `path` [T, dof], moving the gripper to `opening` [m] meanwhile."""
    start = hand.opening
    change = 0.0 if opening is None else opening - start
    progress = timing(max(len(path) / hand.control_hz, 1.875 * abs(change) / hand.config.opening_speed), hand.control_hz)
    for index in range(max(len(path), len(progress) if change else 0)):
        joints = path[index] if index < len(path) else None
        state = yield hand.step(joints, start + change * float(progress[min(index, len(progress) - 1)]))
    return state


def reach(hand: Hand, state: WorldState, pose: Pose) -> Skill:
    """Moves the tip to `pose` in joint space."""
    return (yield from follow(hand, state, hand.route([Waypoint(pose=pose, straight=False)])))


def push(hand: Hand, state: WorldState, pose_at: Callable[[float], Pose], speed: float) -> Skill:
    """Moves the tip along a curve of poses (see `Hand.sweep`) without checking collisions, to push objects."""
    return (yield from follow(hand, state, hand.sweep(pose_at, speed, hand.joints)))


def retreat(hand: Hand, state: WorldState, offset: Vec3) -> Skill:
    """Moves the tip straight by `offset` [m] in the world frame, or less if the arm cannot go as far."""
    return (yield from follow(hand, state, hand.shift(offset)))


def choose(
    hands: Sequence[Hand], state: WorldState, plan: Callable[[Sequence[Hand], WorldState], Chosen]
) -> Generator[Step, WorldState, tuple[Chosen, WorldState]]:
    """Plans with the hands that are not at home; if that fails, sends them home and plans with all. Returns plan and state.

    `plan` must raise MotionError when it finds nothing for the hands it is given.
    """
    out = [hand for hand in hands if not hand.at_home]
    if out:
        try:
            return plan(out, state), state
        except MotionError:
            for hand in out:
                state = yield from go_home(hand, state)
    return plan(hands, state), state


def go_home(hand: Hand, state: WorldState) -> Skill:
    """Moves the arm home and opens the gripper; avoids the hand's obstacles if possible."""
    return (yield from follow(hand, state, _homeward(hand), opening=hand.open))


def _homeward(hand: Hand) -> Floats:
    """The path home: the first one that avoids the hand's obstacles, of the direct path, one that retracts the arm before its first
    joint turns, and those that begin with a short motion up or back. The direct path if all collide, or without obstacles.
    """
    home, limits = hand.chain.home, hand.config.limits
    direct = joint_path(hand.joints, home, limits)
    if hand.obstacles is None:
        return direct
    for (rise, back), folded in itertools.product(_DETOURS, (False, True)):
        x, y, z = turned(hand.pose.quaternion, (0.0, 0.0, -back))
        away = [Waypoint(pose=moved(hand.pose, (x, y, z + rise)))] if rise or back else []
        try:
            legs = [hand.joints[None], *hand.legs(away)]
            for goal in (np.concatenate([legs[-1][-1][:1], home[1:]]), home) if folded else (home,):
                start = legs[-1][-1]
                legs.append(joint_path(start, goal, limits))
                hand.check_clearance(legs[-1], start)
            return np.concatenate(legs[1:])
        except MotionError:
            continue
    return direct


def together(state: WorldState, *skills: Skill) -> Skill:
    """Runs skills of several hands of one robot at the same time, all begun at `state`; finished hands wait for the others."""
    step, running = None, []
    for skill in skills:
        try:
            step = next(skill)  # all hands share one command, so the last step contains the targets of every hand
            running.append(skill)
        except StopIteration:
            continue
    while running and step is not None:
        state = yield step
        for skill in tuple(running):
            try:
                step = skill.send(state)
            except StopIteration:
                running.remove(skill)
    return state


def wait(hand: Hand, state: WorldState, duration_s: float) -> Skill:
    """Stays still for `duration_s` [s]."""
    for _ in range(round(duration_s * hand.control_hz)):
        state = yield hand.step()
    return state


def set_opening(hand: Hand, state: WorldState, opening: float) -> Skill:
    """Opens or closes the gripper to `opening` [m] at the configured speed."""
    return (yield from follow(hand, state, np.empty((0, hand.chain.dof)), opening=opening))


def lift(hand: Hand, state: WorldState, height: float) -> Skill:
    """Raises the tip straight up by `height` [m], or less if the arm cannot go as far."""
    return (yield from retreat(hand, state, (0.0, 0.0, height)))


def place(hand: Hand, state: WorldState, path: Floats, role: str, support: str) -> Skill:
    """Lowers the object under `role` along `path` until it rests on `support`, releases it, and retreats the same way."""
    taken = [hand.joints]
    for joints in path:
        if state.touching(f"{role}/", support):
            state = yield from follow(hand, state, hand.stop(taken[-1] - taken[-2] if len(taken) > 1 else np.zeros(len(joints))))
            break
        state = yield hand.step(joints)
        taken.append(joints)
    state = yield from wait(hand, state, 0.1)
    state = yield from set_opening(hand, state, min(hand.measured_opening(state) + 0.012, hand.open))
    return (yield from follow(hand, state, hand.retrace(np.array(taken))))


def grasp(hand: Hand, state: WorldState, role: str) -> Skill:
    """Closes until both fingers press on the object under `role`, then squeezes; closes fully if there is nothing between them.

    `holds` tells afterwards which happened.
    """
    speed = hand.config.opening_speed / hand.control_hz
    while hand.opening > 0.0 and not holds(hand, state, role):
        state = yield hand.step(opening=max(hand.opening - speed, 0.0))
    if holds(hand, state, role):
        target = max(hand.measured_opening(state) - hand.config.squeeze, hand.tightest)
        for _ in range(8):
            state = yield hand.step(opening=max(hand.opening - speed / 2, target))
    return state


def holds(hand: Hand, state: WorldState, role: str) -> bool:
    """Whether two parts of this hand press on the object, as its fingers do in a grasp."""
    return num_pressing(state, role, hand.config.contact_force, hand.chain.bodies) >= 2


def num_pressing(state: WorldState, role: str, force: float = 0.0, bodies: Collection[str] | None = None) -> int:
    """Number of robot bodies (of `bodies`, by default all) that press on the object under `role` with more than `force` [N]."""
    pressing: dict[str, float] = {}
    for contact in state.contacts:
        for body, other in ((contact.first, contact.second), (contact.second, contact.first)):
            if body.startswith("robot/") and other.startswith(f"{role}/") and (bodies is None or body in bodies):
                pressing[body] = pressing.get(body, 0.0) + contact.force
    return sum(total > force for total in pressing.values())
