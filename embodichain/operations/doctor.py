"""Checks whether this machine, and a cluster, have what a run needs; each finding has a remedy."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement

from embodichain import __version__
from embodichain.errors import EmbodiChainError
from embodichain.extras import EXTRAS
from embodichain.processes import call
from embodichain.ray_engine.start import NoCluster, Refused
from embodichain.ray_engine.visit import Visit, visit

_SHM_BYTES = 512 << 20
"""Shared memory for the ring of the demo with some reserve [B]."""
_DISK_BYTES = 5 << 30
"""Disk space for a few run folders with checkpoints [B]."""
_MEMORY_BYTES = 4 << 30
_FILES = 4096
"""Number of open files that a node with 32 workers may need."""
_CLOCK_S = 1.0
"""Largest difference of the clocks of two nodes [s]; more makes ages of trajectories wrong."""
_GPU_S = 30.0
"""How long nvidia-smi may take, which hangs with its driver [s]."""
_TIME_ERROR = 5
"""Result of adjtimex(2) while the kernel's clock is not synchronised."""


class Severity(StrEnum):
    """Severity of a finding."""

    GOOD = "good"
    NOTE = "note"
    """Runs work, but something is worth knowing."""
    BAD = "bad"
    """Runs will fail or give wrong figures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of one check."""

    subject: str
    state: Severity
    found: str
    remedy: str = ""


def examine(*, address: str = "", folder: Path = Path()) -> Iterator[Finding]:
    """Runs all checks; a cluster at `address` comes last, because it may take half a minute.

    Args:
        address: address of a Ray cluster; empty checks none.
        folder: folder for runs.
    """
    yield _python()
    yield from _packages()
    checks = {
        "lightning": _lightning,
        "shared memory": _shared_memory,
        "memory": _memory,
        "open files": _files,
        "GPU": _gpu,
        "disk": partial(_disk, folder),
        "clock": _clock,
    }
    for subject, check in checks.items():
        try:
            yield check()
        except OSError as error:  # what cannot be looked at is what a doctor is asked for, and ends no other check
            yield Finding(
                subject=subject, state=Severity.BAD, found=f"cannot be looked at: {error}", remedy="runs use it: provide it"
            )
    yield from _cluster(address) if address else _no_cluster_asked()


def _python() -> Finding:
    found = f"EmbodiChain {__version__}, Python {platform.python_version()}, {platform.system()} on {platform.machine()}"
    if platform.system() != "Linux":
        return Finding(subject="system", state=Severity.BAD, found=found, remedy="the ring needs Linux: futexes and /dev/shm")
    return Finding(subject="system", state=Severity.GOOD, found=f"{found}, {len(os.sched_getaffinity(0))} cores")


def _packages() -> Iterator[Finding]:
    """Compares the requirements in `pyproject.toml` with installed packages; a missing extra is only a note."""
    try:
        wanted = [Requirement(text) for text in requires("embodichain") or ()]
    except PackageNotFoundError:
        yield Finding(
            subject="packages", state=Severity.NOTE, found="embodichain is not installed here", remedy="pip install -e '.[all]'"
        )
        return
    wrong, missing, extras = [], [], tuple(EXTRAS)
    for need in wanted:
        if need.marker is not None and not any(need.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            continue
        if need.name == "embodichain":
            continue
        try:
            installed = version(need.name)
        except PackageNotFoundError:
            missing.append(need.name)
            continue
        if not need.specifier.contains(installed, prereleases=True):
            wrong.append(f"{need.name} {installed} (wants {need.specifier})")
    if wrong:
        listed = ", ".join(wrong)
        yield Finding(subject="packages", state=Severity.BAD, found=listed, remedy="pip install -c constraints.txt -e '.[all]'")
    if missing:
        listed = f"not installed: {', '.join(sorted(set(missing)))}"
        remedy = "pip install -e '.[all]' where commands ask for one"
        yield Finding(subject="packages", state=Severity.NOTE, found=listed, remedy=remedy)
    if not wrong and not missing:
        yield Finding(subject="packages", state=Severity.GOOD, found="all that pyproject.toml asks for, in versions that it allows")


def _lightning() -> Finding:
    """Checks that `lightning` is not installed too: Ray would import it, and reject modules of `pytorch_lightning`."""
    there = [name for name in ("pytorch-lightning", "lightning") if _installed(name)]
    if len(there) == 2:
        found = "both lightning and pytorch-lightning are installed: Ray Train takes the first, the learner is of the second"
        return Finding(subject="lightning", state=Severity.BAD, found=found, remedy="pip uninstall lightning")
    return Finding(subject="lightning", state=Severity.GOOD, found=f"one of them alone: {', '.join(there) or 'none'}")


def _installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def _shared_memory() -> Finding:
    usage = shutil.disk_usage("/dev/shm")
    found = f"/dev/shm has {_size(usage.free)} free of {_size(usage.total)}"
    if usage.free < _SHM_BYTES:
        remedy = "free some, or mount a larger one (docker run --shm-size 8g; Kubernetes: an emptyDir of medium Memory)"
        return Finding(subject="shared memory", state=Severity.BAD, found=found, remedy=remedy)
    return Finding(subject="shared memory", state=Severity.GOOD, found=found)


def _memory() -> Finding:
    available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("MemAvailable:"):
            available = int(line.split()[1]) << 10
    state = Severity.GOOD if available >= _MEMORY_BYTES else Severity.NOTE
    remedy = "" if state is Severity.GOOD else "a worker takes about 0.3 GiB, a learner 1.5: start fewer"
    return Finding(subject="memory", state=state, found=f"{_size(available)} available", remedy=remedy)


def _files() -> Finding:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= _FILES:
        return Finding(subject="open files", state=Severity.GOOD, found=f"{soft} allowed")
    found = f"{soft} allowed ({hard} at most)"
    return Finding(
        subject="open files", state=Severity.NOTE, found=found, remedy=f"ulimit -n {min(hard, 65536)} before many workers"
    )


def _gpu() -> Finding:
    program = shutil.which("nvidia-smi")
    if program is None:
        return Finding(
            subject="GPU", state=Severity.NOTE, found="none that nvidia-smi knows", remedy="recipes that end in _cpu need none"
        )
    asked = [program, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(asked, capture_output=True, text=True, errors="replace", check=False, timeout=_GPU_S)
    except subprocess.TimeoutExpired:
        found = f"nvidia-smi has not answered within {_GPU_S:g} s"
        return Finding(subject="GPU", state=Severity.BAD, found=found, remedy="restart the driver, or hide the GPU")
    lines = [line.strip() for line in answer.stdout.splitlines() if line.strip()]
    if answer.returncode or not lines:
        said = " ".join((answer.stderr or answer.stdout).split())[:200]
        return Finding(
            subject="GPU", state=Severity.BAD, found=f"nvidia-smi failed: {said}", remedy="mend the driver, or hide the GPU"
        )
    return Finding(subject="GPU", state=Severity.GOOD, found="; ".join(lines))


def _disk(folder: Path) -> Finding:
    there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    usage = shutil.disk_usage(there)
    found = f"{_size(usage.free)} free for runs in {there}"
    if not os.access(there, os.W_OK):
        return Finding(
            subject="disk", state=Severity.BAD, found=f"{there} cannot be written", remedy="choose another folder with --out"
        )
    if usage.free < _DISK_BYTES:
        return Finding(
            subject="disk", state=Severity.BAD, found=found, remedy="free some: a run keeps its ring, up to 1 GiB, twice"
        )
    return Finding(subject="disk", state=Severity.GOOD, found=found)


def _clock() -> Finding:
    """Asks the kernel whether its clock is synchronised; an unsynchronised clock may still be right."""
    buffer = ctypes.create_string_buffer(256)  # struct timex, all zero: query only
    state = ctypes.CDLL(None, use_errno=True).adjtimex(buffer)
    if state == _TIME_ERROR:
        remedy = "run chrony or systemd-timesyncd on every node of a cluster; one machine needs none"
        return Finding(subject="clock", state=Severity.NOTE, found="nobody keeps it synchronised, says the kernel", remedy=remedy)
    if state < 0:
        return Finding(subject="clock", state=Severity.NOTE, found="the kernel does not say whether it is synchronised")
    return Finding(subject="clock", state=Severity.GOOD, found="synchronised, says the kernel")


def _no_cluster_asked() -> Iterator[Finding]:
    yield Finding(subject="Ray", state=Severity.GOOD, found="runs start it on this machine; --address asks for a cluster")


def _cluster(address: str) -> Iterator[Finding]:
    """Checks a cluster; tells apart no cluster, one that refuses this process, and one whose nodes differ."""
    try:
        seen: Visit = call(visit, address)
    except NoCluster as error:
        yield Finding(subject="Ray", state=Severity.BAD, found=str(error), remedy="ray start --head, or another --address")
        return
    except Refused as error:
        remedy = "set RAY_AUTH_MODE=token and the cluster's RAY_AUTH_TOKEN here; install the cluster's version of Ray"
        yield Finding(subject="Ray", state=Severity.BAD, found=str(error), remedy=remedy)
        return
    except EmbodiChainError as error:
        yield Finding(subject="Ray", state=Severity.BAD, found=str(error), remedy="look at the cluster's logs with `ray logs`")
        return
    cores = sum(node.cores for node in seen.nodes)
    found = f"{len(seen.nodes)} nodes with {cores:g} cores at {address}"
    yield Finding(subject="Ray", state=Severity.GOOD, found=found)
    versions = {node.embodichain for node in seen.nodes} | {__version__}
    if len(versions) > 1:
        listed = ", ".join(f"{node.name}: {node.embodichain}" for node in seen.nodes)
        yield Finding(
            subject="nodes", state=Severity.BAD, found=f"versions differ: {listed}, here {__version__}", remedy="install one"
        )
    worst = max((abs(node.clock_s) - node.doubt_s for node in seen.nodes), default=0.0)
    state = Severity.BAD if worst > _CLOCK_S else Severity.GOOD
    remedy = "run chrony on every node: ages of trajectories are differences of their clocks" if state is Severity.BAD else ""
    told = ", ".join(f"{node.name} {node.clock_s:+.2f} s" for node in seen.nodes)
    yield Finding(subject="clocks", state=state, found=told, remedy=remedy)
    small = [f"{node.name} has {_size(node.shm_free_bytes)}" for node in seen.nodes if node.shm_free_bytes < _SHM_BYTES]
    if small:
        remedy = "only the ring's node needs more; Ray's own store lies there too"
        yield Finding(subject="shared memory of nodes", state=Severity.NOTE, found=", ".join(small), remedy=remedy)


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
