"""The location of a ring on a cluster."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import ray

from embodichain.errors import RingError
from embodichain.ring.contract import AnyRing
from embodichain.ring.host import journal_path
from embodichain.ring.layout import AT_GENERATION
from embodichain.ring.stats import Observer


@dataclass(frozen=True, slots=True, kw_only=True)
class RingHome:
    """A ring and the Ray node that it is on."""

    path: Path
    generation: int
    node: str
    journal: Path
    """The gateway's journal, on the same node. Stale journals are removed when the next ring is created there."""

    @classmethod
    def of(cls, ring: AnyRing) -> RingHome:
        """The location of a ring on this process's node."""
        node = ray.get_runtime_context().get_node_id()
        generation = Observer.open(ring.path).header(AT_GENERATION)
        return cls(path=ring.path, generation=generation, node=node, journal=journal_path(ring.path))

    def is_here(self) -> bool:
        """Whether this process is on the ring's node and can see its file."""
        if ray.get_runtime_context().get_node_id() != self.node:
            return False
        try:
            return Observer.open(self.path).header(AT_GENERATION) == self.generation
        except RingError:
            return False
