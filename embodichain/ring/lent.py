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
    """Things that are out, by identity. The caller holds the ring's lock."""

    def __init__(self) -> None:
        self._out: dict[int, Thing] = {}

    def add(self, thing: Thing) -> None:
        """Notes that a thing is about to be handed out."""
        self._out[id(thing)] = thing

    def remove(self, thing: Thing) -> None:
        """Notes that a thing has come to its end; once more does nothing."""
        self._out.pop(id(thing), None)

    def dropped(self) -> list[Thing]:
        """Things that nobody but this register refers to."""
        return [thing for count, thing in _counted(list(self._out.values())) if count <= _ALONE]

    def __len__(self) -> int:
        return len(self._out)


def _counted(things: list[Thing]) -> list[tuple[int, Thing]]:
    return [(getrefcount(thing), thing) for thing in things]


def _alone() -> int:
    """What the interpreter counts for a thing in the register alone, counted in the same way: versions of Python differ."""
    lent: Lent[object] = Lent()
    lent.add(object())
    return _counted(list(lent._out.values()))[0][0]


_ALONE = _alone()
