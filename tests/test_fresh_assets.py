"""Assets that are made while a run goes on: by number alone, within their bound, whoever makes them and whoever dies of it."""

import os
import pickle
import shutil
import signal
import time
from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import ray
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from embodichain.assets.chain.config import AssetsConfig, PoolConfig, Turnover
from embodichain.assets.chain.pool import Demand, Pool
from embodichain.cache import cache_dir
from embodichain.config import WorldConfig
from embodichain.engine import Engine, EngineReport
from embodichain.errors import AssetError, ConfigError, SceneError
from embodichain.expand.diversity import DiversityConfig
from embodichain.prepare import prepare
from embodichain.ray_engine import RayConfig, RayEngine, start_ray
from embodichain.resimulation import fingerprints, resimulate
from embodichain.ring.ring import Ring
from embodichain.stages import RolloutStage, SceneStage
from embodichain.types import Instance, RingSpec, TrajectoryId, TrajectoryInfo
from embodichain.types.reels import CameraMode
from embodichain.world import Split, World

SWITCH = Demand(category="switch", tasks=(0,), reach=frozenset({"lever_tip"}))
QUICK = PoolConfig(live=2, new_per_scene=0.5, most_scenes=2)


def pool(folder: Path, config: PoolConfig = QUICK, *demands: Demand, turns: int = 1, seed: int = 0) -> Pool:
    return Pool(AssetsConfig(pool=config, seed=seed), demands or (SWITCH,), turns=turns, folder=folder)


# ------------------------------------------------------------------------------------------------------------- numbers


@settings(max_examples=60)
@given(st.integers(1, 12), st.floats(0.05, 4.0), st.integers(1, 40))
def test_no_instance_serves_more_scenes_than_it_may_and_hands_are_of_the_window(live, rate, most):
    try:
        turnover = Turnover(PoolConfig(live=live, new_per_scene=rate, most_scenes=most))
    except ConfigError:
        assume(False)
        raise
    hands = [turnover.hand(k) for k in range(300)]
    served = Counter(index for hand in hands for index in hand)
    assert max(served.values()) <= most
    for k, hand in enumerate(hands):
        assert len(set(hand)) == len(hand) == turnover.size >= 1
        assert all(turnover.first(k) <= index < turnover.first(k) + live for index in hand)


def test_two_hundred_scenes_meet_fifty_switches_and_each_four_scenes_at_most(tmp_path):
    made = pool(tmp_path, PoolConfig(live=4))
    served = Counter(instance for number in range(200) for instance in made.hand(number))
    assert len(served) >= 50 and max(served.values()) <= 4
    assert len(made.hand(0)) == 1, "a run begins with one instance, before the pool is full"


def test_tasks_that_take_turns_share_a_category_and_its_bound(tmp_path):
    both = (Demand(category="block", tasks=(0, 2)), Demand(category="pad", tasks=(1,)))
    made = pool(tmp_path, PoolConfig(live=3, new_per_scene=0.5, most_scenes=4), *both, turns=3)
    hands = [made.hand(number) for number in range(300)]
    assert [{instance.category for instance in hand} for hand in hands[:3]] == [{"block"}, {"pad"}, {"block"}]
    served = Counter(instance for hand in hands for instance in hand)
    assert max(served.values()) <= 4
    assert {instance.index for instance in served if instance.category == "block"} >= set(range(100))


def test_what_is_ordered_is_what_scenes_draw_once_each_and_in_their_order(tmp_path):
    made = pool(tmp_path, PoolConfig(live=3, new_per_scene=0.7, most_scenes=5))
    orders = list(islice(made.orders(5), 60))
    assert len({instance for _, instance in orders}) == len(orders)
    assert [number for number, _ in orders] == sorted(number for number, _ in orders)
    last = orders[-1][0]
    drawn = {instance for number in range(5, last) for instance in made.hand(number)}
    assert drawn <= {instance for _, instance in orders}
    assert all(instance in made.hand(number) for number, instance in orders)
    assert all(made.ordered(made.number_of(instance)) == instance for _, instance in orders)


def test_instances_are_the_same_in_any_process_and_held_out_ones_are_others(tmp_path):
    made, other = pool(tmp_path), pickle.loads(pickle.dumps(pool(tmp_path)))
    names = [next(made._jobs(Instance("switch", held_out, index))).name for held_out in (False, True) for index in range(500)]
    again = [next(other._jobs(Instance("switch", held_out, index))).name for held_out in (False, True) for index in range(500)]
    assert names == again and len(set(names)) == 1000
    elsewhere = pool(tmp_path, seed=1)
    assert not set(names) & {next(elsewhere._jobs(Instance("switch", False, index))).name for index in range(500)}


# ------------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (lambda: PoolConfig(live=4, most_scenes=3), "most_scenes=3 cannot be kept.*an instance serves 4 scenes"),
        (lambda: PoolConfig(live=-1), "live and actors of 0 or more, got -1"),
        (lambda: PoolConfig(live=2, new_per_scene=0.0), "new_per_scene must be above 0"),
        (lambda: PoolConfig(live=2, sources={"teapot": "family"}), "teapot"),
        (lambda: PoolConfig(live=2, sources={"switch": "folders:/data"}), "unknown source of assets 'folders'.*folder"),
        (
            lambda: WorldConfig(assets=AssetsConfig(pool=QUICK), diversity=DiversityConfig(enabled=True)),
            "turn off one of diversity.enabled and assets.pool.live",
        ),
    ],
)
def test_a_configuration_that_cannot_be_kept_is_refused_in_one_line(config, message):
    with pytest.raises(ConfigError, match=message) as refusal:
        config()
    assert "\n" not in str(refusal.value)


def test_demands_and_sources_that_a_pool_cannot_meet_are_refused_before_anything_is_made(tmp_path):
    with pytest.raises(ConfigError, match="ask for 3 of 'block' that differ in size, and are dealt 1 of 4"):
        pool(tmp_path, PoolConfig(live=4), Demand(category="block", tasks=(0,), ranked=3))
    with pytest.raises(AssetError, match="no readable file"):
        pool(tmp_path, replace(QUICK, sources={"switch": f"folder:{tmp_path}"}))
    with pytest.raises(ConfigError, match=r"asks for 'a lever', and assets.pool.generator is empty"):
        pool(tmp_path, replace(QUICK, sources={"switch": "generate:a lever"}))


# ------------------------------------------------------------------------------------------------------- whole streams


def world_in(folder: Path, monkeypatch: pytest.MonkeyPatch, config: PoolConfig = QUICK) -> World:
    """A world whose pool is in a folder, and empty when that is new; what is not of this pool was derived before."""
    folder.mkdir(exist_ok=True)
    for known in cache_dir().glob("reach-*"):
        if known.parent != folder:
            shutil.copy2(known, folder)
    monkeypatch.setenv("EMBODICHAIN_CACHE", str(folder))
    assets = AssetsConfig(pool=config)
    return prepare(WorldConfig(tasks=("turn_switch",), painter="raster", width=32, height=32, horizon=32, assets=assets, seed=3))


def drain(world: World, ring: Ring, engine: Engine | RayEngine) -> dict[int, tuple[dict[str, str], dict[str, str]]]:
    """By number: the instances and the digests of every trajectory."""
    found, deadline = {}, time.monotonic() + 600.0
    while time.monotonic() < deadline:
        ended = engine.exhausted
        while ring.stats().ready:
            with ring.sample(1, timeout_s=5.0) as batch:
                trajectory = {field.name: batch[0][field.name].copy() for field in world.trajectory_spec.fields}
            number = TrajectoryId.unpack(int(trajectory["trajectory_id"])).sequence
            found[number] = (dict(TrajectoryInfo.decode(trajectory["info"]).instances), fingerprints(trajectory))
        if ended:
            return found
        engine.feed()
        time.sleep(0.02)
    raise AssertionError(f"not drained: {engine.report}")


def ring_for(world: World) -> Ring:
    return Ring.create(RingSpec(trajectory=world.trajectory_spec, num_slots=8, max_reads=1))


@pytest.mark.slow
def test_scenes_and_their_assets_are_the_same_in_any_engine_and_after_an_asset_actor_was_killed(
    tmp_path, monkeypatch, no_shared_memory_left
):
    limit, streams, reports = 4, [], list[EngineReport]()
    world = world_in(tmp_path / "serial", monkeypatch)
    with ring_for(world) as ring, Engine(world, ring, limit=limit) as engine:
        streams.append(drain(world, ring, engine))
        reports.append(engine.report)
    alone = [resimulate(world, number) for number in (0, 3)]
    start_ray(RayConfig())
    try:
        for workers, folder in ((2, "empty"), (1, "serial")):  # where all is to be made, and where all was made before
            world = world_in(tmp_path / folder, monkeypatch)
            with ring_for(world) as ring, RayEngine(world, ring, RayConfig(workers=workers), limit=limit) as engine:
                if workers == 2:
                    while not engine.asset_pids:
                        engine.check()
                        time.sleep(0.02)
                    os.kill(engine.asset_pids[0], signal.SIGKILL)
                streams.append(drain(world, ring, engine))
                reports.append(engine.report)
    finally:
        ray.shutdown()
    assert streams[0].keys() == streams[1].keys() == streams[2].keys() and len(streams[0]) >= 3
    assert streams[0] == streams[1] == streams[2]
    for report in reports:
        assert 1 <= report.most_scenes <= 2 and len(report.instances) == 3
        assert all(known["licence"] == "Apache-2.0" and "seed" in known["source"] for known in report.instances.values())
        assert EngineReport.of(report.plain()).instances == report.instances
    assert sum(reports[1].asset_deaths.values()) >= 1 >= len(reports[1].assets_lost)
    assert not reports[1].crashed, "a killed asset actor costs no scene"
    assert not reports[2].asset_deaths and not reports[2].assets_lost
    for number, again in zip((0, 3), alone, strict=True):
        digests = fingerprints(again.trajectory)
        assert all(streams[1][number][1][name] == digest for name, digest in digests.items())


@pytest.mark.slow
def test_held_out_scenes_have_instances_of_their_own_and_a_darkroom_is_refused(tmp_path, monkeypatch):
    world = world_in(tmp_path / "cache", monkeypatch)
    streamed, held = (SceneStage(world, split).step(0)[1] for split in (Split.STREAM, Split.HELD_OUT))
    assert streamed.objects[0].asset.content_hash != held.objects[0].asset.content_hash
    assert world.pool is not None
    assert [str(fresh.instance) for fresh in world.pool.drawn(held)] == ["switch/held_out/0"]
    with pytest.raises(ConfigError, match=r"choose camera='reels', or assets\.pool\.live=0"):
        RolloutStage(world, None, worker=0, epoch=0, camera=CameraMode.DARKROOM)


@pytest.mark.slow
def test_things_of_a_folder_come_in_turns_refusals_are_holes_and_room_is_made(tmp_path):
    things = tmp_path / "things"
    things.mkdir()
    (things / "a_bad.obj").write_text("v 0 0 0\n")
    (things / "a_bad.asset.json").write_text('{"licence": "CC0-1.0"}')
    demand = Demand(category="mark", tasks=(0,))
    config = replace(QUICK, sources={"mark": f"folder:{things};family"}, most_mb=1)
    made = pool(tmp_path / "pool", config, demand)
    fresh = made.get(Instance("mark", False, 0))
    assert fresh.asset.category == "mark" and len(fresh.refused) == 1 and "a_bad" in fresh.refused[0]
    again = pool(tmp_path / "pool", config, demand).get(Instance("mark", False, 0))
    assert again.refused == fresh.refused and again.asset.content_hash == fresh.asset.content_hash
    lacking = pool(tmp_path / "lacking", QUICK, Demand(category="mark", tasks=(0,), reach=frozenset({"handle"})))
    shutil.copytree(tmp_path / "pool", tmp_path / "lacking", dirs_exist_ok=True)
    with pytest.raises(SceneError, match="has no handle, which scenes reach for"):
        lacking.get(Instance("mark", False, 0))
    assert np.isfinite(fresh.asset.bounds).all()
