"""One way in, wherever the payload lies: creates or attaches to a ring in host memory or on a device by the placement's name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from embodichain.errors import unknown
from embodichain.ring.contract import AnyRing
from embodichain.ring.cuda import CudaDevice
from embodichain.ring.delayed import DelayedDevice
from embodichain.ring.device_ring import DeviceRing
from embodichain.ring.placement import ArenaNote, Device
from embodichain.ring.ring import Ring
from embodichain.ring.stats import Observer
from embodichain.types import HOST, PLACEMENTS, RingSpec, TrajectorySpec

_DEVICES: dict[str, Callable[[], Device]] = {"cuda": CudaDevice, "delayed": DelayedDevice}
"""Devices by the name of their kind; "delayed" is host memory that behaves as one, to test with."""


def create_ring(spec: RingSpec, placement: str = HOST) -> AnyRing:
    """Creates a ring and owns it: in "host" memory, or on the current device of another of `types.PLACEMENTS`.

    Raises:
        ConfigError: No such placement.
        RingError: As `Ring.create` and `DeviceRing.create`; no such device here.
    """
    if placement == HOST:
        return Ring.create(spec)
    if placement not in _DEVICES:
        raise unknown("ring placement", placement, PLACEMENTS)
    return DeviceRing.create(spec, _DEVICES[placement]())


def restore_ring(snapshot: Path | str, placement: str = HOST) -> AnyRing:
    """Creates a ring from a snapshot and owns it, wherever the payload was before; see `Ring.restore`."""
    if placement == HOST:
        return Ring.restore(snapshot)
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
