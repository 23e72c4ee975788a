"""Inspects a cluster before its use: nodes, versions, and clock differences."""

from __future__ import annotations

import shutil
import time
from typing import NamedTuple

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from embodichain import __version__
from embodichain.errors import EmbodiChainError
from embodichain.ray_engine.config import RayConfig
from embodichain.ray_engine.start import start_ray

_ANSWER_S = 60.0
"""How long a node may take to start a process and answer [s]."""
_ASKED = 3
"""How often each clock is read; the fastest answer is the most accurate."""


class NodeVisit(NamedTuple):
    """One node of a cluster."""

    name: str
    cores: float
    embodichain: str
    clock_s: float
    """Its clock minus this machine's [s]."""
    doubt_s: float
    """Uncertainty of the difference [s]: half of the round-trip time."""
    shm_free_bytes: int


class Visit(NamedTuple):
    """The state of a cluster."""

    nodes: tuple[NodeVisit, ...]


class _Here(NamedTuple):
    embodichain: str
    time_s: float
    shm_free_bytes: int


def visit(address: str) -> Visit:
    """Joins the cluster at `address`, asks every node, and leaves. Must be called in a separate process.

    Raises NoCluster, Refused, or EmbodiChainError for a node that does not answer.
    """
    start_ray(RayConfig(address=address))
    try:
        nodes = tuple(_ask(node) for node in ray.nodes() if node["Alive"])
    except ray.exceptions.RayError as error:
        raise EmbodiChainError(f"a node of the cluster does not answer: {' '.join(str(error).split())[:300]}") from error
    finally:
        ray.shutdown()
    return Visit(nodes=nodes)


def _ask(node: dict) -> NodeVisit:
    there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    look = ray.remote(_look).options(num_cpus=0, max_retries=0, scheduling_strategy=there)
    best: tuple[float, float, _Here] | None = None
    for _ in range(_ASKED):
        before = time.time()
        answer: _Here = ray.get(look.remote(), timeout=_ANSWER_S)
        took = time.time() - before
        if best is None or took < best[0]:
            best = took, before + took / 2, answer
    assert best is not None
    took, middle, answer = best
    cores = float(node["Resources"].get("CPU", 0.0))
    clock_s, shm = answer.time_s - middle, answer.shm_free_bytes
    return NodeVisit(node["NodeManagerAddress"], cores, answer.embodichain, clock_s, took / 2, shm)


def _look() -> _Here:
    return _Here(__version__, time.time(), shutil.disk_usage("/dev/shm").free)
