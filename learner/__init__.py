"""The learner: encodes the streamed frames, trains the world model and judges the policy in closed loop.

A public name has one path, the room whose `__all__` lists it: `learner.models.Agent`. Each room is imported when it is first used.
"""

from __future__ import annotations

from embodichain.lazy import public

__all__ = [
    "backbone",
    "codecs",
    "commands",
    "data",
    "evaluation",
    "inference",
    "memory",
    "models",
    "records",
    "reporting",
    "runs",
    "serving",
    "training",
    "vision",
]


__getattr__, __dir__ = public(__name__, dict.fromkeys(__all__, ""))
