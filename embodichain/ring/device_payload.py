"""Payloads of slots on a device in the layout of host memory, for snapshots."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from embodichain.ring import placement
from embodichain.ring.layout import RingLayout
from embodichain.types import Field, RingSpec


class InHost(Protocol):
    """The part of `ring.ControlRing` that holds the fields in host memory."""

    def views(self, slot: int) -> Mapping[str, NDArray]:
        """Read-only views of the fields of a slot."""
        ...

    def writable(self, slot: int) -> Mapping[str, NDArray]:
        """Writable views of the fields of a slot."""
        ...


class Payload:
    """Reads and writes the payloads of a ring whose whole specification is `spec`; `address` locates a field on the device."""

    def __init__(self, spec: RingSpec, control: InHost, device: placement.Device, address: Callable[[int, str], int]) -> None:
        self._fields, self._layout = spec.trajectory.fields, RingLayout.of(spec)
        self._control, self._device, self._address = control, device, address

    def read(self, slot: int) -> memoryview:
        """The payload of a slot."""
        whole = np.zeros(self._layout.slot_bytes, np.uint8)
        for field, part in self._parts(whole):
            if placement.in_host(field):
                part[:] = np.atleast_1d(self._control.views(slot)[field.name]).view(np.uint8)
            else:
                part[:] = np.frombuffer(self._device.read(self._address(slot, field.name), field.size_bytes), np.uint8)
        return whole.data

    def write(self, slot: int, payload: memoryview) -> None:
        """Writes the payload of a slot; complete on return."""
        on_host = self._control.writable(slot)
        for field, part in self._parts(np.frombuffer(payload, np.uint8)):
            if placement.in_host(field):
                on_host[field.name][...] = part.view(field.dtype).reshape(field.shape)
            else:
                self._device.write(self._address(slot, field.name), part.tobytes())

    def _parts(self, whole: NDArray[np.uint8]) -> Iterator[tuple[Field, NDArray[np.uint8]]]:
        """Every field with its bytes."""
        for field, offset in zip(self._fields, self._layout.field_offsets, strict=True):
            yield field, whole[offset : offset + field.size_bytes]
