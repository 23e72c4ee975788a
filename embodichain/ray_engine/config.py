"""Settings of the Ray engine. Does not import ray."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from embodichain.errors import ConfigError
from embodichain.ray_engine.elastic import Elastic
from embodichain.ray_engine.weather import Budgets
from embodichain.types import MOST_TOGETHER
from embodichain.types.reels import CameraMode, DarkroomPlace


@dataclass(frozen=True, kw_only=True)
class RayConfig:
    """Number and placement of workers, and limits of failures."""

    workers: int = 2
    """Number of workers at the start, and the smallest number later."""
    elastic: Elastic | None = None
    """Makes the number of workers depend on waiting times; None keeps it fixed."""
    address: str = ""
    """Address of a running cluster; empty starts Ray on this machine."""
    cpus_per_worker: float = 1.0
    """CPU cores that each worker requests from a running cluster; `ray status` lists workers that wait for cores. If the run starts
    Ray itself, it starts all workers regardless of cores."""
    budgets: Budgets = field(default_factory=Budgets)
    """How many lost workers a run survives."""
    hang_s: float = 300.0
    """A worker without a heartbeat for this long [s] is replaced; waiting for room in the ring counts as a heartbeat."""
    together: int = 1
    """Number of trajectories that a worker on another node makes before it sends them to the gateway in one call."""
    log: Path | None = None
    """File in which losses are recorded, one JSON object a line, with the last output of the worker."""
    camera: CameraMode = CameraMode.SNAPSHOTS
    darkroom: DarkroomPlace = DarkroomPlace.HOST
    """Where the darkroom draws, with camera=DARKROOM; on the ring's card, only what `card_room` accepts."""
    """When and where pictures are rendered."""
    gateway_only: bool = False
    """Whether workers on the ring's node also write through the gateway, for tests and measurements."""

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ConfigError(f"workers must be at least 1, got {self.workers}")
        if not 1 <= self.together <= MOST_TOGETHER:
            raise ConfigError(f"together must be 1 to {MOST_TOGETHER} trajectories, got {self.together}")
        if self.cpus_per_worker < 0 or self.hang_s <= 0:
            raise ConfigError(
                f"cpus_per_worker must be 0 or more and hang_s positive, got {self.cpus_per_worker} and {self.hang_s}"
            )
