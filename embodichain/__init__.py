"""EmbodiChain: a streaming engine that turns compute into fresh, bounded, physically valid robot experience.

Every package below is imported on first use, so `import embodichain` alone is fast and needs no optional dependency. Each public
name has one path, through the module whose `__all__` lists it: `embodichain.prepare.prepare`, `embodichain.types.Scene`.
"""

from __future__ import annotations

from embodichain.lazy import public

__version__ = "0.2.0"
__all__ = [
    "assets",
    "cache",
    "command_line",
    "config",
    "crew",
    "crew_engine",
    "darkroom",
    "darkroom_stage",
    "engine",
    "environments",
    "episode",
    "errors",
    "exchange",
    "expand",
    "export",
    "extras",
    "isaac",
    "lazy",
    "lines",
    "machine_code",
    "metrics",
    "motion",
    "operations",
    "physics",
    "prepare",
    "processes",
    "progress",
    "protocols",
    "ray_engine",
    "recovery",
    "registry",
    "resimulation",
    "ring",
    "robots",
    "rollout",
    "scenes",
    "stage",
    "stages",
    "tasks",
    "types",
    "viewing",
    "world",
]


__getattr__, __dir__ = public(__name__, dict.fromkeys(__all__, ""))
