"""Whatever befalls workers and nodes, a run lives within its budgets, and each trajectory is read K times or known as lost."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
import ray
from drained import check_accounts, drain
from token_cluster import cluster_with_token

from embodichain.config import WorldConfig
from embodichain.errors import ConfigError, EmbodiChainError
from embodichain.prepare import prepare
from embodichain.processes import Identity
from embodichain.ray_engine import RayConfig, RayEngine, start_ray
from embodichain.ray_engine.weather import Budgets, Cause, Deaths
from embodichain.ring.ring import Ring
from embodichain.types import RingSpec
from embodichain.world import World

K = 2


def world_of(physics: str) -> World:
    return prepare(WorldConfig(physics=physics, tasks=("counting",), horizon=12), lambda name, done, total: None)


@pytest.fixture(scope="module")
def world() -> World:
    return world_of("counting")


@pytest.fixture
def no_ray() -> None:
    """For those who start a Ray of their own kind; they come after those who share one."""
    ray.shutdown()


def ring_for(world: World) -> Ring:
    return Ring.create(RingSpec(trajectory=world.trajectory_spec, num_slots=4, max_reads=K))


def check_intact(ids: list[int], engine: RayEngine, *, limit: int) -> None:
    check_accounts(ids, engine, limit=limit, reads=K, unsaid=len(engine.report.crashed))


def eventually(engine: RayEngine, holds, timeout_s: float = 60.0) -> float:
    """Waits until something holds; how long it took [s]."""
    began = time.monotonic()
    while not holds():
        engine.check()
        assert time.monotonic() < began + timeout_s, f"{engine.health}, {engine.report}"
        time.sleep(0.05)
    return time.monotonic() - began


# ------------------------------------------------------------------------------------------------------------- budgets


@pytest.mark.parametrize("cause", list(Cause))
def test_the_loss_after_the_last_that_is_allowed_ends_the_run_and_older_ones_are_forgiven(cause):
    deaths = Deaths(Budgets(**{cause.value: 3}, window_s=10.0))
    for second in range(3):
        deaths.count(cause, now_s=second, node=f"node {second}", what="a fault")
    with pytest.raises(
        EmbodiChainError, match=rf"4 losses by cause '{cause}' within 10 s.*stream.budgets.{cause} is 3.*the last: that one"
    ):
        deaths.count(cause, now_s=9.0, node="node 3", what="that one")
    deaths = Deaths(Budgets(**{cause.value: 3}, window_s=10.0))
    for second in range(0, 100, 4):
        deaths.count(cause, now_s=second, node=f"node {second}", what="seldom enough")


def test_a_node_is_one_loss_however_many_workers_it_had():
    deaths = Deaths(Budgets(node=1))
    for _ in range(64):
        deaths.count(Cause.NODE, now_s=1.0, node="far", what="gone")
    with pytest.raises(EmbodiChainError, match="2 losses by cause 'node'"):
        deaths.count(Cause.NODE, now_s=2.0, node="another", what="gone")


def test_budgets_that_make_no_sense_are_refused():
    with pytest.raises(ConfigError, match=r"stream.budgets.crash must be 0 or more, got -1"):
        Budgets(crash=-1)
    with pytest.raises(ConfigError, match="window_s must be positive"):
        Budgets(window_s=0.0)


# ------------------------------------------------------------------------------------------------- one node, real deaths


@pytest.mark.parametrize("together", [1, 4])
def test_an_exception_costs_its_scene_and_not_the_run(one_ray, no_shared_memory_left, tmp_path, together):
    world, limit = world_of("weather_parts:FaultyPhysics"), 40
    log = tmp_path / "workers.jsonl"
    config = RayConfig(workers=2, budgets=Budgets(scene=limit), log=log, together=together, gateway_only=together > 1)
    with ring_for(world) as ring, RayEngine(world, ring, config, limit=limit) as engine:
        eventually(engine, lambda: len(engine.pids) == 2)
        pids = engine.pids
        check_intact(drain(ring, engine, world), engine, limit=limit)
        assert engine.pids == pids, "nobody died of it"
        raised = sum(count for reason, count in engine.report.reasons.items() if "raised ZeroDivisionError" in reason)
    assert raised >= 3
    told = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(told) == raised
    assert all(entry["cause"] == "scene" and "in reset" in entry["detail"] for entry in told), "with the worker's traceback"


def test_too_many_exceptions_end_the_run_and_say_where_to_look(one_ray, no_shared_memory_left, tmp_path):
    world, log = world_of("weather_parts:FaultyPhysics"), tmp_path / "workers.jsonl"
    with (
        ring_for(world) as ring,
        RayEngine(world, ring, RayConfig(workers=1, budgets=Budgets(scene=2), log=log)) as engine,
        pytest.raises(EmbodiChainError, match=rf"3 losses by cause 'scene'.*ZeroDivisionError.*see {log}"),
    ):
        drain(ring, engine, world)


@pytest.mark.slow
def test_a_worker_that_stands_still_is_replaced_and_one_that_waits_for_room_is_not(one_ray, no_shared_memory_left):
    world, limit = world_of("weather_parts:StoppingPhysics"), 48
    config = RayConfig(workers=2, hang_s=4.0)
    with ring_for(world) as ring, RayEngine(world, ring, config, limit=limit) as engine:
        eventually(engine, lambda: ring.stats().ready == 4)
        time.sleep(6.0)  # the ring is full for longer than a worker may be silent
        lost_while_full = engine.report.deaths[Cause.HANG]
        check_intact(drain(ring, engine, world), engine, limit=limit)
        assert engine.report.timings.blocked_s > 6.0, "they were blocked, and it shows"
        assert set(engine.report.deaths) == {Cause.HANG}
        assert engine.report.deaths[Cause.HANG] > 0
    assert lost_while_full <= 2, "only those that stood still before the ring was full"


@pytest.mark.slow
def test_a_worker_that_is_killed_again_and_again_is_replaced_each_time(world, one_ray, no_shared_memory_left):
    limit, kills = 40, 5
    with ring_for(world) as ring, RayEngine(world, ring, RayConfig(workers=2), limit=limit) as engine:
        eventually(engine, lambda: ring.stats().ready == 4)  # the ring is full: both wait for room, or work ahead of it
        for kill in range(kills):
            eventually(engine, lambda: len(engine.pids) == 2)
            os.kill(engine.pids[kill % 2], signal.SIGKILL)
            eventually(engine, lambda kill=kill: engine.report.deaths[Cause.CRASH] == kill + 1)
        ids = drain(ring, engine, world)
        check_intact(ids, engine, limit=limit)
        assert engine.report.deaths[Cause.CRASH] == kills
        assert ring.stats().over_reads == 0


@pytest.mark.slow
def test_who_waits_at_the_gateway_for_room_lives_and_a_gateway_that_stands_still_is_replaced(world, one_ray, no_shared_memory_left):
    limit = 30
    config = RayConfig(workers=2, gateway_only=True, hang_s=4.0)
    with ring_for(world) as ring, RayEngine(world, ring, config, limit=limit) as engine:
        eventually(engine, lambda: ring.stats().ready == 4)
        time.sleep(8.0)  # a learner that pauses
        assert not engine.report.deaths and not engine.report.gateway_deaths
        os.kill(engine.gateway_pid, signal.SIGSTOP)
        eventually(engine, lambda: engine.report.gateway_deaths == 1)
        check_intact(drain(ring, engine, world), engine, limit=limit)
        assert not engine.report.deaths, "nobody but the gateway stood still"


@pytest.mark.slow
def test_who_has_got_the_number_of_a_lost_worker_or_gateway_lives_on(world, one_ray, no_shared_memory_left):
    limit = 12
    stranger = subprocess.Popen(["sleep", "600"])
    start = int(Path(f"/proc/{stranger.pid}/stat").read_text().split()[21])
    theirs = Identity.own()._replace(pid=stranger.pid, start=start)
    config = RayConfig(workers=1, gateway_only=True, hang_s=4.0)
    try:
        with ring_for(world) as ring, RayEngine(world, ring, config, limit=limit) as engine:
            assert engine._crew is not None
            worker = engine._crew.workers[0]
            for kill, wrong in enumerate((theirs._replace(start=start - 1), theirs._replace(namespace=theirs.namespace + 1))):
                eventually(engine, lambda: worker.who is not None)
                lost = worker.who
                assert lost is not None
                worker.who = lost._replace(process=wrong)
                os.kill(lost.pid, signal.SIGKILL)
                eventually(engine, lambda kill=kill: engine.report.deaths[Cause.CRASH] == kill + 1)
            gateway = engine.gateway_pid
            os.kill(gateway, signal.SIGSTOP)
            time.sleep(config.hang_s / 2)  # what it had answered before is heard, and what it is asked now stays unanswered
            engine._gateway_process = theirs._replace(start=start - 1)
            time.sleep(config.hang_s + 2.0)
            os.kill(gateway, signal.SIGCONT)
            check_intact(drain(ring, engine, world), engine, limit=limit)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


# ------------------------------------------------------------------------------------------------------- several nodes


@pytest.fixture
def cluster(no_ray, monkeypatch):
    """A Ray cluster of processes: the driver's node has one core for workers; the others come and go."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_health_check_period_ms", "500")
    monkeypatch.setenv("RAY_health_check_failure_threshold", "4")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[1]), str(Path(__file__).parent)]))
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    yield made
    if ray.is_initialized():
        ray.shutdown()
    made.shutdown()


@pytest.mark.slow
@pytest.mark.cluster
def test_nodes_come_and_go_and_the_run_goes_on(world, cluster, no_shared_memory_left):
    far = cluster.add_node(num_cpus=2)
    limit = 600
    config = RayConfig(workers=3, address=str(cluster.address))
    with ring_for(world) as ring, RayEngine(world, ring, config, limit=limit) as engine:
        ids: list[int] = []
        reader = threading.Thread(target=lambda: ids.extend(drain(ring, engine, world)))
        eventually(engine, lambda: len(engine.pids) == 3)
        assert ring.stats().participants == 3, "the owner, the gateway, and one worker: the core beside the ring was taken first"
        reader.start()
        eventually(engine, lambda: engine.report.published > 20)
        cluster.remove_node(far, allow_graceful=False)
        eventually(engine, lambda: sum(engine.report.deaths.values()) >= 2)
        published = engine.report.published
        eventually(engine, lambda: engine.report.published > published + 5 or engine.exhausted)
        assert engine.report.deaths == {Cause.NODE: 2}, "one for each worker that was there"
        cluster.add_node(num_cpus=2)
        back_s = eventually(engine, lambda: len(engine.pids) == 3 or engine.exhausted)
        assert back_s < 30.0
        reader.join()
        check_intact(ids, engine, limit=limit)
        assert ring.stats().over_reads == 0


@pytest.mark.slow
@pytest.mark.cluster
def test_a_worker_that_ends_a_moment_before_its_node_was_lost_with_it_and_one_whose_node_lives_was_not(
    world, cluster, tmp_path, no_shared_memory_left
):
    far = cluster.add_node(num_cpus=2)
    config = RayConfig(workers=3, address=str(cluster.address), log=tmp_path / "workers.jsonl")
    with ring_for(world) as ring, RayEngine(world, ring, config) as engine:
        ids: list[int] = []
        reader = threading.Thread(target=lambda: ids.extend(drain(ring, engine, world)))
        reader.start()
        for deaths in (Counter({Cause.CRASH: 2}), Counter({Cause.CRASH: 2, Cause.NODE: 2})):
            eventually(engine, lambda: len(engine.pids) == 3)
            (raylet,) = far.all_processes["raylet"]
            away = [pid for pid in engine.pids if psutil.Process(pid).ppid() == raylet.process.pid]
            assert len(away) == 2
            for pid in away:
                os.kill(pid, signal.SIGKILL)
            if deaths[Cause.NODE]:
                cluster.remove_node(far, allow_graceful=False)  # Ray hears of its end only when it has missed some beats
            eventually(engine, lambda deaths=deaths: engine.report.deaths == deaths)
            published = engine.report.published
            eventually(engine, lambda published=published: engine.report.published > published)
        engine.close()
        reader.join()
    told = [json.loads(line) for line in config.log.read_text().splitlines()]
    assert [":actor_name:" in lost["detail"] for lost in told] == [lost["cause"] == "crash" for lost in told], (
        "a node that lives answers"
    )


@pytest.mark.slow
@pytest.mark.cluster
def test_a_node_that_dies_while_its_workers_start_is_lost_once_and_nobody_has_crashed(cluster, no_shared_memory_left):
    world, far = world_of("weather_parts:SlowlyBuiltPhysics"), cluster.add_node(num_cpus=2)
    (raylet,) = far.all_processes["raylet"]

    def kill() -> None:
        """Kills the far node as soon as both of its workers are building their worlds."""
        children = psutil.Process(raylet.process.pid).children
        while sum("SimulationWorker" in "".join(child.cmdline()) for child in children()) < 2:
            time.sleep(0.1)
        cluster.remove_node(far, allow_graceful=False)

    killer = threading.Thread(target=kill)
    killer.start()
    config = RayConfig(workers=3, address=str(cluster.address), budgets=Budgets(crash=0, node=1))
    with ring_for(world) as ring, RayEngine(world, ring, config, limit=40) as engine:
        killer.join()
        eventually(engine, lambda: engine.report.deaths == {Cause.NODE: 2})
        check_intact(drain(ring, engine, world), engine, limit=40)


@pytest.mark.slow
@pytest.mark.cluster
def test_workers_leave_a_node_that_is_announced_to_go_and_no_number_is_lost(world, cluster, no_shared_memory_left):
    """As a spot machine is announced: Ray is told that the node goes in a minute, and a minute later it is gone."""
    far = cluster.add_node(num_cpus=2)
    with ring_for(world) as ring, RayEngine(world, ring, RayConfig(workers=3, address=str(cluster.address))) as engine:
        ids: list[int] = []
        reader = threading.Thread(target=lambda: ids.extend(drain(ring, engine, world)))
        reader.start()
        eventually(engine, lambda: len(engine.pids) == 3)
        announced = ["drain-node", "--address", str(cluster.address), "--node-id", far.node_id, "--reason"]
        announced += ["DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot", "--deadline-remaining-seconds", "60"]
        subprocess.run([sys.executable, "-m", "ray.scripts.scripts", *announced], check=True, capture_output=True)
        eventually(engine, lambda: len(engine.pids) == 1)
        assert "waiting for a core" in engine.health
        cluster.remove_node(far, allow_graceful=False)
        cluster.add_node(num_cpus=2)
        eventually(engine, lambda: len(engine.pids) == 3)
        published = engine.report.published
        eventually(engine, lambda: engine.report.published > published + 5)
        assert not engine.report.deaths and not engine.report.crashed
        engine.close()
        reader.join()
    assert max(Counter(ids).values()) == K


@pytest.mark.slow
@pytest.mark.cluster
def test_a_run_whose_workers_have_no_core_waits_and_starts_when_there_is_one(world, cluster, no_shared_memory_left):
    ray.init(address=str(cluster.address), log_to_driver=False)
    taken = ray.remote(num_cpus=1)(lambda: time.sleep(60.0)).remote()
    config, limit = RayConfig(workers=2, address=str(cluster.address)), 20
    engines: list[RayEngine] = []
    with ring_for(world) as ring:
        starter = threading.Thread(target=lambda: engines.append(RayEngine(world, ring, config, limit=limit)))
        starter.start()
        time.sleep(3.0)
        assert not engines, "nobody is there to work"
        cluster.add_node(num_cpus=2)
        starter.join(timeout=60.0)
        (engine,) = engines
        with engine:
            check_intact(drain(ring, engine, world), engine, limit=limit)
    ray.cancel(taken, force=True)


@pytest.mark.slow
@pytest.mark.cluster
def test_memory_that_runs_out_costs_a_worker_and_its_number(world, no_ray, monkeypatch, no_shared_memory_left):
    monkeypatch.setenv("RAY_memory_usage_threshold", "0.01")
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "500")
    start_ray(RayConfig())
    try:
        config = RayConfig(workers=2, budgets=Budgets(memory=1))
        with (
            ring_for(world) as ring,
            pytest.raises(EmbodiChainError, match="2 losses by cause 'memory' within 300 s"),
            RayEngine(world, ring, config, limit=400) as engine,
        ):
            drain(ring, engine, world)
    finally:
        ray.shutdown()


@pytest.mark.slow
@pytest.mark.cluster
def test_a_worker_that_was_ended_for_want_of_memory_is_replaced_within_15_s_of_there_being_some(
    world, no_ray, monkeypatch, no_shared_memory_left
):
    memory = psutil.virtual_memory()
    if memory.available < 6 << 30:
        pytest.skip(f"needs 6 GiB of free memory, {memory.available >> 30} are free")
    wanted = 3 << 30
    monkeypatch.setenv("RAY_memory_usage_threshold", f"{(memory.total - memory.available + wanted) / memory.total:.4f}")
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "100")
    start_ray(RayConfig())
    eater = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import sys; sys.stdin.readline(); eaten = bytearray(b'x') * {wanted + (1 << 30)}; sys.stdin.readline()",
        ],
        stdin=subprocess.PIPE,
        text=True,
    )
    try:
        with ring_for(world) as ring, RayEngine(world, ring, RayConfig(workers=2, budgets=Budgets(memory=100))) as engine:
            ids: list[int] = []
            reader = threading.Thread(target=lambda: ids.extend(drain(ring, engine, world)))
            reader.start()
            eventually(engine, lambda: len(engine.pids) == 2)
            eater.stdin.write("eat\n")
            eater.stdin.flush()
            eventually(engine, lambda: engine.report.deaths[Cause.MEMORY] >= 1)
            eater.kill()
            eater.wait()
            back_s = eventually(engine, lambda: len(engine.pids) == 2)
            assert back_s < 15.0
            published = engine.report.published
            eventually(engine, lambda: engine.report.published > published)
            assert set(engine.report.deaths) == {Cause.MEMORY}
            engine.close()
            reader.join()
    finally:
        eater.kill()
        eater.wait()
        ray.shutdown()


def test_no_cluster_and_a_cluster_that_refuses_are_told_apart(no_ray):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with pytest.raises(ConfigError, match=rf"no Ray cluster answers at '127.0.0.1:{port}'"):
        start_ray(RayConfig(address=f"127.0.0.1:{port}"))


@pytest.mark.slow
@pytest.mark.cluster
def test_a_wrong_token_is_not_taken_for_a_cluster_that_is_not_there():
    code = (
        "import sys; from embodichain.ray_engine import RayConfig, start_ray\n"
        "try: start_ray(RayConfig(address=sys.argv[1])); print('joined')\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    with cluster_with_token() as (address, member):
        wrong = member | {"RAY_AUTH_TOKEN": "b" * 32}
        for environment, expected in ((wrong, "something answers"), (member, "joined")):
            done = subprocess.run(
                [sys.executable, "-c", code, address], env=environment, capture_output=True, text=True, timeout=120
            )
            assert expected in done.stdout, done.stdout + done.stderr
