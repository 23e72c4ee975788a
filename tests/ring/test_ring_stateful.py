"""Any sequence of calls by several participants agrees with the sequential model."""

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule
from ring_model import Model
from ring_parts import is_whole, ring_spec, write

from embodichain.errors import RingTimeout
from embodichain.ring.ring import Ring


class RingMachine(RuleBasedStateMachine):
    slots = Bundle("slots")
    leases = Bundle("leases")

    @initialize(num_slots=st.integers(1, 6), max_reads=st.integers(1, 4))
    def create(self, num_slots: int, max_reads: int) -> None:
        self.owner = Ring.create(ring_spec(num_slots, max_reads, words=8))
        self.rings = [self.owner, Ring.attach(self.owner.path), Ring.attach(self.owner.path)]
        self.model = Model(num_slots, max_reads)
        self.rng = np.random.default_rng(0)
        self.next_number = 1
        self.open_leases: dict[object, object] = {}

    @rule(target=slots, who=st.integers(0, 2))
    def reserve(self, who: int):
        if self.model.free == 0:
            with pytest.raises(RingTimeout):
                self.rings[who].reserve(0.0)
            return None
        slot = self.rings[who].reserve(0.0)
        self.model.writing.add(slot.index)
        return slot

    @rule(slot=consumes(slots), publish=st.booleans())
    def finish(self, slot, publish: bool) -> None:
        if slot is None:
            return
        self.model.writing.remove(slot.index)
        if not publish:
            slot.abandon()
            return
        write(slot, self.next_number)
        slot.publish()
        self.model.ready[self.next_number] = 0
        self.next_number += 1

    @rule(target=leases, who=st.integers(0, 2), size=st.integers(1, 6), partial=st.booleans())
    def acquire(self, who: int, size: int, partial: bool):
        size = min(size, self.model.num_slots)
        drawable = self.model.drawable()
        if len(drawable) < (1 if partial else size):
            with pytest.raises(RingTimeout):
                self.rings[who].acquire(size, 0.0, self.rng, partial=partial)
            return None
        lease = self.rings[who].acquire(size, 0.0, self.rng, partial=partial)
        numbers = [sample.trajectory_id for sample in lease]
        assert len(set(numbers)) == len(numbers) == min(size, len(drawable))
        for sample in lease:
            assert sample.trajectory_id in drawable
            assert sample.read_index == self.model.ready[sample.trajectory_id]
            assert is_whole(sample)
            self.model.ready[sample.trajectory_id] += 1
        self.model.leases.append((lease, numbers))
        return lease

    @rule(lease=consumes(leases))
    def release(self, lease) -> None:
        if lease is None:
            return
        assert all(is_whole(sample) for sample in lease)
        lease.release()
        self.model.leases = [entry for entry in self.model.leases if entry[0] is not lease]
        self.model.settle()

    @rule(max_reads=st.integers(1, 6))
    def change_k(self, max_reads: int) -> None:
        self.owner.set_max_reads(max_reads)
        self.model.max_reads = max_reads
        self.model.settle()

    @invariant()
    def counts_agree(self) -> None:
        if not hasattr(self, "owner"):
            return
        stats = self.owner.stats()
        assert stats.free + stats.writing + stats.ready == stats.num_slots
        assert (stats.free, stats.writing, stats.ready) == (self.model.free, len(self.model.writing), len(self.model.ready))
        assert stats.held == len(self.model.held())
        assert stats.reads_left == sum(max(0, self.model.max_reads - reads) for reads in self.model.ready.values())
        assert stats.over_reads == stats.refused == 0

    def teardown(self) -> None:
        for ring in getattr(self, "rings", ())[::-1]:
            ring.close()


RingMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAnySequence = RingMachine.TestCase
