"""Several learner processes (ranks) on one stream: they share a ring or rings, and step and stop together.

The rings enforce the replay bound, whichever rank draws. The ranks only have to agree on whether all of them have a batch: a rank
that steps alone would wait for the others' gradients for ever.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import NamedTuple

import torch
import torch.distributed

from embodichain.errors import ConfigError, LearnerError, PeerLost


class Agreed(NamedTuple):
    """How many ranks are in which state."""

    have_batch: int
    empty: int
    """Ranks that found nothing left to read after the end."""
    failed: int
    ended: int
    """Ranks of the same ring that know that nothing more will be published in it."""


class Ranks:
    """The ranks of `torch.distributed`'s default group. Every method except `check` is a collective.

    Its messages of 32 bytes use a gloo group of their own, so they neither wait for a GPU nor interleave with gradient reductions.

    Args:
        timeout_s: How long to wait for the slowest rank before giving up [s].
        ring: The ring, of `rings`, that this rank draws from. Each ring has as many ranks.
        rings: Number of rings; 1 if all ranks share one.
    """

    def __init__(self, *, timeout_s: float = 600.0, ring: int = 0, rings: int = 1) -> None:
        if not torch.distributed.is_initialized():
            raise LearnerError("ranks need torch.distributed: call init_process_group, or start with torchrun")
        self.rank = torch.distributed.get_rank()
        self.count = torch.distributed.get_world_size()
        self.ring, self.rings = ring, rings
        self._group = torch.distributed.new_group(backend="gloo", timeout=timedelta(seconds=timeout_s))

    @property
    def beside(self) -> int:
        """Number of ranks that share this rank's ring, itself included."""
        return self.count // self.rings

    def check(self, num_slots: int, batch_size: int) -> None:
        """Raises ConfigError when ranks could wait for each other's slots for ever."""
        if num_slots < self.beside * batch_size:
            raise ConfigError(
                f"{self.beside} ranks that hold {batch_size} trajectories each need a ring of at least {self.beside * batch_size} "
                f"slots, it has {num_slots}: enlarge the ring or make batches smaller"
            )

    def agree(self, *, has_batch: bool, ended: bool, empty: bool, failed: bool) -> Agreed:
        """Exchanges the state of all ranks; raises PeerLost when a rank has died."""
        over = [ended and ring == self.ring for ring in range(self.rings)]
        votes = torch.tensor([has_batch, empty, failed, *over], dtype=torch.int64)
        with self._heard():
            torch.distributed.all_reduce(votes, group=self._group)
        have, none, lost, *over_by_ring = votes.tolist()
        return Agreed(have, none, lost, over_by_ring[self.ring])

    def exchange(self, text: str) -> list[str]:
        """Gives every rank the texts of all, in the order of ranks; raises PeerLost when a rank has died."""
        mine = torch.frombuffer(bytearray(text.encode() or b"\0"), dtype=torch.uint8)
        sizes = torch.zeros(self.count, dtype=torch.int64)
        sizes[self.rank] = len(text.encode())
        with self._heard():
            torch.distributed.all_reduce(sizes, group=self._group)
            sent = torch.zeros(max(1, int(sizes.max())), dtype=torch.uint8)
            sent[: len(mine)] = mine
            received = [torch.empty_like(sent) for _ in range(self.count)]
            torch.distributed.all_gather(received, sent, group=self._group)
        return [bytes(all_of[:size].tolist()).decode() for all_of, size in zip(received, sizes.tolist(), strict=True)]

    @contextmanager
    def _heard(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise PeerLost(f"rank {self.rank} has lost another of the {self.count} ranks: {error}") from error
