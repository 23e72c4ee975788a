"""USD's text format: numbers, strings and names as it spells them, and transforms of prims."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

from embodichain.types import Pose

__all__ = ["identifier", "listed", "number", "placed", "quoted", "spelt"]


def spelt(values: Sequence[float]) -> str:
    """A vector, exact to the bit."""
    return f"({', '.join(repr(float(value)) for value in values)})"


def number(value: float) -> str:
    """One number, exact to the bit; infinity as USD spells it."""
    return repr(float(value)) if math.isfinite(value) else ("inf" if value > 0 else "-inf")


def listed(values: Iterable[object]) -> str:
    """An array of values that are spelt already."""
    return f"[{', '.join(map(str, values))}]"


def quoted(text: str) -> str:
    """A string."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def identifier(name: str, taken: set[str]) -> str:
    """`name` as a prim may be called, unlike all that are `taken`, to which it is added."""
    plain = re.sub(r"\W", "_", name, flags=re.ASCII) or "unnamed"
    plain = f"_{plain}" if plain[0].isdigit() else plain
    found, count = plain, 1
    while found in taken:
        found, count = f"{plain}_{count}", count + 1
    taken.add(found)
    return found


def placed(pose: Pose, indent: str, *, more: Sequence[str] = (), order: Sequence[str] = ()) -> list[str]:
    """The lines that put a prim into a pose; `more` are lines of further operations, and `order` their names."""
    ops = ["xformOp:translate", "xformOp:orient", *order]
    return [
        f"{indent}double3 xformOp:translate = {spelt(pose.position)}",
        f"{indent}quatd xformOp:orient = {spelt(pose.quaternion)}",
        *(f"{indent}{line}" for line in more),
        f"{indent}uniform token[] xformOpOrder = {listed(map(quoted, ops))}",
    ]
