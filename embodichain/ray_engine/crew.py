"""The workers of an engine, whatever they make: their placement, their current work, and detection of losses."""

from __future__ import annotations

import itertools
import re
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.util.scheduling_strategies import DoesNotExist, Exists, In, NodeLabelSchedulingStrategy, NotIn

from embodichain.errors import EmbodiChainError
from embodichain.ray_engine.doubts import Doubts, Lost, alive, is_gone
from embodichain.ray_engine.hello import Hello, last_words
from embodichain.ray_engine.notices import Notices
from embodichain.ray_engine.weather import Cause
from embodichain.ray_engine.work import Raised

_ANSWER_S = 15.0
"""A worker that does not answer for this long [s] counts as dead."""
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_MOST = 400
"""Most characters of an error message in the log."""
_SOON_S = 10.0
"""A worker that is lost within this time [s] after its start is replaced after a pause that doubles, up to the same time."""


@dataclass(eq=False, slots=True)
class Worker:
    """A place in the crew, and the worker process that fills it."""

    index: int
    epoch: int
    actor: Any = None
    who: Hello | None = None
    waits_for: ray.ObjectRef | None = None
    """The pending call: the greeting, or producing numbers."""
    numbers: tuple[int, ...] = ()
    born: float = 0.0
    since: float = 0.0
    """Time of the last call or heartbeat [s]."""
    asked: ray.ObjectRef | None = None
    asked_at: float = 0.0
    call_at: float = 0.0
    """Time at which the place is to be filled again [s]."""
    pause_s: float = 0.0
    avoids: tuple[str, ...] = ()
    """Nodes that were suspected dead when it was placed."""
    among: frozenset[str] = frozenset()
    """Nodes that lived when it was placed: until it has said hello, it stands on one of them."""
    leaving: bool = False
    """Whether it gets no more work and will stop after its present numbers."""
    note: str = field(default="starting")


_NODE = "ray.io/node-id"
"""The label by which Ray names each node."""

Hire = Callable[[int, int, NodeLabelSchedulingStrategy], Any]
"""Starts a worker actor for a place (index) and epoch, with a scheduling strategy that selects the node."""


class Crew:
    """Keeps all places filled with worker actors. For one thread; `told` may be called by any.

    A worker stands on the ring's node while there is a core for it, and elsewhere otherwise. Where one was just lost nobody
    is placed until that node has answered or Ray has given it up; on every other node the work goes on. From a node that is drained
    workers move away, each when it has ended what it does.
    """

    def __init__(self, hire: Hire, size: int, *, home: str, hang_s: float, epoch: int) -> None:
        self._hire, self._home, self._hang_s = hire, home, hang_s
        self._doubts, self._notices = Doubts(), Notices()
        self._epoch, self._epochs = epoch, dict[int, int]()
        """The first epoch, and the next epoch of each index whose worker has left."""
        self.workers = [Worker(index, epoch) for index in range(size)]
        for worker in self.workers:
            self._place(worker)

    def idle(self) -> list[Worker]:
        """Workers that are ready, idle and neither leaving nor on a node that is drained."""
        drained = self._drained
        return [
            worker
            for worker in self.workers
            if worker.who is not None and worker.waits_for is None and not worker.leaving and worker.who.node not in drained
        ]

    @property
    def size(self) -> int:
        """Number of places that are not leaving."""
        return sum(not worker.leaving for worker in self.workers)

    def resize(self, size: int) -> None:
        """Changes the number of places. Leaving workers finish their number first; when growing, leaving workers are kept first."""
        for worker in self.workers:
            if worker.leaving and self.size < size:
                worker.leaving = False
        taken = {worker.index for worker in self.workers}
        for index in itertools.count():
            if self.size >= size:
                break
            if index not in taken:
                worker = Worker(index, self._epochs.get(index, self._epoch))
                self.workers.append(worker)
                self._place(worker)
        for worker in sorted(self.workers, key=lambda one: (one.who is None, one.index), reverse=True):
            if self.size > size and not worker.leaving:
                worker.leaving = True

    def see_off(self) -> None:
        """Stops leaving workers that are idle."""
        for worker in [one for one in self.workers if one.leaving and not one.numbers]:
            self.workers.remove(worker)
            self._epochs[worker.index] = (worker.epoch + 1) % 256  # a new epoch keeps the ids of a reused index unique
            if worker.actor is not None:
                if worker.who is not None:
                    worker.actor.leave.remote()
                else:
                    with suppress(ray.exceptions.RayError, ValueError):
                        ray.kill(worker.actor, no_restart=True)

    def _move(self) -> None:
        """Has those leave that stand on a node about to be taken away, once they have ended what they do: their places are filled
        elsewhere, and no number is lost.
        """
        drained = self._drained
        for worker in self.workers:
            if worker.who is not None and worker.who.node in drained and worker.waits_for is None and not worker.leaving:
                worker.actor.leave.remote()
                worker.actor = worker.who = worker.asked = None
                worker.epoch = (worker.epoch + 1) % 256
                worker.note = "one moves from a node that is drained"

    @property
    def _drained(self) -> frozenset[str]:
        """Nodes that are about to be taken away. The ring's own is none of them: a run has nowhere else to go."""
        return self._notices.nodes - {self._home}

    @property
    def _avoided(self) -> tuple[str, ...]:
        """Nodes on which nobody is placed: in doubt, or about to be taken away."""
        return (*self._doubts.nodes, *sorted(self._drained))

    def submit(self, worker: Worker, numbers: tuple[int, ...]) -> None:
        """Lets a worker produce numbers."""
        worker.numbers, worker.since = numbers, time.monotonic()
        worker.waits_for = worker.actor.produce.remote(numbers)

    def wait(self, timeout_s: float) -> Iterator[Any]:
        """Yields what actors answered, and losses, within `timeout_s` [s]."""
        yield from self._doubts.settled()
        self._move()
        self._fill()
        self.see_off()
        busy = {worker.waits_for: worker for worker in self.workers if worker.waits_for is not None}
        if not busy:
            time.sleep(timeout_s)
        for reference in ray.wait(list(busy), timeout=timeout_s)[0] if busy else ():
            worker = busy[reference]
            for outcome in self._answered(worker, reference):
                if not self._is_doubted(outcome, worker):
                    yield outcome
        for worker in self.workers:
            lost = self._hung(worker) if worker.waits_for is not None and worker.who is not None else None
            if lost is not None and not self._is_doubted(lost, worker):
                yield lost

    def dismiss(self) -> None:
        """Kills all workers."""
        for worker in self.workers:
            if worker.actor is not None:
                with suppress(ray.exceptions.RayError, ValueError):
                    ray.kill(worker.actor, no_restart=True)

    def told(self) -> str:
        """A text about what each worker is doing."""
        at_work = sum(worker.who is not None for worker in self.workers)
        others = sorted({worker.note for worker in self.workers if worker.who is None})
        return f"{at_work} of {len(self.workers)} workers are there" + (f" ({'; '.join(others)})" if others else "")

    # ------------------------------------------------------------------------------------------------------ answers

    def _answered(self, worker: Worker, reference: ray.ObjectRef) -> Sequence[Any]:
        """The outcomes that a worker's pending call has answered with; None among them means that the ring was closed."""
        numbers, worker.waits_for, worker.asked = worker.numbers, None, None
        worker.numbers = ()
        try:
            answer = ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, EmbodiChainError):  # a known error, such as a bad configuration, would hit every other worker too
                raise cause from error
            what, detail = f"{type(cause).__name__}: {cause}"[:_MOST], _COLOURS.sub("", str(error))
            answer = [Raised(number, what, detail) for number in numbers]
        except ray.exceptions.RayError as error:
            return (self._bury(worker, numbers, error),)
        if isinstance(answer, Hello):
            worker.who, worker.note = answer, "there"
            return ()
        worker.pause_s = 0.0
        if answer is None:
            return (None,)
        node = worker.who.node if worker.who else ""
        return [
            Lost(Cause.SCENE, worker.index, (one.number,), node, one.what, one.detail) if isinstance(one, Raised) else one
            for one in answer
        ]

    def _hung(self, worker: Worker) -> Lost | None:
        """Removes a worker without heartbeats."""
        now, limit = time.monotonic(), self._hang_s
        if worker.asked is None:
            if now > worker.since + limit:
                worker.asked, worker.asked_at = worker.actor.sign.remote(), now
            return None
        if ray.wait([worker.asked], timeout=0)[0]:
            try:
                silent_s = float(ray.get(worker.asked))
            except ray.exceptions.RayError:
                return None  # it has died; the answer to its pending call will tell the cause
            worker.asked, worker.since = None, now - silent_s
            if silent_s <= limit:
                return None
        elif now < worker.asked_at + _ANSWER_S:
            return None
        numbers, worker.numbers, worker.waits_for = worker.numbers, (), None
        return self._bury(worker, numbers, TimeoutError(f"no sign of life for {now - worker.since:.0f} s"))

    def _bury(self, worker: Worker, numbers: tuple[int, ...], error: Exception) -> Lost:
        """Kills what is left of a worker and empties its place."""
        who, node = worker.who, worker.who.node if worker.who else ""
        cause = self._cause(error)
        detail = _COLOURS.sub("", str(error)) or type(error).__name__
        lines = [line.strip() for line in detail.splitlines() if line.strip()]
        what = lines[-1] if getattr(error, "actor_init_failed", False) else " ".join(lines)[:_MOST]
        if who is not None and node == self._home:
            with suppress(PermissionError):
                who.process.send_signal(signal.SIGKILL)  # a stopped process does not react to Ray's messages
            detail = last_words(who.log) or detail
        with suppress(ray.exceptions.RayError, ValueError):
            ray.kill(worker.actor, no_restart=True)
        now = time.monotonic()
        soon = now - worker.born < _SOON_S
        worker.pause_s = min(_SOON_S, max(0.5, 2 * worker.pause_s)) if soon else 0.0
        worker.call_at = now + worker.pause_s
        worker.actor = worker.who = worker.asked = None
        worker.note = f"one is replaced after {cause.value}"
        worker.epoch = (worker.epoch + 1) % 256
        log = who.log if who is not None else ""
        return Lost(cause, worker.index, numbers, node, what, detail, log, fatal=getattr(error, "actor_init_failed", False))

    def _is_doubted(self, outcome: object, worker: Worker) -> bool:
        """Whether the cause of a loss is still open, because the node may be dead too."""
        if not isinstance(outcome, Lost) or outcome.cause in (Cause.SCENE, Cause.MEMORY) or outcome.node == self._home:
            return False
        others = worker.among - {self._home}
        if outcome.node:
            self._doubts.add(outcome)
        elif others and not outcome.fatal:
            self._doubts.add_unmet(outcome, others)
        else:
            return False
        return True

    @staticmethod
    def _cause(error: Exception) -> Cause:
        """The cause of a loss, given that the node is alive."""
        if isinstance(error, TimeoutError):
            return Cause.HANG
        if isinstance(error, ray.exceptions.OutOfMemoryError):
            return Cause.MEMORY
        return Cause.PREEMPTED if getattr(error, "preempted", False) else Cause.CRASH

    # ------------------------------------------------------------------------------------------------------ places

    def _fill(self) -> None:
        """Fills places that are due, and moves workers that wait for a core to nodes that are no longer suspected."""
        for worker in self.workers:
            if worker.actor is None and not worker.leaving and time.monotonic() >= worker.call_at:
                self._place(worker)
            elif worker.actor is not None and worker.who is None and worker.avoids and not set(worker.avoids) & set(self._avoided):
                avoided, worker.avoids = worker.avoids, ()
                if not all(is_gone(node) for node in avoided):
                    ray.kill(worker.actor, no_restart=True)
                    self._place(worker)

    def _place(self, worker: Worker) -> None:
        """On the ring's node while it has a core to spare, else on any that is not in doubt; it waits where there is no core."""
        worker.avoids, worker.among = self._avoided, alive()
        elsewhere: dict[str, In | NotIn | Exists | DoesNotExist] = {_NODE: NotIn(*worker.avoids)} if worker.avoids else {}
        where = NodeLabelSchedulingStrategy(hard=elsewhere, soft={_NODE: In(self._home)})
        worker.actor = self._hire(worker.index, worker.epoch, where)
        worker.waits_for, worker.numbers = worker.actor.hello.remote(), ()
        worker.born = worker.since = time.monotonic()
        worker.note = "starting, or waiting for a core"
