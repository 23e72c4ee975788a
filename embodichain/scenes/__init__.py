"""Where things stand: the reachable set, layout without penetration, and the sampler of scenes."""

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
