"""Creates, restores and attaches to rings by the name of their placement: in host memory or on a device."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from embodichain.errors import RingClosed, RingError, unknown
from embodichain.ring import host, pages
from embodichain.ring.contract import AnyRing
from embodichain.ring.cuda import CudaDevice
from embodichain.ring.delayed import DelayedDevice
from embodichain.ring.device_ring import DeviceRing
from embodichain.ring.layout import AT_GENERATION, RingLayout
from embodichain.ring.placement import ArenaNote, Device
from embodichain.ring.ring import Ring
from embodichain.ring.snapshot import read_index
from embodichain.ring.stats import Observer
from embodichain.types import HOST, PLACEMENTS, RingSpec, TrajectorySpec

_IN_HOST = (HOST, "huge", "pinned")
_LOG = logging.getLogger(__name__)
_DEVICES: dict[str, Callable[[], Device]] = {"cuda": CudaDevice, "delayed": DelayedDevice}
"""Devices by kind; "delayed" is host memory that simulates one, for tests."""


def create_ring(spec: RingSpec, placement: str = HOST) -> AnyRing:
    """Creates and owns a ring: in "host" memory, in "huge" pages of it, or on the current device of another of `PLACEMENTS`.

    A "pinned" ring is in host memory; processes that read it with a GPU page-lock it. A "huge" ring lies in the first folder of
    huge pages in which it fits; if there is none, a hint is logged and the ring gets small pages.

    Raises:
        ConfigError: Unknown placement.
        RingError: As `Ring.create` and `DeviceRing.create`, or the device does not exist here.
    """
    if placement in _IN_HOST:
        return Ring.create(spec, _place(placement, spec))
    if placement not in _DEVICES:
        raise unknown("ring placement", placement, PLACEMENTS)
    return DeviceRing.create(spec, _DEVICES[placement]())


def restore_ring(snapshot: Path | str, placement: str = HOST) -> AnyRing:
    """Creates and owns a ring from a snapshot of a ring with any placement; see `Ring.restore`."""
    if placement in _IN_HOST:
        return Ring.restore(snapshot, _place(placement, read_index(Path(snapshot)).spec))
    if placement not in _DEVICES:
        raise unknown("ring placement", placement, PLACEMENTS)
    return DeviceRing.restore(snapshot, _DEVICES[placement]())


def attach_ring(
    path: Path | str, trajectory: TrajectorySpec | None = None, *, reads: bool = True, generation: int | None = None
) -> AnyRing:
    """Attaches to the ring at `path`, wherever its payload is; `reads` and errors as for `Ring.attach`.

    With a `generation`, RingClosed is raised when another ring than the one of that generation lies there by now.
    """
    observer = Observer.open(path)
    ring: AnyRing
    if observer.note:
        kind = ArenaNote.decode(observer.note, observer.spec.trajectory).kind
        ring = DeviceRing.attach(path, _DEVICES[kind](), trajectory, reads=reads)
    else:
        ring = Ring.attach(path, trajectory, reads=reads)
    if generation is not None and Observer.open(path).header(AT_GENERATION) != generation:
        ring.close()
        raise RingClosed(f"the ring at {path} is a later one than that of this run, which has ended")
    return ring


def _place(placement: str, spec: RingSpec) -> Path | None:
    """The path of a new ring in host memory; None for the default."""
    if placement != "huge":
        return None
    size_bytes, found = RingLayout.of(spec).total_bytes, []
    for folder in pages.folders():
        host.remove_stale(folder)
        try:
            free_bytes, limit = host.available(folder)
        except RingError as error:
            found.append(str(error))
            continue
        if size_bytes <= free_bytes:
            return host.default_path(folder)
        found.append(f"{free_bytes:,} bytes {limit}")
    there = f"a ring of {size_bytes:,} bytes does not fit: {'; '.join(found)}" if found else "no folder has them"
    _LOG.warning("no huge pages for the ring, it gets small ones: %s; to have some, as root: %s", there, pages.REMEDY)
    return None
