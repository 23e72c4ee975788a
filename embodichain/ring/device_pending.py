"""What waits for a device: a publish or a release to be carried out once the work enqueued before it is complete."""

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
"""Longest sleep while our own copies or kernels are under way: what waits for them is served this soon."""
EXIT_S = 30.0
"""How long the end of the interpreter waits for the device before it leaves our slots to the proof of death."""
NEVER = Marker(-1, -1, -1)
"""Of no device: asking about it raises."""


@dataclass(slots=True, eq=False)
class Pending:
    """Something to be done to a slot once the device has passed all of `markers`."""

    markers: list[Marker]
    finish: Callable[[], None]
    buffer: NDArray[np.uint8] | None = None
    """Staging memory that the copies read: in use as long as they run."""


def settle(pid: int, device: Device, keep_row: Callable[[], None], close: Callable[[], None], pending: list[Pending]) -> None:
    """Ends an attachment nobody closed, before the control ring gives its slots up: not while the device may still touch them."""
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
