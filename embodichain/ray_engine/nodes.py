"""A Ray cluster of two nodes on this machine, one of which can be killed and restarted: for tests, chaos and benchmarks."""

from __future__ import annotations

import os
from types import TracebackType

import ray
from ray.cluster_utils import Cluster

_NOTICE = {"RAY_health_check_period_ms": "500", "RAY_health_check_failure_threshold": "4"}
"""Settings with which Ray notices a dead node within seconds instead of half a minute."""


class Nodes:
    """A head node with `at_home` cores, which this process uses, and a second node with `far` cores; a context manager."""

    def __init__(self, *, at_home: int, far: int = 0) -> None:
        self._kept = {name: os.environ.get(name) for name in _NOTICE}
        os.environ.update(_NOTICE)
        self._cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": at_home, "object_store_memory": 100 << 20})
        self._cores = far
        self._far = self._cluster.add_node(num_cpus=far, object_store_memory=100 << 20) if far else None

    @property
    def address(self) -> str:
        """Address of the cluster."""
        return str(self._cluster.address)

    def take(self) -> None:
        """Kills the second node with all its processes."""
        if self._far is not None:
            self._cluster.remove_node(self._far, allow_graceful=False)
            self._far = None

    def give(self) -> None:
        """Starts the second node if it is not running."""
        if self._far is None and self._cores:
            self._far = self._cluster.add_node(num_cpus=self._cores, object_store_memory=100 << 20)

    def __enter__(self) -> Nodes:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        ray.shutdown()
        self._cluster.shutdown()
        for name, value in self._kept.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
