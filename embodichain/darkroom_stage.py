"""A darkroom in a process of its own: it takes reels out of one ring and writes whole trajectories into another.

It draws on a CPU or, into a ring on a GPU, on that GPU: `CardRoom`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from embodichain.config import WorldConfig
from embodichain.darkroom import Darkroom, posable
from embodichain.errors import ConfigError, RingTimeout
from embodichain.protocols import Physics
from embodichain.ring.contract import AnyLease, AnyRing, AnySlot, SlotSource
from embodichain.ring.device_lease import DeviceSlot
from embodichain.ring.placement import OnDevice
from embodichain.stage import Stage
from embodichain.types import NoiseSource, Timings, TrajectoryId
from embodichain.types.reels import BETWEEN_NOTES, NOTES, PICTURES, SCENE, STAGE, DarkroomPlace
from embodichain.world import World

__all__ = ["CardRoom", "DarkroomStage", "Developed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Developed:
    """A reel that became a trajectory: its scene's number, and the time that it took."""

    number: int
    timings: Timings


class DarkroomStage:
    """Takes reels out of one ring and publishes trajectories into another. Owned by one thread.

    A reel's only read is used up before anything is drawn. If this process dies in between, the reel is lost, but no trajectory can
    be published twice.
    """

    def __init__(self, world: World, reels: AnyRing, ring: SlotSource, *, place: DarkroomPlace = DarkroomPlace.HOST) -> None:
        """The caller keeps both rings. Raises ConfigError for a physics whose pictures cannot be drawn later, or not on a card."""
        self._reels, self._ring = reels, ring
        self._physics = world.make_physics()
        posable(self._physics)
        self._card = CardRoom(world.config, self._physics, ring) if place is DarkroomPlace.CARD else None
        self._darkroom = Darkroom(world.config, self._physics)
        self._has_between = bool(world.stream_spec.between)
        self._stage = Stage(world.robot, world.assets)
        self._kept = [field.name for field in world.stream_spec.fields if field.name not in PICTURES]
        self._there = ring if isinstance(ring, OnDevice) else None
        """The ring that trajectories go to, if it is on a device."""
        self._in_hand: AnyLease | None = None
        self._blocked_s = 0.0

    def step(self, *, timeout_s: float) -> Developed | None:
        """Develops one reel; None when none has come for `timeout_s` [s].

        Raises RingTimeout when there is no room for its trajectory for `timeout_s`; the next call continues with the same reel.
        Raises RingClosed when a ring has ended, SceneError for a reel of another stage.
        """
        if self._in_hand is None:
            try:
                self._in_hand = self._reels.acquire(1, timeout_s)
            except RingTimeout:
                return None
        before = time.perf_counter()
        try:
            reserved = self._ring.reserve(timeout_s)
        finally:
            self._blocked_s += time.perf_counter() - before
        with reserved as slot:
            developed = self._develop(self._in_hand[0], slot)
            if self._there is not None:
                self._publish(cast(DeviceSlot, slot), self._there)
        self._in_hand.release()
        self._in_hand = None
        return developed

    def _publish(self, slot: DeviceSlot, ring: OnDevice) -> None:
        """Publishes a slot on a device, however long that takes to finish: once begun it only goes forward, so the reel is used.

        Were the reel developed again after a RingTimeout, its trajectory would be published twice.
        """
        slot.publish(timeout_s=0.0, streams=() if self._card is None else self._card.streams)
        while True:
            try:
                ring.flush(timeout_s=1.0)
                return
            except RingTimeout:
                continue

    def _develop(self, reel: Mapping[str, NDArray], slot: AnySlot) -> Developed:
        timings, num_frames = Timings(blocked_s=self._blocked_s), int(reel["num_chunks"]) + 1
        self._blocked_s = 0.0
        for name in self._kept:
            slot[name][...] = reel[name]
        before = time.perf_counter()
        self._physics.reset(self._stage.read(reel[SCENE], int(reel[STAGE])))
        timings.render_s += time.perf_counter() - before  # setting the scene is part of the cost of pictures
        if self._card is not None:
            self._card.draw(slot, reel[NOTES][:num_frames], timings)
            return Developed(number=TrajectoryId.unpack(int(reel["trajectory_id"])).sequence, timings=timings)
        canvas = self._darkroom.canvas(slot)
        inside = reel[BETWEEN_NOTES] if self._has_between else None
        self._darkroom.draw(canvas, reel[NOTES], num_frames, timings, inside)
        self._darkroom.encode(canvas, slot, num_frames, timings)
        return Developed(number=TrajectoryId.unpack(int(reel["trajectory_id"])).sequence, timings=timings)

    def close(self) -> None:
        """Frees the physics, and releases a reel in hand; safe to call twice."""
        if self._in_hand is not None:
            self._in_hand.release()
            self._in_hand = None
        self._physics.close()


class CardRoom:
    """Draws episodes into slots of a ring on a device. Owned by one thread."""

    def __init__(self, config: WorldConfig, physics: Physics, ring: SlotSource) -> None:
        """Raises ConfigError, which says what to change, when the ring, the world or the machine does not allow it."""
        from embodichain.physics.mujoco import MujocoPhysics
        from embodichain.physics.warp.card import open_card

        if not isinstance(ring, OnDevice):
            raise ConfigError(
                "a darkroom on a card draws into a ring on that card, and this one is in host memory: "
                "set ring.placement cuda, or stream.darkroom host"
            )
        if not isinstance(physics, MujocoPhysics):
            raise ConfigError(f"a card draws worlds of MuJoCo, not of {type(physics).__name__}: set stream.darkroom host")
        physics.check_card()
        if config.between:
            raise ConfigError(
                f"a darkroom on a card draws frames and no pictures between them, and world.between is {config.between}: set it to "
                "0, or stream.darkroom host"
            )
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
        there = set(slot)  # not `name in slot`, which would open the field on the host
        out = {name: cast(DeviceSlot, slot).device(name) for name in PICTURES if name in there}
        shot = self._physics.shoot(notes)
        self._ring.operate(lambda: self._ring.device.launch(lambda: self._card.draw(shot, out)))
        timings.render_s += time.perf_counter() - before
        timings.frames += len(notes)
