"""Speculative asynchronous inference: the next chunk is partly denoised while the robot still executes the last one.

Phase 1 runs in the background as soon as chunk t - 1 is out: the frame that Stage 1 predicted stands in for observation t, and
Euler integrates from s = 0 to s_mid. Phase 2 runs when the real observation t is there: encode, update the long-term memory, swap
the context, integrate s_mid to 1. Only Phase 2 blocks the robot: (1 - s_mid) N of the N function evaluations, and of those what
depends on the observation: flow-time embeddings and the modulations of every block are made in the background too.

Which stages are pre-denoised is a choice. Stage 2 needs Stage 1's frame, so pre-denoising actions completes a provisional frame in
the background; Phase 2 makes its own frame from s_mid on.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as Unfinished
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embodichain.errors import ConfigError, EmbodiChainError, LearnerError
from learner.backbone.flow import euler, time_grid
from learner.inference.policy import Agent, ClwmPolicy, Inference, Noise, Outcome
from learner.models.clwm.block_pass import Setting
from learner.models.clwm.config import ClwmConfig
from learner.models.clwm.draws import Grid
from learner.models.clwm.memory import LongTermMemory, WorkingMemory
from learner.models.clwm.model import Clwm, TextMemory


class Variant(StrEnum):
    """Which stages Phase 1 begins."""

    VIDEO = "video"
    VIDEO_ACTION = "video+action"


@dataclass(frozen=True, slots=True, kw_only=True)
class SaiConfig:
    """How far to speculate, and what to do with observations that come early, late or never."""

    variant: Variant = Variant.VIDEO_ACTION
    s_mid: float = 0.5
    """Where Phase 2 takes over, on the unshifted grid: a share of the sampling steps, which must be a whole number of them."""
    patience_s: float = math.inf
    """How long an early observation waits for Phase 1 [s]; then it takes over what Phase 1 has. Infinite: results do not depend on
    timing."""
    expires_s: float = math.inf
    """A speculation older than this when its observation comes is dropped [s]: the world has moved on from what was predicted."""
    max_lost: int = 1
    """How many observations in a row may be lost, their chunks made from predictions alone."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.s_mid <= 1.0:
            raise ConfigError(f"s_mid must be in 0..1, got {self.s_mid}")
        if self.patience_s < 0 or self.expires_s < 0 or self.max_lost < 0:
            raise ConfigError(f"patience_s, expires_s and max_lost must be 0 or more, got {self}")


class Split(NamedTuple):
    """Steps of each stage that Phase 1 makes."""

    video: int
    action: int

    @classmethod
    def of(cls, config: SaiConfig, model: ClwmConfig) -> Split:
        """s_mid as whole steps; raises ConfigError listing the values of s_mid that are possible."""
        stages = [model.video_steps] if config.variant is Variant.VIDEO else [model.video_steps, model.action_steps]
        common = math.gcd(*stages)
        if abs(config.s_mid * common - round(config.s_mid * common)) > 1e-9:
            available = ", ".join(f"{i / common:g}" for i in range(common + 1))
            raise ConfigError(f"s_mid {config.s_mid} falls between the sampling steps {stages}; available: {available}")
        video = round(config.s_mid * model.video_steps)
        return cls(video, 0 if config.variant is Variant.VIDEO else round(config.s_mid * model.action_steps))


class Started(NamedTuple):
    """How far generation has come: the two points on their paths, and the steps of each grid behind them."""

    video_BNC: Tensor
    video_steps: int
    action_BKA: Tensor
    action_steps: int

    @classmethod
    def at_noise(cls, noise: Noise) -> Started:
        """Nothing integrated yet."""
        return cls(noise.video_BNC, 0, noise.action_BKA, 0)


class Preparation(NamedTuple):
    """All that Phases 1 and 2 need beside points and memories: follows from weights, sampling steps and the frames' layout."""

    grid: Grid
    frame: tuple[Setting, Setting]
    """Of a frame that is observed: scene and body; the scene's also serves the frame that is imagined."""
    video: tuple[Setting, ...]
    """Of each Stage 1 evaluation."""
    action: tuple[Setting, ...]
    """Of each Stage 2 evaluation."""

    @classmethod
    def of(cls, model: Clwm, grid: Grid, like: Noise) -> Preparation:
        """The same numbers that the model would make when asked; for batches of the size of `like`."""
        config = model.config

        def times(steps: int, shift: float, point: Tensor) -> list[Tensor]:
            return [point.new_full(point.shape[:1], now) for now in time_grid(steps, shift)[:-1].tolist()]

        frame = model.frame_settings(grid)
        steps = (model.video_setting(s, grid) for s in times(config.video_steps, config.video_shift, like.video_BNC))
        return cls(
            grid=grid,
            frame=frame,
            video=tuple(setting._replace(place=frame[0].place) for setting in steps),  # one table of places serves all
            action=tuple(model.action_setting(s) for s in times(config.action_steps, config.action_shift, like.action_BKA)),
        )


class Sampler:
    """Both stages of one chunk, step by step, on the memory they are given; holds nothing that changes."""

    def __init__(self, model: Clwm, text: TextMemory, grid: Grid, made: Preparation | None = None) -> None:
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
        """The working memory after its one update."""
        return self._model.imagine(working, frame, self._text, self._grid, self._made and self._made.frame[0])

    def action(self, working: WorkingMemory, point: Tensor, step: int) -> Tensor:
        """One Euler step of Stage 2."""
        made = self._made and self._made.action[step]
        velocity = self._model.action_velocity
        return euler(lambda x, s: velocity(working, x, s, self._text, made), point, self._actions[step : step + 2])


def _never() -> bool:
    return False


def start(
    model: Clwm,
    memory: LongTermMemory,
    noise: Noise,
    text: TextMemory,
    grid: Grid,
    split: Split,
    stopped: Callable[[], bool] = _never,
    made: Preparation | None = None,
) -> Started:
    """Phase 1: integrates as far as `split` says, or until `stopped()`, asked before each function evaluation.

    `memory` already holds the surrogate observation; it stays as it is.
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
    model: Clwm, memory: LongTermMemory, started: Started, text: TextMemory, grid: Grid, made: Preparation | None = None
) -> tuple[Tensor, Tensor]:
    """Phase 2: from where `started` came to s = 1, with `memory` that holds the real observation. Returns frame and chunk.

    With the memory that `start` had, the result is bit for bit that of `Clwm.generate`.
    """
    sampler, working = Sampler(model, text, grid, made), memory.fork()
    frame, chunk = started.video_BNC, started.action_BKA
    for step in range(started.video_steps, model.config.video_steps):
        frame = sampler.video(working, frame, step)
    working = sampler.imagine(working, frame)
    for step in range(started.action_steps, model.config.action_steps):
        chunk = sampler.action(working, chunk, step)
    return frame, chunk


@dataclass(frozen=True, slots=True, kw_only=True)
class _Surrogate:
    """The observation that stands in for the next real one, all normalised but `measured`."""

    basis: LongTermMemory
    latents_BNC: Tensor
    measured_BA: Tensor
    executed_BKA: Tensor


class _Phase1(NamedTuple):
    """What the background hands over: the memory with the surrogate, how far generation came, and what it prepared."""

    memory: LongTermMemory
    started: Started
    made: Preparation


@dataclass(frozen=True, slots=True, kw_only=True)
class _Speculation:
    """Phase 1 of one chunk, under way or done."""

    surrogate: _Surrogate
    noise: Noise
    future: Future[_Phase1]
    stop: threading.Event
    begun_s: float


class SpeculativePolicy(ClwmPolicy):
    """A `ClwmPolicy` that thinks while the robot moves. Owned by one thread, which is the only one to call its methods.

    After each `act` a background worker runs Phase 1 on values that nothing changes; it writes to nobody's state, so policies that
    share a worker share no memory. `act` with the real observation runs Phase 2. An observation that is

    - early (Phase 1 still runs) waits `patience_s` for it, then takes over what there is;
    - late (after `expires_s`) is answered synchronously, with the same noise;
    - lost is replaced by `act_blind`: the chunk comes from the prediction alone, and the long-term memory never learns of it.
    """

    def __init__(self, agent: Agent, config: SaiConfig, *, seed: int = 0, worker: Executor | None = None) -> None:
        """`worker` may be shared by policies; without one the policy has its own thread."""
        super().__init__(agent, seed=seed)
        self.config = config
        self._split = Split.of(config, agent.config.model)
        self._own = ThreadPoolExecutor(1, thread_name_prefix="speculate") if worker is None else None
        self._worker = worker or self._own
        self._pending: _Speculation | None = None
        self._basis: LongTermMemory | None = None
        self._made: Preparation | None = None
        self._lost = 0

    def begin(self, instruction: str) -> None:
        """Starts an episode; what was being speculated for the last one is dropped."""
        self._drop()
        self._lost, self._made = 0, None
        super().begin(instruction)

    def act(
        self, rgb: NDArray[np.uint8], proprio: NDArray[np.float32], executed: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """The next chunk for a real frame, and Phase 1 of the one after it begins. As `ClwmPolicy.act`."""
        try:
            chunk = super().act(rgb, proprio, executed)
        except EmbodiChainError:
            raise  # a refused observation leaves the speculation for the one that follows
        except BaseException:
            self._drop()
            raise
        self._lost, self._basis = 0, self.memory
        self._speculate(chunk)
        return chunk

    @torch.inference_mode()
    def act_blind(self) -> NDArray[np.float32]:
        """The next chunk when the observation was lost: generated with the predicted frame in its place.

        Raises LearnerError when nothing was predicted yet, or for more than `max_lost` losses in a row.
        """
        if self._pending is None:
            raise LearnerError("no observation came before the one that was lost: nothing is predicted; call act(...) first")
        if self._lost >= self.config.max_lost:
            raise LearnerError(
                f"{self._lost + 1} observations in a row were lost, {self.config.max_lost} are allowed (max_lost): stop the robot "
                "until it sees again"
            )
        began = time.perf_counter()
        pending, self._pending = self._pending, None
        memory, started, self._made = pending.future.result()
        waited = time.perf_counter() - began
        chunk = self._complete(memory, started, pending.surrogate.measured_BA)
        self._account(Outcome.BLIND, started, began, waited)
        self._lost, self._basis, self._measured = self._lost + 1, memory, pending.surrogate.measured_BA
        self._speculate(chunk)
        return chunk

    @torch.inference_mode()
    def expect(self, rgb: NDArray[np.uint8], proprio: NDArray[np.float32]) -> None:
        """Speculates from this forecast of the next observation instead of the model's own; for callers who know better."""
        pending = self._pending
        if pending is None:
            raise LearnerError("nothing is being speculated: call act(...) first")
        latents, measured, _ = self._see(rgb, proprio)
        pending.stop.set()
        surrogate = _Surrogate(
            basis=pending.surrogate.basis, latents_BNC=latents, measured_BA=measured, executed_BKA=pending.surrogate.executed_BKA
        )
        self._launch(surrogate, pending.noise)

    def settle(self, timeout_s: float) -> bool:
        """Waits until Phase 1 is done; False when it is not after `timeout_s`. For measurements and tests."""
        if self._pending is not None:
            try:
                self._pending.future.exception(timeout_s)
            except Unfinished:
                return False
        return True

    def close(self) -> None:
        """Drops the speculation and ends the policy's own thread; safe to call twice."""
        self._drop()
        if self._own is not None:
            self._own.shutdown(wait=True)

    # ------------------------------------------------------------------------------------------------------------- parts

    def _generate(self, memory: LongTermMemory, like: Tensor, measured: Tensor, began: float) -> NDArray[np.float32]:
        """Phase 2 for a real observation: with what Phase 1 left, if it is of use."""
        pending, self._pending = self._pending, None
        if pending is None or pending.noise.video_BNC.shape != like.shape:  # cameras of another size: nothing can be kept
            return super()._generate(memory, like, measured, began)
        if time.perf_counter() - pending.begun_s > self.config.expires_s:
            pending.stop.set()
            started, waited, outcome = Started.at_noise(pending.noise), 0.0, Outcome.EXPIRED
        else:
            started, waited, outcome = self._join(pending)
        chunk = self._complete(memory, started, measured)
        self._account(outcome, started, began, waited)
        return chunk

    def _join(self, pending: _Speculation) -> tuple[Started, float, Outcome]:
        """What Phase 1 has come to, the seconds waited for it, and whether it was stopped on the way."""
        waiting = time.perf_counter()
        patience = None if math.isinf(self.config.patience_s) else self.config.patience_s
        try:
            _, started, self._made = pending.future.result(timeout=patience)
            outcome = Outcome.SPECULATED
        except Unfinished:
            pending.stop.set()
            if pending.future.cancel():  # it had not even begun: the worker is busy with others
                started = Started.at_noise(pending.noise)
            else:
                _, started, self._made = pending.future.result()
            outcome = Outcome.TAKEN_OVER
        except CancelledError:
            raise LearnerError("the background worker was shut down while a policy still uses it") from None
        return started, time.perf_counter() - waiting, outcome

    def _prepared(self, grid: Grid) -> Preparation | None:
        return self._made if self._made is not None and self._made.grid == grid else None

    def _settings(self, grid: Grid) -> tuple[Setting, Setting] | None:
        """Those that the background made for the chunk before, in this episode."""
        made = self._prepared(grid)
        return made and made.frame

    def _complete(self, memory: LongTermMemory, started: Started, measured: Tensor) -> NDArray[np.float32]:
        frame, chunk = finish(self._agent.model, memory, started, self._reading, self._grid, self._prepared(self._grid))
        return self._release(frame, chunk, measured)

    def _account(self, outcome: Outcome, started: Started, began: float, waited_s: float) -> None:
        model = self._agent.config.model
        self.last = Inference(
            outcome=outcome,
            video_evaluations=model.video_steps - started.video_steps,
            action_evaluations=model.action_steps - started.action_steps,
            blocking_s=time.perf_counter() - began,
            waited_s=waited_s,
        )

    @torch.inference_mode()
    def _speculate(self, chunk: NDArray[np.float32]) -> None:
        """Begins Phase 1 with the predicted frame, and with the chunk's last action for the joints measured after it."""
        assert self.imagined is not None and self._executed is not None and self._basis is not None
        latents = self.imagined[None]
        surrogate = _Surrogate(
            basis=self._basis,
            latents_BNC=latents,
            measured_BA=torch.from_numpy(chunk[-1:].copy()).to(latents.device),
            executed_BKA=self._executed,
        )
        self._launch(surrogate, self._noise(latents))

    def _launch(self, surrogate: _Surrogate, noise: Noise) -> None:
        agent, text, grid, split, stop = self._agent, self._reading, self._grid, self._split, threading.Event()
        kept = self._prepared(grid)

        def phase_1() -> _Phase1:
            with torch.inference_mode():
                made = kept or Preparation.of(agent.model, grid, noise)
                proprio = agent.normalizer.proprio(surrogate.measured_BA)
                memory = self._remember(
                    surrogate.basis, surrogate.latents_BNC, proprio, surrogate.executed_BKA, text, grid, made.frame
                )
                return _Phase1(memory, start(agent.model, memory, noise, text, grid, split, stop.is_set, made), made)

        assert self._worker is not None
        try:
            future = self._worker.submit(phase_1)
        except RuntimeError as error:
            raise LearnerError("the background worker was shut down while a policy still uses it") from error
        self._pending = _Speculation(surrogate=surrogate, noise=noise, future=future, stop=stop, begun_s=time.perf_counter())

    def _drop(self) -> None:
        if self._pending is not None:
            self._pending.stop.set()
            self._pending.future.cancel()
            self._pending = None
