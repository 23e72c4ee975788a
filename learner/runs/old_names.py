"""What files of earlier versions call things that have other names now: the one table that keeps them loading."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

VALUES: dict[str, str] = {
    "learner.encoder:for_writing": "learner.codecs.catalog:for_writing",
    "learner.codecs.dino:for_writing": "learner.codecs.catalog:for_writing",
}
"""Import paths that saved configurations hold, by what they were."""


def current(saved: Any) -> Any:
    """A saved configuration, plain values as YAML gives them, with today's names."""
    if isinstance(saved, Mapping):
        return {key: current(value) for key, value in saved.items()}
    if isinstance(saved, list):
        return [current(value) for value in saved]
    return VALUES.get(saved, saved) if isinstance(saved, str) else saved
