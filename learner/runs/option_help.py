"""Help text for every dotted option of a configuration: type, docstring and default."""

from __future__ import annotations

import argparse
import ast
import dataclasses
import inspect
import textwrap
from collections.abc import Mapping
from enum import Enum
from functools import lru_cache
from typing import Any


def all_options(config: object, prefix: str = "") -> str:
    """Help on all dotted options of a configuration, one section for each nested table.

    `prefix` is the dotted path of `config` in the whole configuration, with a final dot ("learner.agent.model."); "" for the whole.
    """
    parser = argparse.ArgumentParser(add_help=False, usage=argparse.SUPPRESS)
    _sections(parser, config, prefix)
    return parser.format_help().strip()


def _sections(parser: argparse.ArgumentParser, config: Any, prefix: str) -> None:
    told = _docstrings(type(config))
    group = parser.add_argument_group(f"{prefix.rstrip('.')} options" if prefix else "the run", _first_line(type(config)))
    add = group.add_argument
    inner: list[tuple[Any, str]] = []
    for field in dataclasses.fields(config):
        value, dotted = getattr(config, field.name), f"{prefix}{field.name}".replace("_", "-")
        if dataclasses.is_dataclass(value):
            inner.append((value, f"{dotted}."))
        elif isinstance(value, Mapping) and not value:
            add(f"--{dotted}", metavar="NAME VALUE ...", help=_said(told.get(field.name, ""), ()))
        elif isinstance(value, Mapping):
            for key, one in value.items():
                name = f"{dotted}.{key}".replace("_", "-")
                add(f"--{name}", metavar=_kind(one), help=_said(told.get(field.name, ""), one))
        else:
            add(f"--{dotted}", metavar=_kind(value), help=_said(told.get(field.name, ""), value))
    for value, dotted in inner:
        _sections(parser, value, dotted)


def _said(told: str, value: object) -> str:
    return f"{told} (default: {_spelt(value)})".strip().replace("%", "%%")


def _kind(value: object) -> str:
    """The expected value, in capitals: the choices of an enumeration, else the type of the default."""
    if isinstance(value, bool):
        return "{True,False}"
    if isinstance(value, Enum):
        return "{" + ",".join(str(choice.value) for choice in type(value)) + "}"
    if isinstance(value, tuple | list):
        return f"{_kind(value[0])} ..." if value else "VALUE ..."
    return "VALUE" if value is None else type(value).__name__.removeprefix("Posix").upper()


def _spelt(value: object) -> str:
    if isinstance(value, tuple | list):
        return " ".join(_spelt(one) for one in value) or "none"
    return str(value.value if isinstance(value, Enum) else value)


def _first_line(kind: type) -> str:
    return inspect.cleandoc(kind.__doc__ or "").partition("\n\n")[0].replace("\n", " ").replace("%", "%%")


@lru_cache(maxsize=128)
def _docstrings(kind: type) -> Mapping[str, str]:
    """The docstring below each field of a dataclass and its bases; consecutive fields share the one below the last of them."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if not dataclasses.is_dataclass(base):
            continue
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(tree, ast.ClassDef)
        name = ""
        for node in tree.body:
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                name = node.target.id
            elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and name:
                found[name] = " ".join(inspect.cleandoc(str(node.value.value)).split())
                name = ""
            else:
                name = ""
    return found
