"""Workers on other nodes feed the ring through an actor: the same trajectories, each once, whoever dies."""

import dataclasses
import os
import signal
import time
from typing import Any

import pytest
import ray
from drained import check_accounts, drain

from embodichain.config import WorldConfig
from embodichain.errors import RingError
from embodichain.prepare import prepare
from embodichain.ray_engine import Courier, GatewayActor, RayConfig, RayEngine, RingHome
from embodichain.ring.gateway import Parcel
from embodichain.ring.ring import Ring
from embodichain.types import RingSpec, TrajectoryId
from embodichain.world import World


@pytest.fixture(scope="module")
def world() -> World:
    return prepare(WorldConfig(physics="counting", tasks=("counting",), horizon=12), lambda name, done, total: None)


def ring_for(world: World, *, reads: int) -> Ring:
    return Ring.create(RingSpec(trajectory=world.trajectory_spec, num_slots=4, max_reads=reads))


def check_complete(ids: list[int], engine: RayEngine, *, limit: int, reads: int) -> None:
    """One that was given up may be there, but once."""
    forfeited = sum(count for reason, count in engine.report.reasons.items() if "the gateway died" in reason)
    check_accounts(ids, engine, limit=limit, reads=reads, unsaid=forfeited + len(engine.report.crashed))


def test_through_the_gateway_each_is_read_exactly_k_times_though_the_gateway_is_killed(world, one_ray, no_shared_memory_left):
    limit = 40
    with (
        ring_for(world, reads=2) as ring,
        RayEngine(world, ring, RayConfig(workers=2, gateway_only=True), limit=limit) as engine,
    ):
        assert ring.stats().participants == 2, "the owner and the gateway: no worker is attached"
        journal = engine._home.journal
        assert journal.exists()
        while engine.report.published < 3:  # the ring is about to be full: both workers wait at the gateway
            engine.check()
            time.sleep(0.02)
        os.kill(engine.gateway_pid, signal.SIGKILL)
        ids = drain(ring, engine, world)
        check_complete(ids, engine, limit=limit, reads=2)
        assert {TrajectoryId.unpack(packed).worker for packed in ids} == {0, 1}
        assert ring.stats().over_reads == 0
        assert engine.report.gateway_deaths == 1
    assert not journal.exists()


@pytest.mark.slow
def test_who_delivers_while_the_journals_disk_is_full_waits_for_room_and_not_for_ever(
    world, one_ray, no_shared_memory_left, tmp_path
):
    class Full(GatewayActor):
        """Its journal cannot be written for the first `times` deliveries."""

        def __init__(self, home, times) -> None:
            super().__init__(home)
            self._append, self._left = self._gateway._journal.append, times
            self._gateway._journal.append = self._fail

        def _fail(self, records) -> None:
            self._left -= 1
            if self._left >= 0:
                raise RingError("cannot write the journal: No space left on device")
            self._append(records)

    with ring_for(world, reads=1) as ring:
        arrays, identity = world.trajectory_spec.allocate(), TrajectoryId(worker=1, epoch=0, sequence=1)
        arrays["trajectory_id"][()] = identity.pack()
        for times, patience_s in ((2, 60.0), (10_000, 2.0)):
            home = dataclasses.replace(RingHome.of(ring), journal=tmp_path / f"journal{times}")
            gateway: Any = ray.remote(num_cpus=0)(Full).remote(home, times)
            try:
                if times == 2:
                    assert Courier(gateway)([Parcel(arrays, identity)], patience_s) == [True]
                else:
                    with pytest.raises(RingError, match="No space left on device"):
                        Courier(gateway)([Parcel(arrays, identity)], patience_s)
            finally:
                ray.kill(gateway)
        assert ring.stats().published == 1


@pytest.mark.slow
def test_batches_are_published_once_too_though_a_worker_and_the_gateway_are_killed(world, one_ray, no_shared_memory_left):
    limit, together = 60, 5
    config = RayConfig(workers=2, gateway_only=True, together=together)
    with ring_for(world, reads=2) as ring, RayEngine(world, ring, config, limit=limit) as engine:
        while ring.stats().ready < 4:  # a batch is larger than the ring: the rest waits at the gateway
            engine.check()
            time.sleep(0.02)
        os.kill(engine.pids[0], signal.SIGKILL)
        os.kill(engine.gateway_pid, signal.SIGKILL)
        ids = drain(ring, engine, world)
        check_complete(ids, engine, limit=limit, reads=2)
        assert len(engine.report.crashed) == together, "the batch that the worker had at hand"
        assert ring.stats().over_reads == 0
        assert engine.report.gateway_deaths == 1


@pytest.mark.cluster
def test_workers_on_other_nodes_write_through_the_gateway_and_those_at_home_in_place(world, no_shared_memory_left):
    from ray.cluster_utils import Cluster

    assert not ray.is_initialized(), "needs a Ray of its own: run with -m cluster"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    try:
        cluster.add_node(num_cpus=2)
        limit = 40
        with ring_for(world, reads=2) as ring:
            engine = RayEngine(world, ring, RayConfig(workers=4, address=str(cluster.address)), limit=limit)
            with engine:
                at_home = ring.stats().participants - 2
                assert 1 <= at_home <= 3, "spread over both nodes"
                ids = drain(ring, engine, world)
                check_complete(ids, engine, limit=limit, reads=2)
                assert {TrajectoryId.unpack(packed).worker for packed in ids} == {0, 1, 2, 3}
    finally:
        cluster.shutdown()


@pytest.mark.slow
def test_a_trajectory_of_another_schema_stops_the_run_loudly(world, one_ray, no_shared_memory_left):
    other = prepare(WorldConfig(physics="counting", tasks=("counting",), horizon=11), lambda name, done, total: None)
    with (
        ring_for(world, reads=1) as ring,
        RayEngine(other, ring, RayConfig(workers=1, gateway_only=True), limit=5) as engine,
    ):
        deadline = time.monotonic() + 30
        while not engine.exhausted and time.monotonic() < deadline:
            time.sleep(0.05)
        with pytest.raises(RingError, match="the ring holds"):
            engine.check()
        assert ring.stats().published == 0
