"""Training: the Lightning module, the optimiser, and sharding over devices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embodichain.lazy import public

if TYPE_CHECKING:
    from learner.training.config import AverageConfig, LearnerConfig, Matrices, OptimizerConfig, Parallel, Precision, Schedule
    from learner.training.module import AgentModule, RingDataModule, fit
    from learner.training.optimizer import make_optimizer
    from learner.training.sharding import shard

__all__ = [
    "AgentModule",
    "AverageConfig",
    "LearnerConfig",
    "Matrices",
    "OptimizerConfig",
    "Parallel",
    "Precision",
    "RingDataModule",
    "Schedule",
    "fit",
    "make_optimizer",
    "shard",
]

__getattr__, __dir__ = public(
    __name__,
    dict.fromkeys(["AverageConfig", "LearnerConfig", "Matrices", "OptimizerConfig", "Parallel", "Precision", "Schedule"], "config")
    | dict.fromkeys(["AgentModule", "RingDataModule", "fit"], "module")
    | dict.fromkeys(["make_optimizer"], "optimizer")
    | dict.fromkeys(["shard"], "sharding"),
)
