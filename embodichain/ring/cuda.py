"""A ring's payload on a CUDA device: one allocation shared by an IPC handle; copies and events use cupy's runtime API.

Written against cupy 14 (CUDA 13) and the documentation of the CUDA runtime; it has not run on hardware yet. `tests/gpu` is the
suite to run on a machine with a GPU. Assumptions from the documentation that tests on a CPU cannot check:

- an event that has completed means that the copies before it are visible to kernels of other processes on the same device;
- the driver ends a killed process's copies and kernels before its files are closed, hence before the proof of its death (a forked
  child that inherits the driver's descriptors would break this: do not fork after the first use of a device);
- a handle may be opened several times in one process (the runtime counts), but not in the process that exported it;
- on a partitioned GPU (MIG), `uuid` in the device properties is that of the instance.

Cost: every attached process has its own CUDA context, about 0.5 GiB of GPU memory, and without MPS the contexts share the GPU by
time slices. So workers should not attach; they write reels into host memory, and one darkroom process beside the learner attaches.

`cupy` is imported when the first `CudaDevice` is made.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodichain.errors import RingError
from embodichain.ring.placement import Events, Marker

_SUCCESS, _NOT_READY = 0, 600
"""cudaSuccess and cudaErrorNotReady."""
_exported: dict[bytes, int] = {}
"""Pointers of this process's own allocations by handle, because CUDA cannot open a handle in the process that exported it."""


class CudaDevice:
    """One GPU, for one process. `ordinal` numbers the devices visible to this process (`CUDA_VISIBLE_DEVICES`).

    Raises:
        RingError: cupy, the driver or the device is missing; the message says which and what to do.
    """

    kind = "cuda"

    def __init__(self, ordinal: int = 0) -> None:
        self._cupy = _load(ordinal)
        self._runtime = self._cupy.cuda.runtime
        self._device = self._cupy.cuda.Device(ordinal)
        self._pid = os.getpid()
        self.ordinal = ordinal
        with self._call("choosing the device"):
            properties = self._runtime.getDeviceProperties(ordinal)
            # Instances of a partitioned GPU (MIG) have the same bus id but separate memory, so the uuid must be part of the name.
            self._identity = f"{self._runtime.deviceGetPCIBusId(ordinal)} {bytes(properties.get('uuid', b'')).hex()}".rstrip()
            # A non-blocking stream does not synchronise with the default stream, on which a producer's simulation may run.
            self._stream = self._cupy.cuda.Stream(non_blocking=True)
        self._events: Events[Any] = Events(lambda: self._cupy.cuda.Event(block=False, disable_timing=True))
        self._opened: Counter[int] = Counter()

    @property
    def identity(self) -> str:
        """PCI bus id and uuid of the GPU or MIG instance."""
        return self._identity

    # ------------------------------------------------------------------------------------------------------- memory

    def allocate(self, size_bytes: int) -> int:
        """Calls cudaMalloc directly, not through cupy's pool: an IPC handle always exports a whole allocation."""
        with self._call("asking for memory"):
            free_bytes, _ = self._runtime.memGetInfo()
        if size_bytes > free_bytes:
            raise RingError(
                f"an arena of {size_bytes:,} bytes does not fit on GPU {self._identity}: {free_bytes:,} bytes are free; "
                "ask for fewer slots or smaller frames"
            )
        with self._call(f"allocating {size_bytes:,} bytes"):
            return int(self._runtime.malloc(size_bytes))

    def free(self, pointer: int) -> None:
        """Calls cudaFree."""
        for handle in [handle for handle, known in _exported.items() if known == pointer]:
            del _exported[handle]
        with self._call("freeing the arena"):
            self._runtime.free(pointer)

    def export(self, pointer: int) -> bytes:
        """Calls cudaIpcGetMemHandle; returns 64 bytes."""
        with self._call("exporting the arena (cudaIpcGetMemHandle; not every system allows it: WSL and some containers do not)"):
            handle = bytes(self._runtime.ipcGetMemHandle(pointer))
        _exported[handle] = pointer
        return handle

    def open(self, handle: bytes) -> int:
        """Calls cudaIpcOpenMemHandle; in the exporting process, returns the original pointer."""
        if handle in _exported:
            return _exported[handle]
        with self._call("opening the arena (cudaIpcOpenMemHandle; is its owner alive, on this GPU?)"):
            pointer = int(self._runtime.ipcOpenMemHandle(handle))
        self._opened[pointer] += 1
        return pointer

    def unmap(self, pointer: int) -> None:
        """Calls cudaIpcCloseMemHandle."""
        if self._opened[pointer]:
            self._opened[pointer] -= 1
            with self._call("closing the arena"):
                self._runtime.ipcCloseMemHandle(pointer)

    def staging(self, size_bytes: int) -> NDArray[np.uint8]:
        """Page-locked host memory from cupy's pool, returned to it when the array is dropped."""
        with self._call(f"pinning {size_bytes:,} bytes of host memory"):
            return np.frombuffer(self._cupy.cuda.alloc_pinned_memory(size_bytes), np.uint8, size_bytes)

    def fill(self, pointer: int, value: int, size_bytes: int) -> None:
        """Calls cudaMemsetAsync on the copy stream and waits for it."""
        with self._call("filling"):
            self._runtime.memsetAsync(pointer, value, size_bytes, self._stream.ptr)
            self._stream.synchronize()

    def write(self, pointer: int, data: bytes) -> None:
        """Calls cudaMemcpyAsync on the copy stream and waits for it."""
        source = np.frombuffer(data, np.uint8)
        with self._call("writing"):
            kind = self._runtime.memcpyHostToDevice
            self._runtime.memcpyAsync(pointer, source.ctypes.data, source.size, kind, self._stream.ptr)
            self._stream.synchronize()

    def read(self, pointer: int, size_bytes: int) -> bytes:
        """Calls cudaMemcpyAsync on the copy stream and waits for it."""
        target = np.empty(size_bytes, np.uint8)
        with self._call("reading"):
            kind = self._runtime.memcpyDeviceToHost
            self._runtime.memcpyAsync(target.ctypes.data, pointer, size_bytes, kind, self._stream.ptr)
            self._stream.synchronize()
        return target.tobytes()

    def view(self, pointer: int, shape: tuple[int, ...], dtype: str, strides: tuple[int, ...] | None, owner: object) -> Any:
        """A cupy array over device memory; `torch.from_dlpack(view)` shares its storage."""
        extent = np.dtype(dtype).itemsize
        if strides is None:
            extent *= int(np.prod(shape, dtype=np.int64))
        else:
            extent += sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
        memory = self._cupy.cuda.UnownedMemory(pointer, extent, owner, self.ordinal)
        return self._cupy.ndarray(shape, dtype, self._cupy.cuda.MemoryPointer(memory, 0), strides=strides)

    # --------------------------------------------------------------------------------------------------------- work

    def copy(self, pointer: int, source: NDArray[np.uint8]) -> None:
        """Calls cudaMemcpyAsync from pinned memory; does not wait."""
        with self._call("copying a trajectory"):
            kind = self._runtime.memcpyHostToDevice
            self._runtime.memcpyAsync(pointer, source.ctypes.data, source.size, kind, self._stream.ptr)

    def launch(self, kernel: Callable[[], object]) -> None:
        """Calls `kernel` at once."""
        kernel()

    def streams(self) -> tuple[int, ...]:
        """The current streams of cupy and, if it uses CUDA in this process, of torch."""
        found = {int(self._cupy.cuda.get_current_stream(self.ordinal).ptr)}
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            found.add(int(torch.cuda.current_stream(self.ordinal).cuda_stream))
        with self._call("asking whether a stream is captured"):
            captured = [stream for stream in found if self._runtime.streamIsCapturing(stream)]
        if captured:
            raise RingError(
                f"a stream of GPU {self.ordinal} is captured into a graph: what it reads or writes of the ring runs only when the "
                "graph does; acquire and release, reserve and publish outside the capture"
            )
        return tuple(sorted(found))

    def mark(self, stream: int | None = None) -> Marker:
        """Calls cudaEventRecord."""
        marker, event = self._events.take()
        try:
            with self._call("recording an event"):
                self._runtime.eventRecord(event.ptr, self._stream.ptr if stream is None else stream)
        except BaseException:
            self._events.give_back(marker)
            raise
        return marker

    def done(self, marker: Marker) -> bool:
        """Calls cudaEventQuery. Cupy's own `Event.done` reports a CUDA error as "not done", and callers would wait for ever."""
        event = self._events.of(marker)
        with self._call("waiting for a copy or kernel"):
            status = int(self._runtime.eventQuery(event.ptr))
        if status not in (_SUCCESS, _NOT_READY):
            raise RingError(f"work on GPU {self._identity} failed with CUDA error {status}: end this process, its context is lost")
        return status == _SUCCESS

    def forget(self, marker: Marker) -> None:
        """Returns the event to the pool."""
        self._events.give_back(marker)

    @property
    def outstanding(self) -> int:
        """Number of markers made and not yet forgotten."""
        return self._events.outstanding

    @contextmanager
    def _call(self, what: str) -> Iterator[None]:
        """A context for runtime calls: selects this device, restores the thread's device, and raises errors as RingError."""
        if os.getpid() != self._pid:
            raise RingError(f"GPU {self.ordinal} was opened by process {self._pid} before a fork, where CUDA ends: use spawn")
        try:
            with self._device:
                yield
        except self._runtime.CUDARuntimeError as error:
            raise RingError(f"{what} failed on GPU {self.ordinal}: {error}") from error


def _load(ordinal: int) -> Any:
    """Imports cupy; raises RingError if cupy, the driver or the device is missing."""
    elsewhere = "or use a ring in host memory (Ring.create)"
    try:
        cupy: Any = importlib.import_module("cupy")
    except ImportError as error:
        raise RingError(f"a ring on a GPU needs cupy ({error}): pip install 'embodichain[cuda]', {elsewhere}") from error
    try:
        count = int(cupy.cuda.runtime.getDeviceCount())
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise RingError(f"no CUDA device ({error}): install the NVIDIA driver for CUDA 13, {elsewhere}") from error
    if not 0 <= ordinal < count:
        raise RingError(
            f"no CUDA device {ordinal}: {count} visible; choose 0..{count - 1} or set CUDA_VISIBLE_DEVICES, {elsewhere}"
        )
    return cupy
