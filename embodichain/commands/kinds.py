"""Types of values on the command line of the engine, which are checked while it is parsed."""

from __future__ import annotations


def robot(text: str) -> str:
    """A robot by name or path; raises ConfigError or RobotError when there is none."""
    from embodichain import robots

    robots.check(text)
    return text
