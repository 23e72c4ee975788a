"""Chunks as tokens: small errors that the scale bounds, whole numbers back exactly, and never half a chunk."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embodichain.errors import LearnerError
from embodichain.types import CHUNK
from learner.codecs.fast import FastTokenizer, load_fast, train_fast

CHANNELS = 14


def chunks(count: int, seed: int = 0) -> list[np.ndarray]:
    """Minimum-jerk movements of two arms, grippers that open or close, and some stillness."""
    rng, s = np.random.default_rng(seed), np.linspace(0.0, 1.0, CHUNK)[:, None]
    smooth = 10 * s**3 - 15 * s**4 + 6 * s**5
    moving = [rng.normal(0, 0.6, CHANNELS) * (rng.random(CHANNELS) < 0.6) for _ in range(count)]
    return [0.05 * rng.normal(size=CHANNELS) + smooth * move for move in moving]


@pytest.fixture(scope="module")
def fast() -> FastTokenizer:
    return train_fast(chunks(1500), channels=CHANNELS)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.1, 2.5))
def test_errors_stay_within_what_rounding_allows_and_integers_come_back_exactly(fast, seed, size):
    chunk = np.random.default_rng(seed).uniform(-size, size, (CHUNK, CHANNELS))
    tokens = fast.encode(chunk)
    back = fast.decode(tokens)
    assert np.sqrt(np.square(back - chunk).mean()) <= 0.5 / fast.scale, "Parseval"
    np.testing.assert_array_equal(fast.integers(back), fast.integers(chunk))
    assert fast.lengths[tokens].sum() == fast.num_symbols == CHUNK * CHANNELS


def test_smooth_chunks_are_few_tokens_and_the_vocabulary_is_full(fast):
    counts = [len(fast.encode(chunk)) for chunk in chunks(200, seed=1)]
    assert np.median(counts) < 60 and max(counts) < fast.num_symbols / 2 and len(fast.lengths) == 1280


def test_whatever_is_drawn_under_the_mask_is_a_chunk_and_what_is_not_raises(fast):
    rng, malformed = np.random.default_rng(0), 0
    for _ in range(300):
        left, tokens = fast.num_symbols, []
        while left:
            logits = np.where(fast.allowed(left), rng.normal(size=len(fast.lengths)), -np.inf)
            tokens.append(int(logits.argmax()))
            left -= int(fast.lengths[tokens[-1]])
        malformed += fast.decode(tokens).shape != (CHUNK, CHANNELS)
    assert malformed == 0
    whole = fast.encode(chunks(1)[0])
    for wrong in (whole[:-1], [*whole, whole[0]]):
        with pytest.raises(LearnerError, match="are no chunk of 16 x 14"):
            fast.decode(wrong)


def test_symbols_at_the_edge_of_the_alphabet_are_not_lost(fast):
    edge = np.full((CHUNK, CHANNELS), fast.clip)
    assert np.abs(fast.integers(edge)).max() == fast.limit == 240
    np.testing.assert_allclose(fast.decode(fast.encode(edge)), edge, atol=1e-9)
    np.testing.assert_allclose(fast.decode(fast.encode(-2 * edge)), -edge, atol=1e-9)


def test_a_tokenizer_comes_back_from_its_file(fast, tmp_path):
    fast.save(tmp_path)
    chunk = chunks(1, seed=7)[0]
    assert load_fast(str(tmp_path)).encode(chunk) == fast.encode(chunk)
    with pytest.raises(LearnerError, match="codec train fast"):
        load_fast(str(tmp_path / "nowhere"))
