"""The bounded, lock-free ring of trajectories in shared memory.

Read in this order: `budget` (the control word and its transitions) → `layout` (byte offsets) → `kernels` and `custody` (the
transitions in machine code, on `words` and `atomics`) → `locks` and `participants` (proof of death) → `member` (one process's side:
waiting, reaping) → `ring` and `lease` (the interface). `ledger` records reads, `proof` checks them against the bound afterwards;
`stats` and `top` observe. If the payload is on a GPU: `placement` (the device interface) → `device_ring` and `device_lease` →
`cuda`, or `delayed`, which simulates a GPU. `open` creates and attaches to rings of either kind.

Guaranteed: READY means complete; a slot is never written while it is read; a trajectory is read at most K times, and exactly K
times if no process died and nothing was evicted; `kill -9` of any participant at any instruction leaks nothing. Not guaranteed:
exactly K reads after a crash (draws of a dead process are lost), fairness, and wait-freedom. Slots of a process that is alive but
unresponsive are never taken away; they are shown as quarantined.
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
