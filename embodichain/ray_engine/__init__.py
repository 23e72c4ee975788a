"""The same stages as Ray actors on many workers: the only room that imports ray.

`engine` hands out numbers and holds the actors that run elsewhere; `crew` fills places with workers and finds out what befell them;
`weather` counts that against budgets; `lab` keeps the darkroom of an engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from embodichain.lazy import public

if TYPE_CHECKING:
    from embodichain.ray_engine.config import RayConfig
    from embodichain.ray_engine.engine import Courier, GatewayActor, RayEngine, SimulationWorker
    from embodichain.ray_engine.home import RingHome
    from embodichain.ray_engine.start import start_ray

__all__ = ["Courier", "GatewayActor", "RayConfig", "RayEngine", "RingHome", "SimulationWorker", "start_ray"]

__getattr__, __dir__ = public(
    __name__,
    dict.fromkeys(["Courier", "GatewayActor", "RayEngine", "SimulationWorker"], "engine")
    | {"RayConfig": "config", "RingHome": "home", "start_ray": "start"},
)
