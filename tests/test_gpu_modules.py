"""Our own kernels become machine code for a Hopper GPU on a machine without one, and hold no float64."""

import sys
from pathlib import Path

import pytest
import warp as wp

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))
import gpu_modules

from embodichain.physics.warp.begin import start_warp

pytestmark = pytest.mark.slow


@wp.kernel(enable_backward=False, module="wide_numbers")
def wide(out: wp.array[wp.float64]) -> None:
    i = wp.tid()
    out[i] = out[i] * wp.float64(2.0)


@pytest.mark.parametrize("name", gpu_modules.OURS)
def test_a_module_of_ours_compiles_without_a_gpu(name, tmp_path):
    start_warp()
    __import__(name)
    _, size, why = gpu_modules._compile(wp.get_module(name), tmp_path)
    assert not why and size > 10_000


def test_a_float64_in_a_kernel_is_found(tmp_path, monkeypatch):
    start_warp()
    monkeypatch.setattr(gpu_modules, "OURS", ("wide_numbers",))
    _, size, why = gpu_modules._compile(wide.module, tmp_path)
    assert size and "a float64 is left in a kernel" in why
