"""From the ring to the learner's device: batches that are drawn in order, are under way while another is learned from, and are
kept by a checkpoint.

What has been drawn has been read, so a batch that is under way counts against the replay bound. A checkpoint that forgot it would
lose it: so it is saved whole, and a resumed run learns from it first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from torch.utils.data import IterableDataset

from embodichain.errors import RingTimeout, StreamEnded
from learner.data.batch import Batch, LeasedBatch
from learner.data.copies import Arrived, Copies, Moving
from learner.data.dataset import RingDataset

_ENDLESS = 1 << 40


class Ahead(IterableDataset[Batch]):
    """An endless stream of batches on the learner's device, for `DataLoader(batch_size=None, num_workers=0)`; of one thread.

    Up to `config.ahead` batches of the dataset are under way beside the one that was given last. Only who has none waits for
    trajectories. From a source that changes only when it is asked to (a fixed set, an engine in this process) the same is drawn in
    the same order, however many are under way; what workers publish meanwhile is drawn from as it is at that moment.

    Args:
        dataset: Where batches are drawn.
        copies: How they get to the device.
        opening: Whether they come with the first frame of each trajectory.
        depth: Whether they come with depth.
        waiting: Batches that were under way when a checkpoint was made.
    """

    def __init__(
        self, dataset: RingDataset, copies: Copies, *, opening: bool = False, depth: bool = False, waiting: Sequence[Batch] = ()
    ) -> None:
        super().__init__()
        self._dataset, self._copies = dataset, copies
        self._opening, self._depth = opening, depth
        self._coming: deque[Moving] = deque(Arrived(batch) for batch in waiting)
        self._leased: list[tuple[Moving, LeasedBatch]] = []

    def __len__(self) -> int:
        """Endless; a length keeps Lightning from fetching one batch more."""
        return _ENDLESS

    def __iter__(self) -> Iterator[Batch]:
        """Ends when the source is exhausted and read empty."""
        while self._coming or self._draw(wait=True):
            moving = self._coming.popleft()
            while len(self._coming) < self._dataset.config.ahead and self._draw(wait=False):
                pass
            yield moving.arrive()

    def _draw(self, *, wait: bool) -> bool:
        """Draws one batch and sends it off; False when there is none to draw now, or with `wait` none any more."""
        self.settle(wait=wait)  # who waits for trajectories must not keep slots from those who write them
        try:
            leased = self._dataset.draw(wait=wait)
        except StreamEnded:
            return False
        except RingTimeout:
            if wait:
                raise
            return False
        try:
            moving = self._copies.send(leased, opening=self._opening, depth=self._depth)
        except BaseException:
            leased.release()
            raise
        self._leased.append((moving, leased))
        self.settle(wait=False)
        self._coming.append(moving)
        return True

    def settle(self, *, wait: bool = True) -> None:
        """Ends the leases of batches whose bytes have left the ring; with `wait` all of them."""
        held = []
        for moving, leased in self._leased:
            if moving.has_left(wait=wait):
                leased.release()
            else:
                held.append((moving, leased))
        self._leased = held

    def waiting(self) -> list[dict[str, Any]]:
        """The batches that are under way, for a checkpoint (`Batch.saved`)."""
        return [moving.arrive().saved() for moving in self._coming]
