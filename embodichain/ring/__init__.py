"""The bounded, lock-free ring of trajectories in shared memory.

Read in this order: `budget` (the control word and its transitions) → `layout` (where every byte lies) → `kernels` and `custody`
(the transitions in machine code, on `words` and `atomics`) → `participants` (proof of death) → `member` (one process's side:
waiting, reaping) → `ring` and `lease` (what others use). `ledger` books reads, `proof` holds them against the bound afterwards;
`stats` and `top` look on.
With the payload on a GPU: `placement` (the seam) → `device_ring` and `device_lease` → `cuda`, or `delayed` where
there is none. `open` creates and attaches wherever the payload lies.

Promised: READY means complete; nobody writes while anybody reads; at most K reads of a trajectory, exactly K when nobody died and
nothing was evicted; `kill -9` of anybody at any instruction leaks nothing. Not promised: exactly K after a crash (the dead forfeit
their draw), fairness, wait-freedom, and taking anything from a process that is alive but silent: that is quarantined and shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from embodichain.lazy import public

if TYPE_CHECKING:
    from embodichain.ring.contract import AnyLease, AnyRing, AnySlot, RingStats, SlotSource
    from embodichain.ring.lease import Lease, Sample, Slot
    from embodichain.ring.ledger import Event, Ledger
    from embodichain.ring.open import attach_ring, create_ring
    from embodichain.ring.proof import LedgerReport, verify
    from embodichain.ring.ring import Ring, warm_up
    from embodichain.ring.stats import Observer

__all__ = [
    "AnyLease",
    "AnyRing",
    "AnySlot",
    "Event",
    "Lease",
    "Ledger",
    "LedgerReport",
    "Observer",
    "Ring",
    "RingStats",
    "Sample",
    "Slot",
    "SlotSource",
    "attach_ring",
    "create_ring",
    "verify",
    "warm_up",
]

__getattr__, __dir__ = public(
    __name__,
    dict.fromkeys(["AnyLease", "AnyRing", "AnySlot", "RingStats", "SlotSource"], "contract")
    | dict.fromkeys(["Event", "Ledger"], "ledger")
    | dict.fromkeys(["LedgerReport", "verify"], "proof")
    | dict.fromkeys(["Lease", "Sample", "Slot"], "lease")
    | dict.fromkeys(["attach_ring", "create_ring"], "open")
    | dict.fromkeys(["Ring", "warm_up"], "ring")
    | {"Observer": "stats"},
)
