"""The number of workers follows who waits: more for a hungry learner, fewer when they only wait; nobody is lost over it."""

import time

import pytest
import ray

from embodichain.config import WorldConfig
from embodichain.errors import ConfigError
from embodichain.operations.chaos import Reader
from embodichain.prepare import prepare
from embodichain.ray_engine import RayConfig, RayEngine, start_ray
from embodichain.ray_engine.elastic import Elastic, decide
from embodichain.ring.ring import Ring
from embodichain.ring.waiting import Waiting
from embodichain.types import RingSpec
from learner.commands.run import parse

BETWEEN = Elastic(least=2, most=32)


def test_a_hungry_learner_gets_more_workers_and_blocked_ones_go():
    assert decide(BETWEEN, 8, Waiting(workers=0.0, learner=0.4), None) == 13
    assert decide(BETWEEN, 8, Waiting(workers=0.6, learner=0.0), None) == 4
    assert decide(BETWEEN, 8, Waiting(workers=0.2, learner=0.05), None) == 8
    assert decide(BETWEEN, 2, Waiting(workers=0.99, learner=0.0), None) == 2
    assert decide(BETWEEN, 30, Waiting(workers=0.0, learner=0.9), None) == 32


@pytest.mark.parametrize("make", [0.5, 3.0, 11.0])
def test_from_any_number_it_comes_to_rest_where_nobody_waits_much(make):
    """A learner that uses up as much as `make` workers make: each side waits for what the other lacks."""
    for workers in (1, 4, 32):
        config, seen = Elastic(least=1, most=32), []
        for _ in range(40):
            waiting = Waiting(workers=max(0.0, 1 - make / workers), learner=max(0.0, 1 - workers / make))
            seen.append(workers := decide(config, workers, waiting, None))
        assert len(set(seen[-8:])) == 1 and make * 0.89 <= max(workers, make) and workers <= max(1, make / 0.7 + 1)


def test_with_a_target_it_steers_by_e():
    wanted = Elastic(least=1, most=32, target_pairs=100.0)
    assert decide(wanted, 8, Waiting(workers=0.0, learner=0.0), 60.0) == 9
    assert decide(wanted, 8, Waiting(workers=0.0, learner=0.0), 200.0) == 4
    assert decide(wanted, 8, Waiting(workers=0.0, learner=0.0), 100.0) == 8
    assert decide(wanted, 8, Waiting(workers=0.9, learner=0.0), 60.0) == 4, "whoever waits for room brings no E"


def test_min_and_max_are_said_in_one_word(tmp_path):
    stream = parse(["seconds_cpu", "--workers", "2:16", "--out", str(tmp_path / "run")]).config.stream
    assert (stream.workers, stream.most_workers) == (2, 16)
    for word in ("4:2", "0:3"):
        with pytest.raises(ConfigError):
            parse(["seconds_cpu", "--workers", word, "--out", str(tmp_path / "run")])


@pytest.mark.slow
def test_workers_come_and_go_during_a_run_and_every_trajectory_is_read_exactly_k_times(no_shared_memory_left):
    start_ray(RayConfig())
    world = prepare(WorldConfig(physics="counting", tasks=("counting",), horizon=12), lambda name, done, total: None)
    elastic, bound = Elastic(least=1, most=2, every_s=0.5), 2
    spec = RingSpec(trajectory=world.trajectory_spec, num_slots=8, max_reads=bound)
    try:
        with Ring.create(spec) as ring, RayEngine(world, ring, RayConfig(workers=1, elastic=elastic)) as engine:
            until(lambda: engine.workers == 1, engine)
            hungry = Reader(ring, world.robot)
            hungry.start()
            until(lambda: engine.workers == 2, engine)
            hungry.pause_s = 0.3  # from now on everybody waits for the reader
            seen = until(lambda: engine.workers == 1 and ring.stats().participants == 2, engine)
            assert max(seen) == 2
            hungry.pause_s = 0.0
            until(lambda: engine.workers == 2, engine)
            state = engine.state()
            report = engine.report
            assert not report.deaths and not report.crashed
            engine.close()
            hungry.ended.set()
            hungry.join()
            stats = ring.stats()
        assert not hungry.torn and stats.over_reads == 0 and set(hungry.reads.values()) == {bound}
        assert len(hungry.reads) >= report.published > 0 and state["next_number"] >= report.published
    finally:
        ray.shutdown()


def until(holds, engine: RayEngine, timeout_s: float = 120.0) -> list[int]:
    """Waits until something holds; how many workers there were meanwhile."""
    seen, deadline = [], time.monotonic() + timeout_s
    while not holds():
        engine.check()
        seen.append(engine.workers)
        assert time.monotonic() < deadline, engine.health
        time.sleep(0.05)
    return seen
