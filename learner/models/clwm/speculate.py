"""Speculative asynchronous inference: the next chunk is partly denoised while the robot still executes the last one.

Phase 1 runs as soon as chunk t - 1 is out: the frame that Stage 1 predicted stands in for observation t, and Euler integrates
from s = 0 to s_mid. Phase 2 runs when the real observation t is there, with the long-term memory that holds it, and integrates
s_mid to 1. Only Phase 2 blocks the robot: (1 - s_mid) N of the N function evaluations. Flow-time embeddings and the modulations of
every block do not depend on the observation and are computed in advance too.

A variant chooses which stages Phase 1 begins. Stage 2 needs Stage 1's frame, so to begin actions, Phase 1 completes a provisional
frame; Phase 2 completes its own frame from s_mid on.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

from torch import Tensor

from embodichain.errors import unknown
from learner.backbone.flow import euler, time_grid
from learner.backbone.grid import Grid
from learner.models.clwm.config import ClwmConfig
from learner.models.clwm.inputs import Noise, Preparation, TextMemory
from learner.models.clwm.memory import LongTermMemory, WorkingMemory
from learner.models.clwm.stages import ClwmStages
from learner.models.world_model import Mode, never


class Variant(StrEnum):
    """Which stages Phase 1 begins."""

    VIDEO = "video"
    VIDEO_ACTION = "video+action"


class StepsAhead(NamedTuple):
    """Number of steps of each stage that Phase 1 makes."""

    video: int
    action: int

    @classmethod
    def of(cls, mode: Mode, model: ClwmConfig) -> StepsAhead:
        """Rounds the share of `mode` to whole steps of each stage; raises ConfigError, listing all modes, for an unknown one."""
        if mode.name not in tuple(Variant):
            raise unknown("mode of speculation", mode.name, tuple(Variant))
        video_alone = mode.name == Variant.VIDEO
        video = round(mode.share * model.video_steps)
        return cls(video, 0 if video_alone else round(mode.share * model.action_steps))


class Started(NamedTuple):
    """The state of generation: frame and chunk on their paths from noise to data, and the steps already made for each."""

    video_BNC: Tensor
    video_steps: int
    action_BKA: Tensor
    action_steps: int

    @classmethod
    def at_noise(cls, noise: Noise) -> Started:
        """The state before the first step."""
        return cls(noise.video_BNC, 0, noise.action_BKA, 0)


def prepare(model: ClwmStages, grid: Grid, like: Noise) -> Preparation:
    """Precomputes, bit for bit, what the model would compute on demand; for the batch size of `like`."""
    config = model.config

    def times(steps: int, shift: float, point: Tensor) -> list[Tensor]:
        return [point.new_full(point.shape[:1], now) for now in time_grid(steps, shift)[:-1].tolist()]

    frame = model.frame_settings(grid)
    steps = (model.video_setting(s, grid) for s in times(config.video_steps, config.video_shift, like.video_BNC))
    return Preparation(
        grid=grid,
        frame=frame,
        video=tuple(setting._replace(place=frame[0].place) for setting in steps),  # all share one table of positions
        action=tuple(model.action_setting(s) for s in times(config.action_steps, config.action_shift, like.action_BKA)),
    )


class Sampler:
    """Runs both stages step by step on a given memory; immutable."""

    def __init__(self, model: ClwmStages, text: TextMemory, grid: Grid, made: Preparation | None = None) -> None:
        """`made` must be of this model and grid."""
        self._model, self._text, self._grid, self._made = model, text, grid, made
        config = model.config
        self._frames = time_grid(config.video_steps, config.video_shift)
        self._actions = time_grid(config.action_steps, config.action_shift)

    def video(self, working: WorkingMemory, point: Tensor, step: int) -> Tensor:
        """One Euler step of Stage 1."""
        made = self._made and self._made.video[step]
        velocity = self._model.video_velocity
        return euler(lambda x, s: velocity(working, x, s, self._text, self._grid, made), point, self._frames[step : step + 2])

    def imagine(self, working: WorkingMemory, frame: Tensor) -> WorkingMemory:
        """The working memory after its update with the imagined frame."""
        return self._model.imagine(working, frame, self._text, self._grid, self._made and self._made.frame[0])

    def action(self, working: WorkingMemory, point: Tensor, step: int) -> Tensor:
        """One Euler step of Stage 2."""
        made = self._made and self._made.action[step]
        velocity = self._model.action_velocity
        return euler(lambda x, s: velocity(working, x, s, self._text, made), point, self._actions[step : step + 2])


def start(
    model: ClwmStages,
    memory: LongTermMemory,
    noise: Noise,
    text: TextMemory,
    grid: Grid,
    split: StepsAhead,
    stopped: Callable[[], bool] = never,
    made: Preparation | None = None,
) -> Started:
    """Phase 1: integrates the steps of `split`, or until `stopped()`, which is asked before each function evaluation.

    `memory` already contains the surrogate observation and is not changed.
    """
    sampler, working = Sampler(model, text, grid, made), memory.fork()
    frame, done = noise.video_BNC, 0
    point = noise.video_BNC
    for step in range(model.config.video_steps if split.action else split.video):
        if stopped():
            return Started(frame, done, noise.action_BKA, 0)
        point = sampler.video(working, point, step)
        if step < split.video:
            frame, done = point, step + 1
    if not split.action or stopped():
        return Started(frame, done, noise.action_BKA, 0)
    working = sampler.imagine(working, point)
    chunk = noise.action_BKA
    for step in range(split.action):
        if stopped():
            return Started(frame, done, chunk, step)
        chunk = sampler.action(working, chunk, step)
    return Started(frame, done, chunk, split.action)


def finish(
    model: ClwmStages, memory: LongTermMemory, started: Started, text: TextMemory, grid: Grid, made: Preparation | None = None
) -> tuple[Tensor, Tensor]:
    """Phase 2: integrates from `started` to s = 1 with a `memory` that contains the real observation. Returns frame and chunk.

    With the same memory as in `start`, the result equals that of `ClwmStages.generate` bit for bit.
    """
    sampler, working = Sampler(model, text, grid, made), memory.fork()
    frame, chunk = started.video_BNC, started.action_BKA
    for step in range(started.video_steps, model.config.video_steps):
        frame = sampler.video(working, frame, step)
    working = sampler.imagine(working, frame)
    for step in range(started.action_steps, model.config.action_steps):
        chunk = sampler.action(working, chunk, step)
    return frame, chunk
