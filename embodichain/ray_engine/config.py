"""How simulation is spread over workers: values, without Ray."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from embodichain.errors import ConfigError
from embodichain.ray_engine.elastic import Elastic
from embodichain.ray_engine.weather import Budgets
from embodichain.types.reels import CameraMode


@dataclass(frozen=True, kw_only=True)
class RayConfig:
    """How simulation is spread."""

    workers: int = 2
    """At the beginning, and at least."""
    elastic: Elastic | None = None
    """Lets the number of workers follow who waits; None keeps it."""
    address: str = ""
    """Of a running cluster; empty starts one on this machine."""
    cpus_per_worker: float = 1.0
    """Cores that each worker asks of a running cluster: `ray status` shows those that wait for some. On a Ray of its own a run
    starts as many workers as it was told to."""
    budgets: Budgets = field(default_factory=Budgets)
    """How many losses are survived."""
    hang_s: float = 300.0
    """A worker without a sign of life for so long [s] is replaced; waiting for room in the ring is a sign of life."""
    log: Path | None = None
    """Where losses are told, one JSON object a line, with what the worker wrote last."""
    camera: CameraMode = CameraMode.SNAPSHOTS
    """When and where pictures are drawn."""
    gateway_only: bool = False
    """Also workers on the ring's node write through the gateway: to test it, and to measure what it costs."""

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ConfigError(f"workers must be at least 1, got {self.workers}")
        if self.cpus_per_worker < 0 or self.hang_s <= 0:
            raise ConfigError(
                f"cpus_per_worker must be 0 or more and hang_s positive, got {self.cpus_per_worker} and {self.hang_s}"
            )
