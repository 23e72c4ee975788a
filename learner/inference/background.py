"""Speculative asynchronous inference: the next decision is begun in the background, before its observation has arrived.

Phase 1 runs as soon as a chunk is returned: the predicted frame stands in for the next observation, and the model begins as much of
the decision as its mode says. Phase 2 runs when the real observation arrives: the model observes it and finishes the decision. Only
Phase 2 blocks the robot. Each model family defines what the two phases compute (`WorldModel.begin` and `finish`).
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping
from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as Unfinished
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embodichain.errors import EmbodiChainError, LearnerError
from embodichain.types import ChannelLimits
from learner.backbone.grid import Grid
from learner.inference.chunking import LatePolicy
from learner.inference.config import SaiConfig
from learner.inference.policy import ChunkOrigin, Policy
from learner.models.agent import Agent
from learner.models.world_model import Mode, Noise, Prepared, Seen, Started


def thinking_thread(name: str) -> ThreadPoolExecutor:
    """A pool of one thread whose results equal those of the calling thread bit for bit.

    The number of OpenMP threads is a setting of each thread, and a new thread takes over torch's only when torch first asks for it.
    Until then its matrix products would be summed in another order. So the thread sets the number when it starts.
    """
    return ThreadPoolExecutor(1, thread_name_prefix=name, initializer=torch.set_num_threads, initargs=(torch.get_num_threads(),))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Surrogate:
    """The stand-in for the next real observation; everything but `measured` is normalised."""

    basis: Any
    """The memory before this observation."""
    latents_BNC: Tensor
    measured_BA: Tensor
    executed_BKA: Tensor
    imagined: Mapping[str, Tensor] | None
    """`Decision.extras` if the model predicted the frame; None if the caller forecast it (`expect`): then it counts as real."""


class _Phase1(NamedTuple):
    """The result of Phase 1: the memory with the surrogate, the state of generation, and what was prepared for Phase 2."""

    memory: Any
    started: Started
    made: tuple[Grid, Prepared]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Speculation:
    """Phase 1 of one chunk, running or finished."""

    surrogate: _Surrogate
    noise: Noise
    future: Future[_Phase1]
    stop: threading.Event
    begun_s: float


class SpeculativePolicy(Policy):
    """A `Policy` that computes while the robot moves. Only one thread may call its methods.

    After each `act`, a background worker runs Phase 1 on immutable values. It writes to no policy's state, so several policies may
    share a worker. The next `act` runs Phase 2 with the real observation. An observation that is

    - early (Phase 1 still runs) waits up to `patience_s` for it, then continues from what is done;
    - late (after `expires_s`) discards Phase 1 and is answered synchronously, with the same noise;
    - lost is replaced by `act_blind`: the chunk comes from the prediction alone, which never enters the long-term memory.
    """

    can_be_blind = True

    def __init__(self, agent: Agent, config: SaiConfig, *, seed: int = 0, worker: Executor | None = None) -> None:
        """`worker` may be shared by several policies; without one the policy starts its own thread."""
        super().__init__(agent, seed=seed)
        self.config = config
        self._mode = Mode(config.variant, config.s_mid)
        agent.model.check(self._mode)
        self._own = thinking_thread("speculate") if worker is None else None
        self._worker = worker or self._own
        self._pending: _Speculation | None = None
        self._basis: Any = None
        self._made: tuple[Grid, Prepared] | None = None
        self._lost = 0

    def begin(self, instruction: str) -> None:
        """Starts an episode; a running speculation is dropped."""
        self._drop()
        self._lost, self._made = 0, None
        super().begin(instruction)

    def act(
        self, rgb: NDArray[np.uint8], proprio: NDArray[np.float32], executed: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """As `Policy.act`; afterwards Phase 1 of the following chunk begins in the background."""
        try:
            chunk = super().act(rgb, proprio, executed)
        except EmbodiChainError:
            raise  # the observation was invalid: keep the speculation for the next one
        except BaseException:
            self._drop()
            raise
        self._lost, self._basis = 0, self.memory
        self._speculate(chunk)
        return chunk

    @torch.inference_mode()
    def act_blind(self) -> NDArray[np.float32]:
        """The next chunk when the observation was lost, generated from the predicted frame.

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
        with self._unchanged_on_error():
            pending, self._pending = self._pending, None
            memory, started, self._made = pending.future.result()
            waited = time.perf_counter() - began
            chunk = self._complete(memory, started, pending.surrogate.measured_BA, ChunkOrigin.BLIND, began, waited)
        self._lost, self._basis, self._measured = self._lost + 1, memory, pending.surrogate.measured_BA
        self._speculate(chunk)
        return chunk

    @torch.inference_mode()
    def expect(self, rgb: NDArray[np.uint8], proprio: NDArray[np.float32]) -> None:
        """Restarts Phase 1 from the caller's forecast of the next observation instead of the model's; arguments as of `act`."""
        pending = self._pending
        if pending is None:
            raise LearnerError("nothing is being speculated: call act(...) first")
        latents, measured, _ = self._see(rgb, proprio)
        pending.stop.set()
        surrogate = _Surrogate(
            basis=pending.surrogate.basis,
            latents_BNC=latents,
            measured_BA=measured,
            executed_BKA=pending.surrogate.executed_BKA,
            imagined=None,
        )
        self._launch(surrogate, pending.noise)

    def settle(self, timeout_s: float) -> bool:
        """Waits for Phase 1; returns False if it is not done after `timeout_s`. For measurements and tests."""
        if self._pending is not None:
            try:
                self._pending.future.exception(timeout_s)
            except Unfinished:
                return False
        return True

    def close(self) -> None:
        """Drops the speculation and stops the policy's own thread; safe to call twice."""
        self._drop()
        if self._own is not None:
            self._own.shutdown(wait=True)

    # ------------------------------------------------------------------------------------------------------------- parts

    def _generate(self, like: Tensor, measured: Tensor, began: float) -> NDArray[np.float32]:
        """Phase 2 for a real observation, starting from the result of Phase 1 if it is still valid."""
        pending, self._pending = self._pending, None
        if pending is None or pending.surrogate.latents_BNC.shape != like.shape:  # other cameras: Phase 1 is of no use
            return super()._generate(like, measured, began)
        if time.perf_counter() - pending.begun_s > self.config.expires_s:
            pending.stop.set()
            started, waited, outcome = self._agent.model.unbegun(pending.noise), 0.0, ChunkOrigin.EXPIRED
        else:
            started, waited, outcome = self._join(pending)
        expected = pending.surrogate.measured_BA
        return self._complete(self._memory, started, measured, outcome, began, waited, expected)

    def _join(self, pending: _Speculation) -> tuple[Started, float, ChunkOrigin]:
        """Returns the state of generation after Phase 1, the time waited for it [s], and whether it was stopped before its end."""
        waiting = time.perf_counter()
        if pending.stop.is_set() and pending.future.cancelled():  # by an observation that was refused in the end
            return self._agent.model.unbegun(pending.noise), 0.0, ChunkOrigin.TAKEN_OVER
        patience = None if math.isinf(self.config.patience_s) else self.config.patience_s
        try:
            _, started, self._made = pending.future.result(timeout=patience)
            outcome = ChunkOrigin.SPECULATED
        except Unfinished:
            pending.stop.set()
            if pending.future.cancel():  # Phase 1 had not started: the worker is busy with other policies
                started = self._agent.model.unbegun(pending.noise)
            else:
                _, started, self._made = pending.future.result()
            outcome = ChunkOrigin.TAKEN_OVER
        except CancelledError:
            raise LearnerError("the background worker was shut down while a policy still uses it") from None
        return started, time.perf_counter() - waiting, outcome

    def _prepared(self, grid: Grid) -> Prepared:
        """Reuses what the background prepared for an earlier chunk of this episode."""
        return self._made[1] if self._made is not None and self._made[0] == grid else None

    def _complete(
        self,
        memory: Any,
        started: Started,
        measured: Tensor,
        outcome: ChunkOrigin,
        began: float,
        waited_s: float,
        expected: Tensor | None = None,
    ) -> NDArray[np.float32]:
        made = self._prepared(self._grid)
        decision = self._agent.model.finish(memory, started, self._reading, self._grid, made=made)
        return self._release(decision, measured, outcome, began, waited_s, expected)

    @torch.inference_mode()
    def _speculate(self, chunk: NDArray[np.float32]) -> None:
        """Begins Phase 1: the predicted frame stands in for the next one, and the chunk's last action for the measured joints."""
        assert self._decision is not None and self._executed is not None and self._basis is not None
        latents = self._decision.imagined_BNC
        assert latents is not None, "a model that decides ahead imagines"
        surrogate = _Surrogate(
            basis=self._basis,
            latents_BNC=latents,
            measured_BA=torch.from_numpy(chunk[-1:].copy()).to(latents.device),
            executed_BKA=self._executed,
            imagined=self._decision.extras,
        )
        self._launch(surrogate, self._agent.model.noise(latents, self._generator))

    def _launch(self, surrogate: _Surrogate, noise: Noise) -> None:
        agent, text, grid, mode, stop = self._agent, self._reading, self._grid, self._mode, threading.Event()
        kept = self._prepared(grid)

        def phase_1() -> _Phase1:
            with torch.inference_mode():
                made = agent.model.prepare(noise, grid) if kept is None else kept
                proprio = agent.normalizer.proprio(surrogate.measured_BA)
                seen = Seen(surrogate.latents_BNC, proprio, surrogate.executed_BKA, surrogate.imagined)
                if surrogate.imagined is not None:
                    seen = agent.model.foresee(surrogate.basis, seen, noise, text, grid, mode)
                memory = self._remember(surrogate.basis, seen, text, grid, made)
                started = agent.model.begin(memory, noise, text, grid, mode, stopped=stop.is_set, made=made)
                return _Phase1(memory, started, (grid, made))

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


def make_policy(
    agent: Agent,
    ahead: SaiConfig | None,
    *,
    seed: int = 0,
    worker: Executor | None = None,
    limits: ChannelLimits | None = None,
) -> Policy:
    """Makes the policy of an agent of any family, for a robot with these `limits`.

    `ahead` selects speculation, in a thread of its own or in `worker`, or late decisions (`LatePolicy`); None means neither. Raises
    ConfigError for a mode that the agent's model does not have.
    """
    if ahead is None:
        policy = Policy(agent, seed=seed)
    elif ahead.variant in agent.model.late_modes:
        policy = LatePolicy(agent, ahead, seed=seed)
    else:
        policy = SpeculativePolicy(agent, ahead, seed=seed, worker=worker)
    policy.limits = limits
    return policy
