"""Decides whether workers on another node were lost one by one, or because their node died."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from embodichain.ray_engine.hello import last_words
from embodichain.ray_engine.weather import Cause


class Lost(NamedTuple):
    """A failed number, and for every cause except SCENE also a lost worker."""

    cause: Cause
    worker: int
    """Index of the worker."""
    number: int | None
    """The number that it was producing; None if it was idle."""
    node: str
    what: str
    detail: str
    log: str = ""
    """File on the worker's node with its standard error."""
    fatal: bool = False
    """Whether it failed to start for a reason that applies to every worker."""


class _Doubt(NamedTuple):
    """A loss, and the pending question to its node."""

    lost: Lost
    asked: ray.ObjectRef


class Doubts:
    """Losses whose cause is decided once their node has answered, or Ray has declared it dead.

    Ray reports the death of a worker up to seconds before that of its node, so an apparent crash may be the node's death. A node
    that is alive answers with the worker's last output.
    """

    def __init__(self) -> None:
        self._open: list[_Doubt] = []

    @property
    def nodes(self) -> tuple[str, ...]:
        """Suspected nodes, on which no worker should be placed."""
        return tuple({doubt.lost.node for doubt in self._open})

    def add(self, lost: Lost) -> None:
        """Adds a loss, with the cause that applies if the node is alive."""
        self._open.append(_Doubt(lost, _ask(lost.node, lost.log)))

    def settled(self) -> Iterator[Lost]:
        """Yields losses whose cause is decided, each once."""
        for doubt in list(self._open):
            if is_gone(doubt.lost.node):
                self._open.remove(doubt)
                yield doubt.lost if doubt.lost.cause is Cause.PREEMPTED else doubt.lost._replace(cause=Cause.NODE)
            elif ray.wait([doubt.asked], timeout=0)[0]:
                self._open.remove(doubt)
                try:
                    words = str(ray.get(doubt.asked))
                except ray.exceptions.RayError:  # the question itself failed: ask again
                    self.add(doubt.lost)
                else:
                    yield doubt.lost._replace(detail=words or doubt.lost.detail)


def _ask(node: str, log: str) -> ray.ObjectRef:
    """Asks a node for the end of a log, which also shows that it is alive."""
    there = NodeAffinitySchedulingStrategy(node, soft=False)
    return ray.remote(last_words).options(num_cpus=0, max_retries=0, scheduling_strategy=there).remote(log)


def is_gone(node: str) -> bool:
    """Whether Ray has declared a node dead."""
    return not any(entry["NodeID"] == node and entry["Alive"] for entry in ray.nodes())
