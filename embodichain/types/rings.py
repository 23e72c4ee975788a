"""A ring's specification: slots, replay bound, and what happens when it is full."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from embodichain.types.trajectories import TrajectorySpec

LEDGER_FILE = "ledger.bin"
"""What the ledger of a run is called in its folder."""
RING_FILE = "ring.txt"
"""The file in a run's folder that says where its ring lies, while it has one."""
LOCK_FILE = ".lock"
"""In a run's folder: locked, and holding `pid N`, while the process N works on the run."""
WISHES_FILE = "wishes.json"
"""In a run's folder: what others ask of the run while it goes on."""
HOST = "host"
PLACEMENTS = (HOST, "huge", "pinned", "cuda", "delayed")
"""Where the trajectories of a ring may lie: host memory, that in huge pages, that page-locked for a GPU, the current GPU, or host
memory that behaves as a device, to test with."""


class FullPolicy(StrEnum):
    """What a writer does when every slot is taken and still has reads left."""

    BLOCK = "block"
    EVICT_OLDEST = "evict_oldest"


class ReplayMode(StrEnum):
    """What the bound K limits."""

    TRAJECTORY = "trajectory"
    """Each trajectory is read at most K times."""
    AGGREGATE = "aggregate"
    """All trajectories together are read K x num_slots times; then writers may replace each slot once. No single one is bounded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RingSpec:
    """A ring: how a slot is laid out, how many there are, how often each trajectory may be read."""

    trajectory: TrajectorySpec
    num_slots: int
    max_reads: int = 50
    full_policy: FullPolicy = FullPolicy.BLOCK
    min_ready: int = 1
    """Trajectories that must be ready before the first sample."""
    mode: ReplayMode = ReplayMode.TRAJECTORY
    """Aggregate is the rule of earlier engines, kept to compare with: fill all slots (set `min_ready` so), read, refill."""

    def __post_init__(self) -> None:
        if not 1 <= self.max_reads <= 16_383:
            raise ValueError(f"max_reads (K) must be 1..16383, got {self.max_reads}; the paper sweeps 213, 50, 10")
        if self.num_slots < 1:
            raise ValueError(f"num_slots must be at least 1, got {self.num_slots}")
        if not 1 <= self.min_ready <= self.num_slots:
            raise ValueError(f"min_ready must be 1..num_slots={self.num_slots}, got {self.min_ready}: more would never start")
        if self.mode is ReplayMode.AGGREGATE and self.full_policy is FullPolicy.EVICT_OLDEST:
            raise ValueError("aggregate mode decides itself when writers may evict: leave full_policy at block")
