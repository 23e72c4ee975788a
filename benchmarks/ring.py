"""Is the ring as fast as memory? Put and read against plain copies, draw and gather, latency, throughput, cost at 10,000 slots.

Content is checked before anything is timed. Ratios are medians over interleaved repeats within one run. `--json` prints one JSON
object as the last line.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import harness
import numpy as np
from numpy.typing import NDArray

from embodichain.errors import RingTimeout
from embodichain.ring import host, pages
from embodichain.ring.contract import AnyRing
from embodichain.ring.layout import RingLayout
from embodichain.ring.open import create_ring
from embodichain.ring.ring import Ring, warm_up
from embodichain.types import Field, FullPolicy, RingSpec, TrajectorySpec

MIB = 1 << 20
PEERS = ("over_reverb", "over_torchrl", "over_ray")
ENDLESS = 16_383
"""K for latency runs, so large that no trajectory retires while it is timed."""


def trajectory(size_bytes: int) -> TrajectorySpec:
    fields = (
        Field(name="content", shape=(size_bytes // 8,), dtype="uint64"),
        Field(name="trajectory_id", shape=(), dtype="uint64"),
    )
    return TrajectorySpec(horizon=1, fields=fields)


def content(number: int, words: int) -> NDArray[np.uint64]:
    return np.arange(number, number + words, dtype=np.uint64)


def put(ring: AnyRing, source: NDArray[np.uint64], number: int) -> None:
    with ring.reserve(timeout_s=30.0) as slot:
        np.copyto(slot["content"], source)
        slot["trajectory_id"][()] = number


def check_content(ring: AnyRing, batch_size: int) -> None:
    """Raises when a ring returns other bytes than were put in."""
    words = ring.spec.trajectory.field("content").shape[0]
    with ring.sample(batch_size, 0.0) as batch:
        for sample in batch:
            if not np.array_equal(sample["content"], content(sample.trajectory_id, words)):
                sys.exit(f"trajectory {sample.trajectory_id} came out different from what went in")


def put_over_memcpy(size_mib: int, repeats: int) -> float:
    """Bandwidth of reserve + copy + publish over that of the same copies into the same slots without a ring.

    Both alternate in whole passes over 128 MiB of slots, so that both write memory that is no longer in the caches.
    """
    words, num_slots = size_mib * MIB // 8, max(4, 128 // size_mib)
    source = content(0, words)
    with Ring.create(RingSpec(trajectory=trajectory(words * 8), num_slots=num_slots, max_reads=1)) as ring:
        lay, mapped = RingLayout.of(ring.spec), host.attach(ring.path).memory
        memory = [lay.views(mapped, slot, writable=True)["content"] for slot in range(num_slots)]

        def bare() -> None:
            for slot in memory:
                np.copyto(slot, source)

        def through() -> None:
            for _ in range(num_slots):
                put(ring, source, 0)

        through()
        check_content(ring, num_slots)
        taken = harness.turns(bare, through, repeats, lambda: ring.sample(num_slots, 0.0).release())
        return harness.median(memory_s / ring_s for memory_s, ring_s in taken)


def latencies_us(size_mib: int, num_slots: int, calls: int) -> list[float]:
    """Durations of acquire + release of one trajectory [µs]."""
    with Ring.create(RingSpec(trajectory=trajectory(size_mib * MIB), num_slots=num_slots, max_reads=ENDLESS)) as ring:
        words = size_mib * MIB // 8
        for number in range(num_slots):
            put(ring, content(number, words), number)
        check_content(ring, num_slots)
        rng = np.random.default_rng(0)
        return [harness.seconds(lambda: ring.acquire(1, 0.0, rng).release()) * 1e6 for _ in range(calls)]


def scale(small: int, large: int, repeats: int, batch: int = 8) -> float:
    """Time of a batch with `large` slots over that with `small`, both rings full, interleaved."""
    spec = trajectory(64)
    with (
        Ring.create(RingSpec(trajectory=spec, num_slots=small, max_reads=ENDLESS)) as few,
        Ring.create(RingSpec(trajectory=spec, num_slots=large, max_reads=ENDLESS)) as many,
    ):
        for ring in (few, many):
            for number in range(ring.spec.num_slots):
                put(ring, content(number, 8), number)
            check_content(ring, small)
        rng = np.random.default_rng(0)

        def cost(ring: Ring) -> None:
            for _ in range(200):
                ring.acquire(batch, 0.0, rng).release()

        return harness.median(
            large_s / small_s for small_s, large_s in harness.turns(lambda: cost(few), lambda: cost(many), repeats)
        )


def read_over_private(size_mib: int, repeats: int, placement: str = "host") -> float:
    """Time to copy trajectories out of the ring over that of the same copies out of private memory; both hold 64 MiB."""
    words, count = size_mib * MIB // 8, 64 // size_mib
    with create_ring(RingSpec(trajectory=trajectory(words * 8), num_slots=count, max_reads=ENDLESS), placement) as ring:
        private = [content(number, words) for number in range(count)]
        for number in range(count):
            put(ring, private[number], number)
        check_content(ring, count)
        out = np.empty(words, np.uint64)
        with ring.sample(count, 0.0) as lease:
            views = [sample["content"] for sample in lease]

            def bare() -> None:
                for source in private:
                    np.copyto(out, source)

            def through() -> None:
                for view in views:
                    np.copyto(out, view)

            through()
            return harness.median(ring_s / memory_s for memory_s, ring_s in harness.turns(bare, through, repeats))


def put_evict(small: int, large: int, repeats: int, puts: int = 64) -> float:
    """Time of puts that evict the oldest trajectory with `large` slots over that with `small`, both full, interleaved."""
    spec, source = trajectory(64), content(0, 8)
    rings = [
        Ring.create(RingSpec(trajectory=spec, num_slots=slots, max_reads=1, full_policy=FullPolicy.EVICT_OLDEST))
        for slots in (small, large)
    ]
    with rings[0], rings[1]:
        for ring in rings:
            for number in range(ring.spec.num_slots):
                put(ring, source, number)

        def cost(ring: Ring) -> None:
            for number in range(puts):
                put(ring, source, number)

        taken = harness.turns(lambda: cost(rings[0]), lambda: cost(rings[1]), repeats)
        return harness.median(many_s / few_s for few_s, many_s in taken)


def draw_plus_gather_over_memcpy(repeats: int, batch: int = 8) -> float:
    """Time to draw a batch of whole trajectories and gather it over that of copying as many bytes once."""
    import torch

    from embodichain.types import camera_spec, write_text
    from learner.data.config import DataConfig
    from learner.data.dataset import RingDataset

    torch.set_num_threads(1)
    chunks, rng = 16, np.random.default_rng(0)
    spec = camera_spec(cameras=3, height=128, width=128, horizon=chunks)
    with Ring.create(RingSpec(trajectory=spec, num_slots=2 * batch, max_reads=ENDLESS)) as ring:
        for number in range(2 * batch):
            with ring.reserve() as slot:
                for field in spec.fields:
                    slot[field.name][...] = rng.integers(0, 2, field.shape)
                slot["num_chunks"][...], slot["trajectory_id"][...] = chunks, number
                write_text(slot["instruction"], b"turn the switch on")
                write_text(slot["info"], b"{}")
        dataset = RingDataset(ring, DataConfig(batch_size=batch, window=chunks))

        def through() -> None:
            leased = dataset.draw()
            leased.gather()
            leased.release()

        leased = dataset.draw()
        gathered = leased.gather()
        for column, view in enumerate(leased.windows):
            assert gathered.rgb_BThw3 is not None and view.rgb is not None
            if not torch.equal(gathered.rgb_BThw3[column], view.rgb):
                sys.exit(f"window {column} came out of the gather different from what is in the ring")
        leased.release()
        source = np.ones(gathered.rgb_BThw3.numel(), np.uint8) if gathered.rgb_BThw3 is not None else np.empty(0)

        def bare() -> None:
            source.copy()

        return harness.median(through_s / bare_s for bare_s, through_s in harness.turns(bare, through, repeats))


def _produce(path: Path, size_bytes: int, until: float) -> None:
    with Ring.attach(path) as ring:
        source = content(0, size_bytes // 8)
        try:
            while time.monotonic() < until:
                put(ring, source, 0)
        except RingTimeout:
            pass
        finally:
            os._exit(0)


def _consume(path: Path, batch: int, start: float, until: float, seed: int, result: multiprocessing.Queue) -> None:
    with Ring.attach(path) as ring:
        rng, reads, torn = np.random.default_rng(seed), 0, 0
        while (now := time.monotonic()) < until:
            try:
                with ring.sample(batch, 0.5, rng) as lease:
                    # Reads every byte and checks it by the known sum of an arithmetic sequence.
                    for sample in lease:
                        words = len(sample["content"])
                        torn += int(sample["content"].sum()) != words * (words - 1) // 2
                    reads += len(lease) * (now >= start)
            except RingTimeout:
                continue
        result.put((reads, torn))


def samples_per_s(size_mib: int, seconds: float, *, readers: int = 1, max_reads: int = 10) -> float:
    """Full reads of trajectories per second by `readers` processes, while one writer refills what is read `max_reads` times."""
    context = multiprocessing.get_context("fork")
    spec = RingSpec(trajectory=trajectory(size_mib * MIB), num_slots=16 if size_mib < 32 else 8, max_reads=max_reads)
    with Ring.create(spec) as ring:
        result = context.Queue()
        for _ in range(spec.num_slots):
            put(ring, content(0, size_mib * MIB // 8), 0)
        start = time.monotonic() + 0.3
        until = start + seconds
        people = [context.Process(target=_produce, args=(ring.path, size_mib * MIB, until))]
        people += [context.Process(target=_consume, args=(ring.path, 2, start, until, seed, result)) for seed in range(readers)]
        for process in people:
            process.start()
        counts = [result.get(timeout=seconds + 30) for _ in range(readers)]
        for process in people:
            process.join(5)
        if any(torn for _, torn in counts) or ring.stats().over_reads:
            sys.exit("torn or over-read trajectories while timing")
        return sum(reads for reads, _ in counts) / seconds


def two_readers_over_one(seconds: float) -> float:
    """Throughput of two readers together over that of one, on 1 MiB trajectories that are not retired."""
    two = samples_per_s(1, seconds, readers=2, max_reads=ENDLESS)
    return two / samples_per_s(1, seconds, max_reads=ENDLESS)


def ring_share_of_step(steps: int) -> float:
    """Time to draw and release a batch as a share of a training step of the `tiny_cpu` recipe on it; medians."""
    import torch

    from embodichain.types import camera_spec, write_text
    from learner.data.dataset import RingDataset
    from learner.runs.recipes import tiny_cpu
    from learner.training.module import AgentModule

    config, rng = tiny_cpu(), np.random.default_rng(0)
    world = config.world
    spec = camera_spec(cameras=3, height=world.height, width=world.width, horizon=world.horizon)
    torch.set_num_threads(config.learner.threads)
    agent = AgentModule(config.learner).agent
    with Ring.create(RingSpec(trajectory=spec, num_slots=config.learner.data.batch_size, max_reads=ENDLESS)) as ring:
        for number in range(config.learner.data.batch_size):
            with ring.reserve() as slot:
                slot["rgb"][...] = rng.integers(0, 255, slot["rgb"].shape, np.uint8)
                for name in ("proprio", "action"):
                    slot[name][...] = rng.normal(size=slot[name].shape)
                slot["action_mask"][...], slot["segment"][...], slot["num_chunks"][...] = 1, 0, world.horizon
                slot["trajectory_id"][...] = number
                write_text(slot["instruction"], b"turn the switch on")
                write_text(slot["info"], b"{}")
        dataset = RingDataset(ring, config.learner.data)
        measurement = agent.new_measurement()
        leased = dataset.draw()
        agent.measure(leased.gather(), measurement)
        leased.release()
        agent.normalizer.fit(measurement)
        in_ring, whole = [], []
        for step in range(steps):
            began = time.perf_counter()
            leased = dataset.draw()
            drawn = time.perf_counter()
            agent.losses(leased.gather(), torch.Generator().manual_seed(step)).total.backward()
            learned = time.perf_counter()
            leased.release()
            ended = time.perf_counter()
            in_ring.append(drawn - began + ended - learned)
            whole.append(ended - began)
    return harness.median(in_ring) / harness.median(whole)


def peers() -> dict[str, Any]:
    """Figures of `benchmarks/peers/compare.py`, run in the environment that `make bench-peers` creates."""
    script = Path(__file__).parent / "peers" / "compare.py"
    output = subprocess.run([sys.executable, script, "--peers-only"], capture_output=True, text=True, check=True)
    found = json.loads(output.stdout.splitlines()[-1])
    return {name: found[name] for name in PEERS}


def main() -> None:
    parser = harness.parser(__doc__, "fewer repeats")
    parser.add_argument("--peers", action="store_true", help="Reverb, TorchRL and Ray too: needs `make bench-peers` once")
    arguments = parser.parse_args()
    repeats, seconds = (15, 1.5) if arguments.quick else (60, 6.0)
    warm_up()
    calls = 20_000
    one_mib = sorted(latencies_us(1, 16, calls))
    over: dict[str, Any] = peers() if arguments.peers else dict.fromkeys(PEERS)
    figures = {
        "put_over_memcpy": {str(size): round(put_over_memcpy(size, repeats), 3) for size in (1, 8, 32)},
        "samples_per_s": {str(size): round(samples_per_s(size, seconds), 1) for size in (1, 8, 32)},
        "two_readers_over_one": round(two_readers_over_one(seconds), 2),
        "sample_p50_us": round(one_mib[calls // 2], 2),
        "sample_p99_us": round(one_mib[calls * 99 // 100], 2),
        "scale_10000_over_100": round(scale(100, 10_000, 40 if arguments.quick else 150), 3),
        "read_over_private": {str(size): round(read_over_private(size, repeats), 3) for size in (1, 8)},
        "read_over_private_huge": (
            {str(size): round(read_over_private(size, repeats, "huge"), 3) for size in (1, 8)} if pages.folders() else None
        ),
        "put_evict_10000_over_100": round(put_evict(100, 10_000, repeats), 3),
        "draw_plus_gather_over_memcpy": round(draw_plus_gather_over_memcpy(repeats), 2),
        "ring_share_of_step": round(ring_share_of_step(8 if arguments.quick else 40), 5),
        **over,
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "numpy": np.__version__,
    }
    harness.give(figures, arguments)


if __name__ == "__main__":
    main()
