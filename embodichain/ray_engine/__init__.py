"""The Ray engine: many worker processes simulate, as Ray actors. The only package that imports ray.

`engine` hands out scene numbers and defines the actors; `crew` keeps the workers running and finds out why they
were lost; `weather` counts losses against budgets; `lab` manages the darkroom.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from embodichain.lazy import public

if TYPE_CHECKING:
    from embodichain.ray_engine.config import RayConfig
    from embodichain.ray_engine.courier import Courier
    from embodichain.ray_engine.engine import GatewayActor, RayEngine, SimulationWorker
    from embodichain.ray_engine.home import RingHome
    from embodichain.ray_engine.start import start_ray

__all__ = ["Courier", "GatewayActor", "RayConfig", "RayEngine", "RingHome", "SimulationWorker", "start_ray"]

__getattr__, __dir__ = public(
    __name__,
    dict.fromkeys(["GatewayActor", "RayEngine", "SimulationWorker"], "engine")
    | {"Courier": "courier"}
    | {"RayConfig": "config", "RingHome": "home", "start_ray": "start"},
)
