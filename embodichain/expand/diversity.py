"""Reachability-aware diversity: of several scenes that the arms can do, the one that is least like those with other numbers.

Like and unlike are told by what matters to the task: where the hand touches, along which normal and with which closing direction,
from where and with which arm it comes, and what is to result. The numbers of a run are taken in blocks. A block has several
candidates for each of its numbers, drawn in the reachable set; those are kept that differ so that together they stand for all of
it, and differ from what earlier blocks of the same series have. Which they are depends on the series' numbers alone: whichever
worker makes a number makes the same scene.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embodichain.errors import ConfigError
from embodichain.types import Pose, Vec3
from embodichain.types.poses import turned

Floats = NDArray[np.float64]

FEATURES = ("contact_x", "contact_y", "closing", "approach", "result_x", "result_y", "arm", "tilt", "grasp")
"""Where the hand touches; the direction in which it closes, along which the normals of a grip's contacts lie; that from which it
comes; where to from there; which arm; how far the approach leans from the vertical; how wide what it holds is."""
_CIRCULAR = (False, False, True, True, False, False, False, False, False)
_WEIGHTS = np.array((1.0, 1.0, 1.0, 0.3, 0.7, 0.7, 0.3, 0.7, 0.3))
_WIDEST = 0.15
"""What is so wide [m] or wider counts as equally wide."""
_EXTENT: Vec3 = (0.2, 0.25, 0.15)
"""Half of what contacts span along X, Y and Z [m]: scales features to 0..1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiversityConfig:
    """How many reachable scenes compete for each number, when `enabled`, and how many numbers are chosen together.

    A worker samples a whole block when it meets the first of its numbers. `series` blocks know of each other: a worker that begins
    in the middle of a series samples the blocks before as well.
    """

    enabled: bool = False
    candidates: int = 12
    block: int = 64
    series: int = 8

    def __post_init__(self) -> None:
        if not (1 <= self.candidates <= 256 and 1 <= self.block <= 4096 and 1 <= self.series <= 1024):
            raise ConfigError(
                f"diversity needs 1..256 candidates for each number of a block of 1..4096, in series of 1..1024 blocks, got {self}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Interaction:
    """What a scene asks of a hand: the frame it takes hold in, the arms that reach it and their bases, and where it leads [m].

    `result` is a displacement: from there to where the next affordance lies, or along what an articulation turns.
    """

    contact: Pose
    arms: frozenset[str]
    bases: tuple[tuple[str, Vec3], ...]
    result: Vec3 = (0.0, 0.0, 0.0)
    size: float = 0.0
    """How wide the object is where it is narrowest [m]."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Choice:
    """The seeds of a block's scenes and what they ask of a hand, features [N, 9]."""

    seeds: tuple[int, ...]
    features: Floats


def features(interaction: Interaction) -> Floats:
    """The interaction as numbers in 0..1 in the order of FEATURES, shape [9]."""
    x, y, _ = interaction.contact.position
    leaning = turned(interaction.contact.quaternion, (0.0, 0.0, 1.0))[2]
    closing = turned(interaction.contact.quaternion, (0.0, 1.0, 0.0))
    reaching = [(name, base) for name, base in interaction.bases if name in interaction.arms] or list(interaction.bases)
    name, (base_x, base_y, _) = min(reaching, key=lambda arm: math.dist(arm[1], interaction.contact.position))
    number = [known for known, _ in interaction.bases].index(name)
    return np.array(
        (
            _scaled(x, _EXTENT[0]),
            _scaled(y, _EXTENT[1]),
            (math.atan2(closing[1], closing[0]) / math.pi) % 1.0,  # a parallel gripper closes along a line, not a direction
            (math.atan2(y - base_y, x - base_x) / (2 * math.pi)) % 1.0,
            _scaled(interaction.result[0], 2 * _EXTENT[0]),
            _scaled(interaction.result[1], 2 * _EXTENT[1]),
            (number + 0.5) / len(interaction.bases),
            math.acos(min(max(-leaning, -1.0), 1.0)) / math.pi,
            min(interaction.size / _WIDEST, 1.0),
        )
    )


def _scaled(value: float, half: float) -> float:
    return min(max(0.5 + value / (2 * half), 0.0), 1.0)


def spread(candidates: Floats, count: int, archive: Floats | None = None) -> list[int]:
    """Indices of `count` candidates, features [M, 9], that stand for all of them best, each next one for those least represented.

    Greedy facility location: each choice lessens the summed distance from all candidates to their nearest chosen one the most,
    which comes within 1 - 1/e of the best choice (Nemhauser, Wolsey and Fisher 1978). Those of an `archive` [N, 9] count as chosen
    before. Ties go to the lower index.
    """
    apart = np.stack([distances(candidates, candidate) for candidate in candidates])
    nearest = np.full(len(candidates), 2.0 * float(apart.max()) + 1.0)
    for known in () if archive is None else archive:
        nearest = np.minimum(nearest, distances(candidates, known))
    chosen: list[int] = []
    while len(chosen) < min(count, len(candidates)):
        left = np.minimum(apart, nearest).sum(axis=1)
        left[chosen] = np.inf
        chosen.append(int(np.argmin(left)))
        nearest = np.minimum(nearest, apart[chosen[-1]])
    return chosen


def distances(found: Floats, point: Floats) -> Floats:
    """Weighted distances of features [N, 9] from one point [9]; angles count the short way round."""
    gap = np.abs(found - point)
    gap = np.where(_CIRCULAR, np.minimum(gap, 1.0 - gap), gap)
    return np.sqrt((gap * gap) @ _WEIGHTS)


def nearest(found: Floats, reachable: Floats) -> Floats:
    """How far each member of the reachable set, features [M, 9], is from the nearest of the samples [N, 9]: shape [M]."""
    return np.array([distances(found, member).min() for member in reachable])


def gain(diverse: Floats, uniform: Floats, reachable: Floats) -> tuple[float, float]:
    """How much better diverse samples stand for the reachable set than as many uniform ones, features [N, 9]; 1 is equally well.

    Two ratios: of their coverage, the share of the reachable set within a radius of a sample, at the radius at which uniform ones
    cover half; and of the mean distance to the nearest sample.
    """
    far, near = nearest(uniform, reachable), nearest(diverse, reachable)
    radius = float(np.median(far))
    return float(np.mean(near <= radius) / np.mean(far <= radius)), float(far.mean() / near.mean())
