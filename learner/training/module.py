"""Lightning's view of training: optimiser, logging, checkpoints, and the lease that ends with the one copy.

The engine's side of the pipe is in `learner.data`, the model in `learner.models`; nothing here knows either's insides.
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed
from pytorch_lightning.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from pytorch_lightning.strategies import DDPStrategy, ModelParallelStrategy, Strategy
from torch import Tensor
from torch.utils.data import DataLoader

from embodichain.errors import ConfigError, LearnerError
from learner.data.ahead import Ahead
from learner.data.batch import Batch
from learner.data.copies import AtOnce, BesideWork, Copies
from learner.data.dataset import RingDataset
from learner.data.experience import Experience
from learner.data.ranks import Ranks
from learner.memory.precision import tensor_cores
from learner.models.agent import Agent
from learner.models.foresight import LinearForecast, foresee
from learner.models.window import Extent
from learner.models.world_model import Losses
from learner.records.weight_files import mismatches
from learner.training.config import LearnerConfig, Parallel, Precision
from learner.training.optimizer import WeightAverage, make_optimizer, whole
from learner.training.sharding import shard
from learner.training.utilisation import peak_flops, utilisation

_LOG = logging.getLogger(__name__)
_LOG_EVERY = 10


class AgentModule(pl.LightningModule):
    """Trains an `Agent` on batches that are on its device (`data.ahead`)."""

    def __init__(self, config: LearnerConfig) -> None:
        super().__init__()
        self.config = config
        self.agent = Agent(config.agent)
        self.agent.model.check_training()
        self.agent.memory_span.fill_(config.data.window)
        if config.backbone:
            self.backbone_report = self.agent.model.load_backbone(config.backbone)
            _LOG.warning("backbone from %s: %s", config.backbone, self.backbone_report)
        self.agent.model.recompute = config.recompute
        if config.compile:
            self.agent.model.compile_blocks()
        self.average = WeightAverage(config.average, self.agent)
        self.experience = Experience()
        self._linear = LinearForecast()
        self._batch: Batch | None = None
        self._clock = (0.0, 0.0)
        self._peak: float | None = None
        self._saved: Mapping[str, Any] | None = None

    def configure_model(self) -> None:
        """Slices the model where a strategy asks for it."""
        if self.config.parallel is Parallel.FSDP and self.device_mesh is not None:
            shard(self.agent.model, self.device_mesh["data_parallel"])

    # ------------------------------------------------------------------------------------------------------------- data

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Nothing is left to transfer, but for a batch that a checkpoint kept."""
        self._batch = batch.to(device)
        return self._batch

    def optimizer_step(self, *arguments: Any, **named: Any) -> None:
        """One step and then the average: a checkpoint, which callbacks save after this, must hold the average of its own step."""
        super().optimizer_step(*arguments, **named)
        self.average.follow(self.agent, self.global_step + 1)  # Lightning counts a step once this returns

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
        if self.trainer.world_size > 1:  # each rank measured batches of its own
            for buffer in self.agent.normalizer.buffers():
                torch.distributed.broadcast(buffer, src=0)
        self.average = WeightAverage(self.config.average, self.agent)  # as placed by now
        if self._saved is not None:
            self.average.load(self.agent, self._saved["average"])
            self.experience.new_pairs = int(self._saved["new_pairs"])
        self._peak = peak_flops(self.device)
        self._clock = (time.monotonic(), dataset.wait_s)

    @property
    def _dataset(self) -> RingDataset:
        data: RingDataModule = self.trainer.datamodule  # type: ignore[attr-defined]
        return data.dataset

    # ------------------------------------------------------------------------------------------------------------- steps

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of one batch; raises LearnerError naming its trajectories when it is not finite."""
        part = batch_idx % self.config.accumulate
        seed = self.config.agent.seed * 1_000_003 + self.global_step + (self.global_rank << 40) + (part << 50)
        generator = torch.Generator().manual_seed(seed)
        losses = self.agent.losses(batch, generator)
        if not bool(losses.total.isfinite()):
            parts = ", ".join(f"{name} {value.item()}" for name, value in losses.parts.items())
            raise self._not_finite(f"loss is {losses.total.item()} ({parts})")
        self._log_step(batch, losses)
        if part == 0:
            self._log_foresight(batch, seed)
        return losses.total

    def _log_foresight(self, batch: Batch, seed: int) -> None:
        """Now and then, of a batch from which nothing has been learned yet at this step. Not where weights lie in slices, which
        are gathered for training passes alone.
        """
        every = self.config.foresight_every
        if not every or self.global_step % every or self.config.parallel is Parallel.FSDP:
            return
        for found in foresee(self.agent, batch, torch.Generator().manual_seed(seed), self._linear):
            self.log_dict({f"foresight/{name}": value for name, value in found.ratios().items()}, on_step=True, on_epoch=False)
        window = self.agent.window(batch)
        self._linear.add(window.latents_BTNC, batch.valid_BT.sum(dim=1))

    def _log_step(self, batch: Batch, losses: Losses) -> None:
        now, waited = time.monotonic(), self._dataset.wait_s
        (before, waited_before), self._clock = self._clock, (now, waited)
        elapsed = max(now - before, 1e-9)
        count = len(batch.trajectory_ids)
        values = {
            "loss": losses.total.detach(),
            **{f"loss/{name}": value.detach() for name, value in losses.parts.items()},
            "wait_share": min(1.0, (waited - waited_before) / elapsed),
            "samples": float(self._dataset.samples),
            "samples_per_s": count / elapsed,
        }
        taken = self.experience.take(batch.reads)
        values |= {
            "experience/new_pairs": float(taken.new_pairs),
            "experience/new_pairs_per_s": taken.new_pairs / elapsed,
            "experience/total_pairs": float(self.experience.new_pairs),
            "experience/reads": taken.reads,
            "experience/age_s": taken.age_s,
        }
        if self._peak is not None:
            mfu = utilisation(self.agent.model.forward_flops(self._extent(batch)), elapsed, self._peak)
            assert mfu is not None
            values["mfu"] = mfu
        self.log_dict(values, on_step=True, on_epoch=False, prog_bar=False, batch_size=count)

    def _extent(self, batch: Batch) -> Extent:
        windows, steps = batch.valid_BT.shape
        text = self.config.agent.text.max_words
        ready, pixels = batch.latents_BTvrcC, batch.rgb_BThw3
        latents = math.prod(ready.shape[2:5]) if ready is not None else self.agent.grid(pixels).size if pixels is not None else 0
        return Extent(windows, steps, latents, self.agent.encoder.latent_dim, text, self.agent.text.dim)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips by the norm over all parameters and logs it; raises LearnerError, before weights change, if it is not finite."""
        trained = [p for p in self.agent.parameters() if p.grad is not None]
        norm = whole(torch.nn.utils.clip_grad_norm_(trained, gradient_clip_val or math.inf))
        if not bool(norm.isfinite()):
            raise self._not_finite(f"gradient norm is {norm.item()}")
        self.log("gradient_norm", norm, on_step=True, on_epoch=False)

    def _not_finite(self, what: str) -> LearnerError:
        reads = self._batch.reads if self._batch is not None else ()
        where = ", ".join(f"{read.trajectory_id} (from chunk {read.start})" for read in reads)
        return LearnerError(
            f"{what} at step {self.global_step}; the batch held trajectories {where}; lower the rate or look at those"
        )

    @property
    def horizon(self) -> int:
        """The step at which the learning rate has come down: the training's last as it was begun, whatever a resumed run adds."""
        return int((self._saved or {}).get("horizon", self.trainer.max_steps))

    def configure_optimizers(self) -> Any:
        """The optimiser and its schedule, step by step."""
        config = self.config.optimizer
        optimizer = make_optimizer(config, self.agent, fused=self.config.parallel is not Parallel.FSDP)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: config.share(step, self.horizon))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the agent's configuration, so that `load_agent` needs nothing else, and the averaged weights."""
        checkpoint["agent_config"] = json.dumps(self.config.agent.to_dict())
        checkpoint["average"] = self.average.state_dict()
        checkpoint["new_pairs"] = self.experience.new_pairs
        checkpoint["horizon"] = self.horizon

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps what `on_fit_start` goes on from, when weights are where they belong."""
        self._saved = checkpoint


class RingDataModule(pl.LightningDataModule):
    """The stream as Lightning wants it; its state travels in the checkpoint: draws, counts, batches that are drawn and not yet
    learned from, and what `engine_state` adds.

    Args:
        copies: How batches get to the device; None for the usual way to the trainer's.
    """

    def __init__(
        self, dataset: RingDataset, engine_state: Callable[[], dict[str, Any]] = dict, *, copies: Copies | None = None
    ) -> None:
        super().__init__()
        self.dataset = dataset
        self._engine_state = engine_state
        self._copies = copies
        self._ahead: Ahead | None = None
        self._kept: list[Batch] = []

    def train_dataloader(self) -> DataLoader:
        """Batches on the trainer's device."""
        trainer: Any = self.trainer
        device, needs = trainer.strategy.root_device, trainer.lightning_module.agent.model.needs
        beside = device.type == "cuda" and self.dataset.config.ahead
        copies = self._copies or (BesideWork(device) if beside else AtOnce(device))
        self._ahead = Ahead(self.dataset, copies, opening=needs.opening, depth=needs.depth, waiting=self._kept)
        return DataLoader(self._ahead, batch_size=None, num_workers=0, collate_fn=_as_is)

    def state_dict(self) -> dict[str, Any]:
        """The stream's state."""
        ahead = self._ahead.waiting() if self._ahead is not None else []
        return {**self.dataset.state_dict(), **({"ahead": ahead} if ahead else {}), **self._engine_state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on where the checkpoint stopped: first with what was drawn and not yet learned from."""
        if state_dict.get("ahead") and not self.dataset.alone:
            raise LearnerError(
                f"the checkpoint keeps {len(state_dict['ahead'])} batches that were under way to one learner, and now there are "
                "several: resume with one, and learner.data.ahead 0, until its next checkpoint"
            )
        self.dataset.load_state_dict(state_dict)
        self._kept = [Batch.loaded(batch) for batch in state_dict.get("ahead", ())]

    def close(self) -> None:
        """Waits for what is under way, and gives its trajectories back."""
        if self._ahead is not None:
            self._ahead.settle()


def saved_stream_state(checkpoint: Path) -> dict[str, Any]:
    """What `RingDataModule` left in a checkpoint, before anything of a run is built; raises LearnerError when there is none."""
    if not checkpoint.exists():
        raise LearnerError(f"no checkpoint at {checkpoint}: the run ended before its first; start it again in a new folder")
    try:
        return torch.load(checkpoint, map_location="cpu", weights_only=True)[RingDataModule.__qualname__]
    except (KeyError, RuntimeError, EOFError, UnpicklingError) as error:
        raise LearnerError(f"{checkpoint} is no training checkpoint that this version reads: {error!r:.300}") from error


OnStep = Callable[[int, Mapping[str, float]], bool]
"""Told of every step and what it logged; True ends the training after it."""


class _Keeper(pl.Callback):
    """Reports each step, stops when asked, and keeps the last checkpoint: now and then, and at the end; atomic."""

    def __init__(self, path: Path, every: int, on_step: OnStep) -> None:
        self._path, self._every, self._on_step = path, every, on_step
        self._saved = -1
        self._reported = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._reported = trainer.global_step

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        if trainer.global_step == self._reported:
            return  # a part of a step whose gradients are still being added up
        self._reported = trainer.global_step
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
    module: AgentModule,
    data: RingDataModule,
    *,
    steps: int,
    clip: float,
    checkpoint: Path,
    checkpoint_every: int,
    resume: bool,
    on_step: OnStep,
    ranks: Ranks | None = None,
    logs: Path | None = None,
) -> tuple[int, int]:
    """Trains until step number `steps`, the end of the stream, or until `on_step` says so: with `ranks` all of them together.

    Returns the number of the last step, and how many were made here. Raises LearnerError for a loss that is not finite; the
    checkpoint then still holds the last good state. With `logs`, curves go to the configured loggers in that folder. A checkpoint
    that does not fit the module raises LearnerError listing what did not match.
    """
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    torch.set_num_threads(module.config.threads)
    first = check_resumable(module, checkpoint) if resume else 0
    trainer = pl.Trainer(
        accelerator="auto",
        devices=1 if ranks is None else ranks.count,
        strategy="auto" if ranks is None else _strategy(module.config.parallel, ranks),
        precision=module.config.precision.value,
        max_steps=steps,
        max_epochs=-1,  # a stream is one epoch that may have no end; `_Keeper` ends with it
        gradient_clip_val=clip,
        accumulate_grad_batches=module.config.accumulate,
        callbacks=[_Keeper(checkpoint, checkpoint_every, on_step)],
        logger=[make_logger(name, logs, first) for name in module.config.loggers] if logs is not None else False,
        log_every_n_steps=min(_LOG_EVERY, max(1, steps // 20)),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=checkpoint.parent,
    )
    with warnings.catch_warnings():
        # Advice about worker processes, lengths and frozen encoders that the ring's design answers.
        warnings.filterwarnings("ignore", module="pytorch_lightning")
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        # In half precision all other products are bfloat16: what is float32 then are those of the memories' scans.
        with tensor_cores(module.config.precision is Precision.HALF), closing(data):
            trainer.fit(module, datamodule=data, ckpt_path=checkpoint if resume else None, weights_only=True)
    return trainer.global_step, trainer.global_step - first


def check_resumable(module: AgentModule, checkpoint: Path) -> int:
    """The step at which a checkpoint was made; raises LearnerError when it cannot go on with this module, listing why not."""
    if not checkpoint.exists():
        raise LearnerError(f"no checkpoint at {checkpoint}: the run ended before its first; start it again in a new folder")
    try:
        saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
        step, weights = int(saved["global_step"]), saved["state_dict"]
        missing = [name for name in ("average", "new_pairs", "optimizer_states") if name not in saved]
    except (KeyError, TypeError, RuntimeError, ValueError, EOFError, UnpicklingError) as error:
        raise LearnerError(f"{checkpoint} is no training checkpoint that this version reads: {error!r}") from error
    problems = mismatches(module.state_dict(), weights) + [f"missing {name}" for name in missing]
    if problems:
        shown = "; ".join(problems[:20]) + (f"; and {len(problems) - 20} more" if len(problems) > 20 else "")
        raise LearnerError(
            f"checkpoint {checkpoint} does not fit this configuration: {shown}; resume with the configuration it was made with, "
            "or start a new run"
        )
    return step


def make_logger(name: str, folder: Path, first: int) -> Logger:
    """The logger called `name`, writing into `folder`; what goes on from step `first` is kept apart.

    Raises ConfigError naming the package when it is not installed.
    """
    version = f"from_step_{first}"
    try:
        match name:
            case "csv":
                return CSVLogger(folder, name=name, version=version)
            case "tensorboard":
                return TensorBoardLogger(folder, name=name, version=version)
            case "wandb":
                return WandbLogger(name=folder.parent.name, save_dir=folder, offline=os.environ.get("WANDB_MODE") == "offline")
            case _:
                uri = os.environ.get("MLFLOW_TRACKING_URI") or f"file:{folder.absolute()}/mlflow"
                return MLFlowLogger(experiment_name=folder.parent.name, tracking_uri=uri)
    except ModuleNotFoundError as error:
        raise ConfigError(f"the logger {name!r} is not installed ({error}): pip install {name}, or choose others") from error


def _strategy(parallel: Parallel, ranks: Ranks) -> Strategy:
    backend = torch.distributed.get_backend()
    if parallel is Parallel.FSDP:
        return ModelParallelStrategy(
            data_parallel_size=ranks.count, tensor_parallel_size=1, save_distributed_checkpoint=False, process_group_backend=backend
        )
    return DDPStrategy(process_group_backend=backend)


def _as_is(batch: Any) -> Any:
    return batch
