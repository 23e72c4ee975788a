"""A register of the leases and claims that a ring has handed out, by which it finds those that were dropped without being ended.

Each object is registered before a kernel takes slots for it, and the register holds the ring's only reference to it. If the
reference count shows that nobody else refers to the object, its holder has lost it, and the ring ends it at one of its next calls.
Finalizers are not used, because they may run at any time, even in the middle of another call of the ring.
"""

from __future__ import annotations

from sys import getrefcount
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Thing = TypeVar("Thing")


class Lent(Generic[Thing]):
    """Objects that are handed out, each under its own key. The caller must hold the ring's lock."""

    def __init__(self) -> None:
        self.out: dict[int, Thing] = {}
        """The objects by key. The ring adds and removes entries directly, because this is on its hot path."""

    def dropped(self) -> list[tuple[int, Thing]]:
        """Objects, with their keys, that only this register refers to; the caller ends and removes them."""
        return [(key, self.out[key]) for key, count in _counted(self.out) if count <= _ALONE] if self.out else []


def _counted(out: dict[int, Thing]) -> list[tuple[int, int]]:
    return [(key, getrefcount(thing)) for key, thing in list(out.items())]


def _alone() -> int:
    """The reference count of an object that only a register refers to; measured, because versions of Python differ."""
    return _counted({0: object()})[0][1]


_ALONE = _alone()


class HeldReads:
    """The draws of one lease, or one pinned slot; the ring releases them when this object is dropped.

    Arrays that a lease hands out are views of `table`. They refer to the table and not to this object, so that they do not keep the
    lease.
    """

    __slots__ = ("count", "table")

    def __init__(self, table: NDArray[np.int64], count: int = 0) -> None:
        self.table = table
        """What the kernel filled in, one column for each draw, [5, want]; rows as in `words`."""
        self.count = count
        """Number of draws that were made, at the front of the table."""


class Claim:
    """A slot claimed for writing; the ring takes it back when the claim is dropped."""

    __slots__ = ("slot", "version")
    slot: int
    version: int
