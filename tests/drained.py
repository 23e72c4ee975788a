"""A stream of counting episodes read to its end, each trajectory verified, for the tests of engines."""

import time

from embodichain.errors import RingTimeout
from embodichain.physics import counting
from embodichain.ray_engine import RayEngine
from embodichain.ring.ring import Ring
from embodichain.world import World


def drain(ring: Ring, engine: RayEngine, world: World, timeout_s: float = 240.0) -> list[int]:
    """Ids of every read until the stream has ended; each is verified in full where physics only counts."""
    ids, deadline = [], time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        ended = engine.exhausted
        try:
            with ring.sample(1, timeout_s=0.0 if ended else 0.2) as batch:
                if world.config.physics == "counting":
                    counting.verify(batch[0], robot=world.robot)
                ids.append(batch[0].trajectory_id)
        except RingTimeout:
            engine.check()
            if ended:
                return ids
    raise AssertionError(f"not drained after {timeout_s} s: {engine.health}, {engine.report}")


def check_accounts(ids: list[int], engine: RayEngine, *, limit: int, reads: int, unsaid: int) -> None:
    """Every number has one fate, every trajectory was read `reads` times, and at most `unsaid` are there that nobody reported."""
    report = engine.report
    assert sum(report.fates.values()) + len(report.crashed) == limit
    assert sorted(ids) == sorted(reads * list(set(ids))), "each exactly K times"
    assert 0 <= len(set(ids)) - report.published <= unsaid, "the dead may have published before they could say so"
