"""The same stages as Ray actors on many workers: the only room that imports ray.

`engine` hands out numbers and holds the actors that run elsewhere; `crew` fills places with workers and finds out what befell them;
`weather` counts that against budgets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from embodichain.lazy import public

if TYPE_CHECKING:
    from embodichain.ray_engine.config import RayConfig
    from embodichain.ray_engine.engine import Courier, GatewayActor, RayEngine, RingHome, SimulationWorker
    from embodichain.ray_engine.start import start_ray

__all__ = ["Courier", "GatewayActor", "RayConfig", "RayEngine", "RingHome", "SimulationWorker", "start_ray"]

__getattr__, __dir__ = public(
    __name__,
    dict.fromkeys(["Courier", "GatewayActor", "RayEngine", "RingHome", "SimulationWorker"], "engine")
    | {"RayConfig": "config", "start_ray": "start"},
)
