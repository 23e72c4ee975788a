"""A darkroom that draws on the device of the ring, straight into its slots, so that no picture is copied."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from embodichain.config import WorldConfig
from embodichain.errors import ConfigError
from embodichain.protocols import Physics
from embodichain.ring.contract import AnySlot, SlotSource
from embodichain.ring.device_lease import DeviceSlot
from embodichain.ring.device_ring import DeviceRing
from embodichain.types import NoiseSource, Timings

__all__ = ["CardRoom"]

_PICTURES = ("rgb", "depth", "segmentation")


class CardRoom:
    """Draws episodes into slots of a ring on a device. Owned by one thread."""

    def __init__(self, config: WorldConfig, physics: Physics, ring: SlotSource) -> None:
        """Raises ConfigError, which says what to change, when the ring, the world or the machine does not allow it."""
        from embodichain.physics.mujoco import MujocoPhysics
        from embodichain.physics.warp.card import open_card

        if not isinstance(ring, DeviceRing):
            raise ConfigError(
                "a darkroom on a card draws into a ring on that card, and this one is in host memory: "
                "set ring.placement cuda, or stream.darkroom host"
            )
        if not isinstance(physics, MujocoPhysics):
            raise ConfigError(f"a card draws worlds of MuJoCo, not of {type(physics).__name__}: set stream.darkroom host")
        physics.check_card()
        if config.encode.factory:
            raise ConfigError(
                f"a darkroom on a card streams pixels and does not encode them with {config.encode.factory!r}: "
                "leave world.encode.factory empty, or set stream.darkroom host"
            )
        noise = config.visual
        if noise.enabled and noise.noise != (0.0, 0.0) and noise.noise_source is NoiseSource.NORMAL:
            raise ConfigError(
                f"noise {noise.noise} is drawn from NumPy's normal numbers, which no card draws: set world.visual.noise_source "
                "hash (other pictures than before), world.visual.noise '0 0', or stream.darkroom host"
            )
        self._physics, self._ring = physics, ring
        device = ring.device
        self._card = open_card(device.kind, getattr(device, "ordinal", 0))

    @property
    def streams(self) -> tuple[int, ...]:
        """The streams, beside this thread's own, whose work a slot has to wait for."""
        return () if self._card.stream is None else (self._card.stream,)

    def draw(self, slot: AnySlot, notes: NDArray[np.float64], timings: Timings) -> None:
        """Enqueues the drawing of the physics' scene at `notes` [F, N] into the slot; publish it with `streams`."""
        before = time.perf_counter()
        assert isinstance(slot, DeviceSlot)
        there = set(slot)  # not `name in slot`, which would open the field on the host
        out = {name: slot.device(name) for name in _PICTURES if name in there}
        shot = self._physics.shoot(notes)

        with self._ring.lock:
            self._ring.device.launch(lambda: self._card.draw(shot, out))
        timings.render_s += time.perf_counter() - before
        timings.frames += len(notes)
