"""Reachability-aware diversity: chooses, among several reachable scenes for each number, those that differ most from others.

Similarity is measured by what matters to the task: where the hand touches, the contact normal and closing direction, the approach
and the arm, and the intended result. Scene numbers are grouped in blocks. Each block samples several reachable candidates for each
of its numbers, and keeps those that together represent the reachable set best and differ from earlier blocks of the same series.
The choice depends only on the numbers of the series, so every worker produces the same scene for a number.
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
"""Features of a scene: position of the grasp; closing direction, which is also that of the contact normals; direction of approach;
displacement of the result; arm; tilt of the approach from the vertical; width of the object."""
_CIRCULAR = (False, False, True, True, False, False, False, False, False)
_WEIGHTS = np.array((1.0, 1.0, 1.0, 0.3, 0.7, 0.7, 0.3, 0.7, 0.3))
_WIDEST = 0.15
"""Objects at least this wide [m] count as equally wide."""
_EXTENT: Vec3 = (0.2, 0.25, 0.15)
"""Half extents of the grasp positions along X, Y and Z [m], to scale features to 0..1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiversityConfig:
    """How many reachable scenes compete for each number, if `enabled`, and how many numbers are chosen together.

    A worker samples a whole block for the first of its numbers. The blocks of a series of `series` blocks depend on each other, so
    a worker that begins in the middle of a series also samples the earlier blocks.
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
    """What a scene requires of a hand: the grasp frame, the arms that reach it and their bases, and the result [m].

    `result` is the displacement from the grasp to the next affordance, or along the motion of an articulation.
    """

    contact: Pose
    arms: frozenset[str]
    bases: tuple[tuple[str, Vec3], ...]
    result: Vec3 = (0.0, 0.0, 0.0)
    size: float = 0.0
    """Smallest width of the object [m]."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Choice:
    """The seeds of a block's scenes, and their features [N, 9]."""

    seeds: tuple[int, ...]
    features: Floats


def features(interaction: Interaction) -> Floats:
    """The features of an interaction, in 0..1, in the order of FEATURES, shape [9]."""
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
            (math.atan2(closing[1], closing[0]) / math.pi) % 1.0,  # modulo half a turn, because a parallel gripper is symmetric
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
    """Selects `count` of the candidates, features [M, 9], that best represent all of them; returns their indices.

    Greedy facility location: each choice reduces the sum of distances from all candidates to their nearest chosen one the most,
    which is within 1 - 1/e of the optimum (Nemhauser, Wolsey and Fisher 1978). Features in `archive` [N, 9] count as already
    chosen. Ties go to the lower index.
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
    """Weighted distances of features [N, 9] from one point [9]; angles are periodic."""
    gap = np.abs(found - point)
    gap = np.where(_CIRCULAR, np.minimum(gap, 1.0 - gap), gap)
    return np.sqrt((gap * gap) @ _WEIGHTS)


def nearest(found: Floats, reachable: Floats) -> Floats:
    """Distance of each member of the reachable set, features [M, 9], to the nearest of the samples [N, 9]: shape [M]."""
    return np.array([distances(found, member).min() for member in reachable])


def gain(diverse: Floats, uniform: Floats, reachable: Floats) -> tuple[float, float]:
    """How much better diverse samples represent the reachable set than equally many uniform ones, features [N, 9]; 1 means equal.

    Returns two ratios: of coverage, the share of the reachable set within a radius of a sample, at the radius at which uniform
    samples cover half; and of mean distances to the nearest sample.
    """
    far, near = nearest(uniform, reachable), nearest(diverse, reachable)
    radius = float(np.median(far))
    return float(np.mean(near <= radius) / np.mean(far <= radius)), float(far.mean() / near.mean())
