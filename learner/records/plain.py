"""Reads configurations from plain values that YAML can hold; `embodichain.types.plain` turns them into such values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import cattrs
import yaml

from embodichain.errors import ConfigError

Config = TypeVar("Config")
_CONVERTER = cattrs.Converter(forbid_extra_keys=True, detailed_validation=False)


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Nested values as dotted arguments: {"world": {"width": 96}} gives "--world.width", "96"."""
    for name, value in values.items():
        dotted = f"{prefix}{name}".replace("_", "-")
        if isinstance(value, Mapping):
            yield from flatten(value, f"{dotted}.")
        elif isinstance(value, list | tuple):
            yield f"--{dotted}"
            yield from map(str, value)
        else:
            yield from (f"--{dotted}", str(value))


def structured(kind: Callable[..., Config], values: Mapping[str, Any]) -> Config:
    """Builds a configuration of class `kind` from the output of `as_plain` or `asdict`; missing fields get their defaults.

    Raises ValueError for values that do not fit.
    """
    try:
        return _CONVERTER.structure(values, kind)  # type: ignore[arg-type]
    except ConfigError:
        raise
    except Exception as error:  # cattrs has errors of its own, and passes on those of every class that it calls
        raise ValueError(f"{kind.__name__}: {error}") from error


def load_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; raises ConfigError when it cannot be read or holds something else."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"cannot read the configuration {path}: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"the configuration {path} must hold a mapping of names to values, got {type(values).__name__}")
    return values
