"""Parts that every world model is built from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embodichain.lazy import public

if TYPE_CHECKING:
    from learner.backbone.config import TextConfig
    from learner.backbone.flow import euler, interpolate, shift_time, time_grid, velocity
    from learner.backbone.grid import Grid
    from learner.backbone.layers import Block, Head, KeyValue, Rotation, TimeEmbedding
    from learner.backbone.text import TextEncoder
    from learner.backbone.wan_weights import LoadReport, load_wan

__all__ = [
    "Block",
    "Grid",
    "Head",
    "KeyValue",
    "LoadReport",
    "Rotation",
    "TextConfig",
    "TextEncoder",
    "TimeEmbedding",
    "euler",
    "interpolate",
    "load_wan",
    "shift_time",
    "time_grid",
    "velocity",
]

__getattr__, __dir__ = public(
    __name__,
    dict.fromkeys(["TextConfig"], "config")
    | dict.fromkeys(["euler", "interpolate", "shift_time", "time_grid", "velocity"], "flow")
    | dict.fromkeys(["Grid"], "grid")
    | dict.fromkeys(["Block", "Head", "KeyValue", "Rotation", "TimeEmbedding"], "layers")
    | dict.fromkeys(["TextEncoder"], "text")
    | dict.fromkeys(["LoadReport", "load_wan"], "wan_weights"),
)
