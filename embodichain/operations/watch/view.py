"""The data of a run for the page, from its folder and, while it is running, from its ring. Only reads."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import platform
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from embodichain.errors import RunError
from embodichain.lines import json_lines
from embodichain.operations.watch import ring_view
from embodichain.operations.watch.records import Records
from embodichain.operations.watch.ring_view import RingView
from embodichain.ring.stats import Observer
from embodichain.ring.waiting import Waiting
from embodichain.types import LOCK_FILE, RING_FILE

_POINTS = 160
"""Most points of a curve on the page."""
_RECENT = 50
"""Number of steps over which present values are averaged."""
_STREAM_RECENT = 5
"""Number of stream records, two seconds apart, over which waiting times are computed."""
_MEASURED = "held_out"
_FRESH_S = 60.0
"""How old the last step of a run on another machine may be for it to count as streaming [s]."""


class RunView:
    """One run folder. For any thread."""

    def __init__(self, path: Path, name: str = "") -> None:
        """`name` is what the page calls the run, by default as its folder. Raises RunError for what is no run folder."""
        self.path = path
        self.name = name or path.resolve().name
        self.config = _config(path / "config.yaml")
        self._records = [Records(path / "metrics.jsonl")]
        self._ring = RingView()
        self._lock = threading.Lock()

    @property
    def num_rings(self) -> int:
        """How many learner nodes the run has, each of which has a ring of its own."""
        return int(self.config["train"].get("nodes", 1))

    @property
    def _session(self) -> dict[str, Any]:
        """The note of the process that worked on the run last; empty before the first."""
        return next((note for note in reversed(json_lines(self.path / "sessions.jsonl")) if "pid" in note), {})

    @property
    def pid(self) -> int:
        """The process that worked on the run last; 0 before the first."""
        return int(self._session.get("pid", 0))

    @property
    def _alive(self) -> bool:
        """Whether a process of this machine works on the run: the number of one that has died may be another's by now."""
        pid = self.pid
        return bool(pid) and _lives(pid) and (self.holds_folder(pid) or not os.access(self.path / LOCK_FILE, os.R_OK))

    def _observer(self) -> Observer | None:
        """The run's ring, or the first of its rings that is on this machine; None if there is none."""
        notes = sorted(self.path.glob(RING_FILE.replace(".", "*.")))
        named = [Path(text) for note in notes if (text := _text(note).strip())]
        return self._ring.of(self.pid if self._alive else 0, named)

    def holds_folder(self, pid: int) -> bool:
        """Whether the process `pid` works on this run now: only it can hold the lock of the folder."""
        try:
            descriptor = os.open(self.path / LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            if os.pread(descriptor, 32, 0) != f"pid {pid}".encode():
                return False  # checked before the lock is tried, so that a run that begins now never finds it taken by us
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        finally:
            os.close(descriptor)
        return False

    @property
    def summary(self) -> dict[str, Any]:
        """The summary of the run; empty before it has ended for the first time, and where it cannot be read."""
        try:
            found = json.loads(_text(self.path / "summary.json") or "{}")
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def snapshot(self) -> dict[str, Any]:
        """Everything that the page shows of this run, as JSON values."""
        with self._lock:
            return self._snapshot()

    def _snapshot(self) -> dict[str, Any]:
        further = [self.path / f"metrics-{number}.jsonl" for number in range(len(self._records), self.num_rings)]
        self._records += map(Records, further)
        for records in self._records:
            records.read_on()
        first, last = self._records[0], [records.last("stream") for records in self._records]
        summary, alive, observer = self.summary, self._alive, self._observer()
        train, stream = first.of("train"), first.of("stream")
        step = int(first.last("train").get("step", 0))
        written_s = time.time() - float(first.last("train").get("time", 0.0))
        # Of a run elsewhere, and of one whose rings are elsewhere, there is nothing to see but what it writes.
        far = self.num_rings > 1 if alive else self._session.get("host", platform.node()) != platform.node()
        streams = observer is not None or (far and written_s < _FRESH_S)
        state = self._state(summary, alive=alive, streams=streams, step=step)
        deaths = Counter[str]()
        for one in last:
            deaths.update(one.get("deaths", {}))
        return {
            "name": self.name,
            "recipe": str(self.config.get("recipe", "")),
            "state": state,
            "pid": self.pid,
            "rings": self.num_rings,
            "note": _note(self.num_rings),
            "step": step,
            "steps": int(self.config["train"]["steps"]),
            "elapsed_s": round(train[-1]["time"] - train[0]["time"], 1) if len(train) > 1 else 0.0,
            "published": sum(int(one.get("published", 0)) for one in last),
            "samples_per_s": _recent(train, "samples_per_s"),
            "trajectories_per_s": _rate(stream, "published"),
            "experience": {
                "now": _recent(train, "experience_new_pairs"),
                "target": float(self.config.get("stream", {}).get("target_pairs", 0.0)) or None,
                "curve": _curve(train, "step", "experience_new_pairs", smooth=True),
            },
            "waiting": _waiting(stream),
            "histogram": self._histogram(summary, observer),
            "ring": ring_view.slots(observer) if observer is not None else None,
            "people": ring_view.participants(observer) if observer is not None else [],
            "deaths": dict(deaths) if any(last) else summary.get("deaths", {}),
            "losses": _losses(train),
            "held_out": _curve(first.of(_MEASURED), "step", "loss_action"),
            "age": {"now": _recent(train, "experience_age_s"), "curve": _curve(train, "step", "experience_age_s", smooth=True)},
            "reads": _recent(train, "experience_reads"),
            "success": summary.get("evaluation", []) or first.of("evaluate"),
            "pictures": sorted(path.name for path in (self.path / "frames").glob("*.png")),
            "live_picture": observer is not None and any(field.name == "rgb" for field in observer.spec.trajectory.fields),
        }

    def live_picture(self) -> bytes | None:
        """A PNG of the latest trajectory; None if there is no ring with pictures."""
        with self._lock:
            observer = self._observer()
            return ring_view.newest_picture(observer) if observer is not None else None

    def picture(self, name: str) -> bytes | None:
        """A picture from the folder `frames` by its file name; None if there is none of that name."""
        known = {path.name: path for path in (self.path / "frames").glob("*.png")}
        return known[name].read_bytes() if name in known else None

    @property
    def ring_path(self) -> Path | None:
        """The ring's file while the run is running."""
        from embodichain.ring import host

        pid = self.pid
        return next((path for path in host.rings() if path.name.startswith(f"{host.PREFIX}{pid}-")), None) if pid else None

    def _state(self, summary: Mapping[str, Any], *, alive: bool, streams: bool, step: int) -> str:
        if streams:
            return "streaming" if step else "filling the ring"
        if summary and not summary.get("interrupted") and summary.get("steps", 0) >= step:
            return "ended"
        if alive:
            return "evaluating" if step else "starting"
        return "interrupted" if summary else "killed" if step else "not begun"

    def _histogram(self, summary: Mapping[str, Any], observer: Any) -> dict[str, Any]:
        """Histogram of reads: of all trajectories after the run, before that of those in the ring; and the number used up."""
        bound = int(self.config["ring"]["max_reads"])
        if observer is None:
            rows = {int(reads): int(count) for reads, count in summary.get("reads_histogram", {}).items()}
            return {"bound": bound, "rows": sorted(rows.items()), "used_up": rows.get(bound, 0), "of": "all trajectories"}
        stats = observer.stats()
        rows = ring_view.reads_now(observer)
        return {
            "bound": stats.max_reads,
            "rows": sorted(rows.items()),
            "used_up": stats.retired,
            "of": "trajectories in the ring now",
        }


def told_apart(paths: Sequence[Path]) -> list[str]:
    """A name for each of several folders: as many of the last words of their paths as tell them apart."""
    for words in itertools.count(1):
        names = ["/".join(path.parts[-words:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    raise AssertionError("paths differ somewhere")


def _config(path: Path) -> dict[str, Any]:
    """What a run is configured as; raises RunError for what is no run's."""
    if not path.exists():
        raise RunError(f"{path.parent} is not a run folder: it has no config.yaml")
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise RunError(f"cannot read {path}: {error}") from error
    if not isinstance(config, dict) or not all(isinstance(config.get(part), dict) for part in ("train", "ring")):
        raise RunError(f"{path.parent} is not a run folder: its config.yaml is of something else, such as an evaluation")
    return config


def _text(path: Path) -> str:
    """The content of a file; empty where there is none, as when its folder is removed meanwhile."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _note(num_rings: int) -> str:
    """What is to be known of the figures of a run with several rings."""
    if num_rings == 1:
        return ""
    return (
        f"The run has {num_rings} rings, on as many learner nodes: trajectories published and workers lost are those of all, "
        "everything else is of the first, and the map of one that is on this machine."
    )


def _lives(pid: int) -> bool:
    """Whether this process exists here; runs on other machines or in other containers are watched through their files only."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _recent(records: Sequence[Mapping[str, Any]], name: str) -> float | None:
    values = [float(record[name]) for record in records[-_RECENT:] if name in record]
    return round(sum(values) / len(values), 3) if values else None


def _rate(records: Sequence[Mapping[str, Any]], name: str) -> float | None:
    """Rate per second over the last records."""
    if len(records) < 2:
        return None
    first, last = records[max(0, len(records) - 1 - _STREAM_RECENT)], records[-1]
    seconds = last["time"] - first["time"]
    return round(max(0.0, last[name] - first[name]) / seconds, 3) if seconds > 0 else None


def _waiting(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Waiting times at present, over the whole run, and over time."""
    curve = [Waiting.between(a, b) for a, b in itertools.pairwise(records)]
    if not curve:
        return {"workers": None, "learner": None, "side": "nobody", "advice": "not known yet", "curve": []}
    now = Waiting.between(records[max(0, len(records) - 1 - _STREAM_RECENT)], records[-1])
    points = [(records[i + 1]["step"], round(w.workers, 3), round(w.learner, 3)) for i, w in enumerate(curve)]
    return {
        "workers": round(now.workers, 3),
        "learner": round(now.learner, 3),
        "side": now.side.value,
        "advice": now.advice,
        "curve": _thin(points),
    }


def _losses(train: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The parts of the loss by name, or the total loss if it has none."""
    if not train:
        return {}
    names = [name for name in train[-1] if name.startswith("loss_")] or ["loss"]
    return {name: _curve(train, "step", name, smooth=True) for name in names}


def _curve(records: Sequence[Mapping[str, Any]], x: str, y: str, *, smooth: bool = False) -> list[tuple[float, float]]:
    points = [(float(record[x]), float(record[y])) for record in records if x in record and y in record]
    if smooth and len(points) > _POINTS:
        size = len(points) / _POINTS
        parts = [points[int(i * size) : max(int(i * size) + 1, int((i + 1) * size))] for i in range(_POINTS)]
        return [(part[-1][0], round(sum(value for _, value in part) / len(part), 6)) for part in parts]
    return _thin([(a, round(b, 6)) for a, b in points])


def _thin(points: list[Any]) -> list[Any]:
    """Thins points to at most `_POINTS`, including the last."""
    every = -(-len(points) // _POINTS) or 1
    return points[::every] + ([points[-1]] if points and (len(points) - 1) % every else [])
