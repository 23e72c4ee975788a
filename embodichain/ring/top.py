"""A live view of a ring in the terminal: holders of slots, rates, and which side waits. Only reads the ring's memory."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from embodichain.ring.budget import SlotState, SlotWord
from embodichain.ring.contract import Holder, RingStats
from embodichain.ring.layout import WAITING_READER, WAITING_WRITER
from embodichain.ring.stats import Observer
from embodichain.types import ReplayMode

_SHADES = " ▁▂▃▄▅▆▇█"
_MAP_SLOTS = 1024
"""With more slots than this, several slots share a cell of the map."""
_WAITS = {WAITING_READER: "waits for trajectories", WAITING_WRITER: "waits for a slot"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RingRates:
    """Rates per second between two readings of the statistics."""

    published: float = 0.0
    acquired: float = 0.0
    retired: float = 0.0
    blocked_writer: float = 0.0
    blocked_reader: float = 0.0

    @classmethod
    def between(cls, before: RingStats, after: RingStats, seconds: float) -> RingRates:
        """Rates from two readings `seconds` apart; waiting is a share of one process's time."""
        seconds = max(seconds, 1e-9)
        return cls(
            published=(after.published - before.published) / seconds,
            acquired=(after.acquired - before.acquired) / seconds,
            retired=(after.retired - before.retired) / seconds,
            blocked_writer=(after.blocked_writer_s - before.blocked_writer_s) / seconds,
            blocked_reader=(after.blocked_reader_s - before.blocked_reader_s) / seconds,
        )


def top(path: Path | str, *, interval_s: float = 0.5, console: Console | None = None, frames: int | None = None) -> None:
    """Shows the ring at `path` until it ends, Ctrl-C, or `frames` updates; raises RingError when there is no ring."""
    observer = Observer.open(path)
    before, at = observer.stats(), time.monotonic()
    rates, shown = RingRates(), 0
    with Live(render(observer, before, rates, Path(path)), console=console, refresh_per_second=8, transient=False) as live:
        try:
            while not before.closed and (frames is None or shown < frames):
                time.sleep(interval_s)
                now, after = time.monotonic(), observer.stats()
                rates = RingRates.between(before, after, now - at)
                before, at, shown = after, now, shown + 1
                live.update(render(observer, after, rates, Path(path)), refresh=True)
        except KeyboardInterrupt:
            pass


def render(observer: Observer, stats: RingStats, rates: RingRates, path: Path) -> RenderableType:
    """One frame: a line of totals, the slot map, rates, participants."""
    size = observer.layout.total_bytes / 2**30
    title = f"{path.name}  {stats.num_slots} slots, {size:.2f} GiB, K = {stats.max_reads}{_rule(observer)}"
    parts: list[RenderableType] = [
        _totals(stats),
        _slot_map(observer, stats.max_reads),
        _rates(stats, rates),
        _people(observer, stats),
    ]
    if stats.closed:
        parts.append(Text("the owner has closed this ring or died", style="bold red"))
    return Panel(Group(*parts), title=title, expand=False)


def _rule(observer: Observer) -> str:
    if observer.spec.mode is ReplayMode.AGGREGATE:
        return f" x {observer.layout.num_slots} reads a refill"
    return f", {observer.spec.full_policy} when full"


def _totals(stats: RingStats) -> Text:
    line = Text()
    for label, value, style in (
        ("ready", stats.ready, "green"),
        ("held", stats.held, "cyan"),
        ("writing", stats.writing, "yellow"),
        ("free", stats.free, "dim"),
        ("quarantined", stats.quarantined, "bold magenta" if stats.quarantined else "dim"),
        ("over-reads", stats.over_reads, "bold red" if stats.over_reads else "dim"),
        ("reaped", stats.reaped, "magenta" if stats.reaped else "dim"),
    ):
        line.append(f"{label} {value}   ", style=style)
    if stats.refill_left:
        line.append(f"to refill {stats.refill_left}   ", style="yellow")
    line.append(f"reads left {stats.reads_left}   oldest {stats.oldest_s:.1f} s")
    return line


def _slot_map(observer: Observer, max_reads: int) -> Text:
    """One character a slot: height is the share of reads left; green ready, cyan held, yellow being written."""
    words = observer.words()[:: -(-observer.layout.num_slots // _MAP_SLOTS)]
    width = min(64, max(8, int(np.ceil(np.sqrt(len(words)) * 2))))
    text = Text()
    for index, packed in enumerate(words.tolist()):
        if index and index % width == 0:
            text.append("\n")
        word = SlotWord.unpack(packed)
        if word.state is SlotState.FREE:
            text.append("·", style="dim")
        elif word.state is SlotState.WRITING:
            text.append("w", style="yellow")
        else:
            level = min(8, 1 + 7 * word.remaining // max_reads) if word.remaining else 0
            text.append(_SHADES[level] if level else "○", style="cyan" if word.holders else "green")
    return text


def _rates(stats: RingStats, rates: RingRates) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("", "per second", "total"):
        table.add_column(name, justify="right" if name else "left")
    table.add_row("published", f"{rates.published:,.1f}", f"{stats.published:,}")
    table.add_row("acquired", f"{rates.acquired:,.1f}", f"{stats.acquired:,}")
    table.add_row("retired", f"{rates.retired:,.1f}", f"{stats.retired:,}")
    side = "writers" if rates.blocked_writer > rates.blocked_reader else "readers"
    worst = max(rates.blocked_writer, rates.blocked_reader)
    waiting = f"{side} wait {100 * worst:.0f}% of a process" if worst > 0.01 else "nobody waits"
    table.add_row("blocked", waiting, f"writers {stats.blocked_writer_s:.1f} s, readers {stats.blocked_reader_s:.1f} s")
    return table


def _holding(holder: Holder | None) -> str:
    if holder is None:
        return ""
    return ", ".join(f"{deed} {count}" for deed, count in (("reads", holder.reading), ("writes", holder.writing)) if count)


def _people(observer: Observer, stats: RingStats) -> Table:
    held = {holder.pid: holder for holder in stats.holders}
    table = Table(box=None, pad_edge=False)
    for name in ("id", "pid", "state", "published", "acquired", "holds", "idle", ""):
        table.add_column(name, justify="right" if name not in ("state", "") else "left")
    for view in observer.participants():
        style = {"alive": "", "stopped": "magenta", "dead": "red"}[view.health]
        table.add_row(
            str(view.row),
            str(view.identity.pid),
            Text(f"{view.identity.state.name.lower()}, {view.health}", style=style),
            f"{view.published:,}",
            f"{view.acquired:,}",
            _holding(held.get(view.identity.pid)),
            f"{view.idle_s:.1f} s",
            _WAITS.get(view.waiting, ""),
        )
    return table
