"""Manages the darkroom of an engine, the process that renders the reels of all workers, and tracks pending reels."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple

import ray

from embodichain.darkroom_stage import Developed
from embodichain.errors import EmbodiChainError
from embodichain.stages import Fate, Produced

_AHEAD = 2
"""Number of overlapping calls, so that the darkroom need not wait for the engine."""


class Answer(NamedTuple):
    """The result of one call to a darkroom."""

    developed: tuple[Developed, ...]
    idle: bool = False
    """Whether it had no reel at the end and found none."""
    closed: bool = False
    """Whether a ring has ended."""


class LostReel(NamedTuple):
    """A reel that was lost with its darkroom. Its trajectory may be in the ring already, so its number is not produced again."""

    number: int


class Lab:
    """Keeps one darkroom running, replaces it when it is lost, and tracks the numbers that are pending. For one thread.

    A worker hands over a reel before it reports it. So every reel reported when a call is made is in the ring of reels, in the
    darkroom, or lost. If an idle darkroom then finds that ring empty, all reported reels without a result are lost.
    """

    def __init__(self, hire: Callable[[], Any], *, hang_s: float) -> None:
        self._hire, self._hang_s = hire, hang_s
        self._actor = hire()
        self._asked: deque[tuple[ray.ObjectRef, frozenset[int]]] = deque()
        """Pending calls, each with the numbers that had been reported when it was made."""
        self._since = time.monotonic()
        """Time of its last answer [s]."""
        self._exposed: dict[int, Produced] = {}
        self._developed: dict[int, Developed] = {}
        """Results that came before the worker's report."""
        self.closed = False
        """Whether it found a ring closed."""

    @property
    def pid(self) -> int:
        """Its process id; waits until the darkroom is ready."""
        return int(ray.get(self._actor.pid.remote()))

    def expect(self, produced: Produced) -> None:
        """Adds a reel that a worker has reported."""
        self._exposed[produced.number] = produced

    def work(self) -> Iterator[Produced | LostReel | Exception]:
        """Yields results since the last call; an Exception means that a darkroom was lost and has been replaced."""
        while len(self._asked) < _AHEAD:
            self._asked.append((self._actor.develop.remote(), frozenset(self._exposed)))
        asked, told = self._asked[0]
        if not ray.wait([asked], timeout=0)[0]:
            if time.monotonic() > self._since + self._hang_s:
                yield self._replace(TimeoutError(f"the darkroom gave no sign of life for {self._hang_s:.0f} s"))
            yield from self._match()
            return
        self._asked.popleft()
        try:
            answer: Answer = ray.get(asked)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, EmbodiChainError):
                raise error.cause from error
            raise
        except ray.exceptions.RayError as error:
            if getattr(error, "actor_init_failed", False):
                raise
            yield self._replace(error)
            return
        self._since, self.closed = time.monotonic(), answer.closed
        self._developed |= {made.number: made for made in answer.developed}
        yield from self._match()
        if answer.idle:
            for number in sorted(told & self._exposed.keys()):
                del self._exposed[number]
                yield LostReel(number)

    def close(self) -> None:
        """Kills the darkroom together with its present reel."""
        with suppress(ray.exceptions.RayError, ValueError):
            ray.kill(self._actor, no_restart=True)

    def _match(self) -> Iterator[Produced]:
        for number in [number for number in self._exposed if number in self._developed]:
            exposed, developed = self._exposed.pop(number), self._developed.pop(number)
            exposed.timings.add(developed.timings)
            yield replace(exposed, fate=Fate.PUBLISHED)

    def _replace(self, error: Exception) -> Exception:
        self.close()
        self._asked.clear()
        self._actor, self._since = self._hire(), time.monotonic()
        return error
