"""A running job's ring for the page: slots, reads, participants, and the latest picture. Only reads the ring."""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from embodichain.errors import RingError
from embodichain.ring import host
from embodichain.ring.budget import SlotState, SlotWord
from embodichain.ring.layout import SLOT_PUBLISHED_NS, WAITING_READER, WAITING_WRITER
from embodichain.ring.stats import Observer
from embodichain.types import ReplayMode

_MAP_SLOTS = 512
"""Most slots shown; with more, only every n-th."""
_LETTERS = {SlotState.FREE: "f", SlotState.WRITING: "w", SlotState.READY: "r"}
_WAITS = {WAITING_READER: "waits for trajectories", WAITING_WRITER: "waits for a slot"}


class RingView:
    """Observes the ring that a process owns. For one thread."""

    def __init__(self) -> None:
        self._observer: Observer | None = None
        self._pid = 0

    def of(self, pid: int, named: Sequence[Path] = ()) -> Observer | None:
        """The ring of process `pid`, or else the first of those `named` that goes on; None if there is none on this machine."""
        if self._observer is None or pid != self._pid or self._observer.ended:
            self._pid = pid
            paths = [path for path in host.rings() if path.name.startswith(f"{host.PREFIX}{pid}-")]
            self._observer = next(filter(None, map(_open, (*paths, *named))), None)
        return self._observer


def _open(path: Path) -> Observer | None:
    """Opens the ring at `path`; None if its owner has closed it, or it is on another machine."""
    try:
        found = Observer.open(path)
    except RingError:
        return None
    return None if found.ended else found


def slots(observer: Observer) -> dict[str, Any]:
    """The state of every slot as a letter (free, writing, ready, held by a reader), and its share of reads left in percent."""
    stats = observer.stats()
    words = [SlotWord.unpack(word) for word in observer.words()[:: -(-stats.num_slots // _MAP_SLOTS)].tolist()]
    bound = max(1, stats.max_reads)
    aggregate = observer.spec.mode is ReplayMode.AGGREGATE
    return {
        "letters": "".join("h" if word.holders and word.state is SlotState.READY else _LETTERS[word.state] for word in words),
        "left": [100 if aggregate else min(100, round(100 * word.remaining / bound)) for word in words],
        "ready": stats.ready,
        "writing": stats.writing,
        "free": stats.free,
        "held": stats.held,
        "num_slots": stats.num_slots,
        "published": stats.published,
        "acquired": stats.acquired,
        "retired": stats.retired,
        "quarantined": stats.quarantined,
        "over_reads": stats.over_reads,
        "oldest_s": round(stats.oldest_s, 1),
        "blocked_writer_s": stats.blocked_writer_s,
        "blocked_reader_s": stats.blocked_reader_s,
        "gib": round(observer.layout.total_bytes / 2**30, 3),
    }


def participants(observer: Observer) -> list[dict[str, Any]]:
    """All participants of the ring, with their counters and what they wait for."""
    return [
        {
            "row": view.row,
            "pid": view.identity.pid,
            "state": f"{view.identity.state.name.lower()}, {view.health}",
            "published": view.published,
            "acquired": view.acquired,
            "idle_s": round(view.idle_s, 1),
            "waits": _WAITS.get(view.waiting, ""),
        }
        for view in observer.participants()
    ]


def reads_now(observer: Observer) -> dict[int, int]:
    """Number of reads → number of trajectories in the ring; empty in aggregate mode."""
    if observer.spec.mode is ReplayMode.AGGREGATE:
        return {}
    bound, counts = observer.stats().max_reads, {}
    for word in map(SlotWord.unpack, observer.words().tolist()):
        if word.state is SlotState.READY:
            reads = max(0, bound - word.remaining)
            counts[reads] = counts.get(reads, 0) + 1
    return counts


def newest_picture(observer: Observer) -> bytes | None:
    """A PNG of the first frame of the latest trajectory, all cameras side by side; None if there are no pictures.

    The slot is not held, so the copy is used only if the slot's word and sequence number are the same before and after it.
    """
    names = {field.name for field in observer.spec.trajectory.fields}
    if "rgb" not in names:
        return None
    for _ in range(3):
        ready = np.flatnonzero(observer.words() >> np.uint64(62) == SlotState.READY)
        if not ready.size:
            return None
        slot = int(ready[np.argmax(observer.cells(SLOT_PUBLISHED_NS)[ready])])
        before = SlotWord.unpack(int(observer.words()[slot]))
        views = observer.fields(slot)
        if views is None:
            return None
        picture = np.concatenate(list(np.array(views["rgb"][0])), axis=1)
        after = SlotWord.unpack(int(observer.words()[slot]))
        if (before.version, after.state) == (after.version, SlotState.READY):
            return _png(picture)
        time.sleep(0.01)
    return None


def _png(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()
