import threading
import time

import numpy as np
import pytest
import torch
from learner_parts import CAMERAS, HORIZON, SIDE, fill, spec, trajectory

from embodichain.errors import ConfigError, LearnerError, RingError, RingTimeout
from embodichain.ring.ring import Ring
from embodichain.types import CHUNK, Field, RingSpec, Segment, TrajectorySpec
from learner.data.config import DataConfig
from learner.data.dataset import MemorySource, RingDataset, check_spec
from learner.data.windows import Coverage, Read, cut


@pytest.fixture
def ring():
    with Ring.create(RingSpec(trajectory=spec(), num_slots=8, max_reads=4), debug=True) as made:
        yield made


def put(ring: Ring, number: int, chunks: int = HORIZON) -> None:
    with ring.reserve() as slot:
        fill(slot, number, chunks)


def address(tensor: torch.Tensor) -> int:
    return tensor.data_ptr()


def test_windows_are_views_of_the_rings_own_memory(ring):
    for number in range(4):
        put(ring, number)
    batch = RingDataset(ring, DataConfig(batch_size=4, window=2)).draw()
    for column, window in enumerate(batch.windows):
        sample = batch.lease[column]
        for name, tensor in (("rgb", window.rgb), ("proprio", window.proprio), ("action", window.action)):
            own = sample[name]
            step = own.strides[0]
            assert address(tensor) == own.__array_interface__["data"][0] + window.start * step, name
            assert tensor.untyped_storage().nbytes() <= own.nbytes
    batch.release()


def test_gathering_is_the_only_copy_and_outlives_the_lease(ring):
    put(ring, 7)
    batch = RingDataset(ring, DataConfig(batch_size=1, window=3)).draw()
    gathered, start = batch.gather(), batch.windows[0].start
    batch.release()
    put(ring, 8)
    expected = trajectory(7)
    np.testing.assert_array_equal(gathered.rgb_BThw3[0], expected["rgb"][start : start + 4])
    np.testing.assert_array_equal(gathered.proprio_BTA[0], expected["proprio"][start : start + 4])
    np.testing.assert_array_equal(gathered.actions_BTKA[0], expected["action"][start : start + 3])
    assert gathered.trajectory_ids == (7,) and gathered.starts == (start,)
    assert gathered.instructions == ("turn the switch on",)


def test_shapes_types_and_padding_of_short_episodes():
    source = MemorySource([trajectory(0, 2), trajectory(1, HORIZON)])
    batch = RingDataset(source, DataConfig(batch_size=2, window=4)).draw().gather()
    assert batch.rgb_BThw3.shape == (2, 5, CAMERAS, SIDE, SIDE, 3) and batch.rgb_BThw3.dtype == torch.uint8
    assert batch.actions_BTKA.shape == (2, 4, CHUNK, 30) and batch.action_mask_BA.dtype == torch.bool
    short, whole = np.argsort(batch.trajectory_ids)
    assert batch.valid_BT[short].tolist() == [True, True, False, False] and batch.valid_BT[whole].all()
    assert (batch.rgb_BThw3[short, 3:] == 0).all() and (batch.actions_BTKA[short, 2:] == 0).all()
    assert bool(batch.actions_BTKA.isfinite().all()), "what lies beyond an episode's end is poison and must not be read"


def test_windows_are_uniform_over_those_that_fit():
    rng, view = np.random.default_rng(0), MemorySource([trajectory(0, 5)]).acquire(1, 0.0, rng=np.random.default_rng(0))[0]
    starts = np.bincount([cut(view, 2, rng).start for _ in range(4000)], minlength=4)
    assert len(starts) == 4 and starts.min() > 900


def test_failed_attempts_are_watched_but_not_imitated():
    marked = trajectory(0, 3)
    marked["segment"][:3] = [Segment.FAILURE, Segment.RECOVERY, Segment.NOMINAL]
    batch = RingDataset(MemorySource([marked]), DataConfig(batch_size=1, window=4)).draw().gather()
    assert batch.valid_BT.tolist() == [[True, True, True, False]]
    assert batch.imitate_BT.tolist() == [[False, True, True, False]]


def test_every_draw_costs_one_read_and_no_trajectory_is_read_more_than_k_times(ring):
    reads: dict[int, list[int]] = {}

    def record(batch, pairs, step):
        for window in batch.windows:
            reads.setdefault(window.trajectory_id, []).append(window.read_index)

    for number in range(8):
        put(ring, number)
    dataset = RingDataset(ring, DataConfig(batch_size=4, window=2, timeout_s=0.0), record=record)
    with pytest.raises(RingTimeout):
        while True:
            dataset.draw().release()
    assert all(indices == list(range(len(indices))) and len(indices) <= 4 for indices in reads.values())
    assert dataset.samples == sum(map(len, reads.values())) == 4 * dataset.leases


def test_a_starved_dataset_lets_the_engine_in_its_own_process_produce(ring):
    numbers = iter(range(100))
    dataset = RingDataset(ring, DataConfig(batch_size=2, window=2), on_starved=lambda: put(ring, next(numbers)))
    for _ in range(9):
        dataset.draw().release()
    assert next(numbers) >= 5, "eighteen reads at four a trajectory"


def test_serial_streams_are_a_function_of_the_seed():
    def drawn(seed: int):
        with Ring.create(RingSpec(trajectory=spec(), num_slots=8, max_reads=3)) as ring:
            numbers, out = iter(range(100)), []
            config = DataConfig(batch_size=2, window=2, seed=seed)
            dataset = RingDataset(ring, config, on_starved=lambda: put(ring, next(numbers)))
            for _ in range(8):
                batch = dataset.draw()
                out += [(w.trajectory_id, w.start) for w in batch.windows]
                batch.release()
            return out

    assert drawn(1) == drawn(1) != drawn(2)


def test_waiting_for_workers_is_measured(ring):
    dataset = RingDataset(ring, DataConfig(batch_size=1, window=2, timeout_s=120.0))

    def late() -> None:
        while not ring.stats().waiting_readers:
            time.sleep(0.001)
        time.sleep(0.2)
        put(ring, 1)

    worker = threading.Thread(target=late)
    worker.start()
    before = time.monotonic()
    dataset.draw().release()
    took = time.monotonic() - before
    worker.join()
    assert 0.15 < dataset.wait_s <= took


def test_an_exhausted_stream_is_read_empty_and_ends(ring):
    for number in range(3):
        put(ring, number)
    dataset = RingDataset(ring, DataConfig(batch_size=2, window=2), on_starved=lambda: None, exhausted=lambda: True)
    counts: dict[int, int] = {}
    for batch in dataset:
        for window in batch.windows:
            counts[window.trajectory_id] = counts.get(window.trajectory_id, 0) + 1
        batch.release()
    assert counts == {0: 4, 1: 4, 2: 4}, "exactly K reads each"


def test_a_resumed_dataset_draws_as_if_never_stopped(trajectories):
    def draws(dataset, count):
        return [[(w.trajectory_id, w.start) for w in dataset.draw().windows] for _ in range(count)]

    config = DataConfig(batch_size=3, window=2, seed=5)
    whole = draws(RingDataset(MemorySource(trajectories), config), 8)
    first = RingDataset(MemorySource(trajectories), config)
    head = draws(first, 3)
    second = RingDataset(MemorySource(trajectories), config)
    second.load_state_dict(first.state_dict())
    assert head + draws(second, 5) == whole
    assert second.leases == 8 and second.samples == 24


def test_what_an_inspector_refuses_is_given_back(ring):
    put(ring, 1)

    def refuse(view):
        raise LearnerError(f"trajectory {view.trajectory_id} is torn")

    with pytest.raises(LearnerError, match="trajectory 1 is torn"):
        RingDataset(ring, DataConfig(batch_size=1), inspect=refuse).draw()
    assert ring.stats().ready == 1
    with ring.acquire(1, 0.0) as lease:
        assert lease[0].read_index == 1


def test_released_views_are_poisoned_in_debug_mode(ring):
    """The ring's own guard: a view kept beyond its lease is seen, not silently stale."""
    put(ring, 1)
    batch = RingDataset(ring, DataConfig(batch_size=1, window=2)).draw()
    batch.release()
    with pytest.raises(RingError, match="released"):
        batch.lease[0]


def test_pairs_are_counted_once():
    view = MemorySource([trajectory(3)]).acquire(1, 0.0, rng=np.random.default_rng(0))[0]
    coverage, rng = Coverage(), np.random.default_rng(1)
    seen: set[int] = set()
    for _ in range(20):
        window = cut(view, 2, rng)
        seen |= set(range(window.start, window.start + window.length))
        assert coverage.take([Read(7, window.start, window.length, CHUNK, 1, 0.0)]) == [len(seen) * CHUNK]
    assert len(seen) == HORIZON


def test_schemas_the_learner_cannot_read_are_refused():
    check_spec(spec())
    without = TrajectorySpec(horizon=HORIZON, fields=tuple(f for f in spec().fields if f.name not in ("proprio", "rgb")))
    with (
        Ring.create(RingSpec(trajectory=without, num_slots=1)) as ring,
        pytest.raises(LearnerError, match=r"lack \['proprio', 'rgb'\]"),
    ):
        RingDataset(ring, DataConfig(batch_size=1))
    narrow = tuple(Field(name=f.name, shape=(HORIZON, CHUNK, 7), dtype=f.dtype) if f.name == "action" else f for f in spec().fields)
    with pytest.raises(
        LearnerError, match=r"'proprio' has shape \[7, 30\]; with actions \[6, 16, 7\] the learner expects \[7, 7\]"
    ):
        check_spec(TrajectorySpec(horizon=HORIZON, fields=narrow))


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"window": -1}, {"timeout_s": -1.0}])
def test_unusable_settings_are_refused(wrong):
    with pytest.raises(ConfigError):
        DataConfig(**wrong)


def test_a_trajectory_without_chunks_is_an_error():
    empty = trajectory(0, 1)
    empty["num_chunks"][...] = 0
    with pytest.raises(LearnerError, match="trajectory 0 has 0 chunks"):
        RingDataset(MemorySource([empty]), DataConfig(batch_size=1)).draw()
