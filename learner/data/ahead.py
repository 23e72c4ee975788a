"""Prefetching: batches are drawn from the ring and copied to the learner's device while it trains on an earlier one.

A prefetched batch already counts as read against the replay bound. A checkpoint therefore contains the prefetched batches, and a
resumed run trains on them first; otherwise their data would be lost.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch.utils.data import IterableDataset

from embodichain.errors import RingTimeout, StreamEnded
from learner.data.batch import Batch, LeasedBatch
from learner.data.copies import Arrived, Copies, Moving
from learner.data.dataset import RingDataset

_ENDLESS = 1 << 40
_NOTHING: Mapping[str, Any] = {}


class Ahead(IterableDataset[Batch]):
    """An endless stream of batches on the learner's device, for `DataLoader(batch_size=None, num_workers=0)`; for one thread.

    Up to `config.ahead` batches are prefetched beside the one that was returned last. It blocks on the ring only when none is
    prefetched. With a source that changes only on request (a fixed set, an engine in this process) the batches and their order do
    not depend on `config.ahead`. With workers that publish meanwhile, each draw sees the ring as it is at that moment.

    Args:
        dataset: Draws the batches.
        copies: Copies them to the device.
        asked: Arguments of `LeasedBatch.gather`: what batches include besides frames, states and actions.
        waiting: Batches that were prefetched when the checkpoint was made.
    """

    def __init__(
        self, dataset: RingDataset, copies: Copies, *, asked: Mapping[str, Any] = _NOTHING, waiting: Sequence[Batch] = ()
    ) -> None:
        super().__init__()
        self._dataset, self._copies = dataset, copies
        self._asked = asked
        self._coming: deque[Moving] = deque(Arrived(batch) for batch in waiting)
        self._leased: list[tuple[Moving, LeasedBatch]] = []

    def __len__(self) -> int:
        """A very large number: the stream is endless, but without a length Lightning fetches one batch too many."""
        return _ENDLESS

    def __iter__(self) -> Iterator[Batch]:
        """Ends when the source is exhausted and read empty."""
        while self._coming or self._draw(wait=True):
            moving = self._coming.popleft()
            while len(self._coming) < self._dataset.config.ahead and self._draw(wait=False):
                pass
            yield moving.arrive()

    def _draw(self, *, wait: bool) -> bool:
        """Draws one batch and starts its copy; False when there is none now or, with `wait`, when the stream has ended."""
        self.settle(wait=wait)  # release finished leases before blocking: writers may need exactly those slots
        try:
            leased = self._dataset.draw(wait=wait)
        except StreamEnded:
            return False
        except RingTimeout:
            if wait:
                raise
            return False
        try:
            moving = self._copies.send(leased, self._asked)
        except BaseException:
            leased.release()
            raise
        self._leased.append((moving, leased))
        self.settle(wait=False)
        self._coming.append(moving)
        return True

    def settle(self, *, wait: bool = True) -> None:
        """Releases the leases of batches that have been copied out of the ring; with `wait`, waits for all copies first."""
        held = []
        for moving, leased in self._leased:
            if moving.has_left(wait=wait):
                leased.release()
            else:
                held.append((moving, leased))
        self._leased = held

    def waiting(self) -> list[dict[str, Any]]:
        """The prefetched batches, for a checkpoint (`Batch.saved`)."""
        return [moving.arrive().saved() for moving in self._coming]
