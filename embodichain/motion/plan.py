"""Time-parametrised joint and Cartesian paths under speed and acceleration limits, a row a control step; clearances of paths.

Timing is the minimum-jerk quintic s(τ) = 10τ³ - 15τ⁴ + 6τ⁵ (Flash and Hogan 1985); its largest speed is 15/8, and its largest
acceleration 10/√3, in units of distance and duration. Every path excludes its start and ends exactly at its goal, at rest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from embodichain.errors import MotionError
from embodichain.motion.clearance import Floats, lowest_along, place, smallest_gap_along, smallest_gap_between
from embodichain.motion.ik import IkConfig, trace
from embodichain.motion.kinematics import Chain, forward_frames, place_along
from embodichain.robots.geometry import BOLTED
from embodichain.types import CONTROL_HZ, Pose

_PEAK_SPEED = 15.0 / 8.0
_PEAK_ACCELERATION = 10.0 / math.sqrt(3.0)
_MOST_STRETCH = 4.0
"""A line is given up if joint limits require it to be slower by more than this factor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Speed limits of an arm: joints [rad/s, rad/s^2] always, the tip [m/s, rad/s] on Cartesian paths.

    `control_hz` is the number of control steps a second.
    """

    joint_speed: float = 2.0
    joint_acceleration: float = 8.0
    linear_speed: float = 0.25
    angular_speed: float = 1.5
    linear_acceleration: float = 1.5
    angular_acceleration: float = 8.0
    control_hz: int = CONTROL_HZ

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")


_DEFAULT = Limits()


def duration_s(distance: float, speed: float, acceleration: float) -> float:
    """Shortest time [s] in which a quintic covers `distance` under a speed and an acceleration limit."""
    return max(_PEAK_SPEED * distance / speed, math.sqrt(_PEAK_ACCELERATION * distance / acceleration))


def timing(duration: float, control_hz: int = CONTROL_HZ) -> Floats:
    """Progress 0..1 at each control step of a quintic of at least `duration` [s], shape [T], T >= 1; the last is exactly 1."""
    steps = max(1, math.ceil(duration * control_hz - 1e-9))
    tau = np.arange(1, steps + 1) / steps
    return tau**3 * (10.0 + tau * (6.0 * tau - 15.0))


def joint_path(q0: Floats, q1: Floats, limits: Limits = _DEFAULT) -> Floats:
    """A straight path in joint space from `q0` to `q1` [rad], joints synchronised: shape [T, dof], without q0, ending at q1."""
    q0, q1 = np.asarray(q0, np.float64), np.asarray(q1, np.float64)
    distance = float(np.max(np.abs(q1 - q0), initial=0.0))
    progress = timing(duration_s(distance, limits.joint_speed, limits.joint_acceleration), limits.control_hz)
    path = q0 + progress[:, None] * (q1 - q0)
    path[-1] = q1
    return path


def hold(q: Floats, duration: float, control_hz: int = CONTROL_HZ) -> Floats:
    """A path that stays at `q` for `duration` [s]: shape [T, dof]."""
    return np.tile(np.asarray(q, np.float64), (max(0, round(duration * control_hz)), 1))


def cartesian_path(
    chain: Chain,
    q0: Floats,
    target: Pose,
    *,
    speed: float | None = None,
    limits: Limits = _DEFAULT,
    ik: IkConfig | None = None,
) -> Floats:
    """A straight line of the tip from its pose at `q0` to `target`, with the orientation along the shortest arc.

    Returns joint angles [rad], shape [T, dof], without q0. `speed` [m/s] replaces the tip's limit. The path is slower if a joint
    would exceed its limits. With a symmetric `ik` (the default), the nearer of the gripper's two half turns is used. Raises
    MotionError if the line leaves the arm's reach or a joint would jump.
    """
    ik = ik or IkConfig(seeds=1)
    q0 = np.asarray(q0, np.float64)
    start_position, start_quaternion = chain.forward(q0)
    end_position = np.asarray(target.position, np.float64)
    end_quaternion = nearest_quaternion(start_quaternion, np.asarray(target.quaternion, np.float64), ik.symmetric)
    distance = float(np.linalg.norm(end_position - start_position))
    angle = 2.0 * math.acos(min(1.0, float(np.dot(start_quaternion, end_quaternion))))
    duration = max(
        duration_s(distance, speed or limits.linear_speed, limits.linear_acceleration),
        duration_s(angle, limits.angular_speed, limits.angular_acceleration),
    )
    longest = _MOST_STRETCH * duration + 1.0  # if joints jump to another branch, no duration is long enough
    while duration <= longest:
        progress = timing(duration, limits.control_hz)
        positions = start_position + progress[:, None] * (end_position - start_position)
        path = trace(chain, positions, slerp(start_quaternion, end_quaternion, progress), q0, ik)
        stretch = overrun(q0, path, limits)
        if stretch <= 1.0:
            return path
        duration = max(duration, progress.shape[0] / limits.control_hz) * stretch * 1.02
    raise MotionError(
        f"the {chain.arm} arm cannot follow the line to {target.position} within {limits.joint_speed} rad/s and"
        f" {limits.joint_acceleration} rad/s^2: it passes a singularity; move in joint space or through a via pose"
    )


def overrun(q0: Floats, path: Floats, limits: Limits) -> float:
    """Factor by which a path must be slowed down to obey the joint limits; at most 1 if it obeys them."""
    padded = np.concatenate([q0[None], q0[None], path, path[-1:]])
    velocity = np.diff(padded, axis=0) * limits.control_hz
    acceleration = np.diff(velocity, axis=0) * limits.control_hz
    speed_ratio = float(np.max(np.abs(velocity))) / limits.joint_speed
    # Finite differences over control steps may exceed the acceleration of the smooth quintic a little, hence the tolerance of 10%.
    acceleration_ratio = float(np.max(np.abs(acceleration))) / (1.1 * limits.joint_acceleration)
    return max(speed_ratio, math.sqrt(acceleration_ratio))


def nearest_quaternion(reference: Floats, quaternion: Floats, symmetric: bool) -> Floats:
    """The equivalent unit quaternion nearest to `reference`; `symmetric` also allows the half turn about Z."""
    q = quaternion / np.linalg.norm(quaternion)
    w, x, y, z = q
    candidates = [q, np.array([-z, y, -x, w])] if symmetric else [q]
    best = max(candidates, key=lambda c: abs(float(np.dot(reference, c))))
    return -best if np.dot(reference, best) < 0.0 else best


def slerp(a: Floats, b: Floats, fractions: Floats) -> Floats:
    """Unit quaternions, shape [T, 4], at `fractions` [T] of the shorter arc from `a` to `b`."""
    dot = float(np.dot(a, b))
    if dot < 0.0:
        b, dot = -b, -dot
    if dot > 1.0 - 1e-12:
        mixed = a + fractions[:, None] * (b - a)
    else:
        angle = math.acos(dot)
        mixed = (np.sin((1.0 - fractions) * angle)[:, None] * a + np.sin(fractions * angle)[:, None] * b) / math.sin(angle)
    return mixed / np.linalg.norm(mixed, axis=1, keepdims=True)


# ------------------------------------------------------------------------------------------------------------ clearance


def capsules(chain: Chain, q: Floats) -> Floats:
    """World end points [m] of `chain.capsules` at joints `q` [rad], shape [k, 2, 3]."""
    frames = forward_frames(chain.positions, chain.rotations, np.ascontiguousarray(q, np.float64))
    return place(*frames, chain.capsules.frame, chain.capsules.ends)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sweep:
    """The capsules of an arm at every point of a path: end points [m], shape [T, k, 2, 3]."""

    chain: Chain
    placed: Floats

    @staticmethod
    def of(chain: Chain, path: Floats) -> Sweep:
        """The sweep of `chain` along joints `path` [rad], shape [T, dof] or [dof]."""
        points = np.ascontiguousarray(np.atleast_2d(path), np.float64)
        own = chain.capsules
        return Sweep(chain=chain, placed=place_along(chain.positions, chain.rotations, points, own.frame, own.ends))

    def height(self) -> float:
        """Smallest height [m] of any moving part above z = 0."""
        return float(lowest_along(self.placed, self.chain.capsules.radius, self.chain.capsules.frame))

    def from_arm(self, other: Sweep, at_most: float = math.inf, enough: float = -math.inf) -> float:
        """Smallest distance [m] to an arm that moves at the same time, or `at_most` if that is smaller; a small bound is cheaper.

        Below `enough` [m], it is the smallest distance up to the first such point of the path.
        """
        ours = self.placed, self.chain.capsules.radius, _links(self.chain)
        theirs = other.placed, other.chain.capsules.radius, _links(other.chain)
        return float(smallest_gap_between(*ours, *theirs, at_most, enough))

    def from_capsules(self, ends: Floats, radius: Floats, at_most: float = math.inf) -> float:
        """As `from_arm`, to capsules at rest: end points [m], shape [k, 2, 3], and `radius` [m], shape [k]."""
        moving, still = np.flatnonzero(self.chain.capsules.frame != BOLTED), np.arange(len(radius))
        pairs = np.stack(np.meshgrid(moving, still, indexing="ij"), axis=-1).reshape(-1, 2).astype(np.int64)
        return float(smallest_gap_along(self.placed, self.chain.capsules.radius, ends[None], radius, pairs, at_most))


@lru_cache(maxsize=64)
def _links(chain: Chain) -> NDArray[np.int64]:
    """The number of capsules of each moving link, and their indices: shape [l, 1 + m], padded with zeros."""
    carried = [np.flatnonzero(chain.capsules.frame == frame) for frame in sorted({*chain.capsules.frame.tolist()} - {BOLTED})]
    links = np.zeros((len(carried), 1 + max(map(len, carried), default=0)), np.int64)
    for row, parts in zip(links, carried, strict=True):
        row[0], row[1 : 1 + len(parts)] = len(parts), parts
    return links


def table_clearance(chain: Chain, path: Floats) -> float:
    """Smallest height [m] of any moving part of the arm above the plane z = 0 along `path` [T, dof]; negative if below.

    Exact for capsules and boxes; cylinders are treated as capsules, fingers as wide open.
    """
    return Sweep.of(chain, path).height()


def self_clearance(chain: Chain, path: Floats) -> float:
    """Smallest distance [m] of the arm from itself and from fixed parts, except the table, along `path` [T, dof]."""
    own, placed = chain.capsules, Sweep.of(chain, path).placed
    return float(smallest_gap_along(placed, own.radius, placed, own.radius, own.pairs, math.inf))


def arms_clearance(first: Chain, first_path: Floats, second: Chain, second_path: Floats, at_most: float = math.inf) -> float:
    """Smallest distance [m] between two arms that move at the same time along paths [T, dof]; the shorter path waits at its end.

    Returns `at_most` [m] if that is smaller.
    """
    return Sweep.of(first, first_path).from_arm(Sweep.of(second, second_path), at_most)


def obstacle_clearance(chain: Chain, path: Floats, ends: Floats, radius: Floats) -> float:
    """Smallest distance [m] of the moving arm along `path` [T, dof] from capsules of end points [k, 2, 3] and `radius` [k]."""
    return Sweep.of(chain, path).from_capsules(ends, radius)
