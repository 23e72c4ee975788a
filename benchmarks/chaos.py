"""What a run survives: workers killed, stopped, out of memory, nodes taken away, on this machine; recovery times, and the verdict.

Counting physics verifies every byte of every read. `--json` prints one JSON object as the last line; it ends with 1 if anything was
torn, read too often, or lost without being known as lost.
"""

from __future__ import annotations

import os
import signal
import statistics
import sys
import threading
import time
from collections import Counter
from typing import Any

import harness
import numpy as np
from ray.cluster_utils import Cluster

from embodichain.config import WorldConfig
from embodichain.errors import IntegrityError, RingTimeout
from embodichain.physics import counting
from embodichain.prepare import prepare
from embodichain.ray_engine import RayConfig, RayEngine
from embodichain.ray_engine.weather import Budgets
from embodichain.ring.ring import Ring
from embodichain.types import RingSpec

K = 2
WORKERS = 3


class Reader(threading.Thread):
    """Reads what is published until it is told to stop, and checks every byte."""

    def __init__(self, ring: Ring, robot: Any) -> None:
        super().__init__(daemon=True)
        self._ring, self._robot = ring, robot
        self.reads: Counter[int] = Counter()
        self.torn = 0
        self.ended = threading.Event()

    def run(self) -> None:
        """Until `ended` is set and nothing is left."""
        while True:
            last = self.ended.is_set()
            try:
                with self._ring.sample(1, timeout_s=0.2) as batch:
                    try:
                        counting.verify(batch[0], robot=self._robot)
                    except IntegrityError as error:
                        self.torn += 1
                        print(error, file=sys.stderr)
                    self.reads[int(batch[0].trajectory_id)] += 1
            except RingTimeout:
                if last:
                    return


def until(holds: Any, engine: RayEngine, timeout_s: float = 120.0) -> float:
    """Waits until something holds; the seconds that it took."""
    began = time.monotonic()
    while not holds():
        engine.check()
        if time.monotonic() > began + timeout_s:
            sys.exit(f"not within {timeout_s:g} s: {engine.health}, {engine.report}")
        time.sleep(0.02)
    return time.monotonic() - began


def strike(engine: RayEngine, number: int, pid: int) -> float:
    """Ends or stops one worker; the seconds until another stands ready in its place."""
    deaths, began = sum(engine.report.deaths.values()), time.monotonic()
    os.kill(pid, number)
    until(lambda: sum(engine.report.deaths.values()) > deaths, engine)
    until(lambda: len(engine.pids) == WORKERS, engine)
    return time.monotonic() - began


def main() -> None:
    parser = harness.parser(__doc__, "4 kills and one node")
    parser.add_argument("--kills", type=int, help="workers to kill (default 100)")
    parser.add_argument("--pause", type=float, default=0.5, help="seconds between kills (default 0.5)")
    arguments = parser.parse_args()
    kills = arguments.kills or (4 if arguments.quick else 100)
    os.environ |= {"RAY_health_check_period_ms": "500", "RAY_health_check_failure_threshold": "4"}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    far = cluster.add_node(num_cpus=WORKERS - 1)
    world = prepare(WorldConfig(physics="counting", tasks=("counting",), horizon=12), lambda name, done, total: None)
    budgets = Budgets(crash=kills, node=kills, hang=kills, memory=kills)
    config = RayConfig(workers=WORKERS, address=str(cluster.address), budgets=budgets, hang_s=5.0)
    rng, recovery = np.random.default_rng(0), []
    with Ring.create(RingSpec(trajectory=world.trajectory_spec, num_slots=8, max_reads=K)) as ring:
        reader = Reader(ring, world.robot)
        with RayEngine(world, ring, config) as engine:
            until(lambda: len(engine.pids) == WORKERS, engine)
            reader.start()
            began = time.monotonic()
            for _ in range(kills):
                recovery.append(strike(engine, signal.SIGKILL, engine.pids[int(rng.integers(WORKERS))]))
                time.sleep(arguments.pause)
            killing_s = time.monotonic() - began
            hang_s = strike(engine, signal.SIGSTOP, engine.pids[0])
            cluster.remove_node(far, allow_graceful=False)
            until(lambda: len(engine.pids) < WORKERS, engine)
            published = engine.report.published
            until(lambda: engine.report.published > published, engine)  # those at home go on
            time.sleep(2.0)
            cluster.add_node(num_cpus=WORKERS - 1)
            back_s = until(lambda: len(engine.pids) == WORKERS, engine)
            report = engine.report
        reader.ended.set()
        reader.join()
        over_k = sum(count > K for count in reader.reads.values()) + ring.stats().over_reads
    cluster.shutdown()
    short = sum(count != K for count in reader.reads.values())
    lost = report.published - len(reader.reads)
    figures = {
        "kills": kills,
        "kills_per_hour": round(3600 * kills / killing_s),
        "recovery_s": {
            "crash_median": round(statistics.median(recovery), 2),
            "crash_most": round(max(recovery), 2),
            "hang": round(hang_s, 2),
            "node_back": round(back_s, 2),
        },
        "deaths": dict(report.deaths),
        "published": report.published,
        "torn": reader.torn,
        "over_k": over_k,
        "read_other_than_k": short,
        "lost": max(0, lost),
    }
    harness.give(figures, arguments)
    sys.exit(1 if reader.torn or over_k or short or lost > 0 else 0)


if __name__ == "__main__":
    main()
