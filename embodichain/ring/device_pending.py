"""Publishes and releases that wait until a device has completed the work enqueued before them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embodichain.errors import RingError
from embodichain.ring.placement import Device, Marker

BUSY_SLICE_S = 0.001
"""Longest sleep while own copies or kernels are running [s]; it bounds the delay of operations that wait for them."""
EXIT_S = 30.0
"""How long the interpreter's exit waits for the device [s]; afterwards the slots are reclaimed when the process is dead."""
NEVER = Marker(-1, -1, -1)
"""A marker of no device; querying it raises."""


@dataclass(slots=True, eq=False)
class Pending:
    """An operation on a slot, to be carried out once the device has passed all of `markers`."""

    markers: list[Marker]
    finish: Callable[[], None]
    buffer: NDArray[np.uint8] | None = None
    """Staging memory that running copies read."""


def settle(pid: int, device: Device, keep_row: Callable[[], None], close: Callable[[], None], pending: list[Pending]) -> None:
    """Ends an attachment that was not closed, at exit. Slots that the device may still access are kept until the process dies."""
    if os.getpid() != pid:
        return
    deadline = time.monotonic() + EXIT_S
    try:
        pending.append(Pending([device.mark(stream) for stream in (None, *device.streams())], lambda: None))
        while any(not device.done(marker) for entry in pending for marker in entry.markers):
            if time.monotonic() > deadline:
                keep_row()
                return
            time.sleep(BUSY_SLICE_S)
    except RingError:
        keep_row()
        return
    close()
