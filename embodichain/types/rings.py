"""A ring's specification: slots, replay bound, and what happens when the ring is full."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from embodichain.types.trajectories import TrajectorySpec

LEDGER_FILE = "ledger.bin"
"""Name of the ledger in a run's folder."""
RING_FILE = "ring.txt"
"""Name of the file in a run's folder that says where its ring lies, while it has one."""
LOCK_FILE = ".lock"
"""Name of the file in a run's folder that is locked, and holds `pid N`, while process N works on the run."""
WISHES_FILE = "wishes.json"
"""Name of the file in a run's folder with the requests of other processes to the running one."""
MOST_TOGETHER = 256
"""Most trajectories that are delivered in one batch: their records fit into a gateway's journal that was just trimmed."""
HOST = "host"
PLACEMENTS = (HOST, "huge", "pinned", "cuda", "delayed")
"""Where a ring may keep its trajectories: host memory, host memory in huge pages, host memory page-locked for a GPU, the current
GPU, or host memory that behaves like a device, for tests.
"""


class FullPolicy(StrEnum):
    """What a writer does when every slot is taken and still has reads left."""

    BLOCK = "block"
    EVICT_OLDEST = "evict_oldest"


class ReplayMode(StrEnum):
    """What the replay bound K limits."""

    TRAJECTORY = "trajectory"
    """Each trajectory is read at most K times."""
    AGGREGATE = "aggregate"
    """All trajectories together are read K x num_slots times; then writers may replace each slot once. No single one is bounded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RingSpec:
    """A ring: the layout of a slot, the number of slots, and how often each trajectory may be read."""

    trajectory: TrajectorySpec
    num_slots: int
    max_reads: int = 50
    full_policy: FullPolicy = FullPolicy.BLOCK
    min_ready: int = 1
    """Number of trajectories that must be ready before the first sample."""
    mode: ReplayMode = ReplayMode.TRAJECTORY
    """The aggregate mode is the rule of earlier engines, kept for comparison: fill all slots (set `min_ready` so), read, refill."""

    def __post_init__(self) -> None:
        if not 1 <= self.max_reads <= 16_383:
            raise ValueError(f"max_reads (K) must be 1..16383, got {self.max_reads}; the paper sweeps 213, 50, 10")
        if self.num_slots < 1:
            raise ValueError(f"num_slots must be at least 1, got {self.num_slots}")
        if not 1 <= self.min_ready <= self.num_slots:
            raise ValueError(f"min_ready must be 1..num_slots={self.num_slots}, got {self.min_ready}: more would never start")
        if self.mode is ReplayMode.AGGREGATE and self.full_policy is FullPolicy.EVICT_OLDEST:
            raise ValueError("aggregate mode decides itself when writers may evict: leave full_policy at block")
