"""The bounded, lock-free ring of trajectories in shared memory.

Read in this order: `budget` (the control word and its transitions) → `layout` (where every byte lies) → `kernels` and `custody`
(the transitions in machine code, on `words` and `atomics`) → `locks` (proof of death; `participants` names who it is) → `member`
(one process's side: waiting, reaping) → `ring` and `lease` (what others use). `ledger` proves the bound afterwards; `stats` and
`top` look on.
With the payload on a GPU: `placement` (the seam) → `device_ring` and `device_lease` → `cuda`, or `delayed` where there is none.
`open` creates and attaches wherever the payload lies.

Promised: READY means complete; nobody writes while anybody reads; at most K reads of a trajectory, exactly K when nobody died and
nothing was evicted; `kill -9` of anybody at any instruction leaks nothing. Not promised: exactly K after a crash (the dead forfeit
their draw), fairness, wait-freedom, and taking anything from a process that is alive but silent: that is quarantined and shown.
"""

from __future__ import annotations

_NAMES = {
    "Event": "embodichain.ring.ledger:Event",
    "Ledger": "embodichain.ring.ledger:Ledger",
    "LedgerReport": "embodichain.ring.ledger:LedgerReport",
    "Lease": "embodichain.ring.lease:Lease",
    "Observer": "embodichain.ring.stats:Observer",
    "Ring": "embodichain.ring.ring:Ring",
    "RingStats": "embodichain.ring.contract:RingStats",
    "Sample": "embodichain.ring.lease:Sample",
    "Slot": "embodichain.ring.lease:Slot",
    "attach_ring": "embodichain.ring.open:attach_ring",
    "create_ring": "embodichain.ring.open:create_ring",
    "verify": "embodichain.ring.ledger:verify",
    "warm_up": "embodichain.ring.ring:warm_up",
}
"""The public names, and where each is defined: found when first asked for, so that looking at a ring loads no compiler."""
__all__ = list(_NAMES)


def __getattr__(name: str) -> object:
    """A public name of this room; the code of the engine itself imports from where it is defined."""
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no {name!r}; it has {', '.join(__all__)}")
    import importlib

    module, _, attribute = _NAMES[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return __all__
