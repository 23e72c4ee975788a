"""A batch that is gathered by one launch a field is the batch that is stacked window by window, to the bit."""

import sys
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from embodichain.ring.delayed import DelayedDevice
from embodichain.ring.device_ring import DeviceRing
from embodichain.ring.ring import Ring
from embodichain.types import RingSpec, camera_spec, write_text
from learner.data.config import DataConfig
from learner.data.dataset import RingDataset
from learner.data.gather import gathered, lies_on

HORIZON = 6


def ring_of(spec, kind):
    made = RingSpec(trajectory=spec, num_slots=7, max_reads=1000)
    return Ring.create(made) if kind == "host" else DeviceRing.create(made, DelayedDevice(3))


def fill(ring, number):
    rng = np.random.default_rng(number)
    with ring.reserve() as slot:
        for field in ring.spec.trajectory.fields:
            shape, kind = field.shape, np.dtype(field.dtype)
            slot[field.name][...] = rng.integers(0, 255, shape).astype(kind) if kind.kind in "ui" else rng.normal(size=shape)
        slot["num_chunks"][...] = 1 + number % HORIZON
        slot["segment"][...] = rng.integers(0, 3, HORIZON)
        slot["trajectory_id"][...] = number
        write_text(slot["instruction"], b"turn the switch on")


@pytest.mark.parametrize("kind", ["host", "delayed"])
@pytest.mark.parametrize("latents", [None, (2, 3, 5)])
@pytest.mark.parametrize("window", [0, 4])
def test_indexed_batches_are_stacked_batches(kind, latents, window, no_shared_memory_left):
    spec = camera_spec(cameras=2, height=16, width=18, horizon=HORIZON, depth=True, latents=latents, depth_latents=bool(latents))
    with ring_of(spec, kind) as ring:
        for number in range(7):
            fill(ring, number)
        dataset = RingDataset(ring, DataConfig(batch_size=5, window=window, seed=2))
        ragged = 0
        for _ in range(6):
            leased = dataset.draw()
            assert leased.slots is not None
            ragged += len({view.length for view in leased.windows}) > 1
            indexed = leased.gather(opening=True, depth=True)
            stacked = replace(leased, slots=None).gather(opening=True, depth=True)
            for field in fields(indexed):
                mine, theirs = getattr(indexed, field.name), getattr(stacked, field.name)
                if isinstance(mine, torch.Tensor):
                    assert mine.dtype == theirs.dtype and mine.shape == theirs.shape, field.name
                    assert mine.numpy().tobytes() == theirs.numpy().tobytes(), field.name
                else:
                    assert mine == theirs, field.name
            leased.release()
        assert ragged, "windows of different lengths were not tried"


@pytest.mark.skipif(sys.maxsize < 1 << 40, reason="needs addresses of 64 bits")
def test_a_field_may_span_more_than_an_int_can_count(tmp_path):
    """Slots of 700 MB each, of which only the first rows are ever touched: the fourth begins beyond 2^31 bytes."""
    whole = np.memmap(tmp_path / "sparse", np.uint8, mode="w+", shape=(4, 700_000_000))
    field = torch.from_numpy(whole)[:, : 3 * 8].unflatten(1, (3, 8))
    for slot in range(4):
        field[slot] = slot + 10 * torch.arange(3, dtype=torch.uint8)[:, None]
    out = gathered(field, np.array([3, 0, 3]), torch.tensor([1, 0, 0]), torch.tensor([2, 1, 2]), 2)
    assert out[..., 0].tolist() == [[13, 23], [0, 0], [3, 13]]


@pytest.mark.parametrize(
    ("there", "wanted", "same"),
    [
        ("cpu", "cpu", True),
        ("cuda:0", "cuda:0", True),
        ("cuda:0", "cuda:1", False),
        ("cuda:1", "cpu", False),
        ("cpu", "cuda:0", False),
    ],
)
def test_a_ring_on_one_of_several_gpus_is_not_taken_for_one_on_another(there, wanted, same):
    assert lies_on(torch.device(there), torch.device(wanted)) is same
