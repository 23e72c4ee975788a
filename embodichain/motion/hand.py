"""A hand: one arm with its gripper. It plans paths through poses and stores the last command."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np

from embodichain.errors import MotionError
from embodichain.motion.clearance import Floats
from embodichain.motion.ik import IkConfig, reachable, solve, trace
from embodichain.motion.kinematics import Chain, place_along
from embodichain.motion.plan import (
    Limits,
    Sweep,
    cartesian_path,
    duration_s,
    joint_path,
    overrun,
    timing,
)
from embodichain.types import Fingers, Pose, Robot, Step, WorldState
from embodichain.types.poses import angle_between, compose, turn

_HALF_TURN = Pose(quaternion=turn((0.0, 0.0, 1.0), math.pi))
_DIRECT, _SYMMETRIC, _EXACT = IkConfig(symmetric=False), IkConfig(seeds=1), IkConfig(seeds=1, symmetric=False)
_ANY = IkConfig()


@lru_cache(maxsize=128)
def _attainable(chain: Chain, pose: Pose, exact: bool) -> bool:
    """`Hand.attains` with a cache, because planning asks for the same few poses again and again."""
    return reachable(chain, pose, _DIRECT if exact else _ANY)


@dataclass(frozen=True, slots=True, kw_only=True)
class HandConfig:
    """How hands move and grip: clearances [m] to table and other arm, opening speed [m/s], squeeze [m], smallest contact force [N].

    At a wrist singularity, the path may deviate from a line by `line_tolerance` [m] and `tilt_tolerance` [rad]. `squeeze` is the
    depth of a closed gripper's target inside the object; times the gripper's stiffness it is the grip force.
    """

    limits: Limits = field(default_factory=lambda: Limits(linear_speed=0.3, angular_speed=2.5))
    table_clearance: float = 0.002
    arms_clearance: float = 0.02
    meeting_clearance: float = 0.003
    obstacle_clearance: float = 0.008
    opening_speed: float = 0.15
    line_tolerance: float = 0.006
    tilt_tolerance: float = 0.15
    squeeze: float = 0.010
    contact_force: float = 0.5

    def __post_init__(self) -> None:
        for name in ("opening_speed", "squeeze", "contact_force"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Waypoint:
    """The next pose of the tip, reached on a straight line at `speed` [m/s] (0 means the limit), or by a motion in joint space.

    If `exact`, as for a hand that holds something, the gripper must not be turned by half a turn about its approach axis. `meeting`
    allows the smaller distance to another arm that a handover needs.
    """

    pose: Pose
    straight: bool = True
    speed: float = 0.0
    exact: bool = False
    meeting: bool = False


def moved(pose: Pose, offset: Sequence[float]) -> Pose:
    """Shifts a pose by `offset` [m] in the world frame."""
    x, y, z = (float(a + b) for a, b in zip(pose.position, offset, strict=True))
    return Pose(position=(x, y, z), quaternion=pose.quaternion)


def largest(hands: Sequence[Hand]) -> Fingers:
    """The size of the largest fingers of these hands, for plans that any of them may carry out."""
    sizes = [hand.fingers for hand in hands]
    return Fingers(
        half_width=max(size.half_width for size in sizes),
        thickness=max(size.thickness for size in sizes),
        below=max(size.below for size in sizes),
        above=max(size.above for size in sizes),
    )


class Hand:
    """One arm with its gripper. All hands of a robot share one command, so that arms that do not move keep their targets."""

    def __init__(self, robot: Robot, index: int, command: Floats, config: HandConfig | None = None) -> None:
        self.name = robot.arms[index].name
        self.chain = Chain.of(robot, index)
        self._arm = robot.arms[index]
        config = config or HandConfig()
        speed = min(config.opening_speed, self._arm.gripper_speed or math.inf)
        self.config = replace(config, opening_speed=speed, limits=self._own(replace(config.limits, control_hz=robot.control_hz)))
        self.open = robot.arms[index].gripper_open
        self.fingers = robot.arms[index].fingers
        """Size of its fingers."""
        self.tightest = -robot.arms[index].gripper_squeeze
        """Smallest opening that may be commanded [m]; negative, to squeeze."""
        self.obstacles: tuple[Floats, Floats] | None = None
        """Capsules that the arm must avoid: end points [m], shape [k, 2, 3], and radii [m], shape [k]."""
        self._command = command
        starts = np.cumsum([0, *(arm.command_size for arm in robot.arms)])
        self._joints = slice(int(starts[index]), int(starts[index + 1]) - 1)
        self._gripper = int(starts[index + 1]) - 1
        self._others = [
            (Chain.of(robot, i), slice(int(starts[i]), int(starts[i + 1]) - 1)) for i in range(len(robot.arms)) if i != index
        ]

    @staticmethod
    def all_of(robot: Robot, state: WorldState, config: HandConfig | None = None) -> tuple[Hand, ...]:
        """A hand for every arm of `robot`, with its measured position as command."""
        command = state.measured.copy()
        return tuple(Hand(robot, index, command, config) for index in range(len(robot.arms)))

    def imagined(self, *moved: tuple[Hand, Floats], joints: Floats | None = None) -> Hand:
        """A copy of the hand, as if it and other hands of the robot were commanded to other joints [rad]; to plan later motions."""
        twin = copy.copy(self)
        twin._command = self._command.copy()
        for hand, elsewhere in (*moved, *(((self, joints),) if joints is not None else ())):
            twin._command[hand._joints] = elsewhere
        return twin

    def paced(self, *, joint_speed: float, joint_acceleration: float) -> Hand:
        """A hand with the same command that plans with other joint limits [rad/s, rad/s^2]."""
        twin = copy.copy(self)
        limits = self._own(replace(self.config.limits, joint_speed=joint_speed, joint_acceleration=joint_acceleration))
        twin.config = replace(self.config, limits=limits)
        return twin

    def _own(self, limits: Limits) -> Limits:
        """The limits, with the joints no faster than the arm's slowest may turn."""
        return replace(limits, joint_speed=min(limits.joint_speed, *self._arm.joint_speed, math.inf))

    @property
    def control_hz(self) -> int:
        """Control steps a second [Hz], which are rows of a path."""
        return self.config.limits.control_hz

    @property
    def joints(self) -> Floats:
        """Last commanded joint targets [rad], shape [dof]."""
        return self._command[self._joints].copy()

    @property
    def opening(self) -> float:
        """Last commanded opening [m]."""
        return float(self._command[self._gripper])

    @property
    def at_home(self) -> bool:
        """Whether the arm's command is its home."""
        return bool(np.allclose(self.joints, self.chain.home, atol=1e-3))

    @property
    def pose(self) -> Pose:
        """Commanded pose of the tip, world_from_tip."""
        return self.chain.pose(self.joints)

    def measured_opening(self, state: WorldState) -> float:
        """Measured opening [m]."""
        return float(state.measured[self._gripper])

    def measured_pose(self, state: WorldState) -> Pose:
        """Measured pose of the tip, world_from_tip."""
        return self.chain.pose(state.measured[self._joints])

    def joints_in(self, command: Floats) -> Floats:
        """The hand's joints [rad] in a command or measurement of the whole robot."""
        return command[self._joints]

    def opening_in(self, command: Floats) -> float:
        """The hand's opening [m] in a command or measurement of the whole robot."""
        return float(command[self._gripper])

    def opened(self, command: Floats, opening: float) -> Floats:
        """A copy of the command with another opening [m] of this hand."""
        changed = command.copy()
        changed[self._gripper] = opening
        return changed

    def adopt(self, command: Floats) -> None:
        """Replaces the stored command by one that was sent in its place."""
        self._command[self._joints], self._command[self._gripper] = command[self._joints], command[self._gripper]

    def step(self, joints: Floats | None = None, opening: float | None = None) -> Step:
        """The next step with these targets; targets that are not given stay unchanged."""
        if joints is not None:
            self._command[self._joints] = joints
        if opening is not None:
            self._command[self._gripper] = opening
        return Step(command=self._command.copy())

    def travel(self, pose: Pose) -> float:
        """Largest change of any joint [rad] to bring the tip to `pose`; infinite if it is not reachable."""
        try:
            return float(np.max(np.abs(solve(self.chain, pose, self.joints) - self.joints)))
        except MotionError:
            return math.inf

    def attains(self, pose: Pose, *, exact: bool = False) -> bool:
        """Whether inverse kinematics finds `pose` or, unless `exact`, its half turn; the path there is not checked."""
        return _attainable(self.chain, pose, exact)

    def route(self, waypoints: Sequence[Waypoint], start: Floats | None = None) -> Floats:
        """Joint targets [rad], shape [T, dof], through the waypoints from `start` (by default the last command), resting at each.

        Raises MotionError when no branch of the inverse kinematics leads through all of them without collisions.
        """
        return np.concatenate([np.empty((0, self.chain.dof)), *self.legs(waypoints, start)])

    def legs(self, waypoints: Sequence[Waypoint], start: Floats | None = None) -> list[Floats]:
        """As `route`, one path for each waypoint."""
        start = self.joints if start is None else start
        if not waypoints:
            return []
        failure: MotionError | None = None
        ways = self._ways(waypoints[0], start)
        while ways:
            way = ways.pop(0)
            try:
                path = way()
                if waypoints[0].straight and len(ways) == 2:
                    ways.pop()  # a slower version of the same line has the same collisions and final joints: try only one
                self.check_clearance(path, start, meeting=waypoints[0].meeting)
                return [path, *self.legs(waypoints[1:], path[-1])]
            except MotionError as error:
                failure = failure or error
                if not all(self.attains(waypoint.pose, exact=waypoint.exact) for waypoint in waypoints):
                    break  # the goal itself is not reachable, so no branch or detour can help
        assert failure is not None
        raise failure

    def shift(self, offset: Sequence[float]) -> Floats:
        """A straight path by `offset` [m] in the world frame, shortened if necessary; raises MotionError if hardly possible."""
        failure: MotionError | None = None
        for fraction in (1.0, 0.6, 0.3):
            try:
                return self.route([Waypoint(pose=moved(self.pose, [fraction * value for value in offset]))])
            except MotionError as error:
                failure = failure or error
        assert failure is not None
        raise failure

    def sweep(self, pose_at: Callable[[float], Pose], speed: float, start: Floats) -> Floats:
        """Joint targets [rad], shape [T, dof], along a curve of tip poses; `pose_at(0)` must be the tip's pose at `start`.

        `pose_at` takes the progress 0..1; `speed` [m/s] is the largest tip speed, reduced if joint limits require it. Raises
        MotionError if the curve leaves the arm's reach.
        """
        points = np.array([pose_at(float(s)).position for s in np.linspace(0.0, 1.0, 17)])
        length = float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum())
        limits = self.config.limits
        duration = duration_s(length, speed, limits.linear_acceleration)
        longest = 4.0 * duration + 1.0
        while duration <= longest:
            poses = [pose_at(float(progress)) for progress in timing(duration, self.control_hz)]
            positions, quaternions = np.array([pose.position for pose in poses]), np.array([pose.quaternion for pose in poses])
            path = trace(self.chain, positions, quaternions, start, _SYMMETRIC)
            stretch = overrun(start, path, limits)
            if stretch <= 1.0:
                self.check_clearance(path, start)
                return path
            duration *= 1.05 * stretch
        raise MotionError(f"the {self.name} arm cannot follow the curve within its joint limits; choose another orientation or arm")

    def stop(self, velocity: Floats) -> Floats:
        """Joint targets [rad], shape [T, dof], that bring the arm to rest from `velocity` [rad/step]."""
        steps = self._ramp(velocity)
        fractions = np.cumsum(1.0 - np.arange(1, steps) / steps)
        return self.joints + fractions[:, None] * velocity

    def retrace(self, path: Floats) -> Floats:
        """Joint targets [rad], shape [T, dof], back along `path` from the last command, at the path's own speed after a ramp."""
        points = np.concatenate([self.joints[None], path[::-1]])
        steps = self._ramp(points[2] - points[1]) if len(points) > 2 else 1
        rates = np.minimum(np.arange(1, len(points) + steps) / steps, 1.0)
        covered = np.minimum(np.cumsum(rates), len(points) - 1)
        covered = covered[: int(np.argmax(covered == len(points) - 1)) + 1]
        return np.stack([np.interp(covered, np.arange(len(points)), joint) for joint in points.T], axis=1)

    def _ramp(self, velocity: Floats) -> int:
        """Number of control steps to decelerate from `velocity` [rad/step], or to accelerate to it."""
        fastest = float(np.max(np.abs(velocity))) * self.control_hz**2
        return max(1, math.ceil(fastest / self.config.limits.joint_acceleration))

    def _ways(self, waypoint: Waypoint, start: Floats) -> list[Callable[[], Floats]]:
        """Functions that plan candidate paths to one waypoint, best first; each raises MotionError if its path does not exist."""
        limits = self.config.limits
        if waypoint.straight:
            speed = waypoint.speed or limits.linear_speed
            ik = _EXACT if waypoint.exact else _SYMMETRIC
            return [
                lambda: self._quick_line(waypoint.pose, start, speed, ik),
                lambda: self._nearly_straight(waypoint.pose, start, waypoint.exact),
                lambda: cartesian_path(self.chain, start, waypoint.pose, speed=0.4 * speed, limits=limits, ik=ik),
            ]
        goals: list[Floats] = []
        failure: MotionError | None = None
        for pose in (waypoint.pose,) if waypoint.exact else (waypoint.pose, compose(waypoint.pose, _HALF_TURN)):
            for seed in (start, self.chain.home):
                try:
                    goals.append(solve(self.chain, pose, seed, _DIRECT))
                except MotionError as error:
                    failure = failure or error
                    break
        if not goals:
            assert failure is not None
            raise failure
        goals.sort(key=lambda goal: float(np.max(np.abs(goal - start))))
        return [lambda goal=goal: joint_path(start, goal, limits) for goal in goals]

    def _quick_line(self, pose: Pose, start: Floats, speed: float, ik: IkConfig) -> Floats:
        """The exact line; raises MotionError if a wrist singularity on it makes the arm very slow."""
        limits = self.config.limits
        path = cartesian_path(self.chain, start, pose, speed=speed, limits=limits, ik=ik)
        first, last = self.chain.pose(start), self.chain.pose(path[-1])
        unhindered = max(
            duration_s(math.dist(first.position, last.position), speed, limits.linear_acceleration),
            duration_s(angle_between(first.quaternion, last.quaternion), limits.angular_speed, limits.angular_acceleration),
        )
        if len(path) > 2.0 * unhindered * self.control_hz + 10:
            raise MotionError(f"the {self.name} arm passes a wrist singularity on the line to {pose.position}; use a via pose")
        return path

    def _nearly_straight(self, pose: Pose, start: Floats, exact: bool) -> Floats:
        """A path in joint space that stays near the line; it can pass wrist singularities that the exact line cannot."""
        goal = solve(self.chain, pose, start, _DIRECT if exact else _ANY)
        path = joint_path(start, goal, self.config.limits)
        first, last = self.chain.pose(start), self.chain.pose(path[-1])
        tips, quaternions = self.chain.tips(path[::2])
        line, along = np.subtract(last.position, first.position), tips - first.position
        aside = np.linalg.norm(along - np.outer(along @ line, line) / max(float(line @ line), 1e-12), axis=1)
        likeness = np.abs(quaternions @ np.transpose((first.quaternion, last.quaternion))).max(axis=1)
        tilt = 2.0 * np.arccos(np.minimum(likeness, 1.0))
        turning = angle_between(first.quaternion, last.quaternion)
        strays = (aside > self.config.line_tolerance) | (tilt > self.config.tilt_tolerance + turning)
        if strays.any():
            strayed = 1e3 * aside[np.argmax(strays)]
            raise MotionError(f"the {self.name} arm strays {strayed:.0f} mm from the line to {pose.position}; use a via pose")
        return path

    def surroundings(self) -> tuple[Floats, Floats]:
        """Capsules of other arms at their commands, and of fixed parts: end points [m], [k, 2, 3], and radii [m], [k]."""
        parts = self.chain.capsules
        ends, radii = [parts.ends[parts.frame < 0]], [parts.radius[parts.frame < 0]]
        for chain, joints in self._others:
            parts, moving = chain.capsules, chain.capsules.frame >= 0
            here = place_along(chain.positions, chain.rotations, self._command[joints][None], parts.frame, parts.ends)
            ends.append(here[0, moving])
            radii.append(parts.radius[moving])
        return np.concatenate(ends), np.concatenate(radii)

    def check_clearance(self, path: Floats, start: Floats, *, meeting: bool = False) -> None:
        """Raises MotionError when a path from `start` comes too close to the table, an obstacle or another resting arm."""
        config = self.config
        along = Sweep.of(self.chain, np.concatenate([path[::3], path[-1:]]))  # 60 ms apart, in which no part moves more than 2 cm
        begin = Sweep.of(self.chain, start)
        low = along.height()
        if low < min(config.table_clearance, begin.height()):
            raise MotionError(f"the {self.name} arm would come within {1e3 * low:.0f} mm of the table; approach from higher up")
        if self.obstacles is not None:
            allowed = begin.from_capsules(*self.obstacles, config.obstacle_clearance)
            gap = along.from_capsules(*self.obstacles, allowed)
            if gap < allowed:
                raise MotionError(f"the {self.name} arm would pass {1e3 * gap:.0f} mm from an obstacle; use a via pose")
        for chain, joints in self._others:
            resting = Sweep.of(chain, self._command[joints])
            allowed = begin.from_arm(resting, config.meeting_clearance if meeting else config.arms_clearance)
            gap = along.from_arm(resting, allowed, allowed)
            if gap < allowed:
                raise MotionError(
                    f"the {self.name} arm would pass {1e3 * gap:.0f} mm from the {chain.arm} arm; move that one first"
                )
