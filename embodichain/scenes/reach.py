"""The reachable set: the gripper poses that each arm can hold, computed once per robot by inverse kinematics and cached on disk.

The table covers a grid over the table's volume × approach directions × rotations about the approach. A query is answered from the
table where its neighbours agree; near a border, or outside the grid, by inverse kinematics.
"""

from __future__ import annotations

import hashlib
import math
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numba import prange
from numpy.typing import NDArray

from embodichain.cache import cache_dir as cache_home
from embodichain.machine_code import compiled
from embodichain.motion.clearance import Floats
from embodichain.motion.ik import explore, joint_range, seed_grid
from embodichain.motion.kinematics import Chain, quaternion_to_matrix
from embodichain.types import Pose, Range, Robot

Progress = Callable[[int, int], None]
_FEW = 4
"""Number of seeds for a single rotation about the approach, once some rotation is known to be reachable."""
_DISSENT = 0.1
"""Weight of dissenting neighbours up to which the table answers; measured at 0.1: under 0.2 percent of answers are wrong."""
_FARTHEST = math.radians(25.0)
"""Angle from the nearest tabulated approach beyond which the table gives no answer."""
_VERSION = 1
"""Raise this number when the meaning of a stored table changes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReachConfig:
    """The grid [m, degrees], and the criteria for a pose to count as reached.

    Approaches lean by each of `tilts` from straight down, in each of `azimuths` directions. `yaws` rotations divide the half
    circle, because a parallel gripper is symmetric under half turns. Clearances [m] are from the arm to itself, and from the open
    fingers to the plane of the table.
    """

    x: Range = (-0.30, 0.30)
    y: Range = (-0.45, 0.45)
    z: Range = (0.01, 0.26)
    spacing: float = 0.05
    tilts: tuple[float, ...] = (0.0, 30.0, 60.0)
    azimuths: int = 8
    yaws: int = 8
    seeds: int = 12
    iterations: int = 40
    position_tolerance: float = 1e-3
    rotation_tolerance: float = 1e-2
    self_clearance: float = 0.005
    table_clearance: float = -0.002

    def __post_init__(self) -> None:
        if self.spacing <= 0.0 or self.azimuths < 1 or self.yaws < 2 or self.seeds < 1 or not self.tilts:
            raise ValueError(f"spacing, azimuths, seeds and tilts must be positive and yaws at least 2, got {self}")

    def axes(self) -> tuple[Floats, Floats, Floats]:
        """Grid coordinates [m] along X, Y and Z."""
        x, y, z = (np.linspace(low, high, 1 + max(1, round((high - low) / self.spacing))) for low, high in (self.x, self.y, self.z))
        return x, y, z

    def approaches(self) -> Floats:
        """Unit approach directions, shape [A, 3]."""
        found = []
        for tilt in np.radians(self.tilts):
            for k in range(self.azimuths if tilt > 0.0 else 1):
                azimuth = 2.0 * math.pi * k / self.azimuths
                found.append((math.sin(tilt) * math.cos(azimuth), math.sin(tilt) * math.sin(azimuth), -math.cos(tilt)))
        return np.array(found)

    def key(self, robot: Robot) -> str:
        """Cache key of the table of `robot` under this configuration."""
        return hashlib.sha256(f"{_VERSION}\0{robot.content_hash}\0{self!r}".encode()).hexdigest()[:24]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReachTable:
    """Reachability of one robot.

    `quality`, uint8 [arms, X, Y, Z, A, W]: 0 where no solution was found, else 1..255 for the distance of the solution from its
    nearest joint limit (255: half the joint's range).
    """

    config: ReachConfig
    chains: tuple[Chain, ...]
    quality: NDArray[np.uint8]
    axes: tuple[Floats, Floats, Floats]
    approaches: Floats
    _seeds: tuple[Floats, ...] = field(repr=False)

    def __reduce__(self) -> tuple[object, ...]:
        """Finds its start values anew when it is unpickled, so that they are as writable as those of others that call kernels."""
        return ReachTable._of, (self.config, self.chains, self.quality)

    @staticmethod
    def build(robot: Robot, config: ReachConfig | None = None, progress: Progress | None = None) -> ReachTable:
        """Computes the table on all cores. `progress(done, total)` is called after each slice."""
        config = config or ReachConfig()
        chains = tuple(Chain.of(robot, i) for i in range(len(robot.arms)))
        x, y, z = config.axes()
        approaches = config.approaches()
        rotations = np.stack([_frame(a) for a in approaches])
        quality = np.zeros((len(chains), len(x), len(y), len(z), len(approaches), config.yaws), np.uint8)
        points = np.stack(np.meshgrid(x, y, z, indexing="ij"), axis=-1).reshape(len(x), -1, 3)
        limits = np.array(
            (config.iterations, config.position_tolerance, config.rotation_tolerance, config.self_clearance, config.table_clearance)
        )
        total = len(chains) * len(x)
        for arm, chain in enumerate(chains):
            seeds = seed_grid(chain, chain.home, config.seeds)
            lower, upper = joint_range(chain)
            for i in range(len(x)):
                _fill_slice(
                    *(chain.positions, chain.rotations, lower, upper, seeds),
                    *(chain.capsules.frame, chain.capsules.ends, chain.capsules.radius, chain.capsules.pairs),
                    *(limits, points[i], rotations, True, True),
                    quality[arm, i].reshape(len(points[i]), len(approaches), config.yaws),
                )
                if progress is not None:
                    progress(arm * len(x) + i + 1, total)
        return ReachTable._of(config, chains, quality)

    @staticmethod
    def load_or_build(
        robot: Robot, config: ReachConfig | None = None, *, cache_dir: Path | None = None, progress: Progress | None = None
    ) -> ReachTable:
        """The table from `cache_dir` (default $EMBODICHAIN_CACHE, else ~/.cache/embodichain); if missing, it is built and stored
        there.

        Several processes may call this at once, because the file is written atomically.
        """
        config = config or ReachConfig()
        path = (cache_dir or cache_home()) / f"reach-{config.key(robot)}.npz"
        chains = tuple(Chain.of(robot, i) for i in range(len(robot.arms)))
        shape = (len(chains), *(len(axis) for axis in config.axes()), len(config.approaches()), config.yaws)
        try:
            with np.load(path, allow_pickle=False) as stored:
                quality = stored["quality"]
            if quality.shape == shape and quality.dtype == np.uint8:
                return ReachTable._of(config, chains, quality)
        except (FileNotFoundError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            pass  # absent or truncated: build it
        table = ReachTable.build(robot, config, progress)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.partial")
        with partial.open("wb") as file:
            np.savez_compressed(file, quality=table.quality)
        partial.replace(path)
        return table

    @staticmethod
    def _of(config: ReachConfig, chains: tuple[Chain, ...], quality: NDArray[np.uint8]) -> ReachTable:
        return ReachTable(
            config=config,
            chains=chains,
            quality=quality,
            axes=config.axes(),
            approaches=config.approaches(),
            _seeds=tuple(seed_grid(chain, chain.home, config.seeds) for chain in chains),
        )

    def arms_reaching(self, pose: Pose) -> tuple[str, ...]:
        """Names of the arms that can hold their tip at `pose` (world_from_site), or at its half turn about the approach."""
        found = self._lookup(pose)
        return tuple(
            chain.arm for i, chain in enumerate(self.chains) if (found[i] if found[i] is not None else self.solvable(i, pose))
        )

    def solvable(self, arm: int, pose: Pose) -> bool:
        """Whether inverse kinematics finds a solution for `pose` with arm number `arm`, under the criteria of the table."""
        chain, config = self.chains[arm], self.config
        found = explore(
            *(chain.positions, chain.rotations, *joint_range(chain)),
            *(np.array(pose.position, np.float64), quaternion_to_matrix(np.array(pose.quaternion, np.float64)), True, False),
            *(self._seeds[arm], config.iterations, config.position_tolerance, config.rotation_tolerance),
            *(chain.capsules.frame, chain.capsules.ends, chain.capsules.radius, chain.capsules.pairs),
            *(config.self_clearance, config.table_clearance, True),
        )
        return bool(found[-1, -1])

    @staticmethod
    def solver(robot: Robot, config: ReachConfig | None = None) -> Callable[[Pose], tuple[str, ...]]:
        """As `arms_reaching` of the robot's table, answered by inverse kinematics alone: for few poses, without a table."""
        config = config or ReachConfig()
        chains = tuple(Chain.of(robot, i) for i in range(len(robot.arms)))
        bare = ReachTable._of(config, chains, np.zeros((len(chains), 0, 0, 0, 0, 0), np.uint8))
        return lambda pose: tuple(chain.arm for i, chain in enumerate(chains) if bare.solvable(i, pose))

    def fraction(self, arm: int | None = None) -> float:
        """Share of the grid's poses that arm number `arm` reaches; None for any arm."""
        reached = self.quality.any(axis=0) if arm is None else self.quality[arm] > 0
        return float(reached.mean())

    def _lookup(self, pose: Pose) -> list[bool | None]:
        """The table's answer per arm: True or False where the neighbouring cells agree, None where they do not or are missing."""
        unknown: list[bool | None] = [None] * len(self.chains)
        cells, weights = [], []
        for axis, value in zip(self.axes, pose.position, strict=True):
            index = (value - axis[0]) / (axis[1] - axis[0])
            if not -1e-9 <= index <= len(axis) - 1 + 1e-9:
                return unknown
            low = min(max(math.floor(index), 0), len(axis) - 2)
            cells.append(slice(low, low + 2))
            weights.append(np.array((low + 1 - index, index - low)))
        rotation = quaternion_to_matrix(np.array(pose.quaternion, np.float64))
        angles = np.arccos(np.clip(self.approaches @ rotation[:, 2], -1.0, 1.0))
        nearest = np.argsort(angles, kind="stable")[:3]
        if angles[nearest[0]] > _FARTHEST:
            return unknown
        closeness = 1.0 / (angles[nearest] + 1e-3) ** 2
        turned = _frame(rotation[:, 2]).T @ rotation
        turn = math.atan2(turned[1, 0], turned[0, 0]) / (math.pi / self.config.yaws)
        yaw = math.floor(turn)
        around = self.quality[:, cells[0], cells[1], cells[2]][..., nearest, :]
        around = (around[..., [yaw % self.config.yaws, (yaw + 1) % self.config.yaws]] > 0).astype(np.float64)
        votes = np.einsum(
            "axyznw,x,y,z,n,w->a", around, *weights, closeness / closeness.sum(), np.array((yaw + 1 - turn, turn - yaw))
        )
        return [True if vote >= 1.0 - _DISSENT else False if vote <= _DISSENT else None for vote in votes]

    def draw(self, path: Path) -> None:
        """Writes a PNG of the table seen from above: the share of reachable grasps near the table, per arm and approach."""
        from matplotlib.figure import Figure  # drawing is rare, and the import takes half a second

        x, y, z = self.axes
        low = self.quality[:, :, :, z <= z[0] + 0.11] > 0
        half = 0.5 * (x[1] - x[0])
        extent = (y[0] - half, y[-1] + half, x[0] - half, x[-1] + half)
        straight = self.approaches[:, 2] < -0.999
        rows = [(name, which) for name, which in (("straight down", straight), ("leaning", ~straight)) if which.any()]
        reached = [*((chain.arm, low[i]) for i, chain in enumerate(self.chains)), ("any arm", low.any(axis=0))]
        if len(self.chains) > 1:
            reached.append(("all arms", low.all(axis=0)))
        figure = Figure(figsize=(4.2 * len(reached), 3.0 * len(rows)), layout="constrained")
        grid = figure.subplots(len(rows), len(reached), squeeze=False)
        for row, (approach, which) in zip(grid, rows, strict=True):
            for axes, (name, cells) in zip(row, reached, strict=True):
                share = cells[:, :, :, which].mean(axis=(2, 3, 4))
                picture = axes.imshow(share, origin="lower", vmin=0.0, vmax=1.0, extent=extent)
                axes.set(title=f"{name}, {approach}", xlabel="Y, left [m]", ylabel="X, forward [m]")
                axes.invert_xaxis()  # as seen from behind the robot
        figure.colorbar(picture, ax=grid, label="share of turns reached up to 10 cm above the table")
        figure.savefig(path, dpi=100)


def _frame(approach: Floats) -> Floats:
    """The gripper's rotation [3, 3] for an approach at yaw 0: the shortest rotation from straight down, fingers closing along Y."""
    down = np.diag((1.0, -1.0, -1.0))
    axis = np.cross((0.0, 0.0, -1.0), approach)
    sine, cosine = float(np.linalg.norm(axis)), float(-approach[2])
    if sine < 1e-12:
        return down if cosine > 0.0 else np.eye(3)
    x, y, z = axis / sine
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return (np.eye(3) + sine * cross + (1.0 - cosine) * cross @ cross) @ down


@compiled()
def _fill_cell(
    positions: Floats,
    rotations: Floats,
    lower: Floats,
    upper: Floats,
    seeds: Floats,
    capsule_frame: NDArray[np.int64],
    capsule_ends: Floats,
    capsule_radius: Floats,
    capsule_pairs: NDArray[np.int64],
    limits: Floats,
    target: Floats,
    approaches: Floats,
    symmetric: bool,
    first_only: bool,
    out: NDArray[np.uint8],
) -> None:
    """Fills quality [A, W] of one arm at one point; `approaches` are rotations [A, 3, 3] at yaw 0.

    `symmetric` and `first_only` are those of `explore`.
    """
    iterations, position_tolerance, rotation_tolerance, clearance, table = limits
    n, num_yaws = lower.shape[0], out.shape[1]
    rotation = np.empty((3, 3))
    near = np.empty((1, n))
    for a in range(approaches.shape[0]):
        # The first round asks whether any rotation is reachable at all; if not, no single one is tried. Each later round starts
        # from its neighbour's solution, and from a few other seeds only when that fails.
        for turn in range(-1, 2 * num_yaws):
            yaw, thorough = turn // 2, turn % 2 == 1
            if turn >= 0 and thorough and out[a, yaw] > 0:
                continue
            angle = math.pi * yaw / num_yaws if turn >= 0 else 0.0
            cosine, sine = math.cos(angle), math.sin(angle)
            for row in range(3):
                rotation[row, 0] = approaches[a, row, 0] * cosine + approaches[a, row, 1] * sine
                rotation[row, 1] = approaches[a, row, 1] * cosine - approaches[a, row, 0] * sine
                rotation[row, 2] = approaches[a, row, 2]
            free = turn < 0
            found = explore(
                positions, rotations, lower, upper, target, rotation, symmetric, free,
                seeds if free else (seeds[:_FEW] if thorough else near),
                int(iterations), position_tolerance, rotation_tolerance,
                capsule_frame, capsule_ends, capsule_radius, capsule_pairs,
                -math.inf if free else clearance, -math.inf if free else table, first_only,
            )  # fmt: skip
            q, reached = found[-1, :n], found[-1, -1] > 0.0
            if reached:
                near[0] = q
            if free and not reached:
                break
            if reached and not free:
                margin = 1.0
                for i in range(n):
                    margin = min(margin, 2.0 * min(q[i] - lower[i], upper[i] - q[i]) / (upper[i] - lower[i]))
                out[a, yaw] = 1 + int(254.0 * max(margin, 0.0))


@compiled(parallel=True)
def _fill_slice(
    positions: Floats,
    rotations: Floats,
    lower: Floats,
    upper: Floats,
    seeds: Floats,
    capsule_frame: NDArray[np.int64],
    capsule_ends: Floats,
    capsule_radius: Floats,
    capsule_pairs: NDArray[np.int64],
    limits: Floats,
    points: Floats,
    approaches: Floats,
    symmetric: bool,
    first_only: bool,
    out: NDArray[np.uint8],
) -> None:
    """`_fill_cell` for each of the points [P, 3], into quality [P, A, W]."""
    for i in prange(points.shape[0]):
        _fill_cell(
            positions, rotations, lower, upper, seeds, capsule_frame, capsule_ends, capsule_radius, capsule_pairs,
            limits, points[i], approaches, symmetric, first_only, out[i],
        )  # fmt: skip
