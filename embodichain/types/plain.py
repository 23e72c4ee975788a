"""Configurations as plain values that JSON and YAML can hold, back again, what differs between two, and their hash."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

Config = TypeVar("Config")

__all__ = ["as_plain", "content_hash", "differing", "from_plain"]


def as_plain(config: Any) -> Any:
    """Converts a configuration to dictionaries, lists and scalars that YAML and JSON can hold."""
    if dataclasses.is_dataclass(config):
        return {f.name: as_plain(getattr(config, f.name)) for f in dataclasses.fields(config)}
    if isinstance(config, Mapping):
        return {str(key): as_plain(value) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return [as_plain(value) for value in config]
    if isinstance(config, Enum):
        return config.value
    return str(config) if isinstance(config, Path) else config


def differing(config: Any, base: Any) -> dict[str, Any]:
    """The plain values of `config` that differ from those of `base`, a configuration of the same class; nested as they are."""
    found: dict[str, Any] = {}
    for entry in dataclasses.fields(config):
        own, other = getattr(config, entry.name), getattr(base, entry.name)
        if own == other:
            continue
        nested = dataclasses.is_dataclass(own) and type(own) is type(other)
        found[entry.name] = differing(own, other) if nested else as_plain(own)
    return found


def from_plain(kind: type[Config], values: Mapping[str, Any]) -> Config:
    """The configuration of dataclass `kind` that `as_plain` or `differing` turned into `values`; missing values get their defaults.

    Raises ValueError for names that it does not have and for values of another kind.
    """
    assert dataclasses.is_dataclass(kind), kind
    if not isinstance(values, Mapping):
        raise ValueError(f"{kind.__name__} takes a mapping of names to values, got {values!r}")
    hints, known = get_type_hints(kind), [entry.name for entry in dataclasses.fields(kind)]
    if unknown := sorted(set(values) - set(known)):
        raise ValueError(f"{kind.__name__} has no {', '.join(unknown)}; it has {', '.join(known)}")
    return kind(**{name: _value(hints[name], value, f"{kind.__name__}.{name}") for name, value in values.items()})


def _value(kind: Any, value: Any, where: str) -> Any:
    """A plain value as the kind of value that a field is annotated with."""
    origin, parts = get_origin(kind), get_args(kind)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return from_plain(kind, value)
    if origin in (Union, UnionType):
        if value is None and NoneType in parts:
            return None
        return _value(next(part for part in parts if part is not NoneType), value, where)
    if origin is tuple and isinstance(value, list | tuple):
        kinds = [parts[0]] * len(value) if parts[1:] == (...,) else list(parts)
        if len(kinds) != len(value):
            raise ValueError(f"{where} takes {len(kinds)} values, got {value!r}")
        return tuple(_value(one, entry, where) for one, entry in zip(kinds, value, strict=True))
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(value, Mapping):
        return {_value(parts[0], key, where): _value(parts[1], entry, where) for key, entry in value.items()}
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(value)
    if isinstance(kind, type) and issubclass(kind, Path) and isinstance(value, str):
        return kind(value)
    if isinstance(kind, type) and isinstance(value, kind):
        return value
    raise ValueError(f"{where} takes a value of kind {getattr(kind, '__name__', kind)}, got {value!r}")


def content_hash(values: Any) -> str:
    """A hash of plain values, 16 hexadecimal digits: equal for equal values, in whatever order their names come."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
