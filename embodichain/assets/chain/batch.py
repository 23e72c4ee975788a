"""Builds many assets in a few supervised processes; an asset that is refused, crashes or hangs costs only itself."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from embodichain.assets.chain import finished, jobs
from embodichain.assets.chain.jobs import Job
from embodichain.assets.chain.settings import ChainConfig
from embodichain.assets.chain.starved import starved_s
from embodichain.errors import AssetError, ConfigError, EmbodiChainError
from embodichain.processes import Child

Listener = Callable[["JobOutcome"], None]
"""Called whenever the state of a job changes."""
_LATE = "build: not finished after {:.0f} s, without what it waited for a core; given up"


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchConfig:
    """How a batch is run: number of processes (0: one per core, at most 4), which finished assets are kept, and the time limit."""

    jobs: int = 0
    resume: bool = True
    """Whether to keep finished assets whose content hash is the one that this batch would give them."""
    timeout_s: float = 900.0
    """Longest time for one asset [s], without what its process waits for a core, so that a busy machine refuses no file."""

    def __post_init__(self) -> None:
        if self.jobs < 0:
            raise ConfigError(f"jobs must be 0 (one per core) or more, got {self.jobs}")
        if not self.timeout_s > 0.0:
            raise ConfigError(f"the time limit of an asset must be positive, got {self.timeout_s} s")

    def processes(self, wanted: int) -> int:
        """Number of processes for `wanted` assets."""
        return max(1, min(self.jobs or min(4, len(os.sched_getaffinity(0))), wanted))


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOutcome:
    """State of a job: "waiting", "kept" (finished before), "building", "built" or "failed"; and the seconds it took."""

    name: str
    category: str
    state: str = "waiting"
    stage: str = ""
    file: Path = Path()
    reason: str = ""
    seconds: float = 0.0
    stages: tuple[Mapping[str, Any], ...] = field(default_factory=tuple)


def plan(wanted: Sequence[Job], out_dir: Path, config: BatchConfig, chain: ChainConfig | None = None) -> tuple[JobOutcome, ...]:
    """Returns what a batch would do, without doing it: "kept", "waiting" or "failed" for each job, in order."""
    chain = chain or ChainConfig()
    outcomes = []
    for job in jobs.unique(wanted):
        try:
            file = jobs.file_of(job, out_dir)
            kept = config.resume and finished.unharmed(file, jobs.key(job, chain))
            outcomes.append(JobOutcome(name=job.name, category=job.category, state="kept" if kept else "waiting", file=file))
        except EmbodiChainError as error:  # its source does not exist, or the facts given about it contradict each other
            outcomes.append(JobOutcome(name=job.name, category="", state="failed", reason=str(error)))
    return tuple(outcomes)


def run(
    wanted: Sequence[Job],
    out_dir: Path,
    config: BatchConfig | None = None,
    chain: ChainConfig | None = None,
    listener: Listener | None = None,
) -> tuple[JobOutcome, ...]:
    """Builds the jobs under `out_dir` and returns the outcome of each, in order. The failure of a single job does not raise.

    Raises:
        AssetError: `out_dir` cannot be written.
        ConfigError: two jobs make assets of the same name.
    """
    config, chain = config or BatchConfig(), chain or ChainConfig()
    check_writable(out_dir)
    wanted = jobs.unique(wanted)
    outcomes = list(plan(wanted, out_dir, config, chain))

    def become(index: int, **changes: Any) -> None:
        outcomes[index] = replace(outcomes[index], **changes)
        if listener:
            listener(outcomes[index])

    waiting = []
    for index, outcome in enumerate(outcomes):
        if outcome.state != "waiting":
            become(index)
        else:
            waiting.append(index)
    waiting.reverse()
    crew = [_Builder() for _ in range(config.processes(len(waiting)))] if waiting else []
    try:
        while waiting or any(builder.index is not None for builder in crew):
            for builder in crew:
                if builder.index is None and waiting:
                    index = waiting.pop()
                    become(index, state="building", stage="start")
                    builder.give(index, (wanted[index], out_dir, chain))
            for builder in _ready(crew, config.timeout_s):
                builder.listen(become, config.timeout_s)
    finally:
        for builder in crew:
            builder.end()
    return tuple(outcomes)


def check_writable(out_dir: Path) -> None:
    """Raises AssetError when nothing can be written into `out_dir`: before an hour's work instead of after it."""
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out_dir):
            pass
    except OSError as error:
        raise AssetError(f"deliver: cannot write into {out_dir}: {error.strerror}; choose a writable folder") from error


class _Builder:
    """A build process and its present task; replaced by a new process when it dies or exceeds its time."""

    process: Child
    pipe: Connection

    def __init__(self) -> None:
        self.index: int | None = None
        self._begun = 0.0
        self._start()

    def _start(self) -> None:
        self.process = Child("embodichain.assets.chain.worker:serve")  # the process imports what builds assets; this one need not
        self.pipe = self.process.pipe

    def give(self, index: int, task: tuple[Job, Path, ChainConfig]) -> None:
        self.index, self._begun = index, self._clock()
        try:
            self.pipe.send(task)
        except BrokenPipeError:
            return  # the process died while idle: `listen` notices and reports that

    @property
    def spent_s(self) -> float:
        """Time spent on the present task [s], without the time in which the process waited for a core."""
        return self._clock() - self._begun

    def _clock(self) -> float:
        return time.monotonic() - starved_s(self.process.pid)

    def listen(self, become: Callable[..., None], timeout_s: float) -> None:
        """Receives one message, or notices that the process ended or ran out of time."""
        index = self.index
        assert index is not None
        seconds = round(self.spent_s, 3)
        try:
            kind, *rest = self.pipe.recv() if self.pipe.poll() else ("silent",)
        except (EOFError, ConnectionResetError):
            self.process.join()
            code = self.process.exitcode
            self._replace()
            cause = f"killed by signal {-code}, out of memory perhaps" if code and code < 0 else f"exit code {code}"
            become(index, state="failed", seconds=seconds, reason=f"build: its process died ({cause})")
            return
        if kind in ("silent", "stage"):
            if seconds >= timeout_s:  # also when it tells of a new stage again and again
                self._replace()
                become(index, state="failed", seconds=seconds, reason=_LATE.format(timeout_s))
            elif kind == "stage":
                stage, part = rest
                become(index, stage=f"{stage} {part}".strip())
            return
        result, seconds, entries = rest
        self.index = None
        result = {"file": Path(result)} if kind == "built" else {"reason": result}
        become(index, state=kind, stage="", seconds=seconds, stages=tuple(entries), **result)

    def _replace(self) -> None:
        self.index = None
        self.end()
        self._start()

    def end(self) -> None:
        """Stops the process. An idle one ends by itself when its pipe closes."""
        self.pipe.close()
        if self.index is not None or self.process.exitcode is None:
            self.process.join(0.2)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()


def _ready(crew: Sequence[_Builder], timeout_s: float) -> list[_Builder]:
    """The busy builders that sent a message, ended, or ran out of time; blocks until there is one, at most a second."""
    busy = {builder.pipe: builder for builder in crew if builder.index is not None}
    spoken = wait(list(busy), timeout=1.0)
    late = [builder for builder in busy.values() if builder.spent_s >= timeout_s]
    return list(dict.fromkeys([busy[pipe] for pipe in spoken if isinstance(pipe, Connection)] + late))
