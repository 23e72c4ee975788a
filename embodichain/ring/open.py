"""One way in, wherever the payload lies: creates or attaches to a ring in host memory or on a device by the placement's name."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from embodichain.errors import unknown
from embodichain.ring import host, pages
from embodichain.ring.contract import AnyRing
from embodichain.ring.cuda import CudaDevice
from embodichain.ring.delayed import DelayedDevice
from embodichain.ring.device_ring import DeviceRing
from embodichain.ring.placement import ArenaNote, Device
from embodichain.ring.ring import Ring
from embodichain.ring.stats import Observer
from embodichain.types import HOST, PLACEMENTS, RingSpec, TrajectorySpec

_IN_HOST = (HOST, "huge", "pinned")
_LOG = logging.getLogger(__name__)
_DEVICES: dict[str, Callable[[], Device]] = {"cuda": CudaDevice, "delayed": DelayedDevice}
"""Devices by the name of their kind; "delayed" is host memory that behaves as one, to test with."""


def create_ring(spec: RingSpec, placement: str = HOST) -> AnyRing:
    """Creates a ring and owns it: in "host" memory, in "huge" pages of it, or on the current device of another of `PLACEMENTS`.

    A "pinned" ring is one in host memory: whoever reads it with a GPU page-locks it. Where no huge pages are to be had it is
    logged how to get some, and the ring has small ones.

    Raises:
        ConfigError: No such placement.
        RingError: As `Ring.create` and `DeviceRing.create`; no such device here.
    """
    if placement in _IN_HOST:
        return Ring.create(spec, _place(placement))
    if placement not in _DEVICES:
        raise unknown("ring placement", placement, PLACEMENTS)
    return DeviceRing.create(spec, _DEVICES[placement]())


def restore_ring(snapshot: Path | str, placement: str = HOST) -> AnyRing:
    """Creates a ring from a snapshot and owns it, wherever the payload was before; see `Ring.restore`."""
    if placement in _IN_HOST:
        return Ring.restore(snapshot, _place(placement))
    if placement not in _DEVICES:
        raise unknown("ring placement", placement, PLACEMENTS)
    return DeviceRing.restore(snapshot, _DEVICES[placement]())


def attach_ring(path: Path | str, trajectory: TrajectorySpec | None = None, *, reads: bool = True) -> AnyRing:
    """Attaches to the ring at `path`; its own note says where the payload lies; `reads` and what it raises as `Ring.attach`."""
    observer = Observer.open(path)
    if not observer.note:
        return Ring.attach(path, trajectory, reads=reads)
    kind = ArenaNote.decode(observer.note, observer.spec.trajectory).kind
    return DeviceRing.attach(path, _DEVICES[kind](), trajectory, reads=reads)


def _place(placement: str) -> Path | None:
    """The path of a new ring in host memory; None for its usual place."""
    if placement != "huge":
        return None
    if there := pages.folders():
        return host.default_path(there[0])
    _LOG.warning("no huge pages for the ring, it gets small ones; to have some, as root: %s", pages.REMEDY)
    return None
