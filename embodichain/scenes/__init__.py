"""Scenes: the reachable set, layout without penetration, and the scene sampler."""

__all__ = [
    "config",
    "distractors",
    "filling",
    "layout",
    "obstacles",
    "reach",
    "sample",
    "settle",
    "usd",
    "visibility",
]
