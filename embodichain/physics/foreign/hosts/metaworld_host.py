"""Meta-World behind the wire: its environments with observable goals, its scripted experts, its success."""

# pyright: reportMissingImports=false
from __future__ import annotations

import warnings
from typing import Any

import embodichain_host as host
import numpy as np
from numpy.typing import NDArray

_UNLIMITED = 1 << 62
_FULL_REWARD = 10.0
"""Of every environment of Meta-World, where its task is done."""


def seeded(kind: type) -> type:
    """A kind of environment with its goal observable, that begins again by a seed as a fresh one does.

    Building one takes a tenth of a second, most of it for the model. Meta-World's own class of this sort can only be built.
    """

    class Seeded(kind):
        def __init__(self) -> None:
            super().__init__()
            self._partially_observable, self._set_task_called = False, True
            del self.sawyer_observation_space  # it was kept for the hidden goal
            self.max_path_length = _UNLIMITED  # our grader counts the steps: an episode ends with a chunk, theirs with an exception

        def begin(self, seed: int) -> NDArray[np.float64]:
            """What is seen first in the episode of a seed."""
            before = np.random.get_state()
            np.random.seed(np.random.SeedSequence(seed).generate_state(4))  # the whole of a long seed: an integer may have 32 bits
            self._freeze_rand_vec = False
            self.reset()
            self._freeze_rand_vec = True
            np.random.set_state(before)
            return self.reset()[0]

    return Seeded


class MetaWorld:
    """One environment of each task that was asked for, begun again for every episode."""

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
        expert = self._expert.get_action(seen.copy()).clip(-1.0, 1.0)  # some experts change what they are shown
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
