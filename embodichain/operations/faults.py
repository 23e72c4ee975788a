"""The kinds of faults that can be injected. Importing this file is cheap, so that a misspelt fault is answered at once."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["FROM_OUTSIDE", "Fault"]


class Fault(StrEnum):
    """Kinds of faults."""

    CRASH = "crash"
    """SIGKILL to a worker."""
    SLOW = "slow"
    """SIGSTOP to a worker for two seconds, then SIGCONT: shorter than what counts as hung."""
    HANG = "hang"
    """SIGSTOP to a worker, without SIGCONT."""
    GATEWAY = "gateway"
    """SIGKILL to the gateway."""
    NODE = "node"
    """A node is killed with its workers, and another is started."""
    MEMORY = "shared memory"
    """/dev/shm is filled except for a little, and freed two seconds later."""


FROM_OUTSIDE = (Fault.CRASH, Fault.SLOW, Fault.MEMORY)
"""Faults that can be injected into a running job from outside; nodes and the gateway belong to its cluster."""
