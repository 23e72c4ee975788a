"""What files of earlier versions call things that have other names now, and what they leave unsaid: what keeps them loading."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from embodichain.types.bounds import UNBOUNDED

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


def as_then(saved: Mapping[str, Any]) -> dict[str, Any]:
    """A whole saved configuration of a run, with what earlier versions did and could not say.

    None of them bounded conduct, and the first had one painter.
    """
    found = dict(saved)
    if isinstance(world := found.get("world"), Mapping):
        found["world"] = world_as_then(world)
    return found


def world_as_then(saved: Mapping[str, Any]) -> dict[str, Any]:
    """The same of a saved world."""
    return {"bounds": asdict(UNBOUNDED), "painter": "raycast"} | dict(saved)
