"""The part of a ring on a device that stays in host memory: words, participants, statistics, and what the host decides by."""

from __future__ import annotations

from collections.abc import Callable

from embodichain.ring.participants import Health
from embodichain.ring.ring import Ring


class ControlRing(Ring):
    """The words, participants and scalars of a ring on a device; poisons on the device too, in debug mode."""

    reads_notes = True
    poison_payload: Callable[[int], None] | None = None

    def _poison(self, slot: int) -> None:
        Ring._poison(self, slot)
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
        self._member._finalizer.detach()
