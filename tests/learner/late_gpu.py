"""A GPU of host memory, as a learner meets one: what it copies from page-locked memory it reads later, in pieces, in any order."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from learner.data.batch import Batch, LeasedBatch


@dataclass
class Late:
    """A batch whose copies are still to be made, some rows at each look."""

    batch: Batch
    jobs: list[tuple[Tensor, Tensor]]
    rng: np.random.Generator

    def has_left(self, *, wait: bool = False) -> bool:
        for _ in range(len(self.jobs) if wait else min(2, len(self.jobs))):
            target, source = self.jobs.pop(int(self.rng.integers(len(self.jobs))))
            target.copy_(source)
        return not self.jobs

    def arrive(self) -> Batch:
        self.has_left(wait=True)
        return self.batch


@dataclass
class LateGpu:
    """Both who page-locks memory and the way to the device. `refuses` is what page-locking then answers."""

    seed: int = 0
    refuses: int = 0
    locked: dict[int, int] = field(default_factory=dict)
    sent: int = 0
    late: int = 0
    """Copies that were put off."""

    def lock(self, pointer: int, size_bytes: int) -> int:
        assert not any(start < pointer + size_bytes and pointer < start + size for start, size in self.locked.items())
        if not self.refuses:
            self.locked[pointer] = size_bytes
        return self.refuses

    def unlock(self, pointer: int) -> int:
        del self.locked[pointer]
        return 0

    def send(self, leased: LeasedBatch, asked: Mapping[str, Any]) -> Late:
        jobs: list[tuple[Tensor, Tensor]] = []

        def copy(target: Tensor, source: Tensor) -> None:
            """Memory that is not page-locked the driver reads before the call returns."""
            if any(start <= source.data_ptr() and source.data_ptr() < start + size for start, size in self.locked.items()):
                target.copy_(torch.full_like(target, 77))
                for row in range(len(target)):
                    jobs.append((target[row], source[row]))
            else:
                target.copy_(source)

        batch = replace(leased, slots=None).gather("cpu", **asked, copy=copy)
        self.sent += 1
        self.late += len(jobs)
        return Late(batch, jobs, np.random.default_rng((self.seed, self.sent)))
