"""Batches that are under way while another is learned from: the same draws, the same bytes, the same bound, nothing lost."""

import logging
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import replace

import numpy as np
import pytest
import torch
from late_gpu import LateGpu
from learner_parts import SMALL, fill, spec, trajectory

from embodichain.errors import ConfigError, LearnerError, RingTimeout
from embodichain.ring.delayed import DelayedDevice
from embodichain.ring.device_ring import DeviceRing
from embodichain.ring.ring import Ring
from embodichain.types import RingSpec
from learner.data.ahead import Ahead
from learner.data.config import DataConfig
from learner.data.copies import AtOnce, locked_if_pinned, page_locked
from learner.data.dataset import MemorySource, RingDataset
from learner.runs import recipes
from learner.training.checkpoint_file import saved_stream_state
from learner.training.config import LearnerConfig, OptimizerConfig
from learner.training.module import AgentModule, RingDataModule, fit

K = 3
pytestmark = pytest.mark.filterwarnings("ignore")


def config(ahead: int) -> LearnerConfig:
    return LearnerConfig(
        agent=SMALL,
        data=DataConfig(batch_size=2, window=2, ahead=ahead),
        optimizer=OptimizerConfig(rate=3e-3, warmup_steps=2, total_steps=200),
        measure_batches=2,
        threads=1,
    )


class Producer:
    """Fills one slot of a small ring whenever the learner starves, so that slots are written anew as soon as they may be."""

    def __init__(self, ring: Ring, number: int = 0) -> None:
        self.ring, self.number = ring, number

    def __call__(self) -> None:
        assert self.ring.stats().held == 0, "whoever waits for trajectories keeps no slot from those who write them"
        with self.ring.reserve(timeout_s=1.0) as slot:
            fill(slot, self.number, 3)
        self.number += 1


def scribble(ring: Ring) -> None:
    """Writes over every slot that writers may have, as workers do who are faster than this learner."""
    with ExitStack() as stack, suppress(RingTimeout):
        while True:
            slot = ring.reserve(timeout_s=0.0)
            stack.callback(slot.abandon)
            for name in ("rgb", "action", "proprio"):
                slot[name][...] = 99


def train(ring, path, ahead, *, steps=8, gpu=None, resume=False, produce=None, every=100, on_step=None, **hooks):
    """Losses of each step, and the data module."""
    setting, losses = config(ahead), []
    data = RingDataModule(RingDataset(ring, setting.data, on_starved=produce, **hooks), copies=gpu)

    def note(step, values):
        losses.append(values["loss"])
        return bool(on_step and on_step(step))

    fit(AgentModule(setting), data, steps=steps, clip=1.0, checkpoint=path, checkpoint_every=every, resume=resume, on_step=note)
    return losses, data


def small_ring() -> Ring:
    return Ring.create(RingSpec(trajectory=spec(), num_slots=4, max_reads=K, min_ready=2))


def late_training(path, ahead, *, lock=True, **settings):
    gpu = LateGpu(ahead)
    with small_ring() as ring, page_locked(ring.readable, gpu) if lock else nullcontext():
        losses, _ = train(ring, path, ahead, gpu=gpu, produce=Producer(ring), on_step=lambda step: scribble(ring), **settings)
        assert ring.stats().held == 0
    return losses, gpu


def test_a_device_that_copies_late_learns_from_the_same_bytes_however_much_is_under_way(tmp_path, no_shared_memory_left):
    with small_ring() as ring:
        expected, _ = train(ring, tmp_path / "now.ckpt", 0, produce=Producer(ring))
    for ahead in (1, 2, 3):
        losses, gpu = late_training(tmp_path / f"{ahead}.ckpt", ahead)
        assert losses == expected
        assert gpu.late > 100 and not gpu.locked
    losses, gpu = late_training(tmp_path / "pageable.ckpt", 2, lock=False)
    assert losses == expected and not gpu.late


@pytest.mark.parametrize("ahead", [0, 2])
def test_what_is_drawn_ahead_from_a_ring_on_a_device_is_what_was_written(ahead, no_shared_memory_left):
    shape = RingSpec(trajectory=spec(), num_slots=4, max_reads=K, min_ready=2)
    with DeviceRing.create(shape, DelayedDevice(3)) as ring:
        numbers = iter(range(1000))

        def produce():
            with suppress(RingTimeout), ring.reserve(timeout_s=1.0) as slot:
                fill(slot, next(numbers), 3)

        dataset = RingDataset(ring, DataConfig(batch_size=2, window=2, ahead=ahead), on_starved=produce)
        most: dict[int, int] = {}
        for batch, _ in zip(Ahead(dataset, AtOnce(torch.device("cpu"))), range(20), strict=False):
            for row, read in enumerate(batch.reads):
                written = trajectory(read.trajectory_id, 3)
                window = slice(read.start, read.start + read.length)
                assert np.array_equal(batch.actions_BTKA[row, : read.length].numpy(), written["action"][window])
                assert np.array_equal(batch.rgb_BThw3[row, : read.length].numpy(), written["rgb"][window])
                most[read.trajectory_id] = max(read.reads, most.get(read.trajectory_id, 0))
        assert max(most.values()) == K and len(most) > 10


def test_batches_kept_for_one_learner_are_not_learned_by_several(trajectories, tmp_path):
    train(MemorySource(trajectories), tmp_path / "x.ckpt", 2, steps=2)
    dataset = RingDataset(MemorySource(trajectories), DataConfig(batch_size=2, window=2))
    dataset._ranks = object()
    with pytest.raises(LearnerError, match=r"keeps 2 batches .* resume with one"):
        RingDataModule(dataset).load_state_dict(saved_stream_state(tmp_path / "x.ckpt"))


def test_a_killed_run_learns_first_from_what_was_under_way(trajectories, tmp_path):
    path = tmp_path / "last.ckpt"

    def die(step):
        if step == 3:
            raise RuntimeError("killed")

    whole, _ = train(MemorySource(trajectories), tmp_path / "whole.ckpt", 2, steps=6)
    assert whole == train(MemorySource(trajectories), tmp_path / "plain.ckpt", 0, steps=6)[0]
    with pytest.raises(RuntimeError, match="killed"):
        train(MemorySource(trajectories), path, 2, steps=6, every=2, on_step=die)
    assert len(saved_stream_state(path)["ahead"]) == 2
    source, drawn = MemorySource(trajectories), []
    tail, data = train(source, path, 2, steps=6, resume=True, record=lambda batch, pairs, step: drawn.append(step))
    assert tail == whole[2:]
    assert len(drawn) == 4, "two of the four batches had been drawn before"
    assert data.dataset.leases == 2 + 6 + 2
    assert (
        train(MemorySource(trajectories), path, 0, steps=8, resume=True)[0]
        == train(MemorySource(trajectories), tmp_path / "plain.ckpt", 0, steps=8, resume=True)[0]
    ), "with less under way than the checkpoint keeps, too"


def test_a_stream_that_ends_is_read_exactly_k_times(tmp_path, no_shared_memory_left):
    reads: dict[int, int] = {}

    def note(batch, pairs, step):
        for read in batch.reads:
            reads[read.trajectory_id] = max(reads.get(read.trajectory_id, 0), read.reads)

    with Ring.create(RingSpec(trajectory=spec(), num_slots=8, max_reads=K)) as ring:
        for number in range(6):
            with ring.reserve() as slot:
                fill(slot, number, 3)
        gpu = LateGpu()
        with page_locked(ring.readable, gpu):
            ended = {"produce": lambda: None, "exhausted": lambda: True}
            losses, _ = train(ring, tmp_path / "x.ckpt", 2, steps=50, gpu=gpu, record=note, **ended)
        assert len(losses) >= (6 * K - 4) // 2 and gpu.sent == len(losses), "what was drawn was learned from, but for the warm-up"
        assert reads == dict.fromkeys(range(6), K)
        assert (ring.stats().held, ring.stats().ready) == (0, 0)


def test_only_a_learner_without_a_batch_waits_for_trajectories(tmp_path, no_shared_memory_left):
    def nobody_produces():
        raise LearnerError("nobody produces")

    steps = []
    with small_ring() as ring:
        for number in range(4):
            with ring.reserve() as slot:
                fill(slot, number, 3)
        with pytest.raises(LearnerError, match="nobody produces"):
            train(ring, tmp_path / "x.ckpt", 2, produce=nobody_produces, on_step=steps.append)
    assert steps == [1, 2, 3, 4], "all that was there, but for the warm-up, was learned from first"


def test_what_fails_on_the_way_holds_nothing(tmp_path, no_shared_memory_left):
    class Broken(LateGpu):
        def send(self, leased, asked):
            if self.sent == 2:
                raise RuntimeError("the device is lost")
            return super().send(leased, asked)

    with small_ring() as ring:
        gpu = Broken()
        with page_locked(ring.readable, gpu), pytest.raises(RuntimeError, match="lost"):
            train(ring, tmp_path / "x.ckpt", 1, gpu=gpu, produce=Producer(ring))
        assert ring.stats().held == 0


def test_a_pinned_ring_is_locked_whole_while_it_is_read_and_not_longer(no_shared_memory_left):
    gpu = LateGpu()
    with small_ring() as ring:
        Producer(ring)()
        Producer(ring, 1)()
        with page_locked(ring.readable, gpu) as locked:
            assert locked
            ((start, size),) = gpu.locked.items()
            for name in ("rgb", "action", "instruction"):
                every = ring.field(name)
                first = every.ctypes.data
                assert start <= first and first + every[-1].nbytes + (len(every) - 1) * every.strides[0] <= start + size
            with ring.sample(2) as lease:
                assert start <= lease[0]["rgb"].ctypes.data < start + size
        assert not gpu.locked


def test_a_driver_that_locks_nothing_is_named_and_training_goes_on(caplog, no_shared_memory_left):
    with small_ring() as ring, caplog.at_level(logging.WARNING), page_locked(ring.readable, LateGpu(refuses=801)) as locked:
        assert not locked
    assert "cannot be page-locked (CUDA error 801)" in caplog.text


@pytest.mark.skipif(torch.cuda.is_available(), reason="speaks of a machine without a GPU")
def test_a_pinned_ring_without_a_gpu_is_refused_with_the_remedy(no_shared_memory_left):
    with (
        small_ring() as ring,
        pytest.raises(LearnerError, match=r"this process sees none: set ring\.placement host"),
        locked_if_pinned(ring, "pinned"),
    ):
        pass
    with small_ring() as ring, locked_if_pinned(ring, "host"):
        pass


def test_settings_that_would_lose_batches_are_refused():
    tiny = recipes.seconds_cpu()
    ahead = replace(tiny.learner, data=replace(tiny.learner.data, ahead=2))
    with pytest.raises(ConfigError, match=r"learner\.data\.ahead 2 is for one learner process, not 2"):
        replace(tiny, learner=ahead, train=replace(tiny.train, ranks=2))
    with pytest.raises(ConfigError, match="0 to 16, got 17"):
        DataConfig(ahead=17)


def test_batches_come_with_what_a_model_needs(trajectories):
    dataset = RingDataset(MemorySource(trajectories), DataConfig(batch_size=2, window=2, ahead=2))
    batch = next(iter(Ahead(dataset, AtOnce(torch.device("cpu")), asked={"opening": True})))
    assert batch.opening is not None and batch.opening.shape[:2] == (2, 1)
    assert dataset.leases == 3
