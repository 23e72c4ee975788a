"""An engine of many worlds that are stepped together: this process steps them, and a crew of processes plans for them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from types import TracebackType
from typing import Any

import numpy as np

from embodichain import crew
from embodichain.engine import Numbers, Start
from embodichain.errors import ConfigError, EmbodiChainError, SceneError
from embodichain.physics import check_drawn_later
from embodichain.processes import Child
from embodichain.protocols import BatchPhysics
from embodichain.ring.contract import AnyRing
from embodichain.types import Push
from embodichain.types.reels import MOST_NUMBERS
from embodichain.types.tapes import Tape
from embodichain.world import World

__all__ = ["CrewEngine"]

_MOST_DEATHS = 20
"""Number of members that a run may lose before it ends."""
_LOOK_S = 0.2
"""How often a batch that waits for its members checks whether it should end [s]."""


@dataclass(eq=False, slots=True)
class _Member:
    """One process of the crew and the worlds that it plans for."""

    index: int
    worlds: range
    child: Child
    epoch: int
    open: set[int] = field(default_factory=set)
    """Numbers that were given to it and are not reported yet."""
    done: bool = False


class _Group:
    """A batch of worlds and the members that plan for them."""

    def __init__(self, batch: BatchPhysics, members: list[_Member]) -> None:
        self.batch, self.members = batch, members
        self.command = np.tile(batch.robot.home, (batch.num_worlds, 1))


class CrewEngine:
    """Steps `groups` batches in turn: while the worlds of one are stepped, the members of the others plan.

    Every episode is bitwise the same as in a single loop, whatever is played beside it; only the order of publication differs.
    Implements `engine.AnyEngine`. A member that dies is replaced, and the numbers that it was playing are given up.

    Args:
        world: What is simulated.
        ring: Where trajectories go, in host memory.
        num_worlds: Number of worlds in all, divided evenly among members.
        members: Number of processes of the crew, divided evenly among groups.
        groups: Number of batches that take turns.
        start: Where an earlier life of the run left off.
        limit: The stream ends before this number; None has no end.
    """

    poll_s = 0.5

    def __init__(
        self,
        world: World,
        ring: AnyRing,
        *,
        num_worlds: int,
        members: int = 2,
        groups: int = 2,
        start: Start | None = None,
        limit: int | None = None,
    ) -> None:
        groups = min(groups, members)
        if groups < 1 or members % groups or num_worlds % members or num_worlds < members:
            raise ConfigError(
                f"{num_worlds} worlds cannot be divided among {members} members in {groups} groups: take as many worlds as a "
                "multiple of the members, and as many members as a multiple of the groups"
            )
        start = start or Start()
        self.report = start.report
        self._world, self._ring, self._numbers = world, ring, Numbers(start, limit)
        self._stop, self._done, self._lock = threading.Event(), threading.Event(), threading.Lock()
        self._failure: BaseException | None = None
        self.thinking_s = self.waiting_s = 0.0
        """Time of all members while planning, and while waiting for answers [s]."""
        self.stepping_s = self.starved_s = 0.0
        """Time in which worlds were stepped, and in which the stepping process waited for members [s]."""
        self.world_steps = 0
        """Number of control steps of all worlds."""
        check_drawn_later(world.config.physics)
        share = num_worlds // members
        self._groups: list[_Group] = []
        for group in range(groups):
            mine = range(group * members // groups, (group + 1) * members // groups)
            hired = [self._hire(index, range(n * share, (n + 1) * share), start.epoch) for n, index in enumerate(mine)]
            self._groups.append(_Group(world.make_batch(share * len(mine)), hired))
        self._thread = threading.Thread(target=self._run, name="crew-engine", daemon=True)
        self._thread.start()

    @property
    def pids(self) -> list[int]:
        """Process ids of the members, in their order."""
        return [member.child.pid for group in self._groups for member in group.members if not member.done]

    @property
    def workers(self) -> int:
        """Number of members that are active now."""
        return len(self.pids)

    @property
    def health(self) -> str:
        """Describes what produces trajectories."""
        worlds = sum(group.batch.num_worlds for group in self._groups)
        return f"{self.workers} processes think for {worlds} worlds, which waited {self.tick_wait_share:.0%} of their time for them"

    @property
    def tick_wait_share(self) -> float:
        """The share of its time that the stepping process waited for members."""
        total = self.stepping_s + self.starved_s
        return self.starved_s / total if total else 0.0

    @property
    def exhausted(self) -> bool:
        """Whether all numbers are accounted for, or production has failed: nothing more will be published."""
        return self._done.is_set()

    def state(self) -> dict[str, Any]:
        """The state from which the next life of the run continues: `Numbers.state`, and the report so far under "report"."""
        with self._lock:
            return {**self._numbers.state(), "report": self.report.plain()}

    def feed(self) -> None:
        """Raises if production has failed; otherwise the crew produces by itself."""
        self.check()

    def check(self) -> None:
        """Raises the error that made production fail."""
        if self._failure is not None:
            raise self._failure

    def tell(self, unique_pairs: float) -> None:
        """Does nothing: this engine does not use it."""

    def close(self) -> None:
        """Ends the crew and frees the worlds; episodes in progress are dropped. Safe to call twice."""
        self._stop.set()
        self._kill()
        self._thread.join()
        self._kill()  # one that the thread hired meanwhile, for a member that had died
        for group in self._groups:
            group.batch.close()

    def _kill(self) -> None:
        for group in self._groups:
            for member in group.members:
                member.child.kill()

    def __enter__(self) -> CrewEngine:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # ------------------------------------------------------------------------------------------------------ the thread

    def _hire(self, index: int, worlds: range, epoch: int) -> _Member:
        child = Child(crew.member, self._world, self._ring.path, len(worlds), index, epoch, name=f"crew {index}")
        return _Member(index, worlds, child, epoch)

    def _run(self) -> None:
        try:
            while not self._stop.is_set() and any(self._thinking(group) for group in self._groups):
                for group in self._groups:
                    if self._thinking(group):
                        self._turn(group)
        except BaseException as error:
            self._failure = error
        finally:
            self._done.set()

    @staticmethod
    def _thinking(group: _Group) -> list[_Member]:
        return [member for member in group.members if not member.done]

    def _turn(self, group: _Group) -> None:
        """One control period of a batch: collects the commands of its members, steps, and sends each member its states."""
        pushes: dict[int, tuple[Push, ...]] = {}
        before = time.perf_counter()
        ordered = list(self._orders(group, pushes))
        self.starved_s += time.perf_counter() - before
        if not ordered or self._stop.is_set():
            return
        before = time.perf_counter()
        tape = group.batch.step(group.command, pushes)
        self.stepping_s += time.perf_counter() - before
        self.world_steps += sum(len(member.worlds) for member in ordered)
        for member in ordered:
            self._answer(group, member, tape.part(member.worlds))

    def _orders(self, group: _Group, pushes: dict[int, tuple[Push, ...]]) -> Iterator[_Member]:
        """Serves the members of a group until each has sent its commands or is done; yields those that have sent them."""
        waiting = {member.child.pipe: member for member in self._thinking(group)}
        while waiting and not self._stop.is_set():
            for pipe in wait(list(waiting), timeout=_LOOK_S):
                member = next(one for known, one in waiting.items() if known is pipe)
                try:
                    asked = member.child.pipe.recv()
                except (EOFError, ConnectionResetError):
                    del waiting[member.child.pipe]
                    if (heir := self._bury(group, member)) is not None:
                        waiting[heir.child.pipe] = heir
                    continue
                if isinstance(asked, crew.StepRequest):
                    group.command[member.worlds.start : member.worlds.stop] = asked.command
                    pushes |= {member.worlds[world]: forces for world, forces in asked.pushes.items()}
                    del waiting[member.child.pipe]
                    yield member
                else:
                    self._serve(group, member, asked)

    def _serve(self, group: _Group, member: _Member, asked: object) -> None:
        """Handles a request that can be answered at once."""
        batch, worlds = group.batch, member.worlds
        if isinstance(asked, crew.Report):
            self.thinking_s += asked.thought.total_s - asked.thought.waiting_s
            self.waiting_s += asked.thought.waiting_s
            with self._lock:
                member.open.discard(asked.produced.number)
                self._numbers.settle(asked.produced.number)
                self.report.add(asked.produced)
        elif isinstance(asked, crew.Next):
            with self._lock:
                number = self._numbers.take()
            if number is not None:
                member.open.add(number)
            self._answer(group, member, number)
        elif isinstance(asked, crew.Note):
            notes = np.zeros((len(asked.worlds), MOST_NUMBERS))
            batch.note([worlds[world] for world in asked.worlds], notes)
            self._answer(group, member, notes)
        elif isinstance(asked, crew.Load):
            error = ""
            try:
                batch.load([worlds[world] for world in asked.worlds], asked.scenes)
            except SceneError as refusal:
                error = str(refusal)
            tape: Tape = batch.look()
            rosters = {world: tape.rosters[worlds[world]] for world in asked.worlds if tape.rosters[worlds[world]] is not None}
            self._answer(group, member, crew.Loaded(rosters, tape.part(worlds), error))  # type: ignore[arg-type]
        else:
            raise EmbodiChainError(f"crew member {member.index} asks for a {type(asked).__name__}, which nobody knows")

    def _answer(self, group: _Group, member: _Member, answer: object) -> None:
        """Sends an answer. A member that has died meanwhile is noticed at its next request."""
        try:
            member.child.pipe.send(answer)
        except (BrokenPipeError, ConnectionResetError):
            return

    def _bury(self, group: _Group, member: _Member) -> _Member | None:
        """Handles the end of a member; returns its replacement unless it had finished."""
        code = member.child.join(10.0)
        member.child.pipe.close()
        if code == 0 and not member.open:
            member.done = True
            return None
        if self._stop.is_set():
            member.done = True
            return None
        with self._lock:
            self.report.deaths["crash"] += 1
            self.report.crashed = (*self.report.crashed, *sorted(member.open))
            for number in member.open:
                self._numbers.settle(number)
        if self.report.deaths["crash"] > _MOST_DEATHS:
            raise EmbodiChainError(f"{_MOST_DEATHS + 1} members of the crew died; the last, {member.index}, ended with {code}")
        heir = self._hire(member.index, member.worlds, (member.epoch + 1) % 256)
        group.members[group.members.index(member)] = heir
        return heir
