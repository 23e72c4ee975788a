"""A Ray cluster of several nodes on this machine, of which some go and come: for tests, chaos and benchmarks."""

from __future__ import annotations

import os
from types import TracebackType

import ray
from ray.cluster_utils import Cluster

_NOTICE = {"RAY_health_check_period_ms": "500", "RAY_health_check_failure_threshold": "4"}
"""A dead node is noticed within seconds instead of half a minute."""


class Nodes:
    """A head with `at_home` cores, where this process is, and a second node with `far` cores; a context manager."""

    def __init__(self, *, at_home: int, far: int = 0) -> None:
        self._kept = {name: os.environ.get(name) for name in _NOTICE}
        os.environ.update(_NOTICE)
        self._cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": at_home, "object_store_memory": 100 << 20})
        self._cores = far
        self._far = self._cluster.add_node(num_cpus=far, object_store_memory=100 << 20) if far else None

    @property
    def address(self) -> str:
        """Where the cluster is reached."""
        return str(self._cluster.address)

    def take(self) -> None:
        """Kills the second node with everybody on it."""
        if self._far is not None:
            self._cluster.remove_node(self._far, allow_graceful=False)
            self._far = None

    def give(self) -> None:
        """Starts a second node where there is none."""
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
