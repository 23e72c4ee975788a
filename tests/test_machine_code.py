"""Compiled code is kept, never stale, and not missed where nothing can be kept."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from embodichain.machine_code import Kernel, inner

ROOT = Path(__file__).parent.parent
PARTS = """
from typing import NamedTuple

class Pair(NamedTuple):
    {members}

BASE = {base}
"""
MIDDLE = """
from embodichain.machine_code import compiled
from house.room.parts import BASE

DOUBLE = 2 * BASE

@compiled()
def doubled():
    return DOUBLE
"""
FAR = """
from embodichain.machine_code import compiled

OFFSET = {offset}

@compiled()
def far(x):
    return x {far}
"""
KERNELS = """
from embodichain.machine_code import compiled
from house.room import middle
from house.other.far import OFFSET, far

@compiled("float64(float64)")
def kernel(x):
    return far(x) + OFFSET + middle.doubled()

@compiled()
def first(pair):
    return pair.first
"""
CALL = """
from house.room.kernels import first, kernel
from house.room.parts import Pair
print(kernel(1.0), first(Pair(first=5.0, second=1.0)), sum(kernel.stats.cache_hits.values()), sum(first.stats.cache_hits.values()))
"""


def house(folder: Path, *, base: int = 10, offset: int = 100, far: str = "* 1.0", members: str = "first second") -> list[float]:
    """Writes a package of two rooms, calls it in a process of its own: what its kernels return, and how many came from disk."""
    for name, text in {
        "room/parts": PARTS.format(base=base, members="\n    ".join(f"{member}: float" for member in members.split())),
        "room/middle": MIDDLE,
        "room/kernels": KERNELS,
        "other/far": FAR.format(offset=offset, far=far),
    }.items():
        path = folder / "house" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    environment = os.environ | {"PYTHONPATH": f"{folder}:{ROOT}"}
    done = subprocess.run([sys.executable, "-c", CALL], env=environment, capture_output=True, text=True, check=True)
    return [float(word) for word in done.stdout.split()]


def test_a_kernel_follows_whatever_went_into_it_and_nothing_else_compiles_it_anew(tmp_path):
    assert house(tmp_path) == [1 + 100 + 20, 5, 0, 0]
    assert house(tmp_path) == [1 + 100 + 20, 5, 1, 1]  # kept
    assert house(tmp_path, base=11)[0] == 1 + 100 + 22  # a constant behind a constant of another file
    assert house(tmp_path, offset=200)[0] == 1 + 200 + 20  # a constant of another room
    assert house(tmp_path, far="* 3.0")[0] == 3 + 100 + 20  # a kernel of another room
    assert house(tmp_path, members="second first")[1] == 5  # members of the same types that change places


def test_where_nothing_can_be_written_each_process_compiles_for_itself(tmp_path, monkeypatch):
    for room in ("room", "other"):
        (tmp_path / "house" / room).mkdir(parents=True)
        (tmp_path / "house" / room / "__pycache__").write_text("where numba would put a folder")
    monkeypatch.setenv("HOME", "/dev/null")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    for _ in range(2):
        assert house(tmp_path) == [1 + 100 + 20, 5, 0, 0]


NESTED = """
from embodichain.machine_code import compiled
from house.other.values import SHIFT

@compiled("float64(float64)")
def shifted(x):
    def within(y):
        return y + SHIFT
    return within(x)
"""


def test_what_only_a_function_within_a_kernel_reads_is_compiled_again_when_it_changes(tmp_path):
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    (tmp_path / "house" / "room").mkdir(parents=True)
    (tmp_path / "house" / "other").mkdir()
    (tmp_path / "house" / "room" / "nested.py").write_text(NESTED)
    call = [sys.executable, "-c", "from house.room.nested import shifted; print(shifted(1.0))"]
    for shift in (10.0, 10.0, 20.0):
        (tmp_path / "house" / "other" / "values.py").write_text(f"SHIFT = {shift}\n")
        done = subprocess.run(call, env=environment, capture_output=True, text=True, check=True)
        assert float(done.stdout) == 1.0 + shift


def _fresh(**options):
    """A decorator like `compiled`, which keeps nothing on disk, so that every process compiles."""
    return lambda function: Kernel(function, targetoptions={"nopython": True} | options)


@_fresh(no_cpython_wrapper=True, no_cfunc_wrapper=True)
def _scaled(x, factor, negative):
    return -factor * x if negative else factor * x


@_fresh()
def _sum(x):
    return _scaled(x, 2, False) + _scaled(x, 3, True) + _scaled(x, 5, False)


@inner()
def _twice(x):
    return 2.0 * x


def test_a_kernel_is_compiled_once_whatever_constants_others_call_it_with():
    assert _sum(1.0) == 2 - 3 + 5
    assert len(_scaled.signatures) == 1


def test_a_kernel_for_kernels_alone_refuses_a_call_from_python():
    _sum(1.0)
    for value in (1.0, 1):  # compiled for the one, not for the other
        with pytest.raises(TypeError, match="_scaled is called by kernels only"):
            _scaled(value, 2, False)
    with pytest.raises(TypeError, match="_twice is called by kernels only"):
        _twice(1.0)
