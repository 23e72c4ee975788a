"""Settings of one training; light, for command lines."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from embodichain.errors import ConfigError, unknown
from learner.data.config import DataConfig
from learner.memory.config import Recompute
from learner.models.config import AgentConfig
from learner.records.schedules import warm_cosine


class Schedule(StrEnum):
    """What the learning rate does after its warm-up."""

    COSINE = "cosine"
    CONSTANT = "constant"


class Matrices(StrEnum):
    """Which rule moves the matrices inside the backbone: those of its blocks, of the glance and of the aim."""

    ADAMW = "adamw"
    MUON = "muon"


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerConfig:
    """AdamW with linear warm-up, then a cosine down to `final_share` of the rate at `total_steps` (0: the training's last step).

    The rate is for the tiny model and a few thousand steps; models of billions of parameters take 1e-4 and less.
    """

    rate: float = 4e-3
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.95)
    schedule: Schedule = Schedule.COSINE
    warmup_steps: int = 50
    total_steps: int = 0
    final_share: float = 0.05
    memory_rate: float = 1.0
    """Rate of the memory layers as a multiple of the others': 10 where a trained backbone is finetuned with new memories."""
    matrices: Matrices = Matrices.ADAMW
    """"muon": momentum made orthogonal, scaled so that `rate` serves both (Jordan et al. 2024; Liu et al. 2025, arXiv:2502.16982).
    It needs whole matrices, so none that are sharded."""

    def __post_init__(self) -> None:
        if self.rate <= 0 or self.warmup_steps < 0 or self.total_steps < 0 or self.memory_rate <= 0:
            raise ConfigError(f"optimizer needs rate and memory_rate > 0 and steps >= 0, got {self}")

    def share(self, step: int, training_steps: int) -> float:
        """Learning rate at a step of a training of `training_steps` (below 1: without end, constant), as a share of `rate`."""
        total = self.total_steps or training_steps
        constant = total < 1 or self.schedule is Schedule.CONSTANT
        return warm_cosine(step, total, warmup=self.warmup_steps, final_share=1.0 if constant else self.final_share)


@dataclass(frozen=True, slots=True, kw_only=True)
class AverageConfig:
    """Exponential moving average of the weights: after n steps it keeps min(decay, (1 + n) / (10 + n)) of itself; 0 has none."""

    decay: float = 0.999

    def __post_init__(self) -> None:
        if not 0.0 <= self.decay < 1.0:
            raise ConfigError(f"average.decay must be in 0..1 and below 1, got {self.decay}")


class Parallel(StrEnum):
    """What each of several learner processes holds."""

    DDP = "ddp"
    """All weights; gradients are averaged."""
    FSDP = "fsdp"
    """A slice of weights, gradients and optimiser state; a block's weights are gathered while it works (FSDP2)."""


class Precision(StrEnum):
    """In which precision the model computes; its weights, the memory's state and the optimiser stay float32."""

    SINGLE = "32-true"
    HALF = "bf16-mixed"


LOGGERS = ("csv", "tensorboard", "wandb", "mlflow")


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnerConfig:
    """One training: the agent, its data and its optimiser. `measure_batches` warm the normalizer up; they count as reads."""

    agent: AgentConfig = field(default_factory=AgentConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    average: AverageConfig = field(default_factory=AverageConfig)
    backbone: str = ""
    """Folder of a Wan2.2 checkpoint from which the backbone starts; "" starts from random weights."""
    precision: Precision = Precision.SINGLE
    compile: bool = False
    """Whether `torch.compile` makes the blocks of training: minutes at the start, faster steps on a GPU."""
    recompute: Recompute = field(default_factory=Recompute)
    parallel: Parallel = Parallel.DDP
    """How several learner processes share the model."""
    loggers: tuple[str, ...] = ("csv", "tensorboard")
    """Where curves go, besides the run's own metrics; also wandb and mlflow where they are installed."""
    accumulate: int = 1
    """Batches whose gradients are averaged into one step: a global batch is so many times ranks times `data.batch_size`."""
    foresight_every: int = 100
    """Steps between measurements of how well the model foresees the batch that comes (`models.foresight`); 0 for never."""
    measure_batches: int = 8
    threads: int = 2
    """CPU threads of the learner's arithmetic. Beside busy workers, more only wait for each other; sums round alike for as many."""

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
        for name in self.loggers:
            if name not in LOGGERS:
                raise unknown("logger", name, LOGGERS)
