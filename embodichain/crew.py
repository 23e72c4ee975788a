"""The crew: processes that plan for worlds which another process steps together.

Each member owns some worlds of a batch: it samples their scenes, runs their episodes, plans, grades, and publishes the results. To
the member the batch is a `Seat`, a batch of its own worlds, connected by a pipe to the process that steps all of them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embodichain.errors import RingClosed, RingTimeout, SceneError
from embodichain.ring.ring import Ring
from embodichain.rollout import drive_batch
from embodichain.stages import Fate, Produced, RolloutStage, SceneStage, Take
from embodichain.types import Push, Robot, Scene
from embodichain.types.reels import MOST_NUMBERS, CameraMode
from embodichain.types.tapes import Roster, Tape
from embodichain.world import World

__all__ = ["Load", "Loaded", "Next", "Note", "Report", "Seat", "StepRequest", "Thought", "member"]

_NO_PUSHES: Mapping[int, tuple[Push, ...]] = {}


class Load(NamedTuple):
    """Request: load these scenes into these worlds of the member. Answered at once by `Loaded`."""

    worlds: tuple[int, ...]
    scenes: tuple[Scene, ...]


class Loaded(NamedTuple):
    """The contents of the loaded worlds, the states of all of the member's worlds, and what could not be loaded."""

    rosters: Mapping[int, Roster]
    tape: Tape
    error: str


class Note(NamedTuple):
    """Request: write the notes of these worlds. Answered at once by an array [n, MOST_NUMBERS]."""

    worlds: tuple[int, ...]


class StepRequest(NamedTuple):
    """Request: hold these commands in the member's worlds [n, A]. Answered by a `Tape` once every member has sent its commands."""

    command: NDArray[np.float64]
    pushes: Mapping[int, tuple[Push, ...]]


class Next(NamedTuple):
    """Request: give the next number to play. Answered at once; None when there is none left."""


class Thought(NamedTuple):
    """How a member's time was spent since its last report [s]."""

    waiting_s: float
    total_s: float


class Report(NamedTuple):
    """The result of a number; not answered."""

    produced: Produced
    thought: Thought


class Seat:
    """A member's worlds in a batch that is stepped elsewhere; implements `protocols.BatchPhysics` except for pictures."""

    def __init__(self, pipe: Connection, robot: Robot, num_worlds: int) -> None:
        self._pipe, self._robot, self._num_worlds = pipe, robot, num_worlds
        self._rosters: list[Roster | None] = [None] * num_worlds
        self._tape: Tape | None = None
        self.waiting_s = 0.0
        """Time spent waiting for answers [s]."""

    @property
    def robot(self) -> Robot:
        """The robot that commands address, in every world."""
        return self._robot

    @property
    def num_worlds(self) -> int:
        """Number of worlds of this member."""
        return self._num_worlds

    def load(self, worlds: Sequence[int], scenes: Sequence[Scene]) -> None:
        """Loads `scenes[i]` into `worlds[i]`. Raises SceneError, naming those that cannot be built, after the others are loaded."""
        loaded = self._ask(Load(tuple(worlds), tuple(scenes)))
        assert isinstance(loaded, Loaded)
        for world in worlds:
            self._rosters[world] = loaded.rosters.get(world)
        self._tape = loaded.tape
        if loaded.error:
            raise SceneError(loaded.error)

    def step(self, command: NDArray[np.float64], pushes: Mapping[int, tuple[Push, ...]] = _NO_PUSHES) -> Tape:
        """Holds `command[w]` for one control period in each world w. Waits for all other members of the batch."""
        acting = {world: forces for world, forces in pushes.items() if forces}
        self._tape = self._ask(StepRequest(command, acting))
        return self.look()

    def look(self) -> Tape:
        """The current states."""
        assert self._tape is not None, "nothing was loaded yet"
        return self._tape._replace(rosters=tuple(self._rosters))

    def note(self, worlds: Sequence[int], out: NDArray[np.float64]) -> None:
        """Writes a note of each world into a row of `out` [n, N]; see `Posable.note`."""
        out[:] = self._ask(Note(tuple(worlds)))

    def render(
        self,
        worlds: Sequence[int],
        rgb: NDArray[np.uint8],
        depth: NDArray[np.float32] | None = None,
        segmentation: NDArray[np.uint8] | None = None,
    ) -> None:
        """Raises SceneError: pictures are not sent through the pipe, but drawn from notes."""
        raise SceneError("the worlds of a crew are drawn from notes, after an episode: choose camera='reels'")

    def next_number(self) -> int | None:
        """The next number to play; None when there is none left."""
        return self._ask(Next())

    def tell(self, report: Report) -> None:
        """Reports the result of a number."""
        self._pipe.send(report)

    def close(self) -> None:
        """Leaves the batch."""
        self._pipe.close()

    def _ask(self, what: Load | Note | StepRequest | Next):  # noqa: ANN202 (each question has an answer of its own kind)
        self._pipe.send(what)
        before = time.perf_counter()
        answer = self._pipe.recv()
        self.waiting_s += time.perf_counter() - before
        return answer


def member(pipe: Connection, world: World, ring: Path, num_worlds: int, worker: int, epoch: int) -> None:
    """The main function of a member: plays numbers in its worlds until there are none left, or the ring has ended."""
    os.environ.setdefault("NUMBA_NUM_THREADS", "1")
    seat = Seat(pipe, world.robot, num_worlds)
    with Ring.attach(ring, world.stream_spec, reads=False) as attached:
        beside = world.make_beside()
        rollouts = RolloutStage(world, attached, worker=worker, epoch=epoch, camera=CameraMode.REELS, physics=beside)
        scenes = SceneStage(world, physics=rollouts.physics)
        try:
            _play(seat, rollouts, scenes)
        except (RingClosed, EOFError, BrokenPipeError):
            pass  # the process that steps the worlds has ended
        finally:
            rollouts.close()
            seat.close()


def _play(seat: Seat, rollouts: RolloutStage, scenes: SceneStage) -> None:
    playing: dict[int, Take] = {}
    since, waited = time.perf_counter(), 0.0

    def take(world: int):  # noqa: ANN202
        while (number := seat.next_number()) is not None:
            try:
                task, scene = scenes.step(number)
            except SceneError as error:
                report(Produced(number=number, task="", fate=Fate.REFUSED, reason=str(error)))
                continue
            playing[world] = rollouts.begin(number, task, scene, partial(_note, seat, world))
            return scene, playing[world].episode
        return None

    def report(produced: Produced) -> None:
        nonlocal since, waited
        now = time.perf_counter()
        seat.tell(Report(produced, Thought(seat.waiting_s - waited, now - since)))
        since, waited = now, seat.waiting_s

    for ended in drive_batch(seat, take):
        take_over, produced = playing.pop(ended.world), None
        while produced is None:
            with suppress(RingTimeout):  # the ring is full: the batch waits too
                produced = rollouts.end(take_over, ended.error, timeout_s=1.0)
        report(produced)


def _note(seat: Seat, world: int, out: NDArray[np.float64]) -> None:
    seat.note((world,), out[None, :MOST_NUMBERS])
