"""Memories of constant size: fast weights learned at test time, and a key-value cache with a window."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embodichain.lazy import public

if TYPE_CHECKING:
    from learner.memory.config import Recompute, TttConfig
    from learner.memory.kv_cache import KvMemory
    from learner.memory.ttt import FastWeights, TttLayer, scan

__all__ = [
    "FastWeights",
    "KvMemory",
    "Recompute",
    "TttConfig",
    "TttLayer",
    "scan",
]

__getattr__, __dir__ = public(
    __name__,
    dict.fromkeys(["Recompute", "TttConfig"], "config")
    | dict.fromkeys(["KvMemory"], "kv_cache")
    | dict.fromkeys(["FastWeights", "TttLayer", "scan"], "ttt"),
)
