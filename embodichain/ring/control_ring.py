"""The part of a ring on a device that stays in host memory: words, participants, statistics, and what the host decides by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from numpy.typing import NDArray

from embodichain.ring import snapshot
from embodichain.ring.participants import Health
from embodichain.ring.ring import Ring
from embodichain.types import RingSpec


class ControlRing(Ring):
    """The words, participants and scalars of a ring on a device; poisons on the device too, in debug mode."""

    reads_notes = True
    poison_payload: Callable[[int], None] | None = None

    def _poison(self, slot: int) -> None:
        super()._poison(slot)
        if self.poison_payload is not None:
            self.poison_payload(slot)

    @property
    def note(self) -> bytes:
        """The header's note about the payload."""
        return self._member.observer.note

    def header(self, at: int) -> int:
        """One cell of the header."""
        return self._member.observer.header(at)

    def others(self) -> list[int]:
        """Process ids of living participants."""
        return [view.identity.pid for view in self._member.observer.participants() if view.health is not Health.DEAD]

    def keep_row(self) -> None:
        """Keeps what this attachment holds out of use until its process is provably dead."""
        self._member.keep_row()

    @property
    def row(self) -> int:
        """Row of this attachment in the participants table."""
        return self._member.row

    def writable(self, slot: int) -> Mapping[str, NDArray]:
        """Writable views of a slot that this attachment has claimed."""
        return self._layout.views(self._memory, slot, writable=True)

    def save(self, path: Path, spec: RingSpec, read: snapshot.Read) -> int:
        """Writes a snapshot of the ring that `spec` describes, payloads given by `read`; returns the number of trajectories."""
        return snapshot.save(self._member, spec, path, read)

    def load(self, path: Path, index: snapshot.Index, write: snapshot.Write) -> None:
        """Fills this empty ring from a snapshot, payloads taken by `write`."""
        snapshot.load(self._member, self._header, path, index, write)
