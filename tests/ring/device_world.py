"""One learner and two producers on a device that completes late, driven step by step; every read is checked, early and late.

Nothing happens on the devices but by the operation `step` and by polling, so that any interleaving of copies, kernels, calls and
deaths can be made, and made again from its list of operations.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from device_laws import FIELDS, whole, write
from ring_parts import EVICT, ring_spec

from embodichain.errors import RingError, RingTimeout
from embodichain.ring.delayed import DelayedDevice
from embodichain.ring.device_ring import DeviceRing
from embodichain.types import FullPolicy

OPERATIONS = ("write", "kernel_write", "abandon", "read", "hold", "release", "poll", "step", "kill", "change_k")
WEIGHTS = np.array([6, 2, 1, 6, 2, 2, 4, 10, 1, 1]) / 35


class PublishesAtOnce(DeviceRing):
    """Sabotage: does not wait for what it has enqueued."""

    def _passed(self, entry) -> bool:
        entry.markers.clear()
        return True


class ReusesBuffers(DeviceRing):
    """Sabotage: a staging buffer is written again while its copy is under way."""

    def defer(self, of, streams, finish, buffers=None):
        self._staging.free += buffers or ()
        return super().defer(of, streams, finish)


class World:
    def __init__(
        self,
        seed: int,
        *,
        num_slots: int = 3,
        max_reads: int = 2,
        evict: bool = False,
        learner: type[DeviceRing] = DeviceRing,
        producer: type[DeviceRing] = DeviceRing,
        the_dead_stop: bool = True,
    ) -> None:
        self.rng = np.random.default_rng(seed)
        self.producer = producer
        self.the_dead_stop = the_dead_stop
        policy = EVICT if evict else FullPolicy.BLOCK
        spec = ring_spec(num_slots, max_reads, words=16, full_policy=policy)
        self.device = DelayedDevice(seed, steps_per_poll=1)
        self.ring = learner.create(spec, self.device)
        self.graves: list[DelayedDevice] = []
        self.producers = [self.attach(), self.attach()]
        self.held: list = []
        self.next_number = 1
        self.torn = 0
        self.checked = 0
        self.bound = max_reads
        self.reads: Counter[int] = Counter()

    def attach(self) -> DeviceRing:
        device = DelayedDevice(int(self.rng.integers(1 << 32)), steps_per_poll=1)
        return self.producer.attach(self.ring.path, device)

    def run(self, operations: Sequence[tuple[str, int, int]]) -> None:
        for name, who, amount in operations:
            getattr(self, name)(who % 2, amount)
            self.check()

    def check(self) -> None:
        stats = self.ring.stats()
        assert stats.free + stats.writing + stats.ready == stats.num_slots
        assert stats.over_reads == stats.refused == 0
        assert all(count <= self.bound for count in self.reads.values())

    # --------------------------------------------------------------------------------------------------- operations

    def write(self, who: int, _amount: int) -> None:
        self._write(who, lambda slot: write(slot, self.next_number))

    def kernel_write(self, who: int, _amount: int) -> None:
        number = self.next_number

        def fill(slot) -> None:
            views, content = [slot.device(name) for name in FIELDS], np.arange(1, 17, dtype=np.uint64) * np.uint64(number | 1)
            device = self.producers[who].device
            device.launch(lambda: np.copyto(views[0][:8], content[:8]))
            device.launch(lambda: np.copyto(views[0][8:], content[8:]))
            device.launch(lambda: views[1].fill(number % 1000))
            slot["trajectory_id"][()] = number

        self._write(who, fill)

    def _write(self, who: int, fill, *, publish: bool = True) -> None:
        ring = self.producers[who]
        if ring._staging.made == ring._staging.most and not ring._staging.free:
            return  # both staging buffers are being copied
        try:
            slot = ring.reserve(0.0)
        except RingTimeout:
            return
        fill(slot)
        self.next_number += 1
        if publish:
            slot.publish(0.0)
        else:
            slot.abandon()

    def abandon(self, who: int, _amount: int) -> None:
        def fill(slot) -> None:
            view = slot.device("content")
            self.producers[who].device.launch(lambda: view.fill(7))

        self._write(who, fill, publish=False)

    def read(self, _who: int, amount: int) -> None:
        if self.hold(_who, amount):
            self._release(len(self.held) - 1)

    def hold(self, _who: int, amount: int) -> bool:
        try:
            lease = self.ring.acquire(1 + amount % self.ring.spec.num_slots, 0.0, self.rng, partial=True)
        except RingTimeout:
            return False
        stream = 2 + amount % 2
        lease.used_on(stream)
        for sample in lease:
            views, number = [sample[name] for name in FIELDS], sample.trajectory_id
            self.reads[number] += 1
            self._judge(views, number)  # readable, hence complete
            self.device.launch(lambda views=views, number=number: self._judge(views, number), stream)  # and not rewritten
        self.held.append(lease)
        return True

    def release(self, _who: int, amount: int) -> None:
        if self.held:
            self._release(amount % len(self.held))

    def _release(self, index: int) -> None:
        self.held.pop(index).release()

    def _judge(self, views, number: int) -> None:
        self.checked += 1
        self.torn += not whole(*views, number)

    def poll(self, who: int, _amount: int) -> None:
        self.producers[who].poll()
        self.ring.poll()

    def step(self, who: int, amount: int) -> None:
        for device in (self.device, self.producers[who].device, *self.graves):
            device.step(amount % 16)

    def kill(self, who: int, _amount: int) -> None:
        """What death does: work under way stops where it is, and the reaper takes the slots."""
        dead = self.producers[who]
        if self.the_dead_stop:
            dead.device.lose_everything()
        dead._finalizer.detach()
        dead._control.close()
        if self.the_dead_stop:
            dead.device.unmap(dead._arena)
        self.graves.append(dead.device)
        self.producers[who] = self.attach()

    def change_k(self, _who: int, amount: int) -> None:
        self.ring.set_max_reads(1 + amount % 3)
        self.bound = 3

    # ---------------------------------------------------------------------------------------------------------- end

    def end(self) -> None:
        """Everything is given back: slots, markers, buffers, mappings, files."""
        while self.held:
            self._release(0)
        for ring in (*self.producers, self.ring):
            ring.flush()
        stats = self.ring.stats()
        assert (stats.writing, stats.held) == (0, 0)
        for ring in (*self.producers, self.ring):
            assert len(ring._staging.free) == ring._staging.made
            ring.close()
            assert not ring.device.outstanding
            assert not ring.device._arenas
        assert not self.ring.path.exists()

    def drop(self) -> None:
        """Ends a sabotaged world, whose owner frees what others still write."""
        while self.held:
            self._release(0)
        for device in (self.device, *self.graves, *(ring.device for ring in self.producers)):
            while device.busy:
                device.step()
        for ring in (*self.producers, self.ring):
            try:
                ring.close(0.0)
            except (RingError, AssertionError):
                ring._finalizer.detach()
                ring._control.close()


def random_operations(seed: int, count: int) -> list[tuple[str, int, int]]:
    rng = np.random.default_rng(seed)
    names = rng.choice(len(OPERATIONS), count, p=WEIGHTS)
    numbers = rng.integers(0, 1 << 16, (count, 2))
    return [(OPERATIONS[name], int(a), int(b)) for name, (a, b) in zip(names, numbers, strict=True)]
