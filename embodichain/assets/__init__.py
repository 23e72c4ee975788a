"""Turns a faulty mesh into a validated USD asset with physics."""

__all__ = [
    "chain",
    "families",
    "geometry",
    "physical",
    "pictures",
    "reading",
    "usd",
]
