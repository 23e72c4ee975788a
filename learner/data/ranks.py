"""Several learner processes (ranks) on one stream: they share a ring or have one each, and step and stop together.

The rings enforce the replay bound, whichever rank draws. The ranks only have to agree on whether all of them have a batch: a rank
that steps alone would wait for the others' gradients for ever.
"""

from __future__ import annotations

from datetime import timedelta
from typing import NamedTuple

import torch
import torch.distributed

from embodichain.errors import ConfigError, LearnerError


class Agreed(NamedTuple):
    """How many ranks are in which state."""

    have_batch: int
    ended: int
    """Ranks that know that nothing more will be published."""
    empty: int
    """Ranks that found nothing left to read after the end."""
    failed: int


class Ranks:
    """The ranks of `torch.distributed`'s default group. Every method except `check` is a collective.

    Its messages of 32 bytes use a gloo group of their own, so they neither wait for a GPU nor interleave with gradient reductions.

    Args:
        timeout_s: How long to wait for the slowest rank before giving up [s].
    """

    def __init__(self, *, timeout_s: float = 600.0) -> None:
        if not torch.distributed.is_initialized():
            raise LearnerError("ranks need torch.distributed: call init_process_group, or start with torchrun")
        self.rank = torch.distributed.get_rank()
        self.count = torch.distributed.get_world_size()
        self._group = torch.distributed.new_group(backend="gloo", timeout=timedelta(seconds=timeout_s))

    def check(self, num_slots: int, batch_size: int) -> None:
        """Raises ConfigError when ranks could wait for each other's slots for ever."""
        if num_slots < self.count * batch_size:
            raise ConfigError(
                f"{self.count} ranks that hold {batch_size} trajectories each need a ring of at least {self.count * batch_size} "
                f"slots, it has {num_slots}: enlarge the ring or make batches smaller"
            )

    def agree(self, *, has_batch: bool, ended: bool, empty: bool, failed: bool) -> Agreed:
        """Exchanges the state of all ranks; raises LearnerError when a rank has died."""
        votes = torch.tensor([has_batch, ended, empty, failed], dtype=torch.int64)
        try:
            torch.distributed.all_reduce(votes, group=self._group)
        except RuntimeError as error:
            raise LearnerError(f"rank {self.rank} has lost another of the {self.count} ranks: {error}") from error
        return Agreed(*votes.tolist())
