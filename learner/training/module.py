"""Training with Lightning: optimiser steps, logging, checkpoints and the data module.

Reading the ring is in `learner.data`, the model in `learner.models`; this file uses both only through their interfaces.
"""

from __future__ import annotations

import json
import logging
import math
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed
from pytorch_lightning.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from pytorch_lightning.plugins.io import TorchCheckpointIO
from pytorch_lightning.strategies import DDPStrategy, ModelParallelStrategy, Strategy
from torch import Tensor
from torch.utils.data import DataLoader

from embodichain.errors import ConfigError, LearnerError, StreamStopped
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
from learner.training.checkpoint_file import check_resumable, sync_folder, write
from learner.training.config import LearnerConfig, Parallel, Precision
from learner.training.optimizer import WeightAverage, make_optimizer, whole
from learner.training.sharding import shard
from learner.training.utilisation import peak_flops, utilisation

_LOG = logging.getLogger(__name__)
_LOG_EVERY = 10


class AgentModule(pl.LightningModule):
    """Trains an `Agent` on batches that already are on its device (`data.ahead`)."""

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
        self.linear = LinearForecast()
        self._batch: Batch | None = None
        self._clock = (0.0, 0.0)
        self._peak: float | None = None
        self._saved: Mapping[str, Any] | None = None

    def configure_model(self) -> None:
        """Shards the model if the strategy is FSDP."""
        if self.config.parallel is Parallel.FSDP and self.device_mesh is not None:
            shard(self.agent.model, self.device_mesh["data_parallel"])

    # ------------------------------------------------------------------------------------------------------------- data

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Batches already are on the device, except those restored from a checkpoint."""
        self._batch = batch.to(device)
        return self._batch

    def optimizer_step(self, *arguments: Any, **named: Any) -> None:
        """Makes an optimiser step, then updates the average, so that checkpoints contain the average of the same step."""
        super().optimizer_step(*arguments, **named)
        self.average.follow(self.agent, self.global_step + 1)  # Lightning increments global_step only after this returns

    def finish_step(self) -> bool:
        """Makes the step of which a part was accumulated when the stream ended; False when there is none.

        Those batches count as read, so they are learned from. Weights in slices cannot be finished so, and a warning says what was
        left out.
        """
        trainer: Any = self.trainer
        parts = trainer.fit_loop.epoch_loop.batch_progress.current.ready % self.config.accumulate
        if not parts or trainer.global_step >= trainer.max_steps > 0:
            return False
        if self.config.parallel is Parallel.FSDP:
            _LOG.warning("the stream ended within a step: its %d batches were read and not learned from", parts)
            return False
        # Lightning divides the loss of every batch by `accumulate`, and lets each rank keep its own sum until the last.
        for parameter in self.agent.parameters():
            if parameter.grad is not None:
                parameter.grad *= self.config.accumulate / parts
                if trainer.world_size > 1:
                    torch.distributed.all_reduce(parameter.grad)
                    parameter.grad /= trainer.world_size
        (optimizer,) = trainer.optimizers
        self._clip(trainer.gradient_clip_val)
        optimizer.step()
        optimizer.zero_grad()
        for entry in trainer.lr_scheduler_configs:
            entry.scheduler.step()
        progress = trainer.fit_loop.epoch_loop.automatic_optimization.optim_progress.optimizer.step
        progress.increment_ready()
        progress.increment_completed()
        self.average.follow(self.agent, self.global_step)
        return True

    def on_fit_start(self) -> None:
        """Measures the normalizer on the stream; a resumed run takes its statistics from the checkpoint instead."""
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
        if self.trainer.world_size > 1:  # each rank measured different batches
            for buffer in self.agent.normalizer.buffers():
                torch.distributed.broadcast(buffer, src=0)
        self.average = WeightAverage(self.config.average, self.agent)  # only now are weights on their device, sharded or not
        if self._saved is not None:
            self.average.load(self.agent, self._saved["average"])
            self.experience.new_pairs = int(self._saved["new_pairs"])
            if "experience" in self._saved:  # checkpoints of before have the number alone
                self.experience.restore(self._saved["experience"])
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
        """Logs prediction quality at intervals, on a batch before the model trains on it. Not with FSDP, which gathers weights
        only for `losses`.
        """
        every = self.config.foresight_every
        if not every or self.global_step % every or self.config.parallel is Parallel.FSDP:
            return
        for found in foresee(self.agent, batch, torch.Generator().manual_seed(seed), self.linear):
            self.log_dict({f"foresight/{name}": value for name, value in found.ratios().items()}, on_step=True, on_epoch=False)
        window = self.agent.window(batch)
        self.linear.add(window.latents_BTNC, batch.valid_BT.sum(dim=1))

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
        norm = self._clip(gradient_clip_val)
        self.log("gradient_norm", norm, on_step=True, on_epoch=False)

    def _clip(self, most: int | float | None) -> Tensor:
        """Scales gradients to a norm of `most` at most; returns what it was."""
        trained = [p for p in self.agent.parameters() if p.grad is not None]
        norm = whole(torch.nn.utils.clip_grad_norm_(trained, most or math.inf))
        if not bool(norm.isfinite()):
            raise self._not_finite(f"gradient norm is {norm.item()}")
        return norm

    def _not_finite(self, what: str) -> LearnerError:
        reads = self._batch.reads if self._batch is not None else ()
        where = ", ".join(f"{read.trajectory_id} (from chunk {read.start})" for read in reads)
        return LearnerError(
            f"{what} at step {self.global_step}; the batch held trajectories {where}; lower the rate or look at those"
        )

    @property
    def horizon(self) -> int:
        """The last step of the learning rate schedule: that of the original training, even if a resumed run adds steps."""
        return int((self._saved or {}).get("horizon", self.trainer.max_steps))

    def configure_optimizers(self) -> Any:
        """The optimiser and its schedule, which advances every step."""
        config = self.config.optimizer
        optimizer = make_optimizer(config, self.agent, fused=self.config.parallel is not Parallel.FSDP)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: config.share(step, self.horizon))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the agent's configuration, so that `load_agent` needs nothing else, and the averaged weights."""
        checkpoint["agent_config"] = json.dumps(self.config.agent.to_dict())
        checkpoint["ancestry"] = json.dumps(self.agent.ancestry)
        checkpoint["average"] = self.average.state_dict()
        checkpoint["new_pairs"] = self.experience.new_pairs
        checkpoint["experience"] = self.experience.state()
        checkpoint["horizon"] = self.horizon

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Stores the averages until `on_fit_start`, when the weights are on their device."""
        self.agent.ancestry = tuple(json.loads(checkpoint.get("ancestry", "[]")))
        self._saved = checkpoint


class RingDataModule(pl.LightningDataModule):
    """The stream as a Lightning data module. Its state in checkpoints: random state of draws, counts, prefetched batches, and the
    result of `engine_state`.

    Args:
        copies: Copies batches to the device; None for the default.
        join: Makes one state for the checkpoint of this rank's and those of the other rings; a collective.
        own: Takes this rank's state out of one that `join` made.
    """

    def __init__(
        self,
        dataset: RingDataset,
        engine_state: Callable[[], dict[str, Any]] = dict,
        *,
        copies: Copies | None = None,
        join: Callable[[dict[str, Any]], dict[str, Any]] = lambda own: own,
        own: Callable[[dict[str, Any]], dict[str, Any]] = lambda joined: joined,
    ) -> None:
        super().__init__()
        self.dataset = dataset
        self._engine_state = engine_state
        self._join, self._own = join, own
        self._copies = copies
        self._ahead: Ahead | None = None
        self._kept: list[Batch] = []

    def train_dataloader(self) -> DataLoader:
        """Batches on the trainer's device."""
        trainer: Any = self.trainer
        device, asked = trainer.strategy.root_device, trainer.lightning_module.agent.model.needs.gathered
        beside = device.type == "cuda" and self.dataset.config.ahead
        copies = self._copies or (BesideWork(device) if beside else AtOnce(device))
        self._ahead = Ahead(self.dataset, copies, asked=asked, waiting=self._kept)
        return DataLoader(self._ahead, batch_size=None, num_workers=0, collate_fn=_as_is)

    def state_dict(self) -> dict[str, Any]:
        """The stream's state."""
        ahead = self._ahead.waiting() if self._ahead is not None else []
        return self._join({**self.dataset.state_dict(), **({"ahead": ahead} if ahead else {}), **self._engine_state()})

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continues from a checkpoint, beginning with its prefetched batches."""
        state_dict = self._own(state_dict)
        if state_dict.get("ahead") and not self.dataset.alone:
            raise LearnerError(
                f"the checkpoint keeps {len(state_dict['ahead'])} batches that were under way to one learner, and now there are "
                "several: resume with one, and learner.data.ahead 0, until its next checkpoint"
            )
        self.dataset.load_state_dict(state_dict)
        self._kept = [Batch.loaded(batch) for batch in state_dict.get("ahead", ())]

    def close(self) -> None:
        """Waits for running copies and releases their leases."""
        if self._ahead is not None:
            self._ahead.settle()


OnStep = Callable[[int, Mapping[str, float]], bool]
"""Called after every step with its number and logged values; returns True to end the training."""


class _InPlace(TorchCheckpointIO):
    """Writes checkpoints in their place. Lightning's own goes by the folder of temporary files, which may have no room."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """See `checkpoint_file.write`."""
        write(checkpoint, Path(path))


class _Keeper(pl.Callback):
    """Reports each step, stops on request, and saves the last checkpoint atomically, at intervals and at the end."""

    def __init__(self, path: Path, every: int, on_step: OnStep) -> None:
        self._path, self._every, self._on_step = path, every, on_step
        self._saved = -1
        self._reported = 0
        self._ends_by = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._reported = trainer.global_step
        # By now Lightning has put a handler of its own before ours, which ends the training without a last checkpoint.
        if threading.current_thread() is threading.main_thread() and self._ends_by is not None:
            signal.signal(signal.SIGTERM, self._ends_by)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        if trainer.global_step == self._reported:
            return  # gradients of this step are still being accumulated
        self._reported = trainer.global_step
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        asked = self._on_step(trainer.global_step, values)
        # All ranks stop if one wants to: a rank that stopped alone would leave the others waiting in a collective.
        if trainer.strategy.reduce_boolean_decision(asked, all=False):
            trainer.should_stop = True
        if trainer.global_step % self._every == 0:
            self._save(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, AgentModule)
        if pl_module.finish_step():
            self.on_train_batch_end(trainer, pl_module)
        trainer.should_stop = True  # the stream has ended; Lightning would otherwise begin a second epoch

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._save(trainer)

    def _save(self, trainer: pl.Trainer) -> None:
        if trainer.global_step == self._saved:
            return
        self._saved = trainer.global_step
        partial = self._path.with_suffix(".partial")
        try:
            trainer.save_checkpoint(partial)
            if trainer.is_global_zero:
                partial.replace(self._path)
                sync_folder(self._path.parent)
        except (OSError, RuntimeError) as error:  # a full disk is a RuntimeError of torch's
            if trainer.is_global_zero:
                partial.unlink(missing_ok=True)
            raise LearnerError(
                f"cannot write the checkpoint {self._path}: {str(error).splitlines()[0][:200]}; the one before is whole: "
                "free some space and go on with --resume"
            ) from error


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
    """Trains until step number `steps`, the end of the stream, or until `on_step` returns True on any rank.

    Returns the number of the last step, and the number of steps made in this call. With `logs`, curves go to the configured loggers
    in that folder. Raises LearnerError for a loss that is not finite, in which case the checkpoint still holds the last good state,
    for a checkpoint that does not fit the module, listing mismatches, and for one that cannot be written.
    """
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    torch.set_num_threads(module.config.threads)
    first = check_resumable(module, checkpoint) if resume else 0
    trainer = pl.Trainer(
        accelerator="auto",
        devices=1 if ranks is None else ranks.beside,
        num_nodes=1 if ranks is None else ranks.rings,
        strategy="auto" if ranks is None else _strategy(module.config.parallel, ranks),
        precision=module.config.precision.value,
        max_steps=steps,
        max_epochs=-1,  # the stream is a single epoch without a known end; `_Keeper` stops after it
        gradient_clip_val=clip,
        accumulate_grad_batches=module.config.accumulate,
        plugins=[_InPlace()],
        callbacks=[_Keeper(checkpoint, checkpoint_every, on_step)],
        logger=[make_logger(name, logs, first) for name in module.config.loggers] if logs is not None else False,
        log_every_n_steps=min(_LOG_EVERY, max(1, steps // 20)),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=checkpoint.parent,
    )
    with warnings.catch_warnings():
        # Lightning warns about data loader workers, lengths and modules in eval mode, all of which are intended here.
        warnings.filterwarnings("ignore", module="pytorch_lightning")
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        # With bfloat16 autocast, the only float32 products left are those of the memory scans: run them in TF32.
        with tensor_cores(module.config.precision is Precision.HALF), closing(data):
            try:
                trainer.fit(module, datamodule=data, ckpt_path=checkpoint if resume else None, weights_only=True)
            except StreamStopped:
                return first, 0  # before the first step, while the normalizer was being measured
    return trainer.global_step, trainer.global_step - first


def make_logger(name: str, folder: Path, first: int) -> Logger:
    """Makes the logger called `name`, writing into `folder`; a run resumed at step `first` logs into a file of its own.

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
