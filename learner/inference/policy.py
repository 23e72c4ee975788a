"""The policy that drives a robot with an agent of any family: observation in, chunk of actions out."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embodichain.errors import EmbodiChainError, LearnerError
from embodichain.types import ChannelLimits
from learner.backbone.grid import Grid
from learner.models.agent import Agent
from learner.models.world_model import Decision, Prepared, Seen, State, TextMemory


class ChunkOrigin(StrEnum):
    """How a chunk came about."""

    SYNCHRONOUS = "synchronous"
    SPECULATED = "speculated"
    """Phase 1 ran in the background as planned, Phase 2 with the real observation."""
    TAKEN_OVER = "taken over"
    """The observation was early: Phase 2 continued from an unfinished Phase 1."""
    EXPIRED = "expired"
    """The observation was late: the result of Phase 1 was dropped."""
    LATE = "late"
    """Made by real-time chunking while the previous decision continued."""
    BLIND = "blind"
    """The observation was lost: the chunk was made from predictions alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inference:
    """The latency of the last chunk for its caller: total time, and the part spent waiting for the background [s]."""

    outcome: ChunkOrigin
    evaluations: Mapping[str, int]
    """Network evaluations that the caller waited for, by stage."""
    blocking_s: float
    waited_s: float = 0.0


class Policy:
    """Drives one robot in closed loop. For one thread; policies of the same agent share only its weights.

    `begin` starts an episode. Each `act` takes a real frame together with the actions executed before it (by default the chunk that
    it returned last) and returns the next chunk. How long the model remembers depends on its family (`WorldModel.restart`).
    """

    can_be_blind = False
    """Whether `act_blind` can bridge an observation that was lost."""
    needs_gradients = False
    """Whether decisions may need gradients; then tensors must not be made in inference mode, which excludes them from autograd."""

    def __init__(self, agent: Agent, *, seed: int = 0) -> None:
        if not agent.normalizer.is_fitted:
            raise LearnerError("the agent's normalizer was never measured: train it, or load a checkpoint")
        self._agent = agent.eval()
        self._seed = seed
        self._span = int(agent.memory_span)
        self._generator = torch.Generator()
        self._text: TextMemory = None
        self._has_begun = False
        self._memory: Any = agent.model.empty()
        self._executed: Tensor | None = None
        self._measured: Tensor | None = None
        self._grid = Grid(0, 0, 0)
        self._decision: Decision | None = None
        self._codes: Tensor | None = None
        self.imagined: Tensor | None = None
        """Normalised latents of the frame predicted after the last chunk, float32 [N, C]."""
        self.seen: Tensor | None = None
        """Normalised latents of the last real frame, float32 [N, C]."""
        self.last: Inference | None = None
        """The latency of the last chunk."""
        self.limits: ChannelLimits | None = None
        """Limits of the robot: measurements outside are refused, and commands are clipped to them. None means no limits."""
        self.rest: NDArray[np.float32] = np.zeros((0, self.action_dim), np.float32)
        """Actions of the last decision beyond its chunk, [H - K, A], physical and absolute; executed if the next one is late."""

    @property
    def chunk(self) -> int:
        """K, actions between two frames."""
        return self._agent.config.model.chunk

    @property
    def action_dim(self) -> int:
        """A, channels of an action and of a measured state."""
        return self._agent.config.model.action_dim

    @property
    def memory(self) -> State:
        """The model's memory of this episode."""
        return self._memory

    def begin(self, instruction: str) -> None:
        """Starts an episode: empties the memory, reseeds the noise and encodes the instruction."""
        agent = self._agent
        self._generator.manual_seed(self._seed)
        with self._quiet():
            self._text, self._has_begun = agent.model.read_text(agent.text([instruction])), True
            self._memory = agent.model.empty()
        self._executed, self._measured, self.imagined, self.seen, self.last = None, None, None, None, None
        self._decision, self.rest = None, np.zeros((0, self.action_dim), np.float32)

    def act(
        self, rgb: NDArray[np.uint8], proprio: NDArray[np.float32], executed: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """The next chunk of actions for a frame.

        Args:
            rgb: uint8 [cameras, h, w, 3].
            proprio: measured state in the unified representation, [A].
            executed: the actions that the robot executed since the last frame, [0..K, A], physical and absolute; None if they
                were those of the last chunk. If there are fewer than K, the robot is taken to have held the last one.

        Returns:
            float32 [K, A] in physical units and absolute, zero in channels that the robot lacks.

        Raises:
            LearnerError: before `begin`, for an observation of another shape or type, or one beyond the robot's `limits`, and for a
                model whose actions are not finite.
            ConfigError: for a number of cameras or an image size that the model does not support. After either error the policy
                is unchanged.
        """
        began = time.perf_counter()
        with self._quiet(), self._unchanged_on_error():
            return self._generate(*self._observe(rgb, proprio, executed), began)

    def watch(self, rgb: NDArray[np.uint8], proprio: NDArray[np.float32], executed: NDArray[np.float32] | None = None) -> None:
        """Observes a frame as `act` does without deciding, while several chunks of one decision are executed."""
        with self._quiet(), self._unchanged_on_error():
            self._observe(rgb, proprio, executed)

    def act_blind(self) -> NDArray[np.float32]:
        """The next chunk when the observation was lost. This policy does not predict observations: always raises LearnerError."""
        raise LearnerError("lost observations can only be bridged by a policy that thinks ahead: start it with --sai")

    def imagined_frame(self) -> NDArray[np.uint8]:
        """The pictures of the frame predicted after the last chunk, uint8 [cameras, h, w, 3].

        Raises LearnerError when no frame is predicted, and ConfigError for a codec that cannot decode.
        """
        if self.imagined is None:
            raise LearnerError("no frame is predicted: this model imagines none, or nothing was decided yet in this episode")
        agent = self._agent
        with torch.no_grad():
            return agent.encoder.decode(agent.normalizer.encoder_latents(self.imagined[None]), *self._grid)[0].cpu().numpy()

    def close(self) -> None:
        """Frees threads and other resources; this policy has none."""

    # ------------------------------------------------------------------------------------------------------------- parts

    def _quiet(self) -> AbstractContextManager[Any]:
        return torch.no_grad() if self.needs_gradients else torch.inference_mode()

    @contextmanager
    def _unchanged_on_error(self) -> Iterator[None]:
        """Takes back everything that a `with` block did to this policy before it raised an EmbodiChainError.

        That costs next to nothing: memories and decisions are replaced, never changed, so the old ones need only be kept.
        """
        before, noise = vars(self).copy(), self._generator.get_state()
        try:
            yield
        except EmbodiChainError:
            vars(self).update(before)
            self._generator.set_state(noise)
            raise

    def _observe(
        self, rgb: NDArray[np.uint8], proprio: NDArray[np.float32], executed: NDArray[np.float32] | None
    ) -> tuple[Tensor, Tensor]:
        """Updates the memory with a frame; returns its latents and the measured state."""
        latents, measured, grid = self._see(rgb, proprio)
        done = self._executed if executed is None else self._as_executed(executed)
        seen = Seen(latents, self._agent.normalizer.proprio(measured), done, codes_BN=self._codes)
        self._memory = self._remember(self._memory, seen, self._reading, grid, self._prepared(grid))
        self._executed, self._grid, self._measured, self.seen = done, grid, measured, latents[0]
        return latents, measured

    @property
    def _reading(self) -> TextMemory:
        if not self._has_begun:
            raise LearnerError("the policy has no instruction: call begin(instruction) first")
        return self._text

    def _see(self, rgb: NDArray[np.uint8], proprio: NDArray[np.float32]) -> tuple[Tensor, Tensor, Grid]:
        """Normalised latents [1, N, C], the measured state [1, A] in physical units, and the layout of the latents."""
        _ = self._reading
        if rgb.ndim != 4 or rgb.shape[-1] != 3 or rgb.dtype != np.uint8 or proprio.shape != (self.action_dim,):
            raise LearnerError(
                f"an observation is rgb uint8 [cameras, h, w, 3] and proprio [{self.action_dim}], "
                f"got {rgb.dtype} {list(rgb.shape)} and {list(proprio.shape)}"
            )
        self._check_limits("state", proprio)
        agent = self._agent
        device = agent.normalizer.latent_mean.device
        pixels = torch.from_numpy(np.array(rgb, order="C")).to(device)[None]  # copied: arrays from the network are read-only
        raw = agent.encoder(pixels)
        self._codes = agent.encoder.codes_of(raw) if agent.model.needs.codes else None
        measured = torch.from_numpy(np.array(proprio, np.float32)).to(device)[None]
        return agent.normalizer.latents(raw), measured, agent.grid(pixels)

    def _check_limits(self, what: str, vector: NDArray[np.float32]) -> None:
        if self.limits is not None and (breach := self.limits.breach(vector)):
            raise LearnerError(f"this {what} cannot be: {breach}; send joints in radians and openings in metres")

    def _as_executed(self, executed: NDArray[np.float32]) -> Tensor:
        if executed.ndim != 2 or executed.shape[1] != self.action_dim or len(executed) > self.chunk:
            raise LearnerError(f"executed actions are [0..{self.chunk}, {self.action_dim}], got {list(executed.shape)}")
        if self._measured is None:
            raise LearnerError("executed actions belong between two frames: none was seen before this one")
        for action in executed:
            self._check_limits("executed action", action)
        actions = torch.from_numpy(np.array(executed, np.float32)).to(self._measured)[None]
        if (missing := self.chunk - len(executed)) > 0:  # the robot held the last command or, without any, its measured pose
            last = actions[:, -1:] if len(executed) else self._measured[:, None]
            actions = torch.cat([actions, last.expand(-1, missing, -1)], dim=1)
        return self._agent.normalizer.actions(actions, self._measured)

    def _bounded(self, physical: Tensor) -> NDArray[np.float32]:
        """Physical actions [1, N, A] clipped to the robot's limits, [N, A]; raises LearnerError when they are not finite."""
        actions = physical[0].float().cpu().numpy()
        if not np.isfinite(actions).all():  # clipping would pass on what is no number
            raise LearnerError("the model's actions are not finite: stop the robot; if this comes again, the weights are broken")
        return actions if self.limits is None else self.limits.bounded(actions)

    def _prepared(self, grid: Grid) -> Prepared:
        """What was computed in advance for frames of this layout; this policy computes everything on demand."""
        return None

    def _remember(self, memory: Any, seen: Seen, text: TextMemory, grid: Grid, made: Prepared) -> Any:
        """The memory after a frame. May run in a background thread: it reads no mutable state of the policy."""
        model = self._agent.model
        before = model.restart(memory, self._span)
        if before is not memory:
            seen = seen._replace(executed_BKA=None)  # a restarted memory begins with a frame, as training windows do
        return model.observe(before, seen, text, grid, made)

    def _generate(self, like: Tensor, measured: Tensor, began: float) -> NDArray[np.float32]:
        """Decides from the present memory; returns the chunk in physical units. `like` are the frame's latents."""
        model = self._agent.model
        decision = model.decide(self._memory, model.noise(like, self._generator), self._reading, self._grid)
        return self._release(decision, measured, ChunkOrigin.SYNCHRONOUS, began)

    def _release(
        self,
        decision: Decision,
        measured: Tensor,
        outcome: ChunkOrigin,
        began: float,
        waited_s: float = 0.0,
        expected: Tensor | None = None,
    ) -> NDArray[np.float32]:
        """Stores the predicted frame, the chunk as executed actions, and the latency; returns the chunk in physical units.

        If the whole decision was made before its observation, its actions are relative to the state `expected` then; they are
        executed from the state `measured` now.
        """
        agent = self._agent
        self._decision = decision
        self._executed = agent.normalizer.playable(decision.actions_BHA[:, : self.chunk])
        self.imagined = None if decision.imagined_BNC is None else decision.imagined_BNC[0]
        basis = expected if decision.is_ahead and expected is not None else measured
        physical = agent.normalizer.physical_actions(self._executed, basis)
        if basis is not measured:
            self._executed = agent.normalizer.actions(physical, measured)
        further = agent.normalizer.playable(decision.actions_BHA[:, self.chunk :])
        self.rest = self._bounded(agent.normalizer.physical_actions(further, basis))
        unbounded = physical[0].float().cpu().numpy()
        actions = self._bounded(physical)
        if not np.array_equal(actions, unbounded):
            self._executed = agent.normalizer.actions(torch.from_numpy(actions)[None].to(measured), measured)
        self.last = Inference(
            outcome=outcome,
            evaluations=decision.evaluations,
            blocking_s=time.perf_counter() - began,
            waited_s=waited_s,
        )
        return actions
