"""Lightning's view of training: optimiser, logging, checkpoints, and the lease that ends after the backward pass.

The engine's side of the pipe is in `learner.data`, the model in `learner.policy.Agent`; nothing here knows either's insides.
"""

from __future__ import annotations

import json
import logging
import math
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor
from torch.utils.data import DataLoader

from embodichain.errors import ConfigError, LearnerError
from learner.data import Batch, DataConfig, LeasedBatch, RingDataset
from learner.policy import Agent, AgentConfig
from learner.ranks import Ranks


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerConfig:
    """AdamW with linear warm-up, then a cosine down to `final_share` of the rate at `total_steps` (0: the training's last step).

    The rate is for the tiny model and a few thousand steps; models of billions of parameters take 1e-4 and less.
    """

    rate: float = 4e-3
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.95)
    warmup_steps: int = 50
    total_steps: int = 0
    final_share: float = 0.05

    def __post_init__(self) -> None:
        if self.rate <= 0 or self.warmup_steps < 0 or self.total_steps < 0:
            raise ConfigError(f"optimizer needs rate > 0 and steps >= 0, got {self}")

    def share(self, step: int, training_steps: int) -> float:
        """Learning rate at a step of a training of `training_steps` (below 1: without end, constant), as a share of `rate`."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        total = self.total_steps or training_steps
        if total < 1:
            return 1.0
        done = min(1.0, (step - self.warmup_steps) / max(1, total - self.warmup_steps))
        return self.final_share + (1.0 - self.final_share) * 0.5 * (1.0 + math.cos(math.pi * done))


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnerConfig:
    """One training: the agent, its data and its optimiser. `measure_batches` warm the normalizer up; they count as reads."""

    agent: AgentConfig = field(default_factory=AgentConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    measure_batches: int = 8
    threads: int = 2
    """CPU threads of the learner's arithmetic. Beside busy workers, more only wait for each other; sums round alike for as many."""

    def __post_init__(self) -> None:
        if self.measure_batches < 1 or self.threads < 1:
            raise ConfigError(f"measure_batches and threads must be at least 1, got {self.measure_batches} and {self.threads}")


class ClwmModule(pl.LightningModule):
    """Trains an `Agent`. Takes `LeasedBatch`es, gathers them on its device, and releases each lease after its backward pass."""

    def __init__(self, config: LearnerConfig) -> None:
        super().__init__()
        self.config = config
        self.agent = Agent(config.agent)
        self.agent.memory_span.fill_(config.data.window)
        self._leased: LeasedBatch | None = None
        self._clock = (0.0, 0.0)

    # ------------------------------------------------------------------------------------------------------------- data

    def transfer_batch_to_device(self, batch: LeasedBatch, device: torch.device, dataloader_idx: int) -> Batch:
        """The one copy: gathers the windows on the device and keeps the lease until the step ends."""
        self._leased = batch
        return batch.gather(device)

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Backward and optimiser are done: nothing reads the views any more."""
        self._release()

    def on_fit_start(self) -> None:
        """Measures the normalizer on the stream, once: a resumed run has its statistics in the checkpoint."""
        dataset = self._dataset
        if not self.agent.normalizer.is_fitted:
            measurement = self.agent.new_measurement()
            for _ in range(self.config.measure_batches):
                leased = dataset.draw()
                try:
                    self.agent.measure(leased.gather(self.device), measurement)
                finally:
                    leased.release()
            self.agent.normalizer.fit(measurement)
        self._clock = (time.monotonic(), dataset.wait_s)

    def teardown(self, stage: str) -> None:
        """Whatever ended the fit, no lease stays."""
        self._release()

    def _release(self) -> None:
        if self._leased is not None:
            self._leased.release()
            self._leased = None

    @property
    def _dataset(self) -> RingDataset:
        data: RingDataModule = self.trainer.datamodule  # type: ignore[attr-defined]
        return data.dataset

    # ------------------------------------------------------------------------------------------------------------- steps

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of one batch; raises LearnerError naming its trajectories when it is not finite."""
        generator = torch.Generator().manual_seed(self.config.agent.seed * 1_000_003 + self.global_step + (self.global_rank << 40))
        try:
            losses = self.agent.losses(batch, generator)
            if not bool(losses.total.isfinite()):
                parts = f"video {losses.video.item()}, action {losses.action.item()}"
                raise self._not_finite(f"loss is {losses.total.item()} ({parts})")
        except BaseException:
            self._release()
            raise
        now, waited = time.monotonic(), self._dataset.wait_s
        elapsed, self._clock = (now - self._clock[0], waited - self._clock[1]), (now, waited)
        values = {
            "loss": losses.total.detach(),
            "loss/video": losses.video.detach(),
            "loss/action": losses.action.detach(),
            "wait_share": min(1.0, elapsed[1] / max(elapsed[0], 1e-9)),
            "samples": float(self._dataset.samples),
        }
        self.log_dict(values, on_step=True, on_epoch=False, prog_bar=False, batch_size=len(batch.trajectory_ids))
        return losses.total

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips by the norm over all parameters and logs it; raises LearnerError, before weights change, if it is not finite."""
        trained = [p for p in self.agent.parameters() if p.grad is not None]
        norm = torch.nn.utils.clip_grad_norm_(trained, gradient_clip_val or math.inf)
        if not bool(norm.isfinite()):
            raise self._not_finite(f"gradient norm is {norm.item()}")
        self.log("gradient_norm", norm, on_step=True, on_epoch=False)

    def _not_finite(self, what: str) -> LearnerError:
        windows = self._leased.windows if self._leased is not None else ()
        where = ", ".join(f"{w.trajectory_id} (from chunk {w.start})" for w in windows)
        return LearnerError(
            f"{what} at step {self.global_step}; the batch held trajectories {where}; lower the rate or look at those"
        )

    def configure_optimizers(self) -> Any:
        """AdamW; vectors and scalars (norms, gates, biases, tables' rows) do not decay."""
        config = self.config.optimizer
        trained = [p for p in self.agent.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in trained if p.ndim >= 2], "weight_decay": config.weight_decay},
            {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=config.rate, betas=config.betas, fused=True)
        training_steps = self.trainer.max_steps
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: config.share(step, training_steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the agent's configuration: `learner.policy.load_agent` needs nothing else."""
        checkpoint["agent_config"] = json.dumps(self.config.agent.to_dict())


class RingDataModule(pl.LightningDataModule):
    """The stream as Lightning wants it; its state (draws, counts, and what `engine_state` adds) travels in the checkpoint."""

    def __init__(self, dataset: RingDataset, engine_state: Callable[[], dict[str, Any]] = dict) -> None:
        super().__init__()
        self.dataset = dataset
        self._engine_state = engine_state

    def train_dataloader(self) -> DataLoader:
        """Leased batches in this process, one at a time."""
        return DataLoader(self.dataset, batch_size=None, num_workers=0, collate_fn=_as_is)

    def state_dict(self) -> dict[str, Any]:
        """The stream's state."""
        return {**self.dataset.state_dict(), **self._engine_state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on drawing where the checkpoint stopped."""
        self.dataset.load_state_dict(state_dict)

    def on_exception(self, exception: BaseException) -> None:
        """Lightning skips the module's teardown when a fit fails: no lease stays all the same."""
        if self.trainer is not None:
            self.trainer.lightning_module.teardown("fit")


def saved_stream_state(checkpoint: Path) -> dict[str, Any]:
    """What `RingDataModule` left in a checkpoint, before anything of a run is built; raises LearnerError when there is none."""
    if not checkpoint.exists():
        raise LearnerError(f"no checkpoint at {checkpoint}: the run ended before its first; start it again in a new folder")
    return torch.load(checkpoint, map_location="cpu", weights_only=True)[RingDataModule.__qualname__]


OnStep = Callable[[int, Mapping[str, float]], bool]
"""Told of every step and what it logged; True ends the training after it."""


class _Keeper(pl.Callback):
    """Reports each step, stops when asked, and keeps the last checkpoint: now and then, and at the end; atomic."""

    def __init__(self, path: Path, every: int, on_step: OnStep) -> None:
        self._path, self._every, self._on_step = path, every, on_step
        self._saved = -1

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        asked = self._on_step(trainer.global_step, values)
        if trainer.strategy.reduce_boolean_decision(asked, all=False):  # one rank that stops alone would leave the others waiting
            trainer.should_stop = True
        if trainer.global_step % self._every == 0:
            self._save(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.should_stop = True  # the stream has ended: there is no second epoch, though a resumed run may go on

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._save(trainer)

    def _save(self, trainer: pl.Trainer) -> None:
        if trainer.global_step == self._saved:
            return
        self._saved = trainer.global_step
        partial = self._path.with_suffix(".partial")
        trainer.save_checkpoint(partial)
        if trainer.is_global_zero:
            partial.replace(self._path)


def fit(
    module: ClwmModule,
    data: RingDataModule,
    *,
    steps: int,
    clip: float,
    checkpoint: Path,
    checkpoint_every: int,
    resume: bool,
    on_step: OnStep,
    ranks: Ranks | None = None,
) -> tuple[int, int]:
    """Trains until step number `steps`, the end of the stream, or until `on_step` says so: with `ranks` all of them together.

    Returns the number of the last step, and how many were made here. Raises LearnerError for a loss that is not finite; the
    checkpoint then still holds the last good state.
    """
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    torch.set_num_threads(module.config.threads)
    trainer = pl.Trainer(
        accelerator="auto",
        devices=1 if ranks is None else ranks.count,
        strategy="auto" if ranks is None else DDPStrategy(process_group_backend=torch.distributed.get_backend()),
        max_steps=steps,
        max_epochs=-1,  # a stream is one epoch that may have no end; `_Keeper` ends with it
        gradient_clip_val=clip,
        callbacks=[_Keeper(checkpoint, checkpoint_every, on_step)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=checkpoint.parent,
    )
    first = int(torch.load(checkpoint, map_location="cpu", weights_only=True)["global_step"]) if resume else 0
    with warnings.catch_warnings():
        # Advice about worker processes, lengths and frozen encoders that the ring's design answers.
        warnings.filterwarnings("ignore", module="pytorch_lightning")
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint if resume else None, weights_only=True)
    return trainer.global_step, trainer.global_step - first


def _as_is(batch: Any) -> Any:
    return batch
