"""Finds the arms in a MuJoCo model, their grippers, and the frames of their tips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from embodichain.errors import RobotError
from embodichain.robots.linkages import corners, hand_hinges

_HINGE, _SLIDE, _FREE = (int(k) for k in (mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE, mujoco.mjtJoint.mjJNT_FREE))
_TIP_WORDS = ("tcp", "pinch", "grasp", "grip", "tip", "attachment", "eef", "ee", "tool")
_FINGER_DEPTH = 0.010
"""Distance of the tip behind the ends of the fingers [m], as on the built-in platform, so that grips suit both."""
_NAMED_DEPTH = (0.004, 0.016)
"""A named site that is this far behind them is the tip [m]. One farther back marks the flange, and gives the axis alone."""
_NAMED_ASIDE = 0.02
"""A named site farther than this [m] from the middle of the fingers marks something else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limb:
    """One arm in a model, by ids: hinges from base to wrist, prismatic joints of the gripper, other hinges beyond the wrist
    (`hinges`) with those that are driven, the body that carries the fingers (`hand`), and all bodies that the first hinge moves.
    """

    joints: list[int]
    slides: list[int]
    hinges: list[int]
    driven: list[int]
    hand: int
    bodies: list[int]

    @staticmethod
    def driven_by(model: mujoco.MjModel, actuator: int) -> dict[int, float]:
        """The joints that an actuator drives, directly or through a fixed tendon, with its lever on each."""
        kind, target = int(model.actuator_trntype[actuator]), int(model.actuator_trnid[actuator, 0])
        if kind in (int(mujoco.mjtTrn.mjTRN_JOINT), int(mujoco.mjtTrn.mjTRN_JOINTINPARENT)):
            return {target: float(model.actuator_gear[actuator, 0])}
        if kind == int(mujoco.mjtTrn.mjTRN_TENDON):
            wraps = range(model.tendon_adr[target], model.tendon_adr[target] + model.tendon_num[target])
            gear = float(model.actuator_gear[actuator, 0])
            joints = [w for w in wraps if model.wrap_type[w] == mujoco.mjtWrap.mjWRAP_JOINT]
            return {int(model.wrap_objid[w]): gear * float(model.wrap_prm[w]) for w in joints}
        return {}

    @staticmethod
    def force_limit(model: mujoco.MjModel, joint: int) -> float:
        """Largest force or torque [N, N m] that actuators may exert on a joint by the file; 0 when it sets no limit."""
        limits = [float(np.max(np.abs(model.jnt_actfrcrange[joint])))] if model.jnt_actfrclimited[joint] else []
        for actuator in range(model.nu):
            lever = abs(Limb.driven_by(model, actuator).get(joint, 0.0))
            if lever and model.actuator_forcelimited[actuator]:
                limits.append(lever * float(np.max(np.abs(model.actuator_forcerange[actuator]))))
            elif lever and model.actuator_biastype[actuator] == mujoco.mjtBias.mjBIAS_NONE and model.actuator_ctrllimited[actuator]:
                control = float(np.max(np.abs(model.actuator_ctrlrange[actuator])))
                limits.append(lever * control * abs(float(model.actuator_gainprm[actuator, 0])))
        return min(limits, default=0.0)


def find_limbs(model: mujoco.MjModel, what: str) -> list[Limb]:
    """The arms of a model, in the order of their joints. `what` names the file in errors; raises RobotError without one."""
    driven = sorted({joint for actuator in range(model.nu) for joint in Limb.driven_by(model, actuator)})
    hinges = [joint for joint in driven if model.jnt_type[joint] == _HINGE]
    of_hands = hand_hinges(model, hinges)
    parent = {joint: _hinge_above(model, joint, hinges) for joint in hinges}
    children: dict[int | None, list[int]] = {}
    for joint in hinges:
        children.setdefault(parent[joint], []).append(joint)
    starts, runs = list(children.get(None, [])), []
    while starts:
        run = [starts.pop()]
        while len(following := children.get(run[-1], [])) == 1 and following[0] not in of_hands:
            run += following
        runs.append(run)
        starts += [joint for joint in following if joint not in of_hands]
    longest = max((len(run) for run in runs), default=0)
    if longest < 2:
        kinds = f"{model.njnt} joints and {model.nu} actuators, {len(hinges)} hinges among the joints driven"
        raise RobotError(
            f"{what} has no actuated hinge chain (it has {kinds}): a robot needs actuators on the hinges of at least one serial arm"
        )
    arms = sorted(run for run in runs if len(run) >= min(4, longest))
    return [_limb(model, run, driven, what) for run in arms]


def _hinge_above(model: mujoco.MjModel, joint: int, hinges: list[int]) -> int | None:
    """The nearest actuated hinge between a joint and the world, None when there is none."""
    body = int(model.jnt_bodyid[joint])
    candidates = [other for other in hinges if other < joint and model.jnt_bodyid[other] == body]
    while not candidates and body:
        body = int(model.body_parentid[body])
        candidates = [other for other in hinges if model.jnt_bodyid[other] == body]
    return candidates[-1] if candidates else None


def under(model: mujoco.MjModel, root: int) -> list[int]:
    """The body `root` and all below it."""
    found = [root]
    for body in range(root + 1, model.nbody):
        if int(model.body_parentid[body]) in found:
            found.append(body)
    return found


def _limb(model: mujoco.MjModel, joints: list[int], driven: list[int], what: str) -> Limb:
    body = int(model.jnt_bodyid[joints[0]])
    bodies = under(model, body)
    while body:
        for joint in range(model.body_jntadr[body], model.body_jntadr[body] + model.body_jntnum[body]):
            if model.jnt_type[joint] == _FREE:
                raise RobotError(
                    f"{what} has a floating base (joint {model.joint(joint).name!r}); arms must be bolted to the world"
                )
        body = int(model.body_parentid[body])
    last = int(model.jnt_bodyid[joints[-1]])
    beyond = [j for j in range(model.njnt) if j not in joints and int(model.jnt_bodyid[j]) in under(model, last)]
    slides = [joint for joint in beyond if model.jnt_type[joint] == _SLIDE and model.jnt_limited[joint]]
    hinges = [joint for joint in beyond if model.jnt_type[joint] == _HINGE]
    fingers = slides or [joint for joint in hinges if joint in driven]
    hand = int(model.body_parentid[model.jnt_bodyid[fingers[0]]]) if fingers else last
    return Limb(joints=joints, slides=slides, hinges=hinges, driven=[j for j in hinges if j in driven], hand=hand, bodies=bodies)


def opening_signs(model: mujoco.MjModel, joints: Sequence[int]) -> NDArray[np.float64]:
    """+1 for each prismatic joint that opens towards positive positions, -1 for one whose range lies below zero."""
    ranges = model.jnt_range[list(joints)]
    return np.where(np.abs(ranges[:, 0]) > np.abs(ranges[:, 1]), -1.0, 1.0)


def tip_pose(
    model: mujoco.MjModel,
    data: mujoco.MjData,
    limb: Limb,
    fingers: Sequence[int] = (),
    closing: NDArray[np.float64] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """hand_from_tip: position [m] and quaternion of the frame between the finger tips, Z the approach, Y the closing direction.

    `fingers` are the bodies of all fingers, `closing` is the direction in which they close, in the world; None without a gripper.
    The position is that of a site whose name indicates a tip and that lies between the ends of the fingers, else it is computed
    from the geoms. The axes follow from the closing direction and from the position of the tip relative to the last hinge.
    """
    last = limb.joints[-1]
    below = under(model, int(model.jnt_bodyid[last]))
    axis = data.xaxis[last]
    named = [
        site
        for word in _TIP_WORDS
        for site in range(model.nsite)
        if int(model.site_bodyid[site]) in below
        and int(model.site_bodyid[site]) not in fingers
        and word in model.site(site).name.lower()
    ]
    geoms = [g for g in range(model.ngeom) if int(model.geom_bodyid[g]) in (fingers or below)]
    origin = data.xanchor[last]
    low, high = _bounds(model, data, geoms, axis, origin)
    center = 0.5 * (low + high)
    if named:
        center = data.site_xpos[named[0]]
    approach = center - origin
    if closing is not None:
        approach = approach - np.dot(approach, closing) * closing
    if np.linalg.norm(approach) < 1e-3:
        approach = axis.copy()
        if closing is not None and abs(np.dot(axis, closing)) >= 0.9:
            approach = np.asarray(np.cross(axis, closing), np.float64)
    # Most wrists turn about the approach. Where the geometry agrees, take the hinge's axis: asymmetric fingers do not affect it.
    approach /= np.linalg.norm(approach)
    if abs(np.dot(approach, axis)) > 0.9 and (closing is None or abs(np.dot(axis, closing)) < 0.1):
        approach = axis * np.sign(np.dot(approach, axis))
    low, high = _bounds(model, data, geoms, approach, origin)
    end = 0.5 * (low + high) + approach * (0.5 * np.dot(high - low, approach))
    position = center if named else end - approach * (_FINGER_DEPTH if fingers else 0.0)
    if named and fingers:
        offset = end - center
        depth = float(np.dot(offset, approach))
        if np.linalg.norm(offset - depth * approach) > _NAMED_ASIDE:
            position = end - approach * _FINGER_DEPTH
        elif not _NAMED_DEPTH[0] <= depth <= _NAMED_DEPTH[1]:
            position = center + (depth - _FINGER_DEPTH) * approach
    beside = np.asarray(np.cross(approach, np.eye(3)[np.argmin(np.abs(approach))]) if closing is None else closing, np.float64)
    beside = beside - np.dot(beside, approach) * approach
    beside /= np.linalg.norm(beside)
    tip = np.stack([np.cross(beside, approach), beside, approach], axis=1)
    hand = data.xmat[limb.hand].reshape(3, 3)
    quaternion = np.empty(4)
    mujoco.mju_mat2Quat(quaternion, (hand.T @ tip).ravel())
    return hand.T @ (position - data.xpos[limb.hand]), quaternion


def _bounds(
    model: mujoco.MjModel, data: mujoco.MjData, geoms: list[int], direction: NDArray[np.float64], origin: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Least and greatest corner [m] of the bounding box of geoms, with one edge along `direction`; `origin` [m] without geoms."""
    x = np.cross(direction, np.eye(3)[np.argmin(np.abs(direction))])
    x /= np.linalg.norm(x)
    basis = np.stack([x, np.cross(direction, x), direction], axis=1)
    points = [corners(model, data, geom) for geom in geoms] or [origin[None]]
    along = np.concatenate(points) @ basis
    return basis @ along.min(axis=0), basis @ along.max(axis=0)
