"""How a leased batch gets to the learner's device: at once, or beside the learner's work on a stream of its own."""

from __future__ import annotations

import logging
from collections.abc import Iterator
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
"""cudaHostRegisterReadOnly, for readers map a ring without the right to write; cudaHostRegisterPortable, for every device."""


class Moving(Protocol):
    """A batch whose bytes are on their way."""

    def has_left(self, *, wait: bool = False) -> bool:
        """Whether the ring's memory is not read any more, so that the lease may end; with `wait` it is, on return."""
        ...

    def arrive(self) -> Batch:
        """The batch, for the work that this thread starts from now on."""
        ...


class Copies(Protocol):
    """A way to a device. Implementations: `AtOnce`, `BesideWork`."""

    def send(self, leased: LeasedBatch, *, opening: bool, depth: bool) -> Moving:
        """Begins to gather a batch, as `LeasedBatch.gather` does. The lease must be held until the batch `has_left`."""
        ...


@dataclass(frozen=True, slots=True)
class Arrived:
    """A batch that is there."""

    batch: Batch

    def has_left(self, *, wait: bool = False) -> bool:
        """Nothing is under way."""
        return True

    def arrive(self) -> Batch:
        """The batch."""
        return self.batch


@dataclass(frozen=True, slots=True)
class AtOnce:
    """Gathers before it returns: on a CPU, or where nothing is drawn ahead."""

    device: torch.device

    def send(self, leased: LeasedBatch, *, opening: bool, depth: bool) -> Arrived:
        """See `Copies`."""
        return Arrived(leased.gather(self.device, opening=opening, depth=depth))


class BesideWork:
    """Copies on a CUDA stream of its own, so that a batch travels while the learner works on another one.

    From page-locked memory (`page_locked`) the GPU fetches the bytes by itself; other memory is first read by the driver, which
    takes the learner's thread some time and is as safe. No GPU has run this yet.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream: Any = torch.cuda.Stream(device)

    def send(self, leased: LeasedBatch, *, opening: bool, depth: bool) -> Moving:
        """See `Copies`."""
        try:
            with torch.cuda.stream(self._stream):
                batch = leased.gather(self._device, opening=opening, depth=depth, copy=_enqueue)
                event = torch.cuda.Event()
                event.record(self._stream)
        except BaseException:
            self._stream.synchronize()  # the lease may end now: nothing that was begun may still read the ring
            raise
        return _OnStream(batch, event, self._device)


@dataclass(frozen=True, slots=True)
class _OnStream:
    """A batch that is there once its event has come."""

    batch: Batch
    event: Any
    device: torch.device

    def has_left(self, *, wait: bool = False) -> bool:
        if wait:
            self.event.synchronize()
        return bool(self.event.query())

    def arrive(self) -> Batch:
        work = torch.cuda.current_stream(self.device)
        work.wait_event(self.event)
        for value in self.batch.tensors.values():
            value.record_stream(work)  # its memory belongs to the copies' stream, and must not be used again before this work ends
        return self.batch


def _enqueue(target: Tensor, source: Tensor) -> None:
    target.copy_(source, non_blocking=True)


class Locks(Protocol):
    """Who page-locks host memory for a device. Implementation: `Cuda`."""

    def lock(self, pointer: int, size_bytes: int) -> int:
        """Locks memory that this process may read; returns the runtime's error, 0 for none."""
        ...

    def unlock(self, pointer: int) -> int:
        """Ends that; returns the runtime's error, 0 for none."""
        ...


class Cuda:
    """The CUDA runtime, as torch has it.

    Args:
        ordinal: The device that this process learns on; locking makes a context there and on no other.

    Raises:
        LearnerError: This process sees no GPU.
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
        """By cudaHostRegister."""
        with torch.cuda.device(self._ordinal):
            return self._told(self._runtime.cudaHostRegister(pointer, size_bytes, _FLAGS))

    def unlock(self, pointer: int) -> int:
        """By cudaHostUnregister."""
        with torch.cuda.device(self._ordinal):
            return self._told(self._runtime.cudaHostUnregister(pointer))

    def _told(self, status: object) -> int:
        """The runtime's answer. It keeps an error for whoever asks next, which is the next kernel's launch: so ask here."""
        if code := int(cast(int, status)):
            with suppress(RuntimeError):
                torch.zeros(1, device=f"cuda:{self._ordinal}")
        return code


def locked_if_pinned(ring: AnyRing, placement: str, ordinal: int = 0) -> AbstractContextManager[object]:
    """Page-locks a ring whose placement is "pinned" for a GPU while the block runs; any other is left as it is."""
    return page_locked(ring.readable, Cuda(ordinal)) if placement == "pinned" else nullcontext()


@contextmanager
def page_locked(memory: NDArray[np.uint8], locks: Locks) -> Iterator[bool]:
    """Page-locks host memory for this process's GPU while the block runs; copies from it must have ended by then.

    Yields whether it is. Where the driver refuses, it is logged and the block runs with memory as it was: copies are slower then.

    Args:
        memory: What to lock, for one a whole ring as readers map it.
        locks: Who does.
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
