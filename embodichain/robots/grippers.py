"""The gripper of an arm in a MuJoCo model: sliding fingers or a linkage, its opening, and the size of its fingers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from embodichain.robots.chains import Limb, opening_signs, under
from embodichain.robots.linkages import Linkage, corners, find_linkage, gap_between, pad_geoms
from embodichain.types.robots import FINGERS, Fingers

Floats = NDArray[np.float64]

_MISPLACED = 0.002
"""Sliding fingers that meet this far from the zero of their joints [m] get another zero."""
_PRECISION = 6
"""Decimals [m] to which fingers are measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gripper:
    """A gripper by ids: the driven joints, what one unit of each opens [m/m, m/rad], and where the pads meet."""

    joints: tuple[int, ...]
    travel: tuple[float, ...]
    zeros: dict[int, float]
    """Joints whose zero must move to where the pads meet, with that position in the file."""
    least: float
    """Smallest opening that the joints allow [m]."""
    opening: float
    """Widest opening [m]."""
    positions: dict[int, float]
    """Every joint of the gripper when it is open, in the file's own positions."""
    fingers: tuple[tuple[int, ...], ...]
    """The bodies of each finger."""
    closing: Floats
    """Unit vector in the world frame along which the fingers close, at the arm's home."""
    linkage: Linkage | None = None
    """What is known of a gripper of hinges; None for sliding fingers."""


def find_gripper(model: mujoco.MjModel, data: mujoco.MjData, limb: Limb) -> Gripper | str:
    """The gripper of an arm, whose posture is that of `data`; a text says why there is none, "" when nothing is there."""
    if limb.slides:
        return _sliding(model, data, limb)
    if not limb.hinges:
        return ""
    last = limb.joints[-1]
    found = find_linkage(model, data, last, limb.hinges, limb.driven, under(model, int(model.jnt_bodyid[last])))
    if isinstance(found, str):
        return found
    return Gripper(
        joints=found.joints,
        travel=found.travel,
        zeros=dict(zip(found.joints, found.closed, strict=True)),
        least=0.0,
        opening=found.opening,
        positions=found.positions,
        fingers=found.fingers,
        closing=found.closing,
        linkage=found,
    )


def _sliding(model: mujoco.MjModel, data: mujoco.MjData, limb: Limb) -> Gripper:
    slides, signs = limb.slides, opening_signs(model, limb.slides)
    fingers = tuple(tuple(under(model, int(model.jnt_bodyid[slide]))) for slide in slides)
    gaps: tuple[float, float] | None = None
    if len(slides) == 2:
        gaps = _gap(model, data, limb, signs, fingers), _gap(model, data, limb, -signs, fingers)
        if gaps[1] > gaps[0] + _MISPLACED:  # it opens towards the end that is nearer to 0
            signs, gaps = -signs, (gaps[1], gaps[0])
    ranges = np.sort(signs[:, None] * model.jnt_range[slides], axis=1)
    least, opening, zeros = float(np.sum(ranges[:, 0])), float(np.sum(ranges[:, 1])), {}
    if gaps is not None and _collide(model, fingers) and gaps[0] > _MISPLACED and abs(opening - gaps[0]) > _MISPLACED:
        meeting = opening - gaps[0]
        zeros = {slide: float(sign * meeting / len(slides)) for slide, sign in zip(slides, signs, strict=True)}
        least, opening = least - meeting, gaps[0]
    return Gripper(
        joints=tuple(slides),
        travel=tuple(float(sign) for sign in signs),
        zeros=zeros,
        least=least,
        opening=opening,
        positions={slide: float(sign * end) for slide, sign, end in zip(slides, signs, ranges[:, 1], strict=True)},
        fingers=fingers,
        closing=data.xaxis[slides[0]].copy(),
    )


def _gap(model: mujoco.MjModel, data: mujoco.MjData, limb: Limb, signs: Floats, fingers: tuple[tuple[int, ...], ...]) -> float:
    """Distance between two sliding fingers [m], both at the end of their range towards `signs`."""
    ends = {slide: float(model.jnt_range[slide, int(sign > 0.0)]) for slide, sign in zip(limb.slides, signs, strict=True)}
    trial = posed(model, data, ends)
    first, second = (pad_geoms(model, trial, bodies, trial.xanchor[limb.joints[-1]]) for bodies in fingers)
    return gap_between(model, trial, first, second)


def _collide(model: mujoco.MjModel, fingers: tuple[tuple[int, ...], ...]) -> bool:
    """Whether every finger has a part that collides; pictures alone do not tell where pads meet."""
    solid = {int(model.geom_bodyid[g]) for g in range(model.ngeom) if model.geom_contype[g] or model.geom_conaffinity[g]}
    return all(solid & set(bodies) for bodies in fingers)


def posed(model: mujoco.MjModel, data: mujoco.MjData, positions: Mapping[int, float]) -> mujoco.MjData:
    """The posture of `data` with other positions of some joints, by their ids."""
    other = mujoco.MjData(model)
    other.qpos[:] = data.qpos
    for joint, value in positions.items():
        other.qpos[model.jnt_qposadr[joint]] = value
    mujoco.mj_forward(model, other)
    return other


def finger_size(model: mujoco.MjModel, data: mujoco.MjData, gripper: Gripper, position: Floats, rotation: Floats) -> Fingers:
    """Size of the larger finger, with the arm as in `data`, and the tip at `position` [3] [m] and `rotation` [3, 3].

    The fingers of a linkage reach farthest ahead when they are half closed.
    """
    half_width = thickness = below = above = -np.inf
    opened = posed(model, data, gripper.positions)
    halfway = opened if gripper.linkage is None else posed(model, data, gripper.linkage.halfway)
    for bodies in gripper.fingers:
        geoms = [geom for geom in range(model.ngeom) if int(model.geom_bodyid[geom]) in bodies]
        geoms = [geom for geom in geoms if model.geom_contype[geom] or model.geom_conaffinity[geom]] or geoms
        points = [(corners(model, opened, geom) - position) @ rotation for geom in geoms]
        ahead = [float(((corners(model, halfway, geom) - position) @ rotation)[:, 2].max()) for geom in geoms]
        below = max(below, *ahead)
        near = [part for part in points if part[:, 2].max() > -FINGERS.above]  # what is farther back meets no object
        if not near:
            continue
        whole = np.concatenate(near)
        half_width = max(half_width, float(np.abs(whole[:, 0]).max()))
        thickness = max(thickness, float(np.abs(whole[:, 1]).max()) - gripper.opening / 2)
        below, above = max(below, float(whole[:, 2].max())), max(above, -float(whole[:, 2].min()))
    if not np.isfinite(half_width) or min(half_width, thickness, above) <= 0.0:
        return FINGERS
    sizes = (round(value, _PRECISION) for value in (half_width, thickness, below, above))
    return Fingers(**dict(zip(("half_width", "thickness", "below", "above"), sizes, strict=True)))
