"""The same stages as Ray actors on many workers: the only room that imports ray.

`engine` hands out numbers; `crew` fills places with workers and finds out what befell them; `weather` counts that against budgets;
`actors` is what runs elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from embodichain.lazy import public

if TYPE_CHECKING:
    from embodichain.ray_engine.actors import Courier, GatewayActor, RingHome, SimulationWorker
    from embodichain.ray_engine.config import RayConfig
    from embodichain.ray_engine.engine import RayEngine
    from embodichain.ray_engine.start import start_ray

__all__ = ["Courier", "GatewayActor", "RayConfig", "RayEngine", "RingHome", "SimulationWorker", "start_ray"]

__getattr__, __dir__ = public(
    __name__,
    dict.fromkeys(["Courier", "GatewayActor", "RingHome", "SimulationWorker"], "actors")
    | {"RayConfig": "config", "RayEngine": "engine", "start_ray": "start"},
)
