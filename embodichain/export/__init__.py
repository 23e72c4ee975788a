"""Writes videos."""

__all__ = [
    "video",
]
