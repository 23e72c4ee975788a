"""Recognises grippers whose fingers turn on hinges: closed linkages, and fingers coupled by equality constraints or a tendon.

Such a gripper has one degree of freedom that matters, its opening. It is found by turning the driven hinge of the model itself from
one end of its range to the other, slowly and without gravity, while the constraints, springs and limits of the file carry the other
joints along, and by measuring the gap between the two fingers at each position.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_HINGE, _SLIDE = int(mujoco.mjtJoint.mjJNT_HINGE), int(mujoco.mjtJoint.mjJNT_SLIDE)
_LOOPS = (int(mujoco.mjtEq.mjEQ_CONNECT), int(mujoco.mjtEq.mjEQ_WELD))
_OF_A_HAND = re.compile(r"jaw|finger|claw|knuckle|thumb|gripper$", re.IGNORECASE)
"""Names of hinges that belong to a hand, whatever else is known of them."""
_POSITIONS, _SETTLE = 24, 60
"""Positions of the driven hinge at which the gap is measured, and physics steps between two of them."""
_IMMOVABLE = 1e6
"""Inertia [kg m^2] of joints that no constraint may move while the linkage is measured."""
_CALM = 1e-3
"""Least damping [N m s/rad] of the joints that are carried along, so that they come to rest between two positions."""
_TOUCHING = 5e-4
"""Fingers nearer than this [m] touch."""
_FAR = 1.0
_TIP_DEPTH = 0.02
"""The pads of a finger are those of its parts that end this near [m] to its end."""
_MOVES = 0.2
"""A finger that moves by less than this share of the other's way stands still."""
_NARROWEST = 0.01
"""A gripper that opens less than this [m] is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Linkage:
    """A gripper of hinges, by ids: the driven joints that command it, and what the others do."""

    joints: tuple[int, ...]
    travel: tuple[float, ...]
    """Change of the opening for one unit of each driven joint [m/rad]."""
    closed: tuple[float, ...]
    """Position of each driven joint when the fingers touch [rad]."""
    ties: tuple[tuple[int, float, float], ...]
    """Driven joints that nothing in the file ties to the first: each with its position when the first is at 0 [rad], and its change
    for one unit of the first.
    """
    opening: float
    """Widest opening [m]."""
    positions: dict[int, float]
    """Every joint of the hand with its position when the gripper is open [rad]."""
    halfway: dict[int, float]
    """The same when it is half open."""
    fingers: tuple[tuple[int, ...], ...]
    """Bodies of each of the two fingers."""
    closing: Floats
    """Unit vector in the world frame along which the fingers close, at the arm's home."""
    deviation: float
    """Largest difference [m] between the true opening and the one that is linear in the angle."""


def hand_hinges(model: mujoco.MjModel, driven: Sequence[int]) -> set[int]:
    """Hinges of grippers: those that constraints or a tendon couple across two branches, and those that are named as of a hand.

    A hinge with a driven one below it that is none of these belongs to an arm. `driven` are all hinges that actuators drive.
    """
    found: set[int] = set()
    for group in _coupled(model):
        branches = [a for a in group for b in group if not (_is_below(model, a, b) or _is_below(model, b, a))]
        found |= {joint for joint in group if model.jnt_type[joint] == _HINGE} if branches else set()
    found |= {j for j in range(model.njnt) if model.jnt_type[j] == _HINGE and _OF_A_HAND.search(model.joint(j).name)}
    while True:
        arm = [joint for joint in driven if joint not in found]
        above = {joint for joint in found if any(_is_below(model, other, joint) for other in arm)}
        if not above:
            return found
        found -= above


def _coupled(model: mujoco.MjModel) -> list[set[int]]:
    """Groups of joints that move together: by equality of joints, in a closed loop of bodies, or on one fixed tendon."""
    groups: list[set[int]] = []
    for index in range(model.neq):
        first, second = int(model.eq_obj1id[index]), int(model.eq_obj2id[index])
        if model.eq_type[index] == mujoco.mjtEq.mjEQ_JOINT and second >= 0:
            groups.append({first, second})
        elif int(model.eq_type[index]) in _LOOPS:
            one, other = (_path(model, body) for body in _bodies(model, index))
            if one and other:
                groups.append(set(one) ^ set(other))
    for tendon in range(model.ntendon):
        wraps = range(model.tendon_adr[tendon], model.tendon_adr[tendon] + model.tendon_num[tendon])
        groups.append({int(model.wrap_objid[w]) for w in wraps if model.wrap_type[w] == mujoco.mjtWrap.mjWRAP_JOINT})
    merged: list[set[int]] = []
    for group in filter(None, groups):
        touching = [other for other in merged if other & group]
        merged = [other for other in merged if not other & group] + [set().union(group, *touching)]
    return merged


def _bodies(model: mujoco.MjModel, equality: int) -> tuple[int, int]:
    """The two bodies that a connect or weld constraint holds together; 0 is the world."""
    first, second = int(model.eq_obj1id[equality]), int(model.eq_obj2id[equality])
    if model.eq_objtype[equality] == mujoco.mjtObj.mjOBJ_SITE:
        return int(model.site_bodyid[first]), int(model.site_bodyid[second])
    return first, max(second, 0)


def _path(model: mujoco.MjModel, body: int) -> list[int]:
    """The joints between a body and the world."""
    found: list[int] = []
    while body:
        found += range(model.body_jntadr[body], model.body_jntadr[body] + model.body_jntnum[body])
        body = int(model.body_parentid[body])
    return found


def _is_below(model: mujoco.MjModel, joint: int, other: int) -> bool:
    """Whether `other` moves `joint`; also when they are the same."""
    return other in _path(model, int(model.jnt_bodyid[joint]))


def find_linkage(
    model: mujoco.MjModel, data: mujoco.MjData, last: int, hand: Sequence[int], driven: Sequence[int], under: Iterable[int]
) -> Linkage | str:
    """The gripper of these hinges, with the arm at the posture of `data`; or why there is none.

    `last` is the last joint of the arm, `hand` are the joints beyond it, `driven` those of them that actuators drive, `under` the
    bodies from the last link on.
    """
    names = ", ".join(repr(model.joint(joint).name) for joint in hand)
    if not driven:
        return f"no actuator drives any of its joints {names}: give one of them a <position> actuator"
    fingers = _fingers(model, hand, set(under))
    if len(fingers) != 2:
        return (
            f"its joints {names} move {len(fingers)} separate fingers, and a gripper has 2 that close on each other: weld or "
            "remove the others, or give the arm another hand"
        )
    leader = driven[0]
    ends = _range(model, leader)
    if ends is None:
        return f"its driven joint {model.joint(leader).name!r} has no range: give it one, from open to closed"
    loose = [joint for joint in driven[1:] if not _tied(model, leader, joint)]
    ranges = [_range(model, joint) for joint in loose]
    if None in ranges:
        return f"its driven joint {model.joint(loose[ranges.index(None)]).name!r} has no range: give it one, from open to closed"
    best: _Measured | None = None
    for turned in (False, True) if loose else (False,):
        followers = [(joint, (r[1], r[0]) if turned else r) for joint, r in zip(loose, ranges, strict=True) if r is not None]
        measured = _measure(model, data, last, hand, leader, ends, followers, fingers)
        if best is None or np.ptp(measured.gaps) > np.ptp(best.gaps):
            best = measured
    assert best is not None
    return _linkage(model, best, hand, leader, loose, fingers, names)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Measured:
    """What was measured at each position of the driven joints."""

    gaps: Floats
    """Distance between the fingers [m], shape [P]."""
    positions: Floats
    """Positions of all joints of the hand, shape [P, J]."""
    travels: tuple[float, ...]
    """How far the pads of each finger move [m]."""
    closing: Floats


def _linkage(
    model: mujoco.MjModel,
    measured: _Measured,
    hand: Sequence[int],
    leader: int,
    loose: Sequence[int],
    fingers: tuple[tuple[int, ...], ...],
    names: str,
) -> Linkage | str:
    gaps, positions = measured.gaps, measured.positions
    still = int(np.argmin(measured.travels))
    if measured.travels[still] < _MOVES * max(measured.travels):
        names = ", ".join(repr(model.joint(joint).name) for joint in hand if int(model.jnt_bodyid[joint]) in fingers[still])
        return (
            f"its finger with the joints {names} stays where it is when {model.joint(leader).name!r} turns: couple them by an "
            "<equality><joint>, or give it an actuator too"
        )
    if gaps[0] < gaps[-1]:  # from open to closed
        gaps, positions = gaps[::-1], positions[::-1]
    touching = int(np.argmax(gaps <= _TOUCHING)) if (gaps <= _TOUCHING).any() else len(gaps) - 1
    gaps, positions = gaps[: touching + 1], positions[: touching + 1]
    opening = float(gaps[0])
    if touching < 2 or opening < _NARROWEST:
        return (
            f"its joints {names} open a gap of {1e3 * opening:.0f} mm between the fingers, at least {1e3 * _NARROWEST:.0f} mm "
            "needed: check the range of the driven joint, and that constraints couple the fingers"
        )
    if (np.diff(gaps) > 2e-3).any():
        return f"its joints {names} do not close steadily as {model.joint(leader).name!r} turns: shorten its range to where they do"
    columns = {joint: index for index, joint in enumerate(hand)}
    driven = [leader, *loose]
    angles = positions[:, [columns[joint] for joint in driven]]
    onward = float(np.clip(gaps[-1] / max(gaps[-2] - gaps[-1], 1e-9), -1.0, 3.0))  # to where the gap is 0, in steps of the last
    shut = angles[-1] + onward * (angles[-1] - angles[-2])
    travel = opening / len(driven) / (angles[0] - shut)
    linear = ((angles - shut) * travel).sum(axis=1)
    slopes = (angles[-1, 1:] - angles[0, 1:]) / (angles[-1, 0] - angles[0, 0])
    ties = tuple(
        (joint, float(start - slope * angles[0, 0]), float(slope))
        for joint, start, slope in zip(loose, angles[0, 1:], slopes, strict=True)
    )
    half = int(np.argmin(np.abs(gaps - 0.5 * opening)))
    return Linkage(
        joints=tuple(driven),
        travel=tuple(float(value) for value in travel),
        closed=tuple(float(value) for value in shut),
        ties=ties,
        opening=opening,
        positions={joint: float(positions[0, columns[joint]]) for joint in hand},
        halfway={joint: float(positions[half, columns[joint]]) for joint in hand},
        fingers=fingers,
        closing=measured.closing,
        deviation=float(np.max(np.abs(linear - gaps))),
    )


def _measure(
    model: mujoco.MjModel,
    data: mujoco.MjData,
    last: int,
    hand: Sequence[int],
    leader: int,
    ends: tuple[float, float],
    followers: Sequence[tuple[int, tuple[float, float]]],
    fingers: tuple[tuple[int, ...], ...],
) -> _Measured:
    """Turns the driven joints through their ranges, and lets constraints, springs and limits move the others."""
    model, moved = copy.copy(model), [leader, *(joint for joint, _ in followers)]
    model.opt.gravity[:] = 0.0
    model.opt.timestep, model.opt.integrator = 0.002, mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_CONTACT | mujoco.mjtDisableBit.mjDSBL_ACTUATION)
    free = model.jnt_dofadr[[joint for joint in hand if joint not in moved]]
    held = np.setdiff1d(np.arange(model.nv), free)
    model.dof_armature[held] = _IMMOVABLE
    model.dof_damping[free] = np.maximum(model.dof_damping[free], _CALM)
    trial = mujoco.MjData(model)
    trial.qpos[:] = data.qpos
    addresses = model.jnt_qposadr[list(hand)]
    gaps, positions, mids, places = [], [], [], []
    for share in np.linspace(0.0, 1.0, _POSITIONS):
        for joint, (low, high) in ((leader, ends), *followers):
            trial.qpos[model.jnt_qposadr[joint]] = low + share * (high - low)
        fixed = trial.qpos.copy()
        fixed[model.jnt_qposadr[[joint for joint in hand if joint not in moved]]] = np.nan
        kept = ~np.isnan(fixed)
        for _ in range(_SETTLE if share else 10 * _SETTLE):
            mujoco.mj_step(model, trial)
            trial.qpos[kept] = fixed[kept]
            trial.qvel[held] = 0.0
        trial.qvel[:] = 0.0
        mujoco.mj_forward(model, trial)
        positions.append(trial.qpos[addresses].copy())
        pads = [pad_geoms(model, trial, bodies, trial.xanchor[last]) for bodies in fingers]
        gaps.append(gap_between(model, trial, *pads))
        places.append([trial.xpos[model.geom_bodyid[pad[0]]].copy() for pad in pads])
        mids.append(trial.geom_xpos[pads[0]].mean(axis=0) - trial.geom_xpos[pads[1]].mean(axis=0))
    closing = mids[int(np.argmax(gaps))]
    spans = np.ptp(np.array(places), axis=0)
    return _Measured(
        gaps=np.array(gaps),
        positions=np.array(positions),
        travels=tuple(float(np.linalg.norm(span)) for span in spans),
        closing=closing / max(float(np.linalg.norm(closing)), 1e-9),
    )


def _range(model: mujoco.MjModel, joint: int) -> tuple[float, float] | None:
    return (float(model.jnt_range[joint, 0]), float(model.jnt_range[joint, 1])) if model.jnt_limited[joint] else None


def _tied(model: mujoco.MjModel, leader: int, joint: int) -> bool:
    """Whether equality of joints ties one to the other, directly or through others."""
    reached, grown = {leader}, True
    while grown:
        grown = False
        for index in range(model.neq):
            if model.eq_type[index] == mujoco.mjtEq.mjEQ_JOINT:
                pair = {int(model.eq_obj1id[index]), int(model.eq_obj2id[index])}
                if len(pair & reached) == 1 and -1 not in pair:
                    reached |= pair
                    grown = True
    return joint in reached


def _fingers(model: mujoco.MjModel, hand: Sequence[int], under: set[int]) -> tuple[tuple[int, ...], ...]:
    """The bodies that the hand's joints move, in parts that hang together by parents or loops; parts without a shape left out."""
    roots = {int(model.jnt_bodyid[joint]) for joint in hand}
    moved = {body for body in under if roots & set(_ancestors(model, body))}
    part = {body: body for body in moved}

    def join(first: int, second: int) -> None:
        one, other = part[first], part[second]
        for body, root in part.items():
            part[body] = one if root == other else root

    for body in moved:
        if int(model.body_parentid[body]) in moved:
            join(body, int(model.body_parentid[body]))
    for index in range(model.neq):
        if int(model.eq_type[index]) in _LOOPS:
            first, second = _bodies(model, index)
            if first in moved and second in moved:
                join(first, second)
    parts: dict[int, list[int]] = {}
    for body in sorted(moved):
        parts.setdefault(part[body], []).append(body)
    shaped = [tuple(bodies) for bodies in parts.values() if any(model.body_geomnum[body] for body in bodies)]
    return tuple(sorted(shaped))


def _ancestors(model: mujoco.MjModel, body: int) -> list[int]:
    found = []
    while body:
        found.append(body)
        body = int(model.body_parentid[body])
    return found


def pad_geoms(model: mujoco.MjModel, data: mujoco.MjData, bodies: Iterable[int], origin: Floats) -> list[int]:
    """The parts at the end of a finger, which press on objects: those that reach farthest from `origin` [m], the last wrist joint.

    Where some parts of the finger collide, only those count.
    """
    of_bodies = set(bodies)
    geoms = [geom for geom in range(model.ngeom) if int(model.geom_bodyid[geom]) in of_bodies]
    geoms = [geom for geom in geoms if model.geom_contype[geom] or model.geom_conaffinity[geom]] or geoms
    away = np.mean([data.geom_xpos[geom] for geom in geoms], axis=0) - origin
    away /= max(float(np.linalg.norm(away)), 1e-9)
    ends = [float((corners(model, data, geom) @ away).max()) for geom in geoms]
    return [geom for geom, end in zip(geoms, ends, strict=True) if end > max(ends) - _TIP_DEPTH]


def corners(model: mujoco.MjModel, data: mujoco.MjData, geom: int) -> Floats:
    """Corners [8, 3] of a geom's bounding box in the world frame [m]."""
    center, half = model.geom_aabb[geom, :3], model.geom_aabb[geom, 3:]
    local = center + half * np.array([(i, j, k) for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)])
    return local @ data.geom_xmat[geom].reshape(3, 3).T + data.geom_xpos[geom]


def gap_between(model: mujoco.MjModel, data: mujoco.MjData, first: Sequence[int], second: Sequence[int]) -> float:
    """Smallest distance [m] between two groups of geoms; at most 1, and 0 or less where they touch."""
    between = np.zeros(6)
    return min((float(mujoco.mj_geomDistance(model, data, a, b, _FAR, between)) for a in first for b in second), default=_FAR)
