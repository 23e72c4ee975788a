import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from learner_parts import trajectory

from embodichain.errors import ConfigError
from embodichain.types import Segment
from learner.data.config import DataConfig, Sampling
from learner.data.dataset import MemorySource, RingDataset
from learner.data.windows import place_window

segments = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 5)), min_size=1, max_size=6).map(
    lambda runs: np.repeat([kind for kind, _ in runs], [length for _, length in runs]).astype(np.uint8)
)
N, F, R = Segment.NOMINAL, Segment.FAILURE, Segment.RECOVERY


def windows(segment, window, sampling, count=2000):
    rng = np.random.default_rng(0)
    return [place_window(np.asarray(segment, np.uint8), window, rng, sampling) for _ in range(count)]


@given(segments, st.integers(1, 8), st.sampled_from(Sampling), st.integers(0, 1 << 32))
def test_every_window_lies_in_its_episode_and_is_as_long_as_its_rule_allows(segment, window, sampling, seed):
    start, length = place_window(segment, window, np.random.default_rng(seed), sampling)
    assert 0 <= start < start + length <= len(segment)
    crossings = set((np.flatnonzero(segment[1:] != segment[:-1]) + 1).tolist())
    inside = crossings & set(range(start + 1, start + length))
    if sampling is Sampling.SEGMENT and min(window, len(segment)) > 1:
        assert not inside
        grows = [start - 1] * (start > 0) + [start + length] * (start + length < len(segment))
        assert length == min(window, len(segment)) or not any(segment[i] == segment[start] for i in grows)
    else:
        assert length == min(window, len(segment))
    if sampling is Sampling.BOUNDARY and crossings and length > 1:
        assert inside
    if sampling is Sampling.SOUND and (segment[: len(segment) - length + 1] != F).any():
        assert segment[start] != F


@pytest.mark.parametrize("sampling", Sampling)
def test_every_chunk_that_a_rule_can_reach_is_reached(sampling):
    segment = [N, N, N, N, F, F, R, R, R, N, N, N]
    seen = np.zeros(len(segment), int)
    for start, length in windows(segment, 3, sampling):
        seen[start : start + length] += 1
    far = [i for i in range(12) if all(abs(i - c + 0.5) > 2 for c in (4, 6, 9))] if sampling is Sampling.BOUNDARY else []
    assert [i for i in range(12) if not seen[i]] == far


def test_segments_are_drawn_by_their_length_and_crossings_alike():
    counts = np.bincount([start for start, _ in windows([N] * 6 + [F] * 2, 2, Sampling.SEGMENT, 8000)], minlength=8)
    assert counts[6] == pytest.approx(2000, rel=0.1) and counts[:5].sum() == pytest.approx(6000, rel=0.05)
    crossing = [
        4 if start < 4 < start + length else 6 for start, length in windows([N] * 4 + [F] * 2 + [R] * 6, 2, Sampling.BOUNDARY)
    ]
    assert np.mean(np.array(crossing) == 4) == pytest.approx(0.5, abs=0.05)


def test_sound_windows_begin_with_each_chunk_to_imitate_alike():
    counts = np.bincount([start for start, _ in windows([N] * 3 + [F] * 4 + [R] * 5, 2, Sampling.SOUND, 7000)], minlength=12)
    assert (counts[3:7] == 0).all() and counts[11] == 0
    assert counts[[0, 1, 2, 7, 8, 9, 10]] == pytest.approx(1000, rel=0.12)


def test_a_short_segment_comes_whole_and_is_padded():
    marked = trajectory(0, 6)
    marked["segment"][:6] = [N, N, N, F, R, R]
    dataset = RingDataset(MemorySource([marked]), DataConfig(batch_size=1, window=3, sampling=Sampling.SEGMENT))
    for _ in range(20):
        batch = dataset.draw().gather()
        kinds = batch.segment_BT[batch.valid_BT].unique()
        assert len(kinds) == 1
        assert batch.valid_BT.sum() == {N: 3, F: 1, R: 2}[Segment(int(kinds[0]))]


def test_openings_are_drawn_as_often_as_asked_beside_the_rule():
    segment, rng = np.zeros(20, np.uint8), np.random.default_rng(0)
    starts = np.array([place_window(segment, 4, rng, Sampling.EPISODE, 0.3)[0] for _ in range(8000)])
    counts = np.bincount(starts, minlength=17)
    assert counts[0] / 8000 == pytest.approx(0.3 + 0.7 / 17, abs=0.02)
    assert counts[1:] / 8000 == pytest.approx(0.7 / 17, abs=0.012)
    with pytest.raises(ConfigError, match=r"got 1\.5"):
        DataConfig(openings=1.5)


def test_the_opening_of_a_window_is_its_trajectorys_first_frame_and_gathered_only_if_asked():
    known = {number: trajectory(number, 4 + number % 3) for number in range(5)}
    dataset = RingDataset(MemorySource(list(known.values())), DataConfig(batch_size=3, window=2))
    starts = set()
    for _ in range(10):
        drawn = dataset.draw()
        batch = drawn.gather(opening=True)
        assert drawn.gather().opening is None
        starts |= set(batch.starts)
        for row, number in enumerate(batch.trajectory_ids):
            assert np.array_equal(batch.opening[row, 0], known[number]["rgb"][0])
            assert drawn.windows[row].opening.data_ptr() == known[number]["rgb"].ctypes.data, "a view, no copy"
    assert len(starts) > 2


def test_one_chunk_crosses_nothing():
    with pytest.raises(ConfigError, match="window >= 2"):
        DataConfig(window=1, sampling=Sampling.BOUNDARY)
