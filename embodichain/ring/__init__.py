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

__all__ = [
    "atomics",
    "budget",
    "contract",
    "cuda",
    "custody",
    "delayed",
    "device_lease",
    "device_ring",
    "futex",
    "gateway",
    "host",
    "kernels",
    "layout",
    "lease",
    "ledger",
    "member",
    "open",
    "participants",
    "placement",
    "ring",
    "snapshot",
    "stats",
    "top",
    "words",
]
