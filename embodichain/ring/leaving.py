"""How an attachment ends although a signal handler may interrupt it: every step is made, and the locks fall in any case."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from embodichain.ring import custody, futex, layout
from embodichain.ring.locks import Hold, Witness
from embodichain.ring.words import ROW


class Leaving:
    """Ends one attachment when called: by `close`, when the attachment is dropped, or when the interpreter exits.

    An exception of a signal handler (Ctrl-C) may come between any two steps. As every step may be repeated, all of them are then
    made once more, and further calls make up for what is still missing. In a forked child it does nothing.

    Args:
        give_back: Gives back all slots and the row, which is still locked; the owner also ends the ring. May be repeated.
        row: The lock of the participant's row.
        owner: The owner's lock, if this is the owner.
        witness: The witness of this attachment.
    """

    def __init__(self, give_back: Callable[[], None], row: Hold, owner: Hold | None, witness: Witness) -> None:
        self._give_back = give_back
        self._row, self._owner, self._witness = row, owner, witness
        self._pid = os.getpid()
        self._running = False

    def __call__(self) -> None:
        """Leaves. Does nothing in a signal handler that comes during another call, which then goes on."""
        if self._running or os.getpid() != self._pid:
            return
        self._running = True
        try:
            self._leave()
        except BaseException:
            try:
                self._leave()
            finally:
                self._unlock()  # whatever has failed: others must not wait for this attachment
            raise
        finally:
            self._running = False

    def keep(self) -> None:
        """From now on, only the death of this process drops the locks."""
        self._row.keep()
        if self._owner is not None:
            self._owner.keep()

    def _leave(self) -> None:
        # Without the lock, the row may belong to another attachment of this process, which has the same identity. It falls first.
        if self._row.held:
            self._give_back()
        self._unlock()

    def _unlock(self) -> None:
        self._row.release()
        if self._owner is not None:
            self._owner.release()
        self._witness.close()


def give_back(
    context: NDArray[np.int64], memory: NDArray[np.uint8], identity: int, reaper: int, owner: Hold | None, witness: Witness
) -> None:
    """Gives back all slots and the row of an attachment; the owner also ends the ring. Wakes all who wait. May be repeated."""
    base = memory.ctypes.data
    if owner is not None:
        witness.unlink()
        custody.close(base)
    custody.reap(context, int(context[ROW]), identity, reaper)
    custody.announce(context)
    futex.wake(base + layout.AT_READY_EVENT)
    futex.wake(base + layout.AT_FREE_EVENT)
