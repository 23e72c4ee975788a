"""The values of a scene by their paths: what its hash is of, and what two scenes are compared by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

from embodichain.types import Asset, Looks, Mesh, ObjectPlacement, Scene
from embodichain.types import plain as plain_values

__all__ = ["Difference", "content_hash", "differences", "values"]

_OF_BODIES = ("mass", "center_of_mass", "diagonal_inertia", "principal_axes", "color", "material", "surfaces")
_OF_JOINTS = ("damping", "friction")
"""What scenes vary of an asset; the rest is behind its content hash."""


class Difference(NamedTuple):
    """A value in which two scenes differ; None where a scene has no such value."""

    path: str
    first: Any
    second: Any


def values(scene: Scene) -> dict[str, Any]:
    """Every value of a scene by its path, as in "objects/mouse/pose/position".

    Two scenes with equal values are played and drawn bitwise the same by the same engine. Meshes are behind the content hashes of
    their assets; where the files of these lie is left out.
    """
    found = {"objects": [placement.role for placement in scene.objects]}
    for entry in fields(scene):
        value = getattr(scene, entry.name)
        parts = {placement.role: placement for placement in value} if entry.name == "objects" else value
        found |= dict(_leaves(entry.name, parts))
    return found


def content_hash(scene: Scene) -> str:
    """A hash of every value of a scene, 16 hexadecimal digits."""
    return plain_values.content_hash(values(scene))


def differences(first: Scene, second: Scene) -> list[Difference]:
    """The values in which two scenes differ, by path."""
    mine, theirs = values(first), values(second)
    paths = [*mine, *(path for path in theirs if path not in mine)]
    return [
        Difference(path, mine.get(path), theirs.get(path))
        for path in paths
        if path not in mine or path not in theirs or mine[path] != theirs[path]
    ]


def _leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The values below `value` that have no parts."""
    if isinstance(value, Asset):
        for name in ("name", "category", "content_hash", "scale"):
            yield f"{path}/{name}", getattr(value, name)
        for body in value.bodies:
            for name in _OF_BODIES:
                yield from _leaves(f"{path}/bodies/{body.name}/{name}", getattr(body, name))
        for joint in value.joints:
            for name in _OF_JOINTS:
                yield f"{path}/joints/{joint.name}/{name}", float(getattr(joint, name))
    elif is_dataclass(value):
        for entry in fields(value):
            part = getattr(value, entry.name)
            if isinstance(value, Looks) and part is None:
                continue  # so that scenes without a setting keep the hashes that they had before there were settings
            if not (isinstance(value, ObjectPlacement) and entry.name == "role"):
                yield from _leaves(f"{path}/{entry.name}", part)
    elif isinstance(value, Mapping):
        for name, part in value.items():
            yield from _leaves(f"{path}/{name}", part)
    elif isinstance(value, tuple) and value and is_dataclass(value[0]):
        for number, part in enumerate(value):
            yield from _leaves(f"{path}/{number}", part)
    elif not isinstance(value, Mesh | Path):
        yield path, _plain(value)


def _plain(value: Any) -> Any:
    """A value as JSON has it, with NumPy's numbers as Python's."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple | list):
        return [_plain(part) for part in value]
    return float(value) if isinstance(value, float) else value
