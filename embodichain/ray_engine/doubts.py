"""Workers that were lost on other nodes: each of a fault of its own, or all with their node."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from embodichain.ray_engine.hello import last_words
from embodichain.ray_engine.weather import Cause


class Lost(NamedTuple):
    """A number that a worker could not make, and for every cause but SCENE the worker with it."""

    cause: Cause
    worker: int
    """Its index."""
    number: int | None
    """None when it was not at work."""
    node: str
    what: str
    detail: str
    log: str = ""
    """What the worker wrote its errors to, a file on its node."""
    fatal: bool = False
    """It failed to start for a reason that would stop every other one too."""


class _Doubt(NamedTuple):
    """A loss, and what its node was asked about it."""

    lost: Lost
    asked: ray.ObjectRef


class Doubts:
    """Losses whose cause is settled once their node has answered, or Ray has given it up.

    The end of a worker is heard of before the end of its node, at times by seconds: what looks like a crash is the node's death
    when the node turns out to be gone. A node that lives answers with what the worker wrote last.
    """

    def __init__(self) -> None:
        self._open: list[_Doubt] = []

    @property
    def nodes(self) -> tuple[str, ...]:
        """Nodes in doubt: nobody should be placed there."""
        return tuple({doubt.lost.node for doubt in self._open})

    def add(self, lost: Lost) -> None:
        """Takes in a loss, with the cause that it has if the node lives."""
        self._open.append(_Doubt(lost, _ask(lost.node, lost.log)))

    def settled(self) -> Iterator[Lost]:
        """Losses whose cause is known by now, each once."""
        for doubt in list(self._open):
            if is_gone(doubt.lost.node):
                self._open.remove(doubt)
                yield doubt.lost if doubt.lost.cause is Cause.PREEMPTED else doubt.lost._replace(cause=Cause.NODE)
            elif ray.wait([doubt.asked], timeout=0)[0]:
                self._open.remove(doubt)
                try:
                    words = str(ray.get(doubt.asked))
                except ray.exceptions.RayError:  # the question was lost
                    self.add(doubt.lost)
                else:
                    yield doubt.lost._replace(detail=words or doubt.lost.detail)


def _ask(node: str, log: str) -> ray.ObjectRef:
    """Asks a node for the end of a log, and so for a sign of life."""
    there = NodeAffinitySchedulingStrategy(node, soft=False)
    return ray.remote(last_words).options(num_cpus=0, max_retries=0, scheduling_strategy=there).remote(log)


def is_gone(node: str) -> bool:
    """Whether Ray has given a node up."""
    return not any(entry["NodeID"] == node and entry["Alive"] for entry in ray.nodes())
