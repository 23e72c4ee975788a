"""The host of robosuite: tasks with one Panda arm, operational-space control, robosuite's reward and success criterion."""

# pyright: reportMissingImports=false
from __future__ import annotations

import logging
from typing import Any

import embodichain_host as host
import numpy as np
from numpy.typing import NDArray

_OPEN = 0.08
"""Opening of the Panda's gripper [m]."""
_KEPT = ("eef_pos", "eef_quat", "gripper_qpos")
"""Observations of the robot in a reading, besides all those of objects."""


def seeded(kind: type) -> type:
    """Makes a subclass of an environment that can be restarted with a seed like a new one, and reports success."""

    class Seeded(kind):
        def begin(self, seed: int) -> dict[str, Any]:
            """Restarts with a seed; returns the first observation. robosuite rebuilds its model and draws from one generator."""
            self.rng.bit_generator.state = np.random.default_rng(seed).bit_generator.state  # samplers refer to this generator
            before = np.random.get_state()
            np.random.seed(np.random.SeedSequence(seed).generate_state(4))
            seen = self.reset()
            np.random.set_state(before)
            return seen

        @property
        def done_now(self) -> bool:
            return bool(self._check_success())

    return Seeded


class Robosuite:
    """One environment for each task that was requested, restarted for every episode."""

    def __init__(self) -> None:
        logging.disable(logging.WARNING)  # robosuite warns about optional files and packages that are not needed here
        import robosuite

        self._kinds = robosuite.environments.REGISTERED_ENVS
        self._made: dict[str, Any] = {}

    def reset(self, task: str, seed: int) -> None:
        """See `embodichain_host.Environment`."""
        if task not in self._made:
            self._made[task] = seeded(self._kinds[task])(
                robots="Panda",
                has_renderer=False,
                has_offscreen_renderer=False,
                use_camera_obs=False,
                reward_shaping=True,
                ignore_done=True,
            )
        self._env = self._made[task]
        self._observation = self._env.begin(seed)
        self._reward = 0.0

    def step(self, action: NDArray[np.float64]) -> None:
        """One control step of 1/20 s."""
        self._observation, self._reward, _, _ = self._env.step(action)

    def reading(self) -> NDArray[np.float64]:
        """See `embodichain_host.Environment`; there is no expert."""
        seen, success = self._observation, float(self._env.done_now)
        fingers = seen["robot0_gripper_qpos"]
        opening = (fingers[0] - fingers[1]) / _OPEN
        measured = np.concatenate([seen["robot0_eef_pos"], _rotation(seen["robot0_eef_quat"]) / np.pi, [opening]])
        head = (success, self._reward, min(1.0, self._reward))
        pose = (getattr(self._env.sim.data, name).ravel() for name in host.POSE)
        return np.concatenate([head, measured, *(np.atleast_1d(seen[name]) for name in self._names()), *pose])

    def _names(self) -> list[str]:
        robot = [f"robot0_{name}" for name in _KEPT]
        return robot + [name for name in self._observation if not name.startswith("robot0_") and not name.endswith("-state")]

    def facts(self) -> dict[str, object]:
        """See `embodichain_host.Environment`."""
        sizes = {"measured": 7, "expert": 0} | {name: int(np.size(self._observation[name])) for name in self._names()}
        return {"sizes": sizes, "pose": host.shapes(self._env.sim.data), "xml": self._env.model.get_xml(), "hidden": [0]}

    def fields(self) -> dict[str, NDArray]:
        """See `embodichain_host.Environment`."""
        return {name: getattr(self._env.sim.model, name) for name in host.FIELDS}


def _rotation(quaternion: NDArray[np.float64]) -> NDArray[np.float64]:
    """The rotation vector [rad] of a quaternion (x, y, z, w): its axis times its angle, at most pi."""
    x, y, z, w = quaternion if quaternion[3] >= 0.0 else -quaternion
    sine = np.sqrt(x * x + y * y + z * z)
    angle = 2.0 * np.arctan2(sine, w)
    return np.array([x, y, z]) * (angle / sine if sine > 1e-12 else 2.0)


if __name__ == "__main__":
    host.serve(Robosuite, ("robosuite", "mujoco", "numpy"))
