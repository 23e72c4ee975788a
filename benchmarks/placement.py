"""Where do workers stand, and how soon: each placed by itself, as the engine does it, or all in one placement group of Ray's?

    python benchmarks/placement.py [--quick] [--json]

at_home          of four workers, those on the ring's node, which has two cores to spare; another node has four
at_work          of eight workers for which there are six cores, those that work after a while
all_after_s      time from when two more cores are there until all eight work [s]
replaced_after_s time from the loss of a node with four workers until four work again, on a third node with room [s]

"crew" is `ray_engine.crew.Crew`, "group" a placement group of one bundle for each worker, PACK. Workers only say where they are.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import harness
import ray
from ray.cluster_utils import Cluster
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import NodeLabelSchedulingStrategy, PlacementGroupSchedulingStrategy

from embodichain.processes import Identity
from embodichain.ray_engine.crew import Crew
from embodichain.ray_engine.hello import Hello

HOME, FAR = 2, 4
"""Cores of the ring's node and of another."""
STORE = 100 << 20
SHORT_S = 15.0
"""How long a worker for which there is a core may take to start [s]."""
LONG_S = 120.0


class Probe:
    """A worker that says where it is."""

    def hello(self) -> Hello:
        """Its identity and node."""
        return Hello(Identity.own(), ray.get_runtime_context().get_node_id(), "")

    def sign(self) -> float:
        """It has always just begun."""
        return 0.0


class ByCrew:
    """Workers as the engine keeps them."""

    def __init__(self, count: int) -> None:
        self._actor = ray.remote(num_cpus=1, max_restarts=0)(Probe)
        self._crew = Crew(self._hire, count, home=ray.get_runtime_context().get_node_id(), hang_s=300.0, epoch=0)

    def _hire(self, index: int, epoch: int, where: NodeLabelSchedulingStrategy) -> ray.actor.ActorHandle:
        return self._actor.options(scheduling_strategy=where, max_concurrency=2).remote()

    def nodes(self) -> list[str]:
        """The nodes of those that work. An idle worker has no call under way that would fail, so each is asked something."""
        for worker in self._crew.workers:
            if worker.who is not None and worker.waits_for is None:
                worker.waits_for = worker.actor.hello.remote()
        for _ in self._crew.wait(0.1):
            pass
        return [worker.who.node for worker in self._crew.workers if worker.who is not None]

    def end(self) -> None:
        """Ends them."""
        self._crew.dismiss()


class ByGroup:
    """Workers in a placement group, each in its bundle; a lost one is asked for again in the same bundle, which Ray moves."""

    def __init__(self, count: int) -> None:
        self._group = placement_group([{"CPU": 1.0}] * count, strategy="PACK")
        self._actor = ray.remote(num_cpus=1, max_restarts=0)(Probe)
        self._workers: list[Any] = [None] * count
        self._asked: list[Any] = [None] * count
        self._at: list[str] = [""] * count

    def nodes(self) -> list[str]:
        """The nodes of those that work."""
        for index, asked in enumerate(self._asked):
            if asked is None:
                self._ask(index)
            elif ray.wait([asked], timeout=0)[0]:
                try:
                    self._at[index] = ray.get(asked).node
                except ray.exceptions.RayError:
                    self._workers[index], self._at[index] = None, ""
                self._ask(index)
        time.sleep(0.1)
        return [node for node in self._at if node]

    def _ask(self, index: int) -> None:
        if self._workers[index] is None:
            where = PlacementGroupSchedulingStrategy(self._group, placement_group_bundle_index=index)
            self._workers[index] = self._actor.options(scheduling_strategy=where).remote()
        self._asked[index] = self._workers[index].hello.remote()

    def end(self) -> None:
        """Ends them."""
        remove_placement_group(self._group)


WAYS: dict[str, Callable[[int], ByCrew | ByGroup]] = {"crew": ByCrew, "group": ByGroup}


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A head for the ring's node and this process, and one more node."""
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": HOME, "object_store_memory": STORE})
    try:
        made.add_node(num_cpus=FAR, object_store_memory=STORE)
        made.wait_for_nodes()
        ray.init(address=made.address, log_to_driver=False, logging_level=logging.ERROR)
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


def until(workers: ByCrew | ByGroup, holds: Callable[[list[str]], bool], most_s: float) -> tuple[list[str], float]:
    """Looks again and again; the nodes of those that work then, and how long it took [s]."""
    began = time.monotonic()
    while not holds(found := workers.nodes()) and time.monotonic() - began < most_s:
        pass
    return found, time.monotonic() - began


def measured(way: str, *, quick: bool) -> dict[str, float]:
    """All four figures of one way, in clusters of its own; without a lost node if `quick`."""
    with cluster() as made:
        home = ray.get_runtime_context().get_node_id()
        workers = WAYS[way](4)
        found, _ = until(workers, lambda nodes: len(nodes) == 4, LONG_S)
        at_home = sum(node == home for node in found)
        workers.end()
        workers = WAYS[way](HOME + FAR + 2)
        found, _ = until(workers, lambda nodes: len(nodes) == HOME + FAR, SHORT_S)
        at_work = len(found)
        made.add_node(num_cpus=2, object_store_memory=STORE)
        _, all_after_s = until(workers, lambda nodes: len(nodes) == HOME + FAR + 2, LONG_S)
        workers.end()
    figures = {"at_home": at_home, "at_work": at_work, "all_after_s": round(all_after_s, 1)}
    if quick:
        return figures
    with cluster() as made:
        made.add_node(num_cpus=FAR, object_store_memory=STORE)
        workers = WAYS[way](HOME + FAR)
        found, _ = until(workers, lambda nodes: len(nodes) == HOME + FAR, LONG_S)
        home = ray.get_runtime_context().get_node_id()
        away = next(node for node in found if node != home)
        victim = next(node for node in made.worker_nodes if node.node_id == away)
        left = sum(node != away for node in found)
        made.remove_node(victim, allow_graceful=False)
        began = time.monotonic()
        until(workers, lambda nodes: away not in nodes and len(nodes) <= left, LONG_S)
        until(workers, lambda nodes: away not in nodes and len(nodes) == HOME + FAR, LONG_S)
        replaced_after_s = time.monotonic() - began
        workers.end()
    return figures | {"replaced_after_s": round(replaced_after_s, 1)}


def main() -> int:
    """Measures and prints."""
    parser = harness.parser(__doc__, "once each, and not three times; no node is lost")
    options = parser.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)
    rows: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(1 if options.quick else 3):
        for way, found in rows.items():
            found.append(measured(way, quick=options.quick))
    figures = {way: {name: [row[name] for row in found] for name in found[0]} for way, found in rows.items()}
    harness.give(figures, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
