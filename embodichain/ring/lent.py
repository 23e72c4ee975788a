"""What a ring has handed out, and what of it nobody holds any more: dropped without an end, or lost to an exception on the way.

Each thing is registered before the kernel takes anything for it, and the register holds the only reference of the ring's own. So a
thing that nobody else refers to can never be ended by its holder any more: the ring ends it in its place, at one of its next calls.
No finalizer runs, neither in a garbage collection nor in the middle of another call, and no exception can come in between.
"""

from __future__ import annotations

from sys import getrefcount
from typing import Generic, TypeVar

Thing = TypeVar("Thing")


class Lent(Generic[Thing]):
    """Things that are out, each under a key of its own. The caller holds the ring's lock."""

    def __init__(self) -> None:
        self.out: dict[int, Thing] = {}
        """Entered before a thing is handed out, and taken away at its end: by whoever lends, on its hot path."""

    def dropped(self) -> list[tuple[int, Thing]]:
        """Things that nobody but this register refers to, with their keys: to be ended, and then taken away."""
        return [(key, self.out[key]) for key, count in _counted(self.out) if count <= _ALONE] if self.out else []


def _counted(out: dict[int, Thing]) -> list[tuple[int, int]]:
    return [(key, getrefcount(thing)) for key, thing in list(out.items())]


def _alone() -> int:
    """What the interpreter counts for a thing in a register alone, counted in the same way: versions of Python differ."""
    return _counted({0: object()})[0][1]


_ALONE = _alone()


class Claim:
    """A slot claimed for writing: given back by the ring when its holder drops it."""

    __slots__ = ("slot", "version")
    slot: int
    version: int
