"""How a leased batch gets to the learner's device: synchronously, or on a CUDA stream of its own while the learner works."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embodichain.errors import LearnerError
from embodichain.ring.contract import AnyRing
from learner.data.batch import Batch, LeasedBatch

_LOG = logging.getLogger(__name__)
_FLAGS = 8 | 1
"""cudaHostRegisterReadOnly, because readers map the ring read-only, and cudaHostRegisterPortable, valid on all devices."""


class Moving(Protocol):
    """A batch that is being copied."""

    def has_left(self, *, wait: bool = False) -> bool:
        """Whether the copy out of the ring has finished, so that the lease may end; with `wait`, blocks until it has."""
        ...

    def arrive(self) -> Batch:
        """The batch; work that this thread enqueues from now on runs after the copy."""
        ...


class Copies(Protocol):
    """Copies batches to a device. Implementations: `AtOnce`, `BesideWork`."""

    def send(self, leased: LeasedBatch, asked: Mapping[str, Any]) -> Moving:
        """Begins `LeasedBatch.gather` with the arguments `asked`. The lease must be held until the returned batch `has_left`."""
        ...


@dataclass(frozen=True, slots=True)
class Arrived:
    """A batch whose copy has finished."""

    batch: Batch

    def has_left(self, *, wait: bool = False) -> bool:
        """Always true."""
        return True

    def arrive(self) -> Batch:
        """The batch."""
        return self.batch


@dataclass(frozen=True, slots=True)
class AtOnce:
    """Copies synchronously: for CPUs, and without prefetching."""

    device: torch.device

    def send(self, leased: LeasedBatch, asked: Mapping[str, Any]) -> Arrived:
        """See `Copies`."""
        return Arrived(leased.gather(self.device, **asked))


class BesideWork:
    """Copies on a CUDA stream of its own, so that the copy of one batch overlaps with training on another.

    From page-locked memory (`page_locked`) the GPU reads by itself. From other memory the driver copies through a buffer first,
    which blocks the learner's thread for a while but is as safe. This class has not been run on a GPU yet.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream: Any = torch.cuda.Stream(device)

    def send(self, leased: LeasedBatch, asked: Mapping[str, Any]) -> Moving:
        """See `Copies`."""
        try:
            with torch.cuda.stream(self._stream):
                batch = leased.gather(self._device, **asked, copy=_enqueue)
                event = torch.cuda.Event()
                event.record(self._stream)
        except BaseException:
            # The caller will release the lease because of this error, so copies that already began must finish first.
            self._stream.synchronize()
            raise
        return _OnStream(batch, event, self._device)


@dataclass(frozen=True, slots=True)
class _OnStream:
    """A batch whose copy has finished once its CUDA event has been reached."""

    batch: Batch
    event: Any
    device: torch.device

    def has_left(self, *, wait: bool = False) -> bool:
        if wait:
            self.event.synchronize()
        return bool(self.event.query())

    def arrive(self) -> Batch:
        work = torch.cuda.current_stream(self.device)
        # The GPU waits, not this thread, which goes on to launch the work that needs the batch.
        work.wait_event(self.event)
        for value in self.batch.tensors.values():
            # The tensor was allocated on the copy stream: without this, the allocator could reuse it while `work` still reads it.
            value.record_stream(work)
        return self.batch


def _enqueue(target: Tensor, source: Tensor) -> None:
    # Returns before the bytes have left `source`, which is why the lease must be held until `has_left`.
    target.copy_(source, non_blocking=True)


class Locks(Protocol):
    """Page-locks host memory for a device. Implementation: `Cuda`."""

    def lock(self, pointer: int, size_bytes: int) -> int:
        """Locks memory that this process may read; returns the CUDA runtime's error code, 0 for success."""
        ...

    def unlock(self, pointer: int) -> int:
        """Unlocks it; returns the CUDA runtime's error code, 0 for success."""
        ...


class Cuda:
    """The CUDA runtime, through torch's bindings.

    Args:
        ordinal: The device that this process trains on; locking creates a CUDA context there and on no other device.

    Raises:
        LearnerError: If this process sees no GPU.
    """

    def __init__(self, ordinal: int = 0) -> None:
        self._ordinal = ordinal
        if not torch.cuda.is_available():
            raise LearnerError(
                "a pinned ring is page-locked for a GPU, and this process sees none: set ring.placement host, or look at "
                "CUDA_VISIBLE_DEVICES and the driver"
            )
        self._runtime: Any = torch.cuda.cudart()

    def lock(self, pointer: int, size_bytes: int) -> int:
        """Calls cudaHostRegister."""
        with torch.cuda.device(self._ordinal):
            return self._told(self._runtime.cudaHostRegister(pointer, size_bytes, _FLAGS))

    def unlock(self, pointer: int) -> int:
        """Calls cudaHostUnregister."""
        with torch.cuda.device(self._ordinal):
            return self._told(self._runtime.cudaHostUnregister(pointer))

    def _told(self, status: object) -> int:
        """The error code. CUDA also stores the error and would report it at the next kernel launch, so it is cleared here."""
        if code := int(cast(int, status)):
            with suppress(RuntimeError):
                torch.zeros(1, device=f"cuda:{self._ordinal}")
        return code


def locked_if_pinned(ring: AnyRing, placement: str, ordinal: int = 0) -> AbstractContextManager[object]:
    """A context that page-locks a ring with placement "pinned" for a GPU; for other placements it does nothing."""
    return page_locked(ring.readable, Cuda(ordinal)) if placement == "pinned" else nullcontext()


@contextmanager
def page_locked(memory: NDArray[np.uint8], locks: Locks) -> Iterator[bool]:
    """Page-locks host memory for this process's GPU inside a `with` block; copies from it must have finished at its end.

    Yields whether the memory is locked. A refusal of the driver is logged, and the block runs with slower copies.

    Args:
        memory: The memory to lock, such as a whole ring as readers map it.
        locks: Does the locking.
    """
    pointer = memory.ctypes.data
    if status := locks.lock(pointer, memory.nbytes):
        _LOG.warning(
            "%d bytes of the ring cannot be page-locked (CUDA error %d): the driver copies them twice", memory.nbytes, status
        )
        yield False
        return
    try:
        yield True
    finally:
        if status := locks.unlock(pointer):
            _LOG.warning("the ring stays page-locked until this process ends (CUDA error %d)", status)
