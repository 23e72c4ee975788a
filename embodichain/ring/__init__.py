"""The bounded, lock-free ring of trajectories in shared memory.

Read in this order: `budget` (the control word and its transitions) → `layout` (where every byte lies) → `kernels` and `custody`
(the transitions in machine code, on `words` and `atomics`) → `participants` (proof of death) → `member` (one process's side:
waiting, reaping) → `ring` and `lease` (what others use). `ledger` proves the bound afterwards; `stats` and `top` look on.
With the payload on a GPU: `placement` (the seam) → `control_ring`, `device_ring` and `device_lease` → `cuda`, or `delayed` where
there is none. `open` creates and attaches wherever the payload lies.

Promised: READY means complete; nobody writes while anybody reads; at most K reads of a trajectory, exactly K when nobody died and
nothing was evicted; `kill -9` of anybody at any instruction leaks nothing. Not promised: exactly K after a crash (the dead forfeit
their draw), fairness, wait-freedom, and taking anything from a process that is alive but silent: that is quarantined and shown.
"""

from __future__ import annotations

_HOMES = {
    "AnyLease": "contract",
    "AnyRing": "contract",
    "AnySlot": "contract",
    "Event": "ledger",
    "Lease": "lease",
    "Ledger": "ledger",
    "LedgerReport": "ledger",
    "Observer": "stats",
    "Ring": "ring",
    "RingStats": "contract",
    "Sample": "lease",
    "Slot": "lease",
    "SlotSource": "contract",
    "attach_ring": "open",
    "create_ring": "open",
    "verify": "ledger",
    "warm_up": "ring",
}
"""Public names, and the file of this room that each is imported from when it is first used: the room itself imports nothing."""
__all__ = list(_HOMES)


def __getattr__(name: str) -> object:
    """The public name `name`."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no {name!r}; it has {', '.join(_HOMES)}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
