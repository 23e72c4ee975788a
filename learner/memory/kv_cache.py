"""Keys and values of what a causal model has seen, as an immutable memory: entries are added, replaced and evicted whole.

An entry is one step of the causal order, numbered by `id`. What was predicted is told from what is real, so that an observation can
take its place. Every change makes a new memory that shares its tensors with the old one: a fork is a reference.

Shapes: B batch, H heads, n tokens of an entry, d width of a head.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

import torch

from learner.backbone.layers import KeyValue


class Kind(StrEnum):
    """Where an entry comes from."""

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
    """Entries in order of their ids; a query of id i sees those with i - window <= id."""

    window: int
    entries: tuple[Entry, ...] = ()

    def append(self, *entries: Entry) -> KvMemory:
        """With `entries` at the end."""
        return replace(self, entries=(*self.entries, *entries))

    def without(self, kind: Kind) -> KvMemory:
        """Without all entries of one kind."""
        return replace(self, entries=tuple(entry for entry in self.entries if entry.kind is not kind))

    def evict(self, now: int) -> KvMemory:
        """Without the entries that no query of id `now` or later sees: id < now - window."""
        return replace(self, entries=tuple(entry for entry in self.entries if entry.id >= now - self.window))

    def seen(self, now: int) -> tuple[KeyValue | None, ...] | None:
        """What a query of id `now` sees, per block, concatenated once; None when that is nothing."""
        mine = [entry.kept for entry in self.entries if now - self.window <= entry.id]
        if not mine:
            return None
        return tuple(
            KeyValue(torch.cat([kv.keys for kv in block], dim=-2), torch.cat([kv.values for kv in block], dim=-2))
            for block in zip(*mine, strict=True)
        )

    @property
    def size_bytes(self) -> int:
        """Bytes of all tensors: constant once the window is full."""
        return sum(entry.size_bytes for entry in self.entries)
