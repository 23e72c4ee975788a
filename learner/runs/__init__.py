"""Whole runs: configuration, sessions, learner processes, and where trained weights lie."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embodichain.lazy import public

if TYPE_CHECKING:
    from learner.runs.catalog import RECIPES, make
    from learner.runs.config import RingConfig, RunConfig, StaticConfig, StreamConfig, TrainConfig, encode_on_write
    from learner.runs.locate import Trained, find
    from learner.runs.options import RunOptions, RunWords, override, resolve, run_config
    from learner.runs.session import Streamed, stream_and_learn

__all__ = [
    "RECIPES",
    "RingConfig",
    "RunConfig",
    "RunOptions",
    "RunWords",
    "StaticConfig",
    "StreamConfig",
    "Streamed",
    "TrainConfig",
    "Trained",
    "encode_on_write",
    "find",
    "make",
    "override",
    "resolve",
    "run_config",
    "stream_and_learn",
]

__getattr__, __dir__ = public(
    __name__,
    dict.fromkeys(["RECIPES", "make"], "catalog")
    | dict.fromkeys(["RingConfig", "RunConfig", "StaticConfig", "StreamConfig", "TrainConfig", "encode_on_write"], "config")
    | dict.fromkeys(["Trained", "find"], "locate")
    | dict.fromkeys(["RunOptions", "RunWords", "override", "resolve", "run_config"], "options")
    | dict.fromkeys(["Streamed", "stream_and_learn"], "session"),
)
