"""The folder of a run: everything needed to read, resume and reproduce it."""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from embodichain import __version__
from embodichain.errors import RunError
from embodichain.lines import json_lines
from embodichain.types import LEDGER_FILE, RING_FILE
from learner.records.files import append_line, write_whole

_PACKAGES = (
    "numpy",
    "numba",
    "torch",
    "pytorch-lightning",
    "transformers",
    "mujoco",
    "mujoco-warp",
    "warp-lang",
    "usd-core",
    "ray",
)


EPISODES = "episodes.jsonl"
"""Name of the file in the folder of an evaluation that holds a line for each of its episodes; no run has it."""
MEASURED = "held_out"
"""Kind of the metrics records that contain the loss on held-out episodes."""


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """The paths of the files in a run's folder; made by `create` or `open`."""

    path: Path
    number: int = 0
    """The ring, of those of a run with several, whose files these are: ledger, metrics, lost workers, snapshots."""

    def numbered(self, path: Path) -> Path:
        """The file of this ring that has the name `path` where the ring is the first: "ledger-1.bin" for the second."""
        return path.with_stem(f"{path.stem}-{self.number}") if self.number else path

    @property
    def config(self) -> Path:
        """The resolved configuration, YAML."""
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        """Metrics over the course of the run, one JSON object a line."""
        return self.numbered(self.path / "metrics.jsonl")

    @property
    def ledger(self) -> Path:
        """The ledger: every publication and read of the ring."""
        return self.numbered(self.path / LEDGER_FILE)

    @property
    def checkpoint(self) -> Path:
        """The last checkpoint, from which `--resume` continues."""
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def workers(self) -> Path:
        """Workers that died, with their last output, one JSON object a line."""
        return self.numbered(self.path / "workers.jsonl")

    @property
    def logs(self) -> Path:
        """Output of the learner's loggers, a folder for each."""
        return self.path / "logs"

    @property
    def assets(self) -> Path:
        """The USD assets that the run simulated."""
        return self.path / "assets"

    @property
    def videos(self) -> Path:
        """MP4 files of expert and policy episodes."""
        return self.path / "videos"

    @property
    def ring(self) -> Path:
        """A file that contains the path of the ring, while a process works on the run."""
        return self.numbered(self.path / RING_FILE)

    @property
    def frames(self) -> Path:
        """Strips of frames as the learner saw them."""
        return self.path / "frames"

    @property
    def thumbnails(self) -> Path:
        """Pictures of the assets."""
        return self.path / "thumbnails"

    @property
    def report(self) -> Path:
        """The self-contained report."""
        return self.path / "report.html"

    @property
    def summary(self) -> Path:
        """The figures of the report as JSON."""
        return self.path / "summary.json"

    @classmethod
    def create(cls, path: Path) -> RunFolder:
        """A new folder at `path`; raises RunError when it holds a run already or cannot be written."""
        folder = cls(path=path)
        folder.check_new()
        try:
            folder.checkpoint.parent.mkdir(parents=True, exist_ok=True)
            probe = path / ".writable"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise RunError(f"cannot write the run folder {path}: {error.strerror}; choose another --out") from error
        return folder

    def check_new(self) -> None:
        """Raises RunError when the folder holds a run already."""
        if self.config.exists():
            raise RunError(f"{self.path} holds a run already; resume it with --resume, or choose another --out")

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """The folder of an existing run; raises RunError naming the runs beside it when there is none."""
        folder = cls(path=path)
        if not folder.config.exists():
            beside = sorted(p.parent.name for p in path.parent.glob("*/config.yaml"))
            raise RunError(f"{path} is not a run folder; beside it: {', '.join(beside) or 'none'}")
        if (path / EPISODES).exists():
            raise RunError(f"{path} is the folder of an evaluation, and no run: give the folder of the run that it evaluates")
        return folder

    def read_summary(self) -> dict[str, Any]:
        """The figures of the report; raises RunError when the run has not ended once, or the file is damaged."""
        try:
            found = json.loads(self.summary.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RunError(f"{self.path} has no summary: the run has not ended; go on with it by --resume") from None
        except ValueError as error:
            raise RunError(f"{self.summary} is damaged ({error}): end the run once more, by --resume") from error
        if not isinstance(found, dict):
            raise RunError(f"{self.summary} is damaged: it holds {type(found).__name__}; end the run once more, by --resume")
        return found

    @property
    def sessions(self) -> Path:
        """Two JSON objects for each session: at its begin command, versions and time; at its end the totals."""
        return self.path / "sessions.jsonl"

    def begin_session(self, command: list[str]) -> None:
        """Records that this process has started to work on the run, with its command and versions."""
        here = {"pid": os.getpid(), "host": platform.node()}
        note = {"began": _now(), "command": shlex.join(command), **here, "versions": versions()}
        append_line(self.sessions, json.dumps(note))

    def end_session(self, totals: Mapping[str, Any]) -> None:
        """Records the totals of the session that began last."""
        append_line(self.sessions, json.dumps({"ended": _now(), **totals}))

    def earlier_sessions(self) -> list[dict[str, Any]]:
        """The totals of all sessions that ended; sessions that were killed left none."""
        return [note for note in json_lines(self.sessions) if "ended" in note]

    def write_identity(self, config: dict[str, Any], command: list[str]) -> None:
        """Saves the resolved configuration, the command that made the run, and the versions of relevant packages."""
        if not self.config.exists():
            write_whole(self.path / "command.txt", shlex.join(command) + "\n")
        write_whole(self.path / "versions.json", json.dumps(versions(), indent=1))
        # Written last: a folder counts as a run only once its configuration exists.
        write_whole(self.config, yaml.safe_dump(config, sort_keys=False))

    @property
    def command(self) -> str:
        """The command line that made the run."""
        return (self.path / "command.txt").read_text(encoding="utf-8").strip()


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def versions() -> dict[str, str]:
    """Versions of this package, Python and the packages that affect results, and the name of the processor."""
    found = {"embodichain": __version__, "python": platform.python_version(), "machine": platform.machine()}
    found["cores"] = str(os.cpu_count())
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    found["torch"] = _torch_build() or found["torch"]
    return found


def _torch_build() -> str:
    """Torch's version with its build, as in "2.13.0+cu130", without importing torch; empty if torch is not installed."""
    spec = find_spec("torch")
    file = Path(spec.origin).with_name("version.py") if spec is not None and spec.origin else Path()
    match = re.search(r"__version__ = '([^']+)'", file.read_text(encoding="utf-8")) if file.is_file() else None
    return match[1] if match else ""


def command_line() -> list[str]:
    """The command line of this process, with the short name of the program."""
    return ["embodichain", *sys.argv[1:]]


def fresh(path: Path) -> Path:
    """The first of path, path-2, path-3 ... that holds no run yet."""
    number = 1
    while (candidate := path if number == 1 else path.with_name(f"{path.name}-{number}")).joinpath("config.yaml").exists():
        number += 1
    return candidate
