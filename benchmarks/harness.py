"""What all benchmarks share: the command line, a description of the machine, alternating measurements, and output of figures.

A benchmark first checks the results of the work, then times it in turns with its baseline, and reports medians and ratios. `--json`
prints its figures and an `environment` (commit, versions, hardware) as one JSON object on the last line; `--quick` ends within a
minute on two cores, but for what is built and compiled at the first use: assets, kernels of numba and Warp.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

_PACKAGES = ("numpy", "numba", "mujoco", "mujoco-warp", "ray", "torch")
_ROOT = Path(__file__).parent.parent
_HERE = Path(__file__).parent
_QUICK = "ends within 60 s on two idle cores, once what it uses was built and compiled"
# Python puts the folder of the script first. Behind the root it hides no package: `learner` is not the script of that name here.
sys.path[:] = [*(entry for entry in sys.path if Path(entry).resolve() != _HERE.resolve()), str(_ROOT), str(_HERE)]


def parser(document: str | None, quick: str) -> argparse.ArgumentParser:
    """The command line of a benchmark with `document` as its description; `quick` says what its short form leaves out."""
    arguments = argparse.ArgumentParser(description=document, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--quick", action="store_true", help=f"{quick}; {_QUICK}")
    arguments.add_argument("--json", action="store_true", help="print one JSON object as the last line, and no table")
    return arguments


def environment() -> dict[str, Any]:
    """Conditions of a measurement: commit ("+" when the working tree differs), versions, processor, cores, load, date."""
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "commit": _git("rev-parse", "--short", "HEAD") + ("+" if _git("status", "--porcelain") else ""),
        "versions": versions,
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 2),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def give(figures: Mapping[str, Any], options: argparse.Namespace, table: Callable[[], None] | None = None) -> None:
    """Prints the figures: one JSON object, or the environment and a table (`table()`, else a line for each figure)."""
    around = environment()
    if options.json:
        print(json.dumps({**figures, "environment": around}))
        return
    print(f"commit {around['commit']} · {around['cores']} cores of {around['processor']}, load {around['load']} · {around['date']}")
    print(" ".join(f"{name} {number}" for name, number in around["versions"].items()))
    if table is not None:
        table()
        return
    width = max(map(len, figures))
    for name, value in figures.items():
        print(f"{name:>{width}}  {value}")


_PR_SET_PDEATHSIG = 1


def end_with(parent: int) -> None:
    """Lets this process be killed when its parent, the process `parent`, ends in whatever way. Linux only; nothing elsewhere."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it had ended before the kernel was asked
            os._exit(1)


def pool(processes: int) -> ProcessPoolExecutor:
    """Fresh processes that end with this one. Those of a plain pool would wait for work for ever after a `kill -9` of this one."""
    return ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=end_with, initargs=(os.getpid(),))


def seconds(call: Callable[[], object]) -> float:
    """Wall time of a call [s]."""
    before = time.perf_counter()
    call()
    return time.perf_counter() - before


def turns(
    base: Callable[[], object], other: Callable[[], object], repeats: int, between: Callable[[], object] | None = None
) -> Iterator[tuple[float, float]]:
    """Times of `base` and `other` [s], `repeats` times; `base` is timed before and after `other`, as a machine's speed drifts.

    `between` is called after `other` and not timed.
    """
    for _ in range(repeats):
        before, middle = seconds(base), seconds(other)
        if between is not None:
            between()
        yield (before + seconds(base)) / 2, middle


median = statistics.median


class Kept:
    """Rows of earlier cases in a file of JSON lines, by key, so that an interrupted run continues where it stopped."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.rows: dict[str, dict[str, Any]] = {}
        with contextlib.suppress(FileNotFoundError):
            text = file.read_text(encoding="utf-8")
            if text and not text.endswith("\n"):  # a row that was cut short must not swallow the next one
                with file.open("a", encoding="utf-8") as torn:
                    torn.write("\n")
            for line in text.splitlines():
                with contextlib.suppress(ValueError, KeyError):  # a truncated line: the case is measured again
                    entry = json.loads(line)
                    self.rows[entry["key"]] = entry["row"]

    def add(self, key: str, row: dict[str, Any]) -> None:
        """Stores a row; it is on disk when this returns."""
        self.rows[key] = row
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"key": key, "row": row}) + "\n")


@contextlib.contextmanager
def limited(limit_s: int, error: type[Exception]) -> Iterator[None]:
    """Raises `error` in the main thread when the block has used so many seconds of this process's time on the processor.

    A busy machine makes nobody late so. Sleep, and what other processes do, is not counted.
    """

    def late(*_: object) -> None:
        raise error(f"not finished after {limit_s} s of processor time")

    before = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, limit_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _git(*arguments: str) -> str:
    """Output of git; empty outside a repository, as in an unpacked source distribution."""
    try:
        answer = subprocess.run(["git", *arguments], cwd=_ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return answer.stdout.strip()


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
