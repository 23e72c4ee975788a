"""Workers that were lost on other nodes: each of a fault of its own, or all with their node."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

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
    fatal: bool = False
    """It failed to start for a reason that would stop every other one too."""


class Doubts:
    """Losses whose cause is settled once their node has answered, or Ray has given it up.

    The end of a worker is heard of before the end of its node, at times by seconds: what looks like a crash is the node's death
    when the node turns out to be gone.
    """

    def __init__(self) -> None:
        self._asked: dict[str, ray.ObjectRef] = {}
        self._losses: list[Lost] = []

    @property
    def nodes(self) -> tuple[str, ...]:
        """Nodes in doubt: nobody should be placed there."""
        return tuple(self._asked)

    def add(self, lost: Lost) -> None:
        """Takes in a loss, with the cause that it has if the node lives."""
        self._losses.append(lost)
        if lost.node not in self._asked:
            self._asked[lost.node] = _probe(lost.node)

    def settled(self) -> Iterator[Lost]:
        """Losses whose cause is known by now, each once."""
        for node, answer in list(self._asked.items()):
            gone = is_gone(node)
            if not gone and not self._answers(node, answer):
                continue
            del self._asked[node]
            settled = [lost for lost in self._losses if lost.node == node]
            self._losses = [lost for lost in self._losses if lost.node != node]
            for lost in settled:
                yield lost._replace(cause=Cause.NODE) if gone and lost.cause is not Cause.PREEMPTED else lost

    def _answers(self, node: str, answer: ray.ObjectRef) -> bool:
        """Whether a node gave a sign of life; it is asked again when the question was lost."""
        if not ray.wait([answer], timeout=0)[0]:
            return False
        try:
            return bool(ray.get(answer))
        except ray.exceptions.RayError:
            self._asked[node] = _probe(node)
            return False


def _probe(node: str) -> ray.ObjectRef:
    """Asks a node for a sign of life."""
    there = NodeAffinitySchedulingStrategy(node, soft=False)
    return ray.remote(_here).options(num_cpus=0, max_retries=0, scheduling_strategy=there).remote()


def is_gone(node: str) -> bool:
    """Whether Ray has given a node up."""
    return not any(entry["NodeID"] == node and entry["Alive"] for entry in ray.nodes())


def _here() -> bool:
    return True
