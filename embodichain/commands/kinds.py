"""Kinds of values that the engine's commands take, checked at once."""

from __future__ import annotations


def robot(text: str) -> str:
    """A robot by name or path; raises ConfigError or RobotError when there is none."""
    from embodichain import robots

    robots.check(text)
    return text
