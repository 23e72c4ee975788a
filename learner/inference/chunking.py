"""A policy whose decisions take effect late: while one is made, the last one goes on, and the next continues from it.

Real-time chunking (Black, Galliker & Levine 2025): at a new frame some commands are committed, for the decision takes as long to
make. The model is told them, and what is left of the last decision beyond, so that the new chunk joins without a jump.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embodichain.errors import ConfigError
from learner.inference.config import SaiConfig
from learner.inference.policy import Outcome, Policy
from learner.models.agent import Agent
from learner.models.world_model import Mode, Prefix


class LatePolicy(Policy):
    """A `Policy` whose chunk begins with `delay` commands of the decision before; the first chunk of an episode is all new."""

    needs_gradients = True

    def __init__(self, agent: Agent, config: SaiConfig, *, seed: int = 0) -> None:
        """Raises ConfigError for a mode that the model does not have, or a delay beyond what its decisions hold."""
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
        chunk = self._release(decision, measured, Outcome.LATE, began)
        chunk[: self._delay] = left[: self._delay]
        self._executed = normalizer.actions(torch.from_numpy(chunk)[None].to(measured), measured)
        return chunk
