"""Several learner processes on one ring: the bound is one for all, and they step and stop together."""

import hashlib
import multiprocessing
import os
import signal
import time
from collections import Counter

import numpy as np
import pytest
import torch
import torch.distributed
from learner_parts import SMALL, fill, spec

from embodichain.errors import ConfigError, EmbodiChainError
from embodichain.ring.ledger import Event, Ledger, load
from embodichain.ring.ring import Ring
from embodichain.types import RingSpec
from learner.data.config import DataConfig
from learner.data.dataset import RingDataset
from learner.data.ranks import Ranks

COUNT, READS, TRAJECTORIES, SLOTS = 2, 3, 13, 8
fresh = multiprocessing.get_context("forkserver")
# What takes seconds to import is imported once, before anything runs.
fresh.set_forkserver_preload(["learner.training.module", "learner.data.ranks"])


def join(rank: int, meeting, count: int = COUNT, **rings: int) -> Ranks:
    os.environ |= {"LOCAL_RANK": str(rank), "NODE_RANK": "0", "WORLD_SIZE": str(count), "RANK": str(rank)}
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=count)
    return Ranks(timeout_s=200.0, **rings)


def learn(rank: int, folder, path, ended, answers) -> None:
    """One rank that trains for real until the stream ends."""
    import pytorch_lightning as pl

    from learner.training.config import LearnerConfig, OptimizerConfig
    from learner.training.module import AgentModule, RingDataModule, fit

    ranks = join(rank, folder / "meeting")
    config = LearnerConfig(
        agent=SMALL,
        data=DataConfig(batch_size=2, window=2, timeout_s=200.0),
        optimizer=OptimizerConfig(warmup_steps=2),
        measure_batches=1,
        threads=1,
    )
    with Ring.attach(path, trajectory=spec()) as ring, Ledger.open(folder / "ledger") as ledger:
        read: list[int] = []

        def record(batch, pairs, step) -> None:
            ledger.read(batch.lease, step=step)
            read.extend(window.trajectory_id for window in batch.windows)

        # Only the first rank knows of the stream's end.
        exhausted = ended.is_set if rank == 0 else None
        dataset = RingDataset(ring, config.data, exhausted=exhausted, record=record, ranks=ranks)
        pl.seed_everything(rank, verbose=False)
        module = AgentModule(config)
        steps, _ = fit(
            module,
            RingDataModule(dataset),
            steps=10_000,
            clip=1.0,
            checkpoint=folder / "last.ckpt",
            checkpoint_every=4,
            resume=False,
            on_step=lambda step, values: False,
            ranks=ranks,
        )
        weights = b"".join(p.detach().numpy().tobytes() for p in module.agent.state_dict().values())
        answers.put((rank, steps, dataset.leases, hashlib.sha256(weights).hexdigest(), read))
    torch.distributed.destroy_process_group()


def test_ranks_share_the_bound_learn_the_same_weights_and_stop_together(tmp_path, no_shared_memory_left):
    ended, answers = fresh.Event(), fresh.Queue()
    with Ring.create(RingSpec(trajectory=spec(), num_slots=SLOTS, max_reads=READS)) as ring:
        ranks = [fresh.Process(target=learn, args=(r, tmp_path, ring.path, ended, answers), daemon=True) for r in range(COUNT)]
        for process in ranks:
            process.start()
        for number in range(TRAJECTORIES):
            with ring.reserve(timeout_s=200.0) as slot:
                fill(slot, number)
        ended.set()
        found = sorted(answers.get(timeout=200) for _ in ranks)
        for process in ranks:
            process.join(200)
            assert process.exitcode == 0
        stats = ring.stats()
        assert stats.over_reads == 0 and stats.free == SLOTS
    (_, steps, leases, weights, read), (_, *same, other_read) = found
    assert same == [steps, leases, weights], "the same steps, the same weights"
    assert Counter(read + other_read) == dict.fromkeys(range(TRAJECTORIES), READS), "each exactly K times, whoever read it"
    assert read and other_read
    records, _ = load(tmp_path / "ledger")
    booked = Counter(records["trajectory_id"][records["event"] == Event.READ].tolist())
    assert booked == dict.fromkeys(range(TRAJECTORIES), READS), "and booked so"
    assert (tmp_path / "last.ckpt").exists()


def draws(rank: int, folder, path, fate: str, answers) -> None:
    """One rank that draws until something happens; the second one meets its fate at its third batch."""
    ranks = join(rank, folder / "meeting")

    def meet(view) -> None:
        if rank == 1 and dataset.leases == 3:
            if fate == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise ValueError("found something wrong")

    with Ring.attach(path) as ring:
        dataset = RingDataset(ring, DataConfig(batch_size=1, window=1, timeout_s=1.0), inspect=meet, ranks=ranks)
        try:
            while True:
                dataset.draw().release()
        except (EmbodiChainError, ValueError) as error:
            answers.put((rank, type(error).__name__, dataset.leases))
    answers.close()
    answers.join_thread()
    os._exit(0)  # without waiting for the other rank


@pytest.mark.parametrize("fate", ["killed", "failing", "starved"])
def test_no_rank_waits_for_one_that_is_gone_failing_or_starved(tmp_path, fate):
    answers = fresh.Queue()
    # Three batches each, then the ring is empty and nothing says that the stream has ended.
    reads = 3 if fate == "starved" else 1000
    with Ring.create(RingSpec(trajectory=spec(), num_slots=2, max_reads=reads)) as ring:
        for number in range(2):
            with ring.reserve() as slot:
                fill(slot, number)
        ranks = [fresh.Process(target=draws, args=(r, tmp_path, ring.path, fate, answers), daemon=True) for r in range(COUNT)]
        for process in ranks:
            process.start()
        if fate == "killed":
            rank, kind, leases = answers.get(timeout=200)
            assert (rank, kind, leases) == (0, "PeerLost", 4)
        elif fate == "failing":
            assert sorted(answers.get(timeout=200) for _ in ranks) == [(0, "PeerLost", 4), (1, "ValueError", 3)]
        else:
            found = sorted(answers.get(timeout=200) for _ in ranks)
            assert {leases for *_, leases in found} == {3}
            assert "RingTimeout" in {kind for _, kind, _ in found} <= {"RingTimeout", "PeerLost"}
        for process in ranks:
            process.join(200)
        ring.reap()
        assert ring.stats().held == 0


def own(rank: int, folder, answers) -> None:
    """One rank with a ring and a stream of its own: the second stream is longer."""
    ranks = join(rank, folder / "meeting")
    made = 3 if rank == 0 else 30
    numbers = iter(range(100 * rank, 100 * rank + made))
    with Ring.create(RingSpec(trajectory=spec(), num_slots=4, max_reads=READS)) as ring:
        published = 0

        def feed() -> None:
            nonlocal published
            if published < made and ring.stats().free:
                with ring.reserve(timeout_s=0.0) as slot:
                    fill(slot, next(numbers))
                published += 1

        read: list[int] = []
        dataset = RingDataset(
            ring,
            DataConfig(batch_size=2, window=1, timeout_s=200.0),
            on_starved=feed,
            exhausted=lambda: published == made,
            record=lambda batch, pairs, step: read.extend(window.trajectory_id for window in batch.windows),
            ranks=ranks,
        )
        for batch in dataset:
            batch.release()
    answers.put((rank, dataset.leases, read))
    torch.distributed.destroy_process_group()


def test_ranks_with_a_ring_each_stop_together_when_the_first_stream_is_read_empty(tmp_path, no_shared_memory_left):
    answers = fresh.Queue()
    ranks = [fresh.Process(target=own, args=(r, tmp_path, answers), daemon=True) for r in range(COUNT)]
    for process in ranks:
        process.start()
    (_, leases, short), (_, other_leases, long) = sorted(answers.get(timeout=200) for _ in ranks)
    for process in ranks:
        process.join(200)
    assert leases == other_leases
    assert Counter(short) == dict.fromkeys(range(3), READS)
    assert max(Counter(long).values()) <= READS and min(long) >= 100


def of_two_rings(rank: int, folder, paths, ended, answers) -> None:
    """One of two ranks of the first or the second ring; the first of each knows whether its stream has ended."""
    ring = rank // 2
    ranks = join(rank, folder / "meeting", count=4, ring=ring, rings=2)
    assert ranks.exchange(f"rank {rank}" if ring else "") == ["", "", "rank 2", "rank 3"]
    with Ring.attach(paths[ring], trajectory=spec()) as own:
        exhausted = ended[ring].is_set if rank % 2 == 0 else None
        dataset = RingDataset(own, DataConfig(batch_size=1, window=1, timeout_s=200.0), exhausted=exhausted, ranks=ranks)
        for batch in dataset:
            batch.release()
    answers.put((rank, dataset.leases))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_a_ring_whose_stream_goes_on_is_not_taken_for_empty_because_the_stream_of_another_has_ended(
    tmp_path, no_shared_memory_left
):
    made, answers, ended = 8, fresh.Queue(), (fresh.Event(), fresh.Event())
    wanted = RingSpec(trajectory=spec(), num_slots=made, max_reads=1)
    with Ring.create(wanted) as ending, Ring.create(wanted) as going_on:
        for number in range(made):
            with ending.reserve() as slot:
                fill(slot, number)
        ended[0].set()
        paths = (ending.path, going_on.path)
        ranks = [fresh.Process(target=of_two_rings, args=(r, tmp_path, paths, ended, answers), daemon=True) for r in range(4)]
        for process in ranks:
            process.start()
        while going_on.stats().participants < 3 and all(process.is_alive() for process in ranks):
            time.sleep(0.05)
        for number in range(made):
            time.sleep(0.3)  # its learners wait for each
            while going_on.stats().acquired < number and all(process.is_alive() for process in ranks):
                time.sleep(0.05)
            with going_on.reserve(timeout_s=200.0) as slot:
                fill(slot, 100 + number)
        found = sorted(answers.get(timeout=200) for _ in ranks)
        for process in ranks:
            process.join(200)
        assert ending.stats().acquired == going_on.stats().acquired == made
    assert found == [(rank, made // 2) for rank in range(4)]


def test_a_ring_too_small_for_all_ranks_is_refused(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'meeting'}", rank=0, world_size=1)
    try:
        ranks = Ranks()
        ranks.count = 3
        with Ring.create(RingSpec(trajectory=spec(), num_slots=5)) as ring, pytest.raises(ConfigError, match="at least 6 slots"):
            RingDataset(ring, DataConfig(batch_size=2, window=1), ranks=ranks)
    finally:
        torch.distributed.destroy_process_group()


def test_one_rank_draws_what_a_single_process_draws(tmp_path):
    def drawn(ranks):
        with Ring.create(RingSpec(trajectory=spec(), num_slots=4, max_reads=5)) as ring:
            for number in range(4):
                with ring.reserve() as slot:
                    fill(slot, number)
            dataset, found = RingDataset(ring, DataConfig(batch_size=2, window=2), ranks=ranks), []
            for _ in range(6):
                batch = dataset.draw()
                found += [(w.trajectory_id, w.start) for w in batch.windows]
                batch.release()
            return np.array(found)

    alone = drawn(None)
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'meeting'}", rank=0, world_size=1)
    try:
        np.testing.assert_array_equal(alone, drawn(Ranks()))
    finally:
        torch.distributed.destroy_process_group()
