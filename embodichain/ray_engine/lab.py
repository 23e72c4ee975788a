"""The darkroom of an engine: one process that develops the reels of all workers, and the account of those that are under way."""

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
"""Calls that are under way at once, so that it need not wait for the engine to ask again."""


class Answer(NamedTuple):
    """What a darkroom did in one turn."""

    developed: tuple[Developed, ...]
    idle: bool = False
    """At the end it held no reel and found none."""
    closed: bool = False
    """A ring has ended."""


class LostReel(NamedTuple):
    """A darkroom died, and this reel with it: the trajectory may be in the ring, so its number is not made again."""

    number: int


class Lab:
    """Keeps one darkroom at work, replaces it when it is lost, and knows which numbers it still owes. Owned by one thread.

    A worker hands a reel over before it says so. So what it has said of when a call is made is in the ring of reels, in hand, or
    gone; and when a darkroom that holds nothing then finds that ring empty, what has not been developed by then is gone.
    """

    def __init__(self, hire: Callable[[], Any], *, hang_s: float) -> None:
        self._hire, self._hang_s = hire, hang_s
        self._actor = hire()
        self._asked: deque[tuple[ray.ObjectRef, frozenset[int]]] = deque()
        """Calls under way, and the numbers that were exposed when each was made."""
        self._since = time.monotonic()
        """When it answered last."""
        self._exposed: dict[int, Produced] = {}
        self._developed: dict[int, Developed] = {}
        """What it made before the worker's word of it came."""
        self.closed = False
        """Whether it found a ring closed."""

    @property
    def pid(self) -> int:
        """Its process id; waits until it is ready."""
        return int(ray.get(self._actor.pid.remote()))

    def expect(self, produced: Produced) -> None:
        """Takes in a worker's word that a reel is on its way."""
        self._exposed[produced.number] = produced

    def work(self) -> Iterator[Produced | LostReel | Exception]:
        """What has become of reels since the last look; an Exception is a darkroom that was lost and is replaced."""
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
        """Ends it, with what it has in hand."""
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
