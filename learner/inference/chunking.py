"""Real-time chunking: while a decision is computed, the robot continues the previous one, and the new chunk joins it smoothly.

Black, Galliker & Levine 2025. As inference takes time, the first commands after a new frame are already committed. The model is
given them and the rest of the previous decision, so that the new chunk continues without a jump.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embodichain.errors import ConfigError
from learner.inference.config import SaiConfig
from learner.inference.policy import ChunkOrigin, Policy
from learner.models.agent import Agent
from learner.models.world_model import Mode, Prefix


class LatePolicy(Policy):
    """A `Policy` whose chunks begin with `delay` commands of the previous decision, except the first chunk of an episode."""

    needs_gradients = True

    def __init__(self, agent: Agent, config: SaiConfig, *, seed: int = 0) -> None:
        """Raises ConfigError for a mode that the model does not have, or a delay longer than the rest of a decision."""
        super().__init__(agent, seed=seed)
        self._mode = Mode(config.variant, config.s_mid)
        agent.model.check(self._mode)
        left = min(agent.model.horizon - self.chunk, self.chunk)
        if config.delay > left:
            raise ConfigError(
                f"of a decision of {agent.model.horizon} actions, {self.chunk} are executed before the next frame: "
                f"sai.delay is at most {left}, got {config.delay}"
            )
        self._delay = config.delay

    def _generate(self, like: Tensor, measured: Tensor, began: float) -> NDArray[np.float32]:
        left = self.rest
        if not len(left):
            return super()._generate(like, measured, began)
        model, normalizer = self._agent.model, self._agent.normalizer
        under_way = normalizer.actions(torch.from_numpy(left)[None].to(measured), measured)
        noise = model.noise(like, self._generator)
        decision = model.decide_from(self._memory, noise, Prefix(under_way, self._delay), self._reading, self._grid, self._mode)
        chunk = self._release(decision, measured, ChunkOrigin.LATE, began)
        chunk[: self._delay] = left[: self._delay]
        self._executed = normalizer.actions(torch.from_numpy(chunk)[None].to(measured), measured)
        return chunk
