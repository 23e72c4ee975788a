"""The bounded, lock-free ring of trajectories in shared memory."""

from embodichain.ring.lease import Lease, Sample, Slot
from embodichain.ring.ledger import Event, Ledger, LedgerReport, verify
from embodichain.ring.ring import Ring, warm_up
from embodichain.ring.stats import Observer, RingStats

__all__ = ["Event", "Lease", "Ledger", "LedgerReport", "Observer", "Ring", "RingStats", "Sample", "Slot", "verify", "warm_up"]
