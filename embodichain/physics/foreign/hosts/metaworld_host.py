"""The host of Meta-World: its environments with observable goals, its scripted experts, its success criterion."""

# pyright: reportMissingImports=false
from __future__ import annotations

import warnings
from typing import Any

import embodichain_host as host
import numpy as np
from numpy.typing import NDArray

_UNLIMITED = 1 << 62
_FULL_REWARD = 10.0
"""Reward of every Meta-World environment when its task is done."""


def seeded(kind: type) -> type:
    """Makes a subclass of an environment with an observable goal, which can be restarted with a seed like a new one.

    Building an environment takes 0.1 s, mostly for the model, and Meta-World's own class with a seed must be built anew for each.
    """

    class Seeded(kind):
        def __init__(self) -> None:
            super().__init__()
            self._partially_observable, self._set_task_called = False, True
            del self.sawyer_observation_space  # cached for the hidden goal
            self.max_path_length = _UNLIMITED  # our grader counts steps; Meta-World would raise in the middle of a chunk

        def begin(self, seed: int) -> NDArray[np.float64]:
            """Restarts with a seed; returns the first observation."""
            before = np.random.get_state()
            np.random.seed(np.random.SeedSequence(seed).generate_state(4))  # all bits of a long seed: an integer has only 32
            self._freeze_rand_vec = False
            self.reset()
            self._freeze_rand_vec = True
            np.random.set_state(before)
            return self.reset()[0]

    return Seeded


class MetaWorld:
    """One environment for each task that was requested, restarted for every episode."""

    def __init__(self) -> None:
        from metaworld.env_dict import ALL_V3_ENVIRONMENTS
        from metaworld.policies import ENV_POLICY_MAP

        self._kinds, self._experts = ALL_V3_ENVIRONMENTS, ENV_POLICY_MAP
        self._made: dict[str, Any] = {}

    def reset(self, task: str, seed: int) -> None:
        """See `embodichain_host.Environment`."""
        if task not in self._made:
            self._made[task] = seeded(self._kinds[task])()
        self._env = self._made[task]
        self._observation = self._env.begin(seed)
        self._expert = self._experts[task]()
        self._success, self._reward = False, 0.0

    def step(self, action: NDArray[np.float64]) -> None:
        """One control step of 1/80 s."""
        self._observation, self._reward, _, _, told = self._env.step(action.astype(np.float32))
        self._success = bool(told["success"])

    def reading(self) -> NDArray[np.float64]:
        """See `embodichain_host.Environment`."""
        seen, data = self._observation, self._env.data
        head = (self._success, self._reward, min(1.0, self._reward / _FULL_REWARD))
        expert = self._expert.get_action(seen.copy()).clip(-1.0, 1.0)  # a copy, because some experts modify their input
        return np.concatenate((head, seen[:4], expert, seen, *(getattr(data, name).ravel() for name in host.POSE)))

    def facts(self) -> dict[str, object]:
        """See `embodichain_host.Environment`."""
        sizes = {"measured": 4, "expert": 4, "observation": len(self._observation)}
        return {"sizes": sizes, "pose": host.shapes(self._env.data), "path": self._env.fullpath, "hidden": []}

    def fields(self) -> dict[str, NDArray]:
        """See `embodichain_host.Environment`."""
        return {name: getattr(self._env.model, name) for name in host.FIELDS}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    host.serve(MetaWorld, ("metaworld", "mujoco", "numpy"))
