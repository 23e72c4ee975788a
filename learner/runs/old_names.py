"""Keeps configuration files of earlier versions loading: renamed values, and defaults of settings that did not exist then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from embodichain.types.bounds import UNBOUNDED

VALUES: dict[str, str] = {
    "learner.encoder:for_writing": "learner.codecs.catalog:for_writing",
    "learner.codecs.dino:for_writing": "learner.codecs.catalog:for_writing",
}
"""Import paths in saved configurations: old path → present path."""


def current(saved: Any) -> Any:
    """Replaces old names in a saved configuration, given as plain values from YAML."""
    if isinstance(saved, Mapping):
        return {key: current(value) for key, value in saved.items()}
    if isinstance(saved, list):
        return [current(value) for value in saved]
    return VALUES.get(saved, saved) if isinstance(saved, str) else saved


def as_then(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Adds to a saved configuration of a run the settings that its version implied but did not have.

    No version of before bounded conduct, and the first had the ray caster alone.
    """
    found = dict(saved)
    if isinstance(world := found.get("world"), Mapping):
        found["world"] = world_as_then(world)
    return found


def world_as_then(saved: Mapping[str, Any]) -> dict[str, Any]:
    """The same for a saved world configuration."""
    return {"bounds": asdict(UNBOUNDED), "painter": "raycast"} | dict(saved)
