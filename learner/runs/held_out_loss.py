"""The loss on held-out episodes, measured during training; the Efficiency Law is fitted to it."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from embodichain.errors import MotionError, SceneError
from embodichain.metrics import MetricsWriter, read_metrics
from embodichain.stages import RolloutStage, SceneStage
from embodichain.world import Split, World
from learner.data.batch import Batch
from learner.data.config import DataConfig
from learner.data.dataset import MemorySource, RingDataset
from learner.models.agent import Agent
from learner.models.foresight import Foresight, LinearForecast, foresee
from learner.records.run_folder import MEASURED, RunFolder
from learner.runs.config import RunConfig
from learner.training.module import AgentModule

_BATCHES = 8
"""Number of batches, drawn once from the held-out episodes and used in all measurements."""
_TRIES = 4
"""Most scenes that are tried for each wanted episode."""
_SEED = 20_261_130
"""Seed of windows and noise, the same for every measurement of every run."""


class HeldOutLoss:
    """Measures a module's loss on held-out expert episodes, with the averaged weights that evaluation uses.

    Episodes come from held-out scene numbers of the run's own world, which training never draws; windows and noise are fixed. So
    measurements of two runs in the same world differ only by the weights. Recorded times exclude the measuring itself.
    """

    def __init__(self, world: World, config: RunConfig, module: AgentModule) -> None:
        """Plays the episodes with experts; raises SceneError when too few succeed."""
        self._every, self._last = config.train.measure_every, config.train.steps
        self._module = module
        episodes = expert_episodes(world, config.evaluate.measured)
        self._batches = fixed_batches(episodes, config.learner.data, module.agent, module.device)
        whole = replace(config.learner.data, window=0, batch_size=len(episodes))  # several chunks ahead from anywhere
        self._episodes = fixed_batches(episodes, whole, module.agent, module.device)

    def due(self, step: int) -> bool:
        """Whether the loss is to be measured after `step`."""
        return step % self._every == 0 or step == self._last

    def __call__(self) -> dict[str, float]:
        """The mean loss and its parts, and errors of imagined frames relative to both baselines (`models.foresight`), by name.

        The linear map is the one that the training has fitted to its own batches so far; without `foresight_every` there is none.
        """
        agent = self._module.agent
        with self._module.average.applied(agent):
            return losses_on(agent, self._batches) | foresight_on(agent, self._episodes, self._module.linear)


class MeasuredLoss:
    """Writes the held-out loss into a run's metrics when it is due, with the time spent on streaming and training."""

    def __init__(
        self, measure: HeldOutLoss, metrics: MetricsWriter, folder: RunFolder, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Starts the clock at 0, or where it was when the run was interrupted."""
        self._measure, self._metrics, self._clock = measure, metrics, clock
        earlier = read_metrics(folder.metrics, MEASURED)
        self._began = clock() - (earlier[-1]["elapsed_s"] if earlier else 0.0)

    def after(self, step: int) -> None:
        """Called after every step."""
        if not self._measure.due(step):
            return
        now = self._clock()
        values = self._measure()
        self._metrics.write(MEASURED, {"step": step, "elapsed_s": round(now - self._began, 2), **values})
        self._began += self._clock() - now


def expert_episodes(world: World, count: int) -> list[dict[str, NDArray]]:
    """Plays held-out episodes of the experts and returns successful ones, in the schema of the stream.

    Raises SceneError when fewer than `count` succeed.
    """
    stage = RolloutStage(world, None, worker=0, epoch=0)  # type: ignore[arg-type]  # nothing is published
    scenes, found = SceneStage(world, Split.HELD_OUT, stage.physics), []
    with closing(stage):
        for number in range(_TRIES * count):
            out = world.stream_spec.allocate()
            try:
                outcome = stage.play(*scenes.step(number), out)
            except (MotionError, SceneError):
                continue
            if outcome.verdict.success:
                found.append({**{name: out[name] for name in out}, "trajectory_id": np.uint64(number)})
                if len(found) == count:
                    return found
    raise SceneError(f"experts succeeded in {len(found)} of {_TRIES * count} held-out scenes, and {count} are wanted")


def fixed_batches(episodes: list[dict[str, NDArray]], data: DataConfig, agent: Agent, device: torch.device) -> list[Batch]:
    """Windows of episodes, cut as the training cuts them: the same for every model that `data` trains."""
    settings = DataConfig(batch_size=data.batch_size, window=data.window, sampling=data.sampling, seed=_SEED)
    drawn, asked = RingDataset(MemorySource(episodes), settings), agent.model.needs.gathered
    return [drawn.draw().gather(device, **asked) for _ in range(_BATCHES)]


@torch.no_grad()
def losses_on(agent: Agent, batches: list[Batch]) -> dict[str, float]:
    """The mean loss of a model over batches, and its parts, by name; with the same noise in every call."""
    sums: dict[str, float] = {}
    for index, batch in enumerate(batches):
        losses = agent.losses(batch, torch.Generator().manual_seed(_SEED + index))
        for name, value in {"loss": losses.total, **{f"loss_{k}": v for k, v in losses.parts.items()}}.items():
            sums[name] = sums.get(name, 0.0) + float(value)
    return {name: total / len(batches) for name, total in sums.items()}


def foresight_on(agent: Agent, batches: list[Batch], linear: LinearForecast) -> dict[str, float]:
    """Errors of imagined frames over all batches, relative to no change and to `linear`, by name; {} if it imagines no frames.

    Every batch is foreseen from one of its frames, the same in every call.
    """
    by_ahead: dict[int, list[Foresight]] = {}
    for index, batch in enumerate(batches):
        for found in foresee(agent, batch, torch.Generator().manual_seed(_SEED + index), linear):
            by_ahead.setdefault(found.ahead, []).append(found)
    ratios: dict[str, float] = {}
    for ahead, found in by_ahead.items():
        guesses = [each.linear for each in found if each.linear is not None]
        mean = Foresight(
            ahead,
            sum(each.imagined for each in found) / len(found),
            sum(each.unchanged for each in found) / len(found),
            sum(guesses) / len(guesses) if len(guesses) == len(found) else None,
        )
        ratios |= mean.ratios()
    return ratios
