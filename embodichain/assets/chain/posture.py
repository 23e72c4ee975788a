"""The pose in which an object from a file stands: its own if it is stable, otherwise its nearest stable side, which is recorded."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull, QhullError

from embodichain.assets.chain.foreign_stages import outside
from embodichain.assets.families.parts import Kept, Part, Preservation, Source
from embodichain.assets.geometry.primitives import recognised
from embodichain.assets.geometry.supports import margin
from embodichain.assets.physical.mass import solid_properties
from embodichain.assets.reading import placing
from embodichain.assets.usd.validate import OUTSIDE_M
from embodichain.types import Pose, Quaternion, ShapeKind, rotate
from embodichain.types.poses import compose, quaternion_between

STEADY = math.radians(4.0)
"""Smallest tilt [rad] that a pose must withstand to count as stable."""
_FLAT = 0.001
"""Height above the lowest point, as a share of the size, within which points carry. A round end has too few to stand on."""
_ROUGH = 0.005
"""The same for objects that a turn of less than `_SLIGHT` would improve, because the bottoms of scans are rough."""
_SLIGHT = math.radians(3.0)


def laid(raw: Source) -> tuple[Source, Kept | None]:
    """The source in its stable pose, and a row for the table; unchanged if it stands, is bolted down, or is to keep its pose."""
    if raw.keep_pose or any(joint.parent == "" for joint in raw.joints) or _rolls(raw):
        return raw, None
    points, center = _mass_points(raw)
    if points is None or _stands(points, center, _FLAT):
        return raw, None
    turn = _nearest(points, center)
    if turn is None:
        return raw, None
    angle = 2 * math.acos(min(abs(turn[0]), 1.0))
    if angle < _SLIGHT and _stands(points, center, _ROUGH):
        return raw, None
    side = "it does not stand so: laid on its nearest stable side"
    row = Kept(
        of=raw.name,
        what="pose",
        stated="as in its file",
        written=tuple(turn),
        fate=Preservation.CHANGED,
        reason=f"{side}, turned by {math.degrees(angle):.1f} degrees (--keep-pose leaves it)",
    )
    return turned(raw, turn), row


def turned(raw: Source, quaternion: Quaternion) -> Source:
    """Turns the source with everything that it states, and puts it on the plane above the origin again."""
    (root,) = placing.roots(raw.parts, raw.joints)
    pose = Pose(quaternion=quaternion)
    parts = placing.shifted(raw.parts, root, pose)
    low, high = placing.bounds(parts)
    shift = Pose(position=(-float(low[0] + high[0]) / 2, -float(low[1] + high[1]) / 2, -float(low[2])))
    whole = compose(shift, pose)
    affordances = {n: (owner, compose(whole, frame) if owner == root else frame) for n, (owner, frame) in raw.affordances.items()}
    return replace(raw, parts=placing.shifted(parts, root, shift), affordances=affordances)


def _rolls(raw: Source) -> bool:
    """Whether it is a single ball, which rests in any pose."""
    if len(raw.parts) != 1:
        return False
    (part,) = raw.parts
    shapes = [collider.shape for collider in part.stated.colliders] or [recognised(part.mesh)]
    return len(shapes) == 1 and shapes[0] is not None and shapes[0].kind is ShapeKind.SPHERE


def _mass_points(raw: Source) -> tuple[NDArray[np.float64] | None, NDArray[np.float64]]:
    """Points that may carry the object, shape [N, 3], and its centre of mass, with joints at zero."""
    points, masses, centers = [], [], []
    for part in raw.parts:
        meshes = part.stated.colliders or (part.mesh,)
        points += [rotate(part.pose.quaternion, mesh.vertices) + part.pose.position for mesh in meshes if len(mesh.vertices)]
        mass, center = _weight(part)
        masses.append(mass)
        centers.append(rotate(part.pose.quaternion, center) + part.pose.position)
    total = sum(masses)
    if not points or total <= 0.0:
        return None, np.zeros(3)
    return np.concatenate(points), np.array(masses) @ np.array(centers) / total


def _weight(part: Part) -> tuple[float, NDArray[np.float64]]:
    if not len(part.mesh.faces):
        return part.mass or 0.0, np.asarray(part.stated.center_of_mass or (0.0, 0.0, 0.0))
    plain, stated = solid_properties(part.mesh, 1000.0), part.stated.center_of_mass
    points = np.concatenate([part.mesh.vertices, *(collider.vertices for collider in part.stated.colliders)])
    believed = stated is not None and outside(np.asarray(stated), points) <= OUTSIDE_M
    return part.mass or plain.mass, np.asarray(stated if believed else plain.center_of_mass)


def _stands(points: NDArray[np.float64], center: NDArray[np.float64], flat: float) -> bool:
    low = points[:, 2].min()
    feet = points[points[:, 2] < low + flat * float(np.ptp(points, axis=0).max())][:, :2]
    return margin(feet, center[:2], float(center[2] - low)) >= STEADY


def _nearest(points: NDArray[np.float64], center: NDArray[np.float64]) -> Quaternion | None:
    """The smallest turn onto a stable side; if no side is stable, onto the one with the lowest centre of mass."""
    try:
        hull = ConvexHull(points)
    except QhullError:
        return None
    points = points[hull.vertices]
    size = float(np.ptp(points, axis=0).max())
    normals = hull.equations[:, :3]
    _, first = np.unique(np.round(normals, 4), axis=0, return_index=True)
    best: tuple[tuple[float, float], NDArray[np.float64]] | None = None
    for normal in normals[np.sort(first)]:
        heights = -points @ normal
        low = heights.min()
        across = _plane(normal)
        feet = points[heights < low + _FLAT * size] @ across.T
        height = float(-center @ normal - low)
        tilt = margin(feet, across @ center, height)
        if tilt <= 0.0:
            continue
        angle = math.acos(min(max(-float(normal[2]), -1.0), 1.0))
        rank = (0.0, angle) if tilt >= STEADY else (1.0, height)
        if best is None or rank < best[0]:
            best = (rank, normal)
    if best is None:
        return None
    x, y, z = (float(value) for value in best[1])
    return quaternion_between((x, y, z), (0.0, 0.0, -1.0))


def _plane(normal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Two unit vectors perpendicular to a normal, shape [2, 3]."""
    first = np.asarray(np.cross(normal, np.eye(3)[np.abs(normal).argmin()]), np.float64)
    first /= np.linalg.norm(first)
    return np.stack([first, np.asarray(np.cross(normal, first), np.float64)])
