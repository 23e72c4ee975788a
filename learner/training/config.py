"""Settings of one training. Importing this file is cheap: it does not import torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from embodichain.errors import ConfigError, unknown
from learner.data.config import DataConfig
from learner.memory.config import Recompute
from learner.models.config import AgentConfig
from learner.records.schedules import warm_cosine


class Schedule(StrEnum):
    """Course of the learning rate after its warm-up."""

    COSINE = "cosine"
    CONSTANT = "constant"


class Matrices(StrEnum):
    """Optimiser of the matrices inside the backbone: those of its blocks and of the hints (`glance`, `aim`)."""

    ADAMW = "adamw"
    MUON = "muon"


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerConfig:
    """AdamW with linear warm-up, then cosine decay to `final_share` of the rate at `total_steps` (0 means the last training step).

    The default rate is for the tiny model and a few thousand steps; models of billions of parameters need 1e-4 or less.
    """

    rate: float = 4e-3
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.95)
    schedule: Schedule = Schedule.COSINE
    warmup_steps: int = 50
    total_steps: int = 0
    final_share: float = 0.05
    memory_rate: float = 1.0
    """Learning rate of memory layers relative to `rate`; 10 to finetune a trained backbone with new memories."""
    matrices: Matrices = Matrices.ADAMW
    """"adamw", or "muon": orthogonalised momentum (Jordan et al. 2024), scaled so that the same `rate` suits both (Liu et al. 2025,
    arXiv:2502.16982). Muon needs whole matrices and therefore excludes sharding."""

    def __post_init__(self) -> None:
        if self.rate <= 0 or self.warmup_steps < 0 or self.total_steps < 0 or self.memory_rate <= 0:
            raise ConfigError(f"optimizer needs rate and memory_rate > 0 and steps >= 0, got {self}")

    def share(self, step: int, training_steps: int) -> float:
        """Learning rate as a share of `rate`, at a step of a training of `training_steps`; below 1 means endless, then constant."""
        total = self.total_steps or training_steps
        constant = total < 1 or self.schedule is Schedule.CONSTANT
        return warm_cosine(step, total, warmup=self.warmup_steps, final_share=1.0 if constant else self.final_share)


@dataclass(frozen=True, slots=True, kw_only=True)
class AverageConfig:
    """Exponential moving average of the weights with decay min(decay, (1 + n) / (10 + n)) after n steps; 0 for no average."""

    decay: float = 0.999

    def __post_init__(self) -> None:
        if not 0.0 <= self.decay < 1.0:
            raise ConfigError(f"average.decay must be in 0..1 and below 1, got {self.decay}")


class Parallel(StrEnum):
    """How several learner processes share the model."""

    DDP = "ddp"
    """Each holds all weights; gradients are averaged."""
    FSDP = "fsdp"
    """Each holds a slice of weights, gradients and optimiser state; a block's weights are gathered while it computes (FSDP2)."""


class Precision(StrEnum):
    """Precision of the model's computation; its weights, the memory's state and the optimiser state are always float32."""

    SINGLE = "32-true"
    HALF = "bf16-mixed"


LOGGERS = ("csv", "tensorboard", "wandb", "mlflow")


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnerConfig:
    """One training: agent, data and optimiser. The first `measure_batches` measure the normalizer; they count as reads."""

    agent: AgentConfig = field(default_factory=AgentConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    average: AverageConfig = field(default_factory=AverageConfig)
    backbone: str = ""
    """Folder of a Wan2.2 checkpoint from which the backbone starts; "" starts from random weights."""
    start: str = ""
    """A trained agent whose weights and statistics the training begins with: a run folder, a checkpoint, a policy file or
    builtin:NAME. Optimiser, schedule and stream are new. "" for random weights, and statistics measured on the stream."""
    precision: Precision = Precision.SINGLE
    compile: bool = False
    """Whether to compile the blocks with `torch.compile`: costs minutes at the start, makes steps faster on a GPU."""
    recompute: Recompute = field(default_factory=Recompute)
    parallel: Parallel = Parallel.DDP
    """How several learner processes share the model."""
    loggers: tuple[str, ...] = ("csv", "tensorboard")
    """Loggers for curves, besides the run's own metrics; wandb and mlflow are also possible if they are installed."""
    accumulate: int = 1
    """Batches whose gradients are averaged into one step. The global batch is `accumulate` x ranks x `data.batch_size`."""
    foresight_every: int = 100
    """Steps between measurements of prediction quality on a fresh batch (`models.foresight`); 0 for never."""
    measure_batches: int = 8
    threads: int = 2
    """CPU threads of the learner. Beside busy workers, more threads mostly wait for each other. Results are reproducible only with
    the same number, because it changes the order of sums."""

    def __post_init__(self) -> None:
        if self.measure_batches < 1 or self.threads < 1:
            raise ConfigError(f"measure_batches and threads must be at least 1, got {self.measure_batches} and {self.threads}")
        if self.accumulate < 1 or self.foresight_every < 0:
            raise ConfigError(
                f"accumulate must be at least 1 and foresight_every not negative, got {self.accumulate} and {self.foresight_every}"
            )
        if self.parallel is Parallel.FSDP and self.optimizer.matrices is Matrices.MUON:
            raise ConfigError(
                "optimizer.matrices muon needs whole matrices, parallel fsdp shards them: choose adamw, or parallel ddp"
            )
        if self.start and self.backbone:
            raise ConfigError(
                f"a training begins with an agent or with a backbone, got start {self.start} and backbone "
                f"{self.backbone}: leave one out"
            )
        for name in self.loggers:
            if name not in LOGGERS:
                raise unknown("logger", name, LOGGERS)
