"""How the learner reads the ring: leases of trajectories, windows cut from them, batches on the learner's device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embodichain.lazy import public

if TYPE_CHECKING:
    from learner.data.batch import Batch, LeasedBatch
    from learner.data.config import DataConfig, Sampling
    from learner.data.dataset import MemorySource, RingDataset, TrajectorySource, check_spec
    from learner.data.experience import Experience
    from learner.data.static import Mixture, StaticSet
    from learner.data.windows import Coverage, Read, WindowView, cut

__all__ = [
    "Batch",
    "Coverage",
    "DataConfig",
    "Experience",
    "LeasedBatch",
    "MemorySource",
    "Mixture",
    "Read",
    "RingDataset",
    "Sampling",
    "StaticSet",
    "TrajectorySource",
    "WindowView",
    "check_spec",
    "cut",
]

__getattr__, __dir__ = public(
    __name__,
    dict.fromkeys(["DataConfig", "Sampling"], "config")
    | dict.fromkeys(["Batch", "LeasedBatch"], "batch")
    | dict.fromkeys(["MemorySource", "RingDataset", "TrajectorySource", "check_spec"], "dataset")
    | dict.fromkeys(["Experience"], "experience")
    | dict.fromkeys(["Mixture", "StaticSet"], "static")
    | dict.fromkeys(["Coverage", "Read", "WindowView", "cut"], "windows"),
)
