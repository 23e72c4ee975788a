"""Do assets turn over with the scenes? Different switches in scenes that draw from a pool, and what they cost beside a catalogue.

    python benchmarks/experience_assets.py [--quick] [--json] [--scenes N] [--cost]

Scenes are sampled and settled, without pictures: each switch is generated, broken, mended and optimised when the first scene asks
for it. With `--cost` the scenes are also played by their expert and published, once from a pool and once from a catalogue of two,
each kind from empty caches, in the world of the recipe `turn_any_switch_cpu`; processor time of all processes is compared.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from dataclasses import replace
from typing import Any

import harness
import psutil

from embodichain import robots
from embodichain.assets.chain.config import AssetsConfig, PoolConfig
from embodichain.cache import cache_dir
from embodichain.config import WorldConfig
from embodichain.engine import Engine
from embodichain.errors import SceneError
from embodichain.prepare import prepare
from embodichain.ring.ring import Ring
from embodichain.scenes.reach import ReachTable
from embodichain.stages import SceneStage
from embodichain.types import RingSpec
from learner.runs import recipes

SCENES = 200
POOL = PoolConfig(live=4, new_per_scene=0.25, most_scenes=4)


def fresh_assets(count: int = SCENES) -> dict[str, Any]:
    """What `count` scenes of turn_switch draw from the pool: different switches, and how many scenes the busiest of them served."""
    world = prepare(WorldConfig(tasks=("turn_switch",), width=16, height=16, assets=AssetsConfig(pool=POOL)))
    pool, stage = world.pool, SceneStage(world)
    assert pool is not None
    served: Counter[str] = Counter()
    licences: Counter[str] = Counter()
    refused: set[str] = set()
    scenes = 0
    for number in range(count):
        try:
            _, scene = stage.step(number)
        except SceneError:
            continue
        scenes += 1
        for fresh in pool.drawn(scene):
            served[fresh.asset.content_hash] += 1
            licences[fresh.asset.licence] += 1
            refused |= set(fresh.refused)
    return {
        f"assets_in_{count}_scenes": len(served),
        "asset_scenes": scenes,
        "asset_most_scenes": max(served.values(), default=0),
        "asset_licences": dict(licences),
        "assets_refused": len(refused),
    }


def cost(count: int) -> dict[str, Any]:
    """Processor time [s] of `count` scenes with their assets, from a pool and from a catalogue of two, and the ratio of both."""
    found = {}
    base = recipes.turn_any_switch_cpu().world
    _played(replace(base, assets=AssetsConfig(counts={"switch": 2})), 1)  # what is compiled or loaded once is not compared
    for kind, pool in (("fixed", PoolConfig()), ("pool", POOL)):
        with tempfile.TemporaryDirectory() as folder:
            kept, os.environ["EMBODICHAIN_CACHE"] = os.environ.get("EMBODICHAIN_CACHE"), folder
            try:
                found[kind] = _played(replace(base, assets=AssetsConfig(counts={"switch": 2}, jobs=1, pool=pool)), count)
            finally:
                os.environ.pop("EMBODICHAIN_CACHE")
                if kept is not None:
                    os.environ["EMBODICHAIN_CACHE"] = kept
    ratio = found["pool"]["cpu_s"] / found["fixed"]["cpu_s"]
    return {"asset_cost": found, "asset_cost_ratio": round(ratio, 3)}


def _played(config: WorldConfig, count: int) -> dict[str, Any]:
    """Everything from the first asset on, once the table of reach is there."""
    ReachTable.load_or_build(robots.get(config.robot), cache_dir=cache_dir(), progress=lambda done, total: None)
    before = _cpu_s()
    world = prepare(config)
    prepared = _cpu_s()
    with (
        Ring.create(RingSpec(trajectory=world.stream_spec, num_slots=2, max_reads=1)) as ring,
        Engine(world, ring, limit=count) as engine,
    ):
        while engine.step() is not None:
            while ring.stats().ready:
                with ring.sample(1, timeout_s=1.0):
                    pass
        report = engine.report
        whole = _cpu_s() - before
    return {
        "cpu_s": round(whole, 1),
        "before_the_first_scene_s": round(prepared - before, 1),
        "published": report.published,
        "instances": len(report.instances) or len(world.assets),
        "most_scenes": report.most_scenes,
    }


def _cpu_s() -> float:
    """Processor time of this process and of all that it started [s]."""
    here = psutil.Process()
    times = here.cpu_times()
    living = [child.cpu_times() for child in here.children(recursive=True)]
    return times.user + times.system + times.children_user + times.children_system + sum(one.user + one.system for one in living)


def main() -> None:
    """Parses the command line, measures, prints."""
    parser = harness.parser(__doc__, "20 scenes")
    parser.add_argument("--scenes", type=int, help=f"of the stream (default {SCENES})")
    parser.add_argument("--cost", action="store_true", help="also play them, and compare the cost with that of a catalogue")
    options = parser.parse_args()
    count = options.scenes or (20 if options.quick else SCENES)
    result = fresh_assets(count) | (cost(count) if options.cost else {})
    harness.give(result, options, lambda: print("\n".join(f"{name}: {value}" for name, value in result.items())))


if __name__ == "__main__":
    main()
