"""The laws of a ring on a device, on a GPU: `pytest -m gpu tests/gpu`.

No hardware has run this file yet: it was written against cupy 14 and the CUDA runtime's documentation, and its first run may find
faults in itself as well as in `ring.cuda`. Needs `pip install 'embodichain[cuda]'` and a driver for CUDA 13.
"""

import multiprocessing
import threading
import time

import numpy as np
import pytest
from device_laws import DeviceLaws, put
from ring_parts import ring_spec

from embodichain.errors import RingError
from embodichain.ring.cuda import CudaDevice
from embodichain.ring.device_ring import DeviceRing

pytestmark = pytest.mark.gpu

LATE_S = 0.5
SPIN = """
extern "C" __global__ void spin(long long nanoseconds) {
    long long start, now;
    asm volatile("mov.u64 %0, %globaltimer;" : "=l"(start));
    do { asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now)); } while (now - start < nanoseconds);
}
"""


class CudaBench:
    """Late work on a GPU: kernels behind one that spins."""

    def device(self, *, stuck: bool = False) -> CudaDevice:
        device = CudaDevice()
        if stuck:
            with device._stream:
                self.spin(device, 30.0)
        return device

    def spin(self, device, seconds: float = LATE_S) -> None:
        device._cupy.RawKernel(SPIN, "spin")((1,), (1,), (np.int64(seconds * 1e9),))

    def write_late(self, device, view, value) -> None:
        self.spin(device)
        view.fill(value)

    def read_late(self, device, view):
        self.spin(device)
        copy = view.copy()
        return lambda: copy

    def let_go(self, _device) -> None:
        """It ends by itself."""

    def to_host(self, view) -> np.ndarray:
        return view.get() if hasattr(view, "get") else np.asarray(view)

    def start(self, function, *arguments):
        process = multiprocessing.get_context("spawn").Process(target=function, args=(self, *arguments), daemon=True)
        process.start()
        return process

    def torch_reaches(self, _device) -> bool:
        import torch

        return torch.cuda.is_available()


@pytest.fixture(scope="session")
def bench():
    bench = CudaBench()
    try:
        device = bench.device()
    except RingError as error:
        pytest.skip(f"{error} (no hardware has run these tests yet)")
    bench.spin(device, 0.0)  # compiles
    return bench


class TestCuda(DeviceLaws):
    pass


def test_copies_of_a_producer_do_not_wait_for_the_kernels_of_its_simulation(bench):
    with DeviceRing.create(ring_spec(4), bench.device()) as ring:
        put(ring, 1)  # pins the buffer and warms up
        bench.spin(ring.device)
        before = time.monotonic()
        put(ring, 2)
        assert time.monotonic() - before < LATE_S / 2


def test_threads_with_another_current_device_reach_the_arena(bench):
    with DeviceRing.create(ring_spec(4), bench.device()) as ring:
        thread = threading.Thread(target=put, args=(ring, 1))
        thread.start()
        thread.join()
        assert ring.stats().ready == 1


def test_an_arena_beyond_the_memory_names_bytes_asked_and_free(bench):
    with pytest.raises(RingError, match=r"an arena of [\d,]+ bytes does not fit on GPU .*: [\d,]+ bytes are free"):
        DeviceRing.create(ring_spec(1 << 20, words=1 << 17), bench.device())
