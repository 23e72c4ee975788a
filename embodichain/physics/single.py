"""Adapts a batch of one world to the interface of a single physics."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embodichain.errors import ConfigError, SceneError
from embodichain.protocols import BatchPhysics
from embodichain.types import Push, Robot, Scene, WorldState


class Single:
    """Adapts a batch of one world; implements `protocols.Physics`. Closing it closes the batch."""

    def __init__(self, batch: BatchPhysics) -> None:
        """Raises ConfigError when the batch has more than one world, because worlds of a batch can only be stepped together."""
        if batch.num_worlds != 1:
            raise ConfigError(f"a single physics is a batch of 1 world, got {batch.num_worlds}: they can only be stepped together")
        self.batch = batch
        self._reset = False

    @property
    def robot(self) -> Robot:
        """The robot that commands address."""
        return self.batch.robot

    def reset(self, scene: Scene) -> WorldState:
        """Loads `scene` and returns its initial state; raises SceneError when it cannot be built."""
        self._reset = True
        self.batch.load((0,), (scene,))
        return self.batch.look().state(0)

    def step(self, command: NDArray[np.float64], pushes: tuple[Push, ...] = ()) -> WorldState:
        """Holds `command` for one control period, while `pushes` act; raises SceneError when the simulation became unstable."""
        self._check()
        return self.batch.step(command[None], {0: pushes} if pushes else {}).state(0)

    def render(
        self,
        rgb: NDArray[np.uint8],
        depth: NDArray[np.float32] | None = None,
        segmentation: NDArray[np.uint8] | None = None,
    ) -> None:
        """Renders every camera; see `protocols.Physics`."""
        self._check()
        first = None if depth is None else depth[None], None if segmentation is None else segmentation[None]
        self.batch.render((0,), rgb[None], *first)

    def close(self) -> None:
        """Frees the batch; safe to call twice."""
        self.batch.close()

    def _check(self) -> None:
        if not self._reset:
            raise SceneError("this physics holds no scene yet: call reset(scene) first")
