"""Worlds that MuJoCo Warp steps together; scenes are built and pictures drawn with MuJoCo C."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import warp as wp
from numpy.typing import NDArray

from embodichain.errors import ConfigError, SceneError
from embodichain.physics.build import substeps
from embodichain.physics.many import Many
from embodichain.physics.painters import DEFAULT
from embodichain.physics.single import Single
from embodichain.physics.warp.batch import WarpBatch
from embodichain.physics.warp.begin import start_warp
from embodichain.physics.warp.fields import check, signature
from embodichain.physics.warp.union import Shown, filled, hide
from embodichain.types import Push, Robot, Scene
from embodichain.types.scenes import Touches
from embodichain.types.tapes import Tape

_MOST_EMPTY = 8
"""Number of batches without a world that are kept for the next world of their structure."""


class WarpWorlds(Many):
    """Worlds that may hold any scenes of one robot; implements `protocols.BatchPhysics`.

    Worlds whose models have the same structure are simulated together; those of other structures (another number of objects or
    joints) separately, one structure after another. Results equal those of MuJoCo C except for rounding, contact points, and what
    follows from these. They are not bitwise repeatable, least of all beside other worlds.

    Args:
        robot: The robot that commands address.
        num_worlds: Number of worlds, W.
        device: The Warp device that steps them; None takes the first GPU, or the CPU where there is none.
        options: As those of `Many`: width, height, cameras, shadows, painter, cached_worlds.
    """

    def __init__(self, robot: Robot, *, num_worlds: int, device: str | None = None, painter: str = DEFAULT, **options: Any) -> None:
        super().__init__(robot, num_worlds=num_worlds, painter=painter, **options)
        start_warp()
        if device is None:
            device = "cuda:0" if wp.is_cuda_available() else "cpu"
        elif device not in (known := [str(one) for one in wp.get_devices()]):
            raise ConfigError(f"there is no Warp device {device!r} here; available: {', '.join(known)}")
        self._device = device
        self._num_steps = substeps(robot)
        self.batches: dict[bytes, WarpBatch] = {}
        """Batches by signature, least recently used first."""
        self._seats: dict[int, tuple[WarpBatch, int]] = {}
        self._touches: dict[int, Touches] = {}
        self._scenes: dict[int, Scene] = {}
        self._periods: dict[int, int] = {}

    def close(self) -> None:
        """Frees all worlds; safe to call twice."""
        super().close()
        self.batches.clear()
        self._seats.clear()

    def _reset(self, world: int, scene: Scene) -> None:
        if scene.grains.positions:
            raise ConfigError(
                f"physics 'mujoco_warp' simulates no grains, and scene {scene.seed} of task {scene.task!r} has "
                f"{len(scene.grains.positions)}: leave that task out, or choose physics='mujoco'"
            )
        self._leave(world)
        made, absent = filled(scene)
        host = self.worlds[world]
        host.reset(made)
        if hide(host.world.model, absent):
            host.reset(made)  # absent hulls were still present in the initial state, and may have touched something
        model = host.world.model
        check(model)
        with Shown(model, absent):
            key = signature(model)
        batch = self.batches.pop(key, None)
        if batch is None:
            batch = WarpBatch(host.world, absent, num_steps=self._num_steps, device=self._device)
        self.batches[key] = batch
        self._seats[world] = (batch, batch.take(host.world, absent))
        empty = [key for key, batch in self.batches.items() if not batch.taken]
        for key in empty[: max(0, len(empty) - _MOST_EMPTY)]:
            del self.batches[key]
        found = host.world.stepper.gathered()
        self._touches[world] = found._replace(pair=found.pair.copy(), depth=found.depth.copy(), peak=found.peak.copy())
        self._scenes[world], self._periods[world] = scene, 0

    def _leave(self, world: int) -> None:
        if (seat := self._seats.pop(world, None)) is not None:
            seat[0].leave(seat[1])

    def _advance(
        self, worlds: Sequence[int], command: NDArray[np.float64], pushes: Mapping[int, tuple[Push, ...]]
    ) -> dict[int, str]:
        faults: dict[int, str] = {}
        for world in worlds:
            host, (batch, row) = self.worlds[world], self._seats[world]
            batch.aim(row, *host.aim(command[world]))
            try:
                for push in pushes.get(world, ()):
                    batch.push(row, host.pushed_body(push.body), push.force)
            except SceneError as error:
                faults[world] = str(error)
                self._leave(world)
        there = [world for world in worlds if world not in faults]
        for batch in {id(self._seats[world][0]): self._seats[world][0] for world in there}.values():
            batch.step()
        for world in there:
            batch, row = self._seats[world]
            if reason := batch.fault(row):
                seconds = (self._periods[world] + 1) / self._robot.control_hz
                faults[world] = f"scene {self._scenes[world].seed} in world {world} {reason} (before {seconds:.2f} s)"
                self._leave(world)
            else:
                self._take_in(world, batch, row)
        return faults

    def _take_in(self, world: int, batch: WarpBatch, row: int) -> None:
        """Copies the state of a world from the device to the model in which its scene was built, which is read and drawn."""
        self._periods[world] += 1
        data = self.worlds[world].world.data
        data.qpos[:], data.qvel[:] = batch.state(row)
        data.time = self._periods[world] / self._robot.control_hz  # the device's clock has single precision and drifts
        self._touches[world] = batch.touches(row)

    def _num_pairs(self, world: int) -> int:
        return len(self._touches[world].pair)

    def _write(self, world: int, tape: Tape) -> None:
        self.worlds[world].world.readout.write(tape, world)
        touches = self._touches[world]
        num = len(touches.pair)
        for rows, found in zip((tape.pair, tape.force, tape.depth, tape.peak, tape.push), touches, strict=True):
            rows[world, :num] = found


class WarpWorld(Single):
    """A batch of one world: `physics=mujoco_warp` where only one world is stepped. Options are those of `WarpWorlds`."""

    beside = "mujoco"
    """The physics in which scenes settle, and in which a crew draws pictures."""

    def __init__(self, robot: Robot, *, painter: str = DEFAULT, **options: Any) -> None:
        super().__init__(WarpWorlds(robot, num_worlds=1, painter=painter, **options))
