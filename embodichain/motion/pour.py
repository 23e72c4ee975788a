"""Pouring: grips upright vessels from the side, and empties one into another that a second hand holds.

Vessels are solids of revolution about their Z axis, so all sides are equivalent. While a vessel tilts, the lowest point of its rim
stays over the mouth of the one below, so that the content falls into it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from embodichain.errors import MotionError
from embodichain.motion.clearance import Floats, segment_distance
from embodichain.motion.frames import affordance
from embodichain.motion.hand import Hand, Waypoint, moved
from embodichain.motion.handling import object_pose
from embodichain.motion.ik import IkConfig, solve, trace
from embodichain.motion.plan import joint_path, obstacle_clearance
from embodichain.motion.skills import Skill, follow, grasp, holds, wait
from embodichain.types import Asset, Pose, Scene, Vec3, WorldState, rotate
from embodichain.types.poses import compose, frame, inverse, multiply, turn, turned

_ELEVATIONS = (math.radians(25.0), math.radians(15.0))
"""Slants [rad] below the horizontal of a hand that grips a vessel; at these, rotating the wrist tilts the vessel most."""
_WAYS = 24
"""Number of sides from which a grip is tried."""
_BEFORE = (0.065, 0.055)
"""Lengths [m] of the straight final approach to a grip; the first possible one is used."""
_AROUND = 0.12
"""Additional height of a detour if the direct approach is blocked [m]."""
_GAP = 0.004
"""Smallest distance [m] between a carried vessel and other objects."""
_HEADINGS, _SPINS = 12, 12
"""Numbers of pouring directions, and of rotations of the vessel relative to the hand, that are tried."""
_MOST = 24
"""Most candidates that are planned completely."""
_RAISED = (0.0, 0.06, 0.1)
"""Heights [m] above the start of the tilt over which a vessel is carried; the first possible one is used."""
_MIDDLE = 0.65
_SAME = 0.02
"""Joint angles that differ by less [rad] count as equal."""
_SEEDS, _CONTINUED = IkConfig(symmetric=False, seeds=8), IkConfig(symmetric=False, seeds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class PourConfig:
    """How a vessel is emptied: angles from upright [rad], lengths [m], times [s].

    The vessel is carried at an angle below `lean`, then tilted from `ready` to `end`. Meanwhile its lip stays `ahead` of the axis
    of the mouth below, and sinks from `high` to `low` above it; the tip moves at `speed` [m/s]. Then it waits for `drain_s`.
    """

    lean: float = math.radians(79.0)
    ready: float = math.radians(74.0)
    end: float = math.radians(104.0)
    ahead: float = 0.017
    high: float = 0.024
    low: float = 0.008
    speed: float = 0.06
    drain_s: float = 0.35


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Standing:
    """A vessel at its present pose, world_from_vessel, with its bounding cylinder [m]."""

    role: str
    pose: Pose
    radius: float
    height: float
    grip: float
    """Height of the grip [m]."""
    lip: float
    """Radius of its rim [m]."""

    @classmethod
    def of(cls, scene: Scene, state: WorldState, role: str) -> Standing:
        """The vessel under `role` in its present state."""
        asset: Asset = scene.object(role).asset
        rim = affordance(asset, "pour_rim", Pose()).position
        return cls(
            role=role,
            pose=object_pose(scene, state, role),
            radius=float(asset.bounds[1, 0]),
            height=float(asset.bounds[1, 2]),
            grip=affordance(asset, "side_grasp", Pose()).position[2],
            lip=math.hypot(rim[0], rim[1]),
        )

    def capsule(self, pose: Pose | None = None) -> tuple[Floats, float]:
        """A capsule around the vessel, end points [2, 3] and radius [m], at its own or another pose."""
        at = pose or self.pose
        ends = np.array([(0.0, 0.0, self.radius), (0.0, 0.0, self.height - self.radius)])
        return rotate(at.quaternion, ends) + at.position, self.radius


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Taking:
    """A planned grip of a vessel: the path to before it, and the path to around it."""

    hand: Hand
    approach: Floats
    descent: Floats
    held: Pose
    """tip_from_vessel in the grip."""

    @property
    def path(self) -> Floats:
        """Both paths, concatenated."""
        return np.concatenate([self.approach, self.descent])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pouring:
    """A planned pouring: the path to above the other vessel, and the tilt."""

    carry: Floats
    tilt: Floats


def takings(
    hand: Hand, vessel: Standing, others: Sequence[Standing], astray: Sequence[Vec3] = (), most: int = 12
) -> Iterator[Taking]:
    """Yields grips of a vessel from the side that avoid other vessels, those with little travel first.

    `astray` displaces the grip in the tip's frame by the first of these vectors [m] that is possible, to provoke a failure.
    """
    x, y, _ = vessel.pose.position
    ways: list[tuple[float, Pose]] = []
    for elevation, number in itertools.product(_ELEVATIONS, range(_WAYS)):
        azimuth = 2.0 * math.pi * number / _WAYS
        flat = (math.cos(azimuth), math.sin(azimuth))
        approach = (math.cos(elevation) * flat[0], math.cos(elevation) * flat[1], -math.sin(elevation))
        tip = frame((x, y, vessel.grip), approach, (-flat[1], flat[0], 0.0))
        travel = hand.travel(tip)
        if travel < math.inf:
            ways.append((travel, tip))
    ways.sort(key=lambda way: way[0])
    found = 0
    for _, tip in ways:
        if found == most:
            return
        for offset in astray or ((0.0, 0.0, 0.0),):
            try:
                approach, descent = _approach(hand, compose(tip, Pose(position=offset)), vessel, others)
            except MotionError:
                continue
            found += 1
            yield Taking(
                hand=hand, approach=approach, descent=descent, held=compose(inverse(hand.chain.pose(descent[-1])), vessel.pose)
            )
            break


def _approach(hand: Hand, tip: Pose, vessel: Standing, others: Sequence[Standing]) -> tuple[Floats, Floats]:
    """The path to before a grip that avoids all vessels, and the straight path to it."""
    failure: MotionError | None = None
    wary, bold = _wary(hand, (vessel, *others)), _wary(hand, others)
    for before, higher in itertools.product(_BEFORE, (False, True)):
        back = compose(tip, Pose(position=(0.0, 0.0, -before)))
        above = [Waypoint(pose=moved(back, (0.0, 0.0, _AROUND)), straight=False)] if higher else []
        try:
            approach = wary.route([*above, Waypoint(pose=back, straight=higher)])
            return approach, bold.route([Waypoint(pose=tip)], approach[-1])
        except MotionError as error:
            failure = failure or error
    assert failure is not None
    raise failure


def _wary(hand: Hand, vessels: Sequence[Standing]) -> Hand:
    """A copy of the hand with vessels as obstacles."""
    twin = hand.imagined()
    if vessels:
        capsules = [vessel.capsule() for vessel in vessels]
        twin.obstacles = np.array([ends for ends, _ in capsules]), np.array([radius for _, radius in capsules])
    return twin


def plan_pour(
    hand: Hand, start: Floats, held: Pose, vessel: Standing, into: Standing, holder: Hand, config: PourConfig | None = None
) -> Pouring:
    """Plans how a hand that holds a vessel (`held`: tip_from_vessel) empties it into another, which `holder` holds.

    Raises MotionError when there is no such motion.
    """
    config = config or PourConfig()
    vessel_from_tip = inverse(held)
    failure = MotionError(f"the {hand.name} arm has no way to pour from the {vessel.role} into the {into.role}; move it nearer")
    ways: list[tuple[float, Floats, Callable[[float], Pose]]] = []
    for heading, spin in itertools.product(range(_HEADINGS), range(_SPINS)):
        phi, psi = 2.0 * math.pi * heading / _HEADINGS, 2.0 * math.pi * spin / _SPINS

        def pose_at(progress: float, phi: float = phi, psi: float = psi) -> Pose:
            tilt = config.ready + progress * (config.end - config.ready)
            height = config.high + min(2.0 * progress, 1.0) * (config.low - config.high)
            return compose(_tilted(vessel, into, phi, psi, tilt, height, config.ahead), vessel_from_tip)

        try:
            ready = _ready(hand, pose_at, start)
        except MotionError:
            continue
        ways.append((float(np.max(np.abs(ready - start))), ready, pose_at))
    ways.sort(key=lambda way: way[0])
    twin = _wary(hand, (into,))
    for _, ready, tilting in ways[:_MOST]:
        try:
            tilt = twin.sweep(tilting, config.speed, ready)
            _check_carried(hand, tilt, held, vessel, into, holder, config.end)
        except MotionError as error:
            failure = error
            continue
        for raised in _RAISED:
            try:
                carry = _carry(twin, start, ready, tilting(0.0), raised)
                _check_carried(hand, carry, held, vessel, into, holder, config.lean)
                return Pouring(carry=carry, tilt=tilt)
            except MotionError as error:
                failure = error
    raise failure


def _ready(hand: Hand, pose_at: Callable[[float], Pose], start: Floats) -> Floats:
    """Joints [rad] at which the tilt begins, found backwards from its middle, where the wrist is closest to its limits."""
    middle = solve(hand.chain, pose_at(_MIDDLE), start, _SEEDS)
    poses = [pose_at(float(progress)) for progress in np.linspace(_MIDDLE, 0.0, 13)[1:]]
    positions, quaternions = np.array([pose.position for pose in poses]), np.array([pose.quaternion for pose in poses])
    return trace(hand.chain, positions, quaternions, middle, _CONTINUED)[-1]


def _carry(hand: Hand, start: Floats, ready: Floats, pose: Pose, raised: float) -> Floats:
    """The path to the start of the tilt (`pose`, at the joints `ready`), directly or from `raised` [m] above it."""
    if raised == 0.0:
        path = joint_path(start, ready, hand.config.limits)
    else:
        above = solve(hand.chain, moved(pose, (0.0, 0.0, raised)), ready, _CONTINUED)
        down = hand.route([Waypoint(pose=pose, exact=True)], above)
        if float(np.max(np.abs(down[-1] - ready))) > _SAME:
            raise MotionError(f"the {hand.name} arm comes down another way than it would tilt; pour in another direction")
        path = np.concatenate([joint_path(start, above, hand.config.limits), down])
    hand.check_clearance(path, start)
    return path


def _tilted(vessel: Standing, into: Standing, phi: float, psi: float, tilt: float, height: float, ahead: float) -> Pose:
    """Pose of a vessel tilted by `tilt` towards `phi`, with its lip `height` above the mouth below and `ahead` of its axis."""
    leaning = multiply(turn((0.0, 0.0, 1.0), phi), turn((0.0, 1.0, 0.0), tilt))
    x, y, z = turned(leaning, (vessel.lip, 0.0, vessel.height))
    a, b, c = compose(into.pose, Pose(position=(0.0, 0.0, into.height))).position
    position = (a - ahead * math.cos(phi) - x, b - ahead * math.sin(phi) - y, c + height - z)
    return Pose(position=position, quaternion=multiply(leaning, turn((0.0, 0.0, 1.0), psi)))


def _check_carried(hand: Hand, path: Floats, held: Pose, vessel: Standing, into: Standing, holder: Hand, most: float) -> None:
    """Raises MotionError if a carried vessel leans by more than `most` [rad] or comes too close to anything."""
    fixed, wide = into.capsule()
    for joints in np.concatenate([path[::4], path[-1:]]):
        at = compose(hand.chain.pose(joints), held)
        upright = turned(at.quaternion, (0.0, 0.0, 1.0))[2]
        if upright < math.cos(most) - 0.02:
            raise MotionError(f"the {vessel.role} would lean over by {math.degrees(math.acos(upright)):.0f} degrees on its way")
        low = at.position[2] - vessel.radius * math.sqrt(max(1.0 - upright * upright, 0.0))
        if low < _GAP:
            raise MotionError(f"the {vessel.role} would come within {1e3 * low:.0f} mm of the table on its way")
        ends, radius = vessel.capsule(at)
        gap = segment_distance(ends[0], ends[1], fixed[0], fixed[1]) - radius - wide
        if gap < _GAP:
            raise MotionError(f"the {vessel.role} would pass {1e3 * gap:.0f} mm from the {into.role}")
        gap = obstacle_clearance(holder.chain, holder.joints, ends[None], np.array([radius]))
        if gap < _GAP:
            raise MotionError(f"the {vessel.role} would pass {1e3 * gap:.0f} mm from the {holder.name} arm")


def take(taking: Taking, hand: Hand, state: WorldState, role: str) -> Skill:
    """Goes to a vessel and grips it; if it is not between the fingers, goes back the same way. `holds` tells which happened."""
    state = yield from follow(hand, state, taking.approach, opening=hand.open)
    state = yield from follow(hand, state, taking.descent)
    state = yield from grasp(hand, state, role)
    if not holds(hand, state, role):
        state = yield from follow(hand, state, hand.retrace(taking.descent), opening=hand.open)
    return state


def pour(hand: Hand, state: WorldState, pouring: Pouring, config: PourConfig | None = None) -> Skill:
    """Tilts a vessel that is in its place until it is empty, and turns it upright again along the same path."""
    config = config or PourConfig()
    state = yield from follow(hand, state, pouring.tilt)
    state = yield from wait(hand, state, config.drain_s)
    return (yield from follow(hand, state, hand.retrace(pouring.tilt)))
