"""Scenes: the reachable set, layout without penetration, and the scene sampler."""

__all__ = [
    "config",
    "distractors",
    "filling",
    "layout",
    "obstacles",
    "reach",
    "sample",
    "saved",
    "settle",
    "usd",
    "values",
    "visibility",
]
