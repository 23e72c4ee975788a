"""How does throughput scale with workers, what do faults and sweeps cost, and how accurate is the model of large fleets?

    python benchmarks/cluster.py [--quick] [--json]

workers_1_to_n_linearity    n times the trajectories per second of processor time with n workers, over those with one worker; n
                            means that more workers cause no extra cost. (Wall time is useless with fewer cores than workers.)
                            Median of rounds of some seconds: in each, all workers but the first, the first two and so on are
                            stopped, so that all numbers are measured close together while a shared machine's pace drifts
linearity_of_rounds         the same for the largest number of workers: least, quartiles, most
linearity_of_plain          the same of plain processes that simulate the same without Ray and without a ring, in the same rounds:
                            what this machine makes of so many busy processes, whatever software they belong to
recovery_s                  time from a fault until all workers run again, by cause (median)
gateway_over_memcpy         processor time to deliver a trajectory through a gateway, in one process, over one copy of its bytes
gateway_batch_over_single    processor time of the gateway's process for each trajectory (counting physics) that comes in batches of
                            eight, over that for each that comes by itself
sweep_overhead              time of a sweep of six trivial trials, over that of the same commands one after another
torn, over_k                torn reads, and reads beyond the bound, of all reads here; counting physics, every byte is verified
model_error                 trajectories a second: the event model over real runs of 1 to n workers, mean relative error
fleets                      the model's predictions for 10 to 10,000 workers, and what limits each fleet
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import harness
import numpy as np
import psutil

from embodichain.config import WorldConfig
from embodichain.errors import RingTimeout
from embodichain.operations.chaos import arena, storm
from embodichain.operations.faults import Fault
from embodichain.operations.fleet import Fleet, simulate
from embodichain.prepare import prepare
from embodichain.ray_engine.config import RayConfig
from embodichain.ray_engine.engine import RayEngine
from embodichain.ray_engine.trials import Errand, run_trials
from embodichain.ring.gateway import Gateway
from embodichain.ring.ring import Ring
from embodichain.stages import RolloutStage, SceneStage
from embodichain.types import Field, RingSpec, TrajectoryId, TrajectorySpec

TRIALS = 6
TRIAL = "import time; time.sleep(0.5)"
DELIVERED_BYTES = 8 << 20
K = 2
BATCH = 8


class Run(NamedTuple):
    """Measurements of a real run with `workers` workers."""

    workers: int
    published: int
    span_s: float
    processor_s: float
    """Processor time that its workers used [s]."""
    torn: int
    over_k: int
    read_pause_s: float


def processor_s(pids: list[int]) -> float:
    """Processor time of processes so far [s]."""
    total = 0.0
    for pid in pids:
        times = psutil.Process(pid).cpu_times()
        total += times.user + times.system
    return total


def measured(workers: int, seconds: float, *pauses_s: float) -> list[Run]:
    """Runs with counting workers and one verifying reader, `seconds` for each pause of the reader; verdicts are in the first."""
    rows: list[tuple[float, int, float, float]] = []
    with arena(workers=workers, max_reads=K, far=False, hang_s=60.0, slots=2 * workers + 8) as place:
        for pause_s in pauses_s:
            place.reader.pause_s = pause_s
            time.sleep(0.5)
            first, given, began = place.engine.report.published, processor_s(place.engine.pids), time.monotonic()
            time.sleep(seconds)
            spent, span = processor_s(place.engine.pids) - given, time.monotonic() - began
            rows.append((pause_s, place.engine.report.published - first, span, spent))
        over = place.ring.stats().over_reads
    over += sum(count > K for count in place.reader.reads.values())
    runs = [Run(workers, published, span, spent, 0, 0, pause_s) for pause_s, published, span, spent in rows]
    return [runs[0]._replace(torn=len(place.reader.torn), over_k=over), *runs[1:]]


def plain(made: Any, number: int) -> None:
    """A process that simulates what a worker does, one trajectory after another, without Ray and without a ring."""
    world = prepare(WorldConfig(physics="counting", tasks=("counting",), horizon=12), lambda name, done, total: None)
    with Ring.create(RingSpec(trajectory=world.trajectory_spec, num_slots=1, max_reads=1)) as unused:
        stage = RolloutStage(world, unused, worker=number, epoch=1)
        scenes = SceneStage(world, physics=stage.physics)
        out = {field.name: np.zeros(field.shape, field.dtype) for field in world.trajectory_spec.fields}
        for done in itertools.count(1):
            stage.play(*scenes.step(number + done * 1000), out)
            made[number] = done


class Crew(NamedTuple):
    """Processes that make trajectories."""

    pids: list[int]
    made: Callable[[], int]
    """Trajectories so far."""

    def run(self, count: int, seconds: float) -> Run:
        """Measures the first `count` for `seconds`; the others, and those of other crews, must be stopped by whoever calls."""
        for pid in self.pids[:count]:
            os.kill(pid, signal.SIGCONT)
        time.sleep(0.3)
        first, given, began = self.made(), processor_s(self.pids), time.monotonic()
        time.sleep(seconds)
        spent, span = processor_s(self.pids) - given, time.monotonic() - began
        self.stop()
        return Run(count, self.made() - first, span, spent, 0, 0, 0.0)

    def stop(self) -> None:
        """Stops all, so that they cost nothing."""
        for pid in self.pids:
            os.kill(pid, signal.SIGSTOP)


@contextlib.contextmanager
def plain_crew(count: int) -> Iterator[Crew]:
    """`count` plain processes."""
    context = multiprocessing.get_context("spawn")
    made = context.Array("l", count, lock=False)
    processes = [context.Process(target=plain, args=(made, number), daemon=True) for number in range(count)]
    try:
        for process in processes:
            process.start()
        while not all(made):
            time.sleep(0.1)
        yield Crew([process.pid or 0 for process in processes], lambda: sum(made))
    finally:
        for process in processes:
            process.kill()
            process.join()


def together(counts: tuple[int, ...], seconds: float, repeats: int) -> tuple[list[list[Run]], list[list[Run]]]:
    """Rounds in which each number of workers, and of plain processes, runs for `seconds` while all others are stopped.

    One crew serves for all numbers, so nothing differs between the runs of a round but how many of its workers run. The reader
    checks one read of sixteen, so that workers need not wait for it: here it has no core of its own. Returns the rounds of the
    workers, of which the very first run has all verdicts, and those of the plain processes.
    """
    ours: list[list[Run]] = []
    plains: list[list[Run]] = []
    with (
        arena(workers=counts[-1], max_reads=K, far=False, hang_s=600.0, slots=2 * counts[-1] + 8) as place,
        plain_crew(counts[-1]) as others,
    ):
        place.reader.check_every = 16
        workers = Crew(place.engine.pids, lambda: place.engine.report.published)
        try:
            others.stop()
            workers.stop()
            for _ in range(repeats):
                ours.append([workers.run(count, seconds) for count in counts])
                plains.append([others.run(count, seconds) for count in counts])
        finally:
            for pid in workers.pids:
                os.kill(pid, signal.SIGCONT)
        over = place.ring.stats().over_reads
    over += sum(count > K for count in place.reader.reads.values())
    ours[0][0] = ours[0][0]._replace(torn=len(place.reader.torn), over_k=over)
    return ours, plains


def linearity(rounds: list[list[Run]]) -> dict[str, list[float]]:
    """Linearity by number of workers, of every round. The first run of a round is of one worker."""
    found: dict[str, list[float]] = {}
    for runs in rounds:
        one = runs[0].published / runs[0].processor_s
        for run in runs:
            found.setdefault(str(run.workers), []).append(run.workers * run.published / run.processor_s / one)
    return found


def model_error(runs: list[Run]) -> float:
    """Mean relative error of the model's rates against the real runs.

    The model gets the processor time per trajectory from the first run, and the share of the cores that each run had.
    """
    make_s = runs[0].processor_s / runs[0].published
    errors = []
    for run in runs:
        share = run.processor_s / run.span_s / run.workers  # of a core, per worker
        blocked = run.read_pause_s * K
        fleet = Fleet(
            workers=run.workers,
            make_s=make_s if blocked else make_s / max(share, 1e-6),
            cores=run.workers + 1,
            workers_per_node=run.workers,
            batch_size=1,
            step_s=max(run.read_pause_s, 1e-4),
            max_reads=K,
            num_slots=2 * run.workers + 8,
        )
        real = run.published / run.span_s
        errors.append(abs(simulate(fleet, steps=2000).published_per_s - real) / real)
    return round(float(np.mean(errors)), 3)


def gateway_over_memcpy(repeats: int) -> float:
    """Processor time of a delivery over that of one copy of the same bytes; median of alternating repeats."""
    words = DELIVERED_BYTES // 8
    shapes = {"payload": ((words,), "uint64"), "trajectory_id": ((), "uint64"), "num_chunks": ((), "int32")}
    fields = tuple(Field(name=name, shape=shape, dtype=dtype) for name, (shape, dtype) in shapes.items())
    spec = RingSpec(trajectory=TrajectorySpec(horizon=1, fields=fields), num_slots=4, max_reads=1)
    ratios = []
    with tempfile.TemporaryDirectory() as folder, Ring.create(spec) as ring:
        gateway = Gateway(ring, Path(folder) / "journal")
        arrays, target = spec.trajectory.allocate(), np.ones(words, np.uint64)
        arrays["payload"][...] = np.arange(words, dtype=np.uint64)
        rng = np.random.default_rng(0)
        for sequence in range(repeats + 3):
            identity = TrajectoryId(worker=0, epoch=0, sequence=sequence)
            arrays["trajectory_id"][...] = identity.pack()
            began = time.process_time()
            np.copyto(target, arrays["payload"])
            middle = time.process_time()
            assert gateway.deliver(arrays, identity, timeout_s=5.0)
            end = time.process_time()
            with ring.acquire(1, 5.0, rng=rng) as lease:
                assert int(lease[0]["payload"][-1]) == words - 1
            if sequence >= 3:  # the first ones warm up
                ratios.append((end - middle) / max(middle - began, 1e-9))
        gateway.close()
    return round(harness.median(ratios), 3)


def gateway_batch_over_single(seconds: float) -> float:
    """Processor time of a gateway for each trajectory in batches of `BATCH`, over that for each by itself."""
    world = prepare(WorldConfig(physics="counting", tasks=("counting",), horizon=12), lambda name, done, total: None)
    spent: list[float] = []
    for together in (1, BATCH):
        config = RayConfig(workers=2, gateway_only=True, together=together)
        with (
            Ring.create(RingSpec(trajectory=world.trajectory_spec, num_slots=32, max_reads=1)) as ring,
            RayEngine(world, ring, config) as engine,
        ):
            gateway, seen = psutil.Process(engine.gateway_pid), []
            for span_s in (1.0, seconds):  # the first second warms up
                end = time.monotonic() + span_s
                while time.monotonic() < end:
                    with contextlib.suppress(RingTimeout):
                        ring.acquire(1, 0.1).release()
                times = gateway.cpu_times()
                seen.append((engine.report.published, times.user + times.system))
            (first, began), (last, ended) = seen
            spent.append((ended - began) / (last - first))
    return round(spent[1] / spent[0], 3)


def sweep_overhead() -> tuple[float, float]:
    """Time of a sweep of trivial trials over that of the commands alone, and the time added per trial [s]."""
    command = (sys.executable, "-c", TRIAL)
    alone = harness.seconds(lambda: [subprocess.run(command, check=True) for _ in range(TRIALS)])
    with tempfile.TemporaryDirectory() as home:
        errands = [
            Errand(name=f"trial{i}", command=command, folder=Path(home) / "sweep" / f"trial{i}", log=Path(home) / "logs" / str(i))
            for i in range(TRIALS)
        ]
        codes: dict[str, int] = {}
        swept = harness.seconds(
            lambda: codes.update(
                run_trials(
                    errands, address="", at_once=1, cores=1.0, on_working=lambda name, told: None, on_ended=lambda name, code: None
                )
            )
        )
    assert set(codes.values()) == {0} and len(codes) == TRIALS, codes
    return round(swept / alone, 3), round((swept - alone) / TRIALS, 2)


def fleets(*, quick: bool) -> list[dict[str, Any]]:
    """The model's predictions for fleets whose workers simulate `turn_switch` (0.15 s of a core each) with learners of ten steps a
    second of 64 trajectories; K 1 is the most that a stream can be asked for.
    """
    base = Fleet(
        workers=10,
        make_s=0.15,
        cores=16,
        workers_per_node=15,
        batch_size=64,
        step_s=0.1,
        max_reads=10,
        num_slots=512,
        trajectory_bytes=1.3e6,
    )
    rows = []
    for bound, workers, learners in itertools.product((10, 1), (10, 100, 1_000, 10_000), (1, 8)):
        if workers < 8 * learners:
            continue  # there would be less than one machine per learner
        fleet = replace(base, workers=workers, learners=learners, max_reads=bound)
        found = simulate(fleet, steps=60 if quick else 400, most=20_000)
        rows.append(
            {
                "max_reads": bound,
                "workers": workers,
                "learner_nodes": learners,
                "trajectories_per_s": round(found.published_per_s, 1),
                "steps_per_s": round(found.steps_per_s, 2),
                "learner_waits": round(found.waiting.learner, 2),
                "workers_blocked": round(found.waiting.workers, 2),
                "gateway_busy": round(found.gateway_busy, 2),
                "limit": found.limit,
            }
        )
    return rows


def main() -> int:
    """Measures and prints; returns 1 when a read was torn or a trajectory was read too often."""
    parser = harness.parser(__doc__, "1 to 2 workers, one crash, fewer steps of the model, no batches")
    options = parser.parse_args()
    counts, seconds, repeats = ((1, 2), 2.0, 1) if options.quick else ((1, 2, 4, 8), 12.0, 20)
    rounds, plains = together(counts, 2.0 if options.quick else 4.0, repeats)
    ratios, of_plain = linearity(rounds), linearity(plains)
    runs = [measured(count, seconds, 0.0)[0] for count in counts[:-1]]
    last, *slow = measured(counts[-1], seconds, 0.0, 0.02)
    runs.append(last)
    overhead, added_s = sweep_overhead()
    faults = (
        (Fault.CRASH,) if options.quick else (*[Fault.CRASH] * 5, Fault.GATEWAY, Fault.GATEWAY, Fault.HANG, Fault.NODE, Fault.NODE)
    )
    verdict = storm(iter(faults), calm_s=1.0 if options.quick else 5.0)
    figures = {
        "workers_1_to_n_linearity": {workers: round(float(np.median(values)), 2) for workers, values in ratios.items()},
        "linearity_of_rounds": [round(float(value), 2) for value in np.quantile(ratios[str(counts[-1])], (0, 0.25, 0.5, 0.75, 1))],
        "linearity_of_plain": {workers: round(float(np.median(values)), 2) for workers, values in of_plain.items()},
        "recovery_s": verdict.recovery_s(),
        "gateway_over_memcpy": gateway_over_memcpy(10 if options.quick else 60),
        "gateway_batch_over_single": None if options.quick else gateway_batch_over_single(10.0),
        "sweep_overhead": overhead,
        "sweep_added_s_a_trial": added_s,
        "torn": verdict.torn + sum(run.torn for several in (runs, *rounds) for run in several),
        "over_k": verdict.over_k + sum(run.over_k for several in (runs, *rounds) for run in several),
        "model_error": {"workers_limit": model_error(runs), "reader_limits": model_error([runs[0], *slow])},
        "experience_lost": round(verdict.experience_lost, 3),
        "trajectories_per_s": {str(run.workers): round(run.published / run.span_s, 1) for run in runs},
        "fleets": fleets(quick=options.quick),
    }
    harness.give(figures, options)
    return 1 if figures["torn"] or figures["over_k"] or not verdict.intact else 0


if __name__ == "__main__":
    sys.exit(main())
