"""Physics with the faults that workers have: importable by them."""

import os
import signal
import time
from typing import Any

import ray

from embodichain.physics.counting import CountingPhysics
from embodichain.types import Scene, WorldState


class FaultyPhysics(CountingPhysics):
    """Counts, and raises in one scene of four as code with a bug in it does."""

    def reset(self, scene: Scene) -> WorldState:
        if scene.seed % 4 == 0:
            raise ZeroDivisionError(f"scene of seed {scene.seed}")
        return super().reset(scene)


class IdlePhysics(CountingPhysics):
    """Comes to no scene at all, however long one waits."""

    def reset(self, scene: Scene) -> WorldState:
        time.sleep(600.0)
        return super().reset(scene)


class StoppingPhysics(CountingPhysics):
    """Counts, and stops the whole process in one scene of sixteen, as a deadlock does."""

    def reset(self, scene: Scene) -> WorldState:
        if scene.seed % 16 == 0:
            os.kill(os.getpid(), signal.SIGSTOP)
        return super().reset(scene)


class SlowlyBuiltPhysics(CountingPhysics):
    """Counts, once its worker has taken its time to start."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        if ray.is_initialized() and ray.get_runtime_context().get_actor_id() is not None:
            time.sleep(10.0)
        super().__init__(*arguments, **settings)
