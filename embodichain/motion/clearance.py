"""Distances of an arm from itself, its base and other arms, with colliding geoms approximated by capsules."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embodichain.machine_code import compiled

Floats = NDArray[np.float64]

_ROUNDING = 1e-9
"""Upper bound of rounding errors in a distance [m]; a pair is skipped only if it cannot matter even with such an error."""
_NEIGHBOURS = 3
"""Links fewer than this many joints apart are not checked: they touch by construction or cannot meet."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Capsules:
    """The links of one arm and the fixed parts around it, as capsules.

    `frame` [k] is the joint frame of each capsule, or BOLTED; `ends` [k, 2, 3] [m] are in that frame, or in the world frame if
    bolted; `radius` [k] [m]. `pairs` [p, 2] are the capsules that may collide: links far enough apart along the arm, and links with
    bolted parts.
    """

    frame: NDArray[np.int64]
    ends: Floats
    radius: Floats
    pairs: NDArray[np.int64]


def pairs_apart(capsules: Capsules, frame_positions: Floats, frame_rotations: Floats) -> NDArray[np.int64]:
    """The pairs [p, 2] of one arm to check: far enough apart along the arm, and not overlapping in the given home configuration.

    Parts overlap at home only because capsules are larger than the geoms; such pairs cannot be checked.
    """
    frame, radius = capsules.frame, capsules.radius
    at_home = place(frame_positions, frame_rotations, frame, capsules.ends)
    pairs = [
        (i, j)
        for i in range(len(radius))
        for j in range(len(radius))
        if frame[i] - frame[j] >= _NEIGHBOURS
        and segment_distance(at_home[i, 0], at_home[i, 1], at_home[j, 0], at_home[j, 1]) > radius[i] + radius[j]
    ]
    return np.array(pairs, np.int64).reshape(-1, 2)


@compiled()
def segment_distance(p0: Floats, p1: Floats, q0: Floats, q1: Floats) -> float:
    """Smallest distance [m] between two segments (Ericson, Real-Time Collision Detection, 2005, section 5.1.9)."""
    a = b = c = e = f = 0.0
    for k in range(3):
        u, v, w = p1[k] - p0[k], q1[k] - q0[k], p0[k] - q0[k]
        a += u * u
        b += u * v
        c += u * w
        e += v * v
        f += v * w
    s = t = 0.0
    # Segments of length 0 first, because the general formula would divide by zero.
    if a <= 1e-12:
        t = min(max(f / e, 0.0), 1.0) if e > 1e-12 else 0.0
    elif e <= 1e-12:
        s = min(max(-c / a, 0.0), 1.0)
    else:
        denominator = a * e - b * b
        s = min(max((b * f - c * e) / denominator, 0.0), 1.0) if denominator > 1e-12 else 0.0
        t = (b * s + f) / e
        # The closest point lies beyond an end of the second segment: take that end and clamp on the first again.
        if t < 0.0:
            s, t = min(max(-c / a, 0.0), 1.0), 0.0
        elif t > 1.0:
            s, t = min(max((b - c) / a, 0.0), 1.0), 1.0
    squared = 0.0
    for k in range(3):
        gap = p0[k] - q0[k] + s * (p1[k] - p0[k]) - t * (q1[k] - q0[k])
        squared += gap * gap
    return np.sqrt(squared)


@compiled()
def place(frame_positions: Floats, frame_rotations: Floats, frame: NDArray[np.int64], ends: Floats) -> Floats:
    """Transforms capsule end points to the world, [k, 2, 3] [m], given the frames from `kinematics.forward_frames`."""
    out = ends.copy()
    for k in range(ends.shape[0]):
        i = frame[k]
        if i < 0:
            continue
        for end in range(2):
            for row in range(3):
                out[k, end, row] = frame_positions[i, row]
                for column in range(3):
                    out[k, end, row] += frame_rotations[i, row, column] * ends[k, end, column]
    return out


@compiled()
def smallest_gap(
    first: Floats, first_radius: Floats, second: Floats, second_radius: Floats, pairs: NDArray[np.int64], at_most: float
) -> float:
    """Smallest distance [m] over `pairs` [p, 2] between placed capsules of two sets; negative if they overlap.

    Returns `at_most` [m] if the distance is larger; pairs farther apart than that are skipped cheaply.
    """
    smallest = at_most
    first_center, first_half = _spheres(first)
    second_center, second_half = _spheres(second)
    for k in range(pairs.shape[0]):
        i, j = pairs[k, 0], pairs[k, 1]
        thick = float(first_radius[i]) + float(second_radius[j])
        bound = smallest + thick + first_half[i] + second_half[j] + _ROUNDING
        squared = 0.0
        for axis in range(3):
            squared += (first_center[i, axis] - second_center[j, axis]) ** 2
        if bound > 0.0 and squared > bound * bound:
            continue  # bounding spheres are farther apart than the smallest gap so far
        distance = segment_distance(first[i, 0], first[i, 1], second[j, 0], second[j, 1])
        smallest = min(smallest, distance - float(first_radius[i]) - float(second_radius[j]))
    return smallest


@compiled()
def _spheres(ends: Floats) -> tuple[Floats, Floats]:
    """Midpoints [k, 3] and half lengths [k] of segments [k, 2, 3]."""
    centers, halves = np.empty((ends.shape[0], 3)), np.empty(ends.shape[0])
    for k in range(ends.shape[0]):
        squared = 0.0
        for axis in range(3):
            centers[k, axis] = 0.5 * (ends[k, 0, axis] + ends[k, 1, axis])
            squared += (ends[k, 1, axis] - ends[k, 0, axis]) ** 2
        halves[k] = 0.5 * np.sqrt(squared)
    return centers, halves


@compiled()
def smallest_gap_along(
    first: Floats, first_radius: Floats, second: Floats, second_radius: Floats, pairs: NDArray[np.int64], at_most: float
) -> float:
    """`smallest_gap` over two sets [T, k, 2, 3] that move at the same time; the shorter path waits at its end."""
    smallest = at_most
    for t in range(max(first.shape[0], second.shape[0])):
        one, other = first[min(t, first.shape[0] - 1)], second[min(t, second.shape[0] - 1)]
        smallest = smallest_gap(one, first_radius, other, second_radius, pairs, smallest)
    return smallest


@compiled()
def smallest_gap_between(
    first: Floats,
    first_radius: Floats,
    first_links: NDArray[np.int64],
    second: Floats,
    second_radius: Floats,
    second_links: NDArray[np.int64],
    at_most: float,
    enough: float,
) -> float:
    """`smallest_gap_along` over all pairs of moving parts of two arms. Links are compared first, as most are far apart.

    Each row of the links [l, 1 + m] holds the number of capsules of a link, then their indices. The search ends along the path once
    the distance is below `enough` [m].
    """
    smallest = at_most
    last = second.shape[0] - 1
    ours, theirs = np.empty((first_links.shape[0], 4)), np.empty((second_links.shape[0], 4))
    for t in range(max(first.shape[0], second.shape[0])):
        one, other = first[min(t, first.shape[0] - 1)], second[min(t, last)]
        _balls(one, first_radius, first_links, ours)
        # After its end the other path stands still, and so do its spheres.
        if t <= last:
            _balls(other, second_radius, second_links, theirs)
        for a in range(ours.shape[0]):
            for b in range(theirs.shape[0]):
                bound = smallest + ours[a, 3] + theirs[b, 3] + _ROUNDING
                squared = 0.0
                for axis in range(3):
                    squared += (ours[a, axis] - theirs[b, axis]) ** 2
                if bound > 0.0 and squared > bound * bound:
                    continue  # bounding spheres of the links are farther apart than the smallest gap so far
                for i in first_links[a, 1 : 1 + first_links[a, 0]]:
                    length = squared = 0.0
                    for axis in range(3):
                        length += (one[i, 1, axis] - one[i, 0, axis]) ** 2
                        squared += (0.5 * (one[i, 0, axis] + one[i, 1, axis]) - theirs[b, axis]) ** 2
                    bound = smallest + 0.5 * math.sqrt(length) + first_radius[i] + theirs[b, 3] + _ROUNDING
                    if bound > 0.0 and squared > bound * bound:
                        continue  # this capsule is far from the whole other link
                    for j in second_links[b, 1 : 1 + second_links[b, 0]]:
                        distance = segment_distance(one[i, 0], one[i, 1], other[j, 0], other[j, 1])
                        smallest = min(smallest, distance - float(first_radius[i]) - float(second_radius[j]))
        if smallest < enough:
            break
    return smallest


@compiled()
def _balls(placed: Floats, radius: Floats, links: NDArray[np.int64], out: Floats) -> None:
    """Bounding spheres of each link's capsules, centre and radius, [l, 4]."""
    for link in range(links.shape[0]):
        parts = links[link, 1 : 1 + links[link, 0]]
        for axis in range(3):
            low, high = math.inf, -math.inf
            for k in parts:
                low = min(low, placed[k, 0, axis], placed[k, 1, axis])
                high = max(high, placed[k, 0, axis], placed[k, 1, axis])
            out[link, axis] = 0.5 * (low + high)
        out[link, 3] = 0.0
        for k in parts:
            for end in range(2):
                squared = 0.0
                for axis in range(3):
                    squared += (placed[k, end, axis] - out[link, axis]) ** 2
                out[link, 3] = max(out[link, 3], math.sqrt(squared) + radius[k])


@compiled()
def lowest(placed: Floats, radius: Floats, frame: NDArray[np.int64]) -> float:
    """Smallest height [m] of any moving capsule above z = 0."""
    height = math.inf
    for k in range(frame.shape[0]):
        if frame[k] >= 0:
            height = min(height, float(placed[k, 0, 2] - radius[k]), float(placed[k, 1, 2] - radius[k]))
    return height


@compiled()
def lowest_along(placed: Floats, radius: Floats, frame: NDArray[np.int64]) -> float:
    """`lowest` over the capsules [T, k, 2, 3] along a path."""
    height = math.inf
    for t in range(placed.shape[0]):
        height = min(height, lowest(placed[t], radius, frame))
    return height
