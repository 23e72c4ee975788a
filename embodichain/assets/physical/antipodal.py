"""Searches a solid for grasps of a parallel gripper: antipodal contacts by ray casting, twelve rolls each, without collisions.

A ray from the surface inwards meets a hollow object several times, and every exit is a possible contact for the other finger. So
a cup is grasped by its wall as well as around its body. A grasp is scored by how often it still holds when the gripper misses
slightly (Weisz and Allen 2012), and lower where gravity would turn the object in the hand.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from embodichain.assets.geometry.remesh import sample_surface
from embodichain.assets.physical.grasp import FOUND, GripperConfig, lift
from embodichain.machine_code import compiled
from embodichain.types import Asset, Body, Pose
from embodichain.types.poses import frame

_GRAVITY = 9.81
_MAX_HITS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class AntipodalConfig:
    """Effort and scoring of the search; lengths in m, angles in rad."""

    points: int = 900
    axes: int = 2
    """Directions tried at each point: its normal, and others within half the friction cone."""
    rolls: int = 12
    tries: int = 16
    """Errors by which a grasp is tested: up to `miss` beside the contact, up to `tilt` askew."""
    miss: float = 0.003
    tilt: float = 0.09
    clearance: float = 0.004
    """Gap between the widest object that is grasped and the gripper's opening."""
    torque: float = 0.12
    """Decay of the score with the torque of gravity in the hand [N m]: at this torque a grasp is worth 1/e."""
    apart: float = 0.012
    """Two grasps that are this close and approach from the same side count as one."""
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class GraspCandidate:
    """A grasp: the gripper's pose in the body's frame (Z approaches, Y closes), the width there [m], and its score, 0 to 1."""

    pose: Pose
    width: float
    score: float


def search(
    body: Body, gripper: GripperConfig | None = None, config: AntipodalConfig | None = None, floor: float | None = 0.0
) -> list[GraspCandidate]:
    """Grasps of a body at rest, in its own frame, best first, no two alike.

    Args:
        body: the body to grasp.
        gripper: the gripper that grasps it.
        config: effort and scoring.
        floor: height [m] in the body's frame below which the gripper must not reach; None for no floor.
    """
    gripper, config = gripper or GripperConfig(), config or AntipodalConfig()
    rng = np.random.default_rng(config.seed)
    mesh, cone = body.visual, math.atan(gripper.friction)
    triangles = np.ascontiguousarray(mesh.vertices[mesh.faces])
    starts, normals = sample_surface(mesh, config.points, rng)
    starts, axes = np.repeat(starts, config.axes, axis=0), -np.repeat(normals, config.axes, axis=0)
    wobble = rng.normal(size=axes.shape)
    wobble[:: config.axes] = 0.0
    axes = _tilted(axes, wobble, rng.uniform(0.0, cone / 2, len(axes)))
    contacts = contact_pairs(triangles, starts, axes, cone, gripper.opening - config.clearance)
    if not len(contacts):
        return []
    rows, widths = contacts[:, 0].astype(int), contacts[:, 1]
    axes = axes[rows]
    centers = starts[rows] + axes * widths[:, None] / 2
    worth = _robustness(triangles, centers, axes, widths, cone, gripper, config, rng)
    keep = np.flatnonzero(worth > 0.2)
    keep = keep[np.argsort(-worth[keep], kind="stable")][:2000]
    cloud = np.concatenate([sample_surface(mesh, 4000, rng)[0], mesh.vertices])
    boxes = gripper_boxes(gripper)
    approaches, angles = [], np.arange(config.rolls) * (2 * math.pi / config.rolls)
    for axis in axes[keep]:
        side = np.cross(axis, np.eye(3)[np.argmin(np.abs(axis))])
        side /= np.linalg.norm(side)
        approaches.append(np.cos(angles)[:, None] * side + np.sin(angles)[:, None] * np.cross(axis, side))
    directions = np.array(approaches).reshape(len(keep), config.rolls, 3)
    low = -np.inf if floor is None else floor + 0.001
    # Where the middle of a pad would reach too deep, its tip may still fit.
    backs = (0.0, 0.6 * gripper.pad_half[2])
    clear = [
        _clear(cloud, centers[keep], axes[keep], directions, widths[keep], boxes, np.array(gripper.pad_half), low, back)
        for back in backs
    ]
    found = []
    for row, index in enumerate(keep):
        lever = float(np.linalg.norm((centers[index] - np.asarray(body.center_of_mass))[:2]))
        weight = math.exp(-body.mass * _GRAVITY * lever / config.torque)
        for roll in np.flatnonzero(clear[0][row] | clear[1][row]):
            approach, back = directions[row, roll], backs[0 if clear[0][row, roll] else 1]
            # A gripper can always approach from above, but not always from the side.
            score = float(worth[index]) * weight * (0.75 - 0.25 * float(approach[2]))
            x, y, z = (float(value) for value in centers[index] - back * approach)
            pose = frame((x, y, z), approach.tolist(), axes[index].tolist())
            found.append((score, GraspCandidate(pose=pose, width=float(widths[index]), score=score), approach))
    return _apart(found, config)


def with_grasps(
    asset: Asset, gripper: GripperConfig | None = None, config: AntipodalConfig | None = None, *, tries: int = 8, keep: int = 4
) -> tuple[Asset, dict[str, int]]:
    """Adds the first `keep` of the best `tries` grasps of the root that hold in a simulated lift; also returns counts of the
    search.

    They become the affordances `antipodal_0`, `antipodal_1` ... An asset that is bolted down gets none.
    """
    if asset.fixed_base:
        return asset, {"candidates": 0, "lifted": 0, "kept": 0}
    carried = {joint.child for joint in asset.joints if joint.parent}
    root = next(body for body in asset.bodies if body.name not in carried)
    candidates = search(root, gripper, config)
    found: dict[str, tuple[str, Pose]] = {}
    lifted = 0
    for candidate in candidates[:tries]:
        if len(found) == keep:
            break
        name = f"{FOUND}{len(found)}"
        trial = replace(asset, affordances={**asset.affordances, name: (root.name, candidate.pose)})
        lifted += 1
        if lift(trial, name, gripper).held:
            found[name] = trial.affordances[name]
    counts = {"candidates": len(candidates), "lifted": lifted, "kept": len(found)}
    return replace(asset, affordances={**asset.affordances, **found}), counts


def _apart(found: Sequence[tuple[float, GraspCandidate, NDArray[np.float64]]], config: AntipodalConfig) -> list[GraspCandidate]:
    """The best grasp of each group of similar ones."""
    chosen: list[tuple[GraspCandidate, NDArray[np.float64]]] = []
    for _, candidate, approach in sorted(found, key=lambda entry: -entry[0]):
        place = np.asarray(candidate.pose.position)
        if not any(
            np.linalg.norm(place - other.pose.position) < config.apart and approach @ direction > 0.8 for other, direction in chosen
        ):
            chosen.append((candidate, approach))
        if len(chosen) >= 256:
            break
    return [candidate for candidate, _ in chosen]


def _tilted(axes: NDArray[np.float64], by: NDArray[np.float64], angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit axes turned by `angles` [rad] towards the component of `by` perpendicular to them; unchanged where there is none."""
    across = by - axes * np.einsum("ij,ij->i", by, axes)[:, None]
    length = np.linalg.norm(across, axis=1, keepdims=True)
    across = np.where(length > 1e-12, across / np.maximum(length, 1e-12), 0.0)
    turned = axes * np.cos(angles)[:, None] + across * np.sin(angles)[:, None]
    return turned / np.linalg.norm(turned, axis=1, keepdims=True)


def contact_pairs(
    triangles: NDArray[np.float64],
    starts: NDArray[np.float64],
    axes: NDArray[np.float64],
    cone: float,
    widest: float,
) -> NDArray[np.float64]:
    """Rows (ray, width [m]) of every exit at which a finger can hold against another one at the ray's start.

    Args:
        triangles: corners of the faces, shape [F, 3, 3].
        starts: points on the surface, shape [R, 3].
        axes: unit directions inwards, shape [R, 3].
        cone: largest angle [rad] between the axis and the surface normal at the exit.
        widest: largest distance between the two contacts [m].
    """
    distances, cosines, counts = cast(triangles, starts + axes * 1e-6, axes)
    pairs = []
    for ray in range(len(starts)):
        for hit in range(counts[ray]):
            if cosines[ray, hit] > math.cos(cone) and 5e-4 < distances[ray, hit] <= widest:
                pairs.append((float(ray), float(distances[ray, hit]) + 1e-6))
    return np.array(pairs).reshape(-1, 2)


def _robustness(
    triangles: NDArray[np.float64],
    centers: NDArray[np.float64],
    axes: NDArray[np.float64],
    widths: NDArray[np.float64],
    cone: float,
    gripper: GripperConfig,
    config: AntipodalConfig,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Share of trial errors for which the gripper still closes on the same two walls within friction, shape [N]."""
    count = len(centers) * config.tries
    axis, width = np.repeat(axes, config.tries, axis=0), np.repeat(widths, config.tries)
    tilted = _tilted(axis, rng.normal(size=(count, 3)), rng.uniform(0.0, config.tilt, count))
    beside = rng.normal(size=(count, 3))
    beside -= tilted * np.einsum("ij,ij->i", beside, tilted)[:, None]
    beside *= (rng.uniform(0.0, config.miss, count) / np.maximum(np.linalg.norm(beside, axis=1), 1e-12))[:, None]
    reach = gripper.opening / 2
    outside = np.repeat(centers, config.tries, axis=0) + beside - tilted * reach
    distances, cosines, counts = cast(triangles, outside, tilted)
    good = np.zeros(count)
    least = math.cos(cone)
    for ray in range(count):
        near, far = reach - width[ray] / 2, reach + width[ray] / 2
        hits = range(counts[ray])
        entry = any(abs(distances[ray, hit] - near) < 0.003 and cosines[ray, hit] < -least for hit in hits)
        good[ray] = entry and any(abs(distances[ray, hit] - far) < 0.003 and cosines[ray, hit] > least for hit in hits)
    return good.reshape(-1, config.tries).mean(axis=1)


def gripper_boxes(gripper: GripperConfig) -> NDArray[np.float64]:
    """The open gripper as boxes (low, high) in its frame [m], shape [B, 2, 3]: pads, fingers behind them, palm and wrist."""
    x, y, z = gripper.pad_half
    inner, back = gripper.opening / 2, -gripper.palm_distance
    boxes = []
    for side in (1.0, -1.0):
        for near, far, low, high in ((inner, inner + 2 * y, -z, z), (inner + y, inner + 4 * y, back, 0.7 * z)):
            span = sorted((side * near, side * far))
            boxes.append([[-x, span[0], low], [x, span[1], high]])
    px, py, pz = gripper.palm_half
    boxes += [[[-px, -py, back - 2 * pz], [px, py, back]], [[-0.03, -0.03, back - 0.12], [0.03, 0.03, back - 2 * pz]]]
    return np.array(boxes)


@compiled()
def cast(triangles, starts, axes):  # noqa: ANN001, ANN201 - compiled
    """Intersections of rays with triangles (Moeller and Trumbore 1997): distances, cosines of ray and face normal, counts."""
    number = len(starts)
    distances = np.zeros((number, _MAX_HITS))
    cosines = np.zeros((number, _MAX_HITS))
    counts = np.zeros(number, np.int64)
    for f in range(len(triangles)):
        ax, ay, az = triangles[f, 0]
        e1x, e1y, e1z = triangles[f, 1, 0] - ax, triangles[f, 1, 1] - ay, triangles[f, 1, 2] - az
        e2x, e2y, e2z = triangles[f, 2, 0] - ax, triangles[f, 2, 1] - ay, triangles[f, 2, 2] - az
        nx, ny, nz = e1y * e2z - e1z * e2y, e1z * e2x - e1x * e2z, e1x * e2y - e1y * e2x
        length = math.sqrt(nx * nx + ny * ny + nz * nz)
        if length == 0.0:
            continue
        # Faces are the outer loop, so that a face's edges and normal are computed once for all rays.
        for r in range(number):
            dx, dy, dz = axes[r, 0], axes[r, 1], axes[r, 2]
            det = dx * nx + dy * ny + dz * nz
            # A ray in the plane of a face has no single hit: the faces beside it give the exit.
            if abs(det) < 1e-12 * length or counts[r] >= _MAX_HITS:
                continue
            sx, sy, sz = starts[r, 0] - ax, starts[r, 1] - ay, starts[r, 2] - az
            t = -(sx * nx + sy * ny + sz * nz) / det
            if t <= 0.0:
                continue
            qx, qy, qz = sy * dz - sz * dy, sz * dx - sx * dz, sx * dy - sy * dx
            u = -(e2x * qx + e2y * qy + e2z * qz) / det
            v = (e1x * qx + e1y * qy + e1z * qz) / det
            if u < 0.0 or v < 0.0 or u + v > 1.0:
                continue
            distances[r, counts[r]] = t
            cosines[r, counts[r]] = det / length
            counts[r] += 1
    return distances, cosines, counts


@compiled()
def _clear(cloud, centers, axes, directions, widths, boxes, pad, low, back):  # noqa: ANN001, ANN202 - compiled
    """Whether a gripper `back` from each centre, for each direction, is clear of the cloud and of all below `low`, shape [N, R]."""
    number, rolls = directions.shape[0], directions.shape[1]
    result = np.ones((number, rolls), np.bool_)
    for n in range(number):
        y = axes[n]
        for r in range(rolls):
            z = directions[n, r]
            # With `back` a pose on the way in is tested, where a hand may be blocked although its goal is free.
            c = centers[n] - back * z
            x = np.array([y[1] * z[2] - y[2] * z[1], y[2] * z[0] - y[0] * z[2], y[0] * z[1] - y[1] * z[0]])
            for b in range(len(boxes)):
                # The lowest corner of a turned box: of each axis the end that reaches lower.
                bottom = c[2]
                for axis, i in ((x, 0), (y, 1), (z, 2)):
                    bottom += min(axis[2] * boxes[b, 0, i], axis[2] * boxes[b, 1, i])
                if bottom < low:
                    result[n, r] = False
                    break
            if not result[n, r]:
                continue
            for p in range(len(cloud)):
                dx, dy, dz = cloud[p, 0] - c[0], cloud[p, 1] - c[1], cloud[p, 2] - c[2]
                px = dx * x[0] + dy * x[1] + dz * x[2]
                py = dx * y[0] + dy * y[1] + dz * y[2]
                pz = dx * z[0] + dy * z[1] + dz * z[2]
                # On its way in, a pad must not touch anything before its contact.
                hit = abs(px) < pad[0] and abs(pz) < pad[2] and widths[n] / 2 + 0.0025 < abs(py) < boxes[0, 1, 1]
                for b in range(len(boxes)):
                    if hit:
                        break
                    hit = (
                        boxes[b, 0, 0] < px < boxes[b, 1, 0]
                        and boxes[b, 0, 1] < py < boxes[b, 1, 1]
                        and boxes[b, 0, 2] < pz < boxes[b, 1, 2]
                    )
                if hit:
                    result[n, r] = False
                    break
    return result
