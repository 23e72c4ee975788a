"""Decides whether workers on another node were lost one by one, or because their node died."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from embodichain.metrics import MetricsWriter
from embodichain.ray_engine.hello import last_words
from embodichain.ray_engine.weather import Cause


class Lost(NamedTuple):
    """Failed numbers, and for every cause except SCENE also a lost worker."""

    cause: Cause
    worker: int
    """Index of the worker."""
    numbers: tuple[int, ...]
    """The numbers that it was producing; none if it was idle."""
    node: str
    what: str
    detail: str
    log: str = ""
    """File on the worker's node with its standard error."""
    fatal: bool = False
    """Whether it failed to start for a reason that applies to every worker."""


def write_down(lost: Lost, log: Path | None, maker: str = "worker") -> str:
    """Adds a loss to a log, if there is one; where, in words. `maker` says what `lost.worker` counts."""
    if log is None:
        return ""
    told = {"cause": lost.cause.value, maker: lost.worker, "numbers": list(lost.numbers), "node": lost.node}
    writer = MetricsWriter(log)
    writer.write("lost", {**told, "what": lost.what, "detail": lost.detail})
    writer.close()
    return f"; see {log}"


_PATIENCE_S = 10.0
"""How long after the loss of a worker that never told its node a node may still turn out to be dead [s]."""


class _Doubt(NamedTuple):
    """A loss on a known node, and the pending question to it; or one on any of several nodes, until a time [s]."""

    lost: Lost
    asked: ray.ObjectRef | None
    among: frozenset[str] = frozenset()
    until: float = 0.0


class Doubts:
    """Losses whose cause is decided once their node has answered, or Ray has declared it dead.

    Ray reports the death of a worker up to seconds before that of its node, so an apparent crash may be the node's death. A node
    that is alive answers with the worker's last output. A worker that was lost before it told its node was lost with one of the
    nodes that lived when it was placed, if one of them turns out to be dead.
    """

    def __init__(self) -> None:
        self._open: list[_Doubt] = []

    @property
    def nodes(self) -> tuple[str, ...]:
        """Suspected nodes, on which no worker should be placed."""
        return tuple({doubt.lost.node for doubt in self._open if doubt.asked is not None})

    def add(self, lost: Lost) -> None:
        """Adds a loss, with the cause that applies if the node is alive."""
        self._open.append(_Doubt(lost, _ask(lost.node, lost.log)))

    def add_unmet(self, lost: Lost, among: frozenset[str]) -> None:
        """Adds the loss of a worker that was placed on one of `among` and never said on which."""
        self._open.append(_Doubt(lost, None, among, time.monotonic() + _PATIENCE_S))

    def settled(self) -> Iterator[Lost]:
        """Yields losses whose cause is decided, each once."""
        for doubt in list(self._open):
            if doubt.asked is None:
                if gone := doubt.among - alive():
                    self._open.remove(doubt)
                    yield _with_node(doubt.lost._replace(node=min(gone)))
                elif time.monotonic() > doubt.until:
                    self._open.remove(doubt)
                    yield doubt.lost
            elif is_gone(doubt.lost.node):
                self._open.remove(doubt)
                yield _with_node(doubt.lost)
            elif ray.wait([doubt.asked], timeout=0)[0]:
                self._open.remove(doubt)
                try:
                    words = str(ray.get(doubt.asked))
                except ray.exceptions.RayError:  # the question itself failed: ask again
                    self.add(doubt.lost)
                else:
                    yield doubt.lost._replace(detail=words or doubt.lost.detail)


def _with_node(lost: Lost) -> Lost:
    """A loss whose node is dead; one that was announced stays a preemption."""
    return lost if lost.cause is Cause.PREEMPTED else lost._replace(cause=Cause.NODE)


def _ask(node: str, log: str) -> ray.ObjectRef:
    """Asks a node for the end of a log, which also shows that it is alive."""
    there = NodeAffinitySchedulingStrategy(node, soft=False)
    return ray.remote(last_words).options(num_cpus=0, max_retries=0, scheduling_strategy=there).remote(log)


def alive() -> frozenset[str]:
    """Nodes that Ray has not declared dead."""
    return frozenset(entry["NodeID"] for entry in ray.nodes() if entry["Alive"])


def is_gone(node: str) -> bool:
    """Whether Ray has declared a node dead."""
    return node not in alive()
