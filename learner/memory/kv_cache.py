"""An immutable key-value cache for causal models; entries are added and evicted as a whole.

An entry is one step of the causal order, numbered by `id`. Predicted entries are marked, so that a real observation replaces them.
Every change makes a new cache that shares tensors with the old one, so that forking a cache costs nothing.

Shapes: B batch, H heads, n tokens of an entry, d width of a head.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

import torch

from learner.backbone.layers import KeyValue


class Kind(StrEnum):
    """Whether an entry was observed or predicted."""

    REAL = "real"
    PREDICTED = "predicted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One step of the causal order: its keys and values of every block, each [B, 1, H, n, d]."""

    id: int
    kind: Kind
    kept: tuple[KeyValue, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes of its tensors."""
        return sum(x.numel() * x.element_size() for block in self.kept for x in block)


@dataclass(frozen=True, slots=True, kw_only=True)
class KvMemory:
    """Entries in order of their ids; a query with id i attends to entries with i - window <= id."""

    window: int
    entries: tuple[Entry, ...] = ()

    def append(self, *entries: Entry) -> KvMemory:
        """The cache with `entries` added at the end."""
        return replace(self, entries=(*self.entries, *entries))

    def without(self, kind: Kind) -> KvMemory:
        """The cache without all entries of one kind."""
        return replace(self, entries=tuple(entry for entry in self.entries if entry.kind is not kind))

    def evict(self, now: int) -> KvMemory:
        """The cache without the entries that no query with id `now` or later attends to: those with id < now - window."""
        return replace(self, entries=tuple(entry for entry in self.entries if entry.id >= now - self.window))

    def seen(self, now: int) -> tuple[KeyValue | None, ...] | None:
        """Concatenated keys and values, for each block, that a query with id `now` attends to; None if there are none."""
        # Entries after the window's start only: `evict` may not have run for this `now` yet.
        mine = [entry.kept for entry in self.entries if now - self.window <= entry.id]
        if not mine:
            return None
        return tuple(
            # Entries hold their steps apart so that old ones can be evicted; attention needs one sequence of keys.
            KeyValue(torch.cat([kv.keys for kv in block], dim=-2), torch.cat([kv.values for kv in block], dim=-2))
            for block in zip(*mine, strict=True)
        )

    @property
    def size_bytes(self) -> int:
        """Bytes of all tensors: constant once the window is full."""
        return sum(entry.size_bytes for entry in self.entries)
