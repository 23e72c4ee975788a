"""FAST action tokenizer: compresses an action chunk by a cosine transform over time, rounding, and byte-pair encoding.

Pertsch et al. 2025, "FAST: Efficient Action Tokenization for Vision-Language-Action Models". An orthonormal DCT-II over the steps
of a chunk concentrates smooth motion in a few coefficients. They are multiplied by `scale`, rounded, and written as one symbol
each, low frequencies of all channels first. Frequent sequences of symbols become tokens. The alphabet follows from the bound of the
actions instead of the data, because the byte-pair encoder silently drops symbols outside its alphabet.

Every chunk has the same number of symbols, K x channels. A decoder that counts symbols, and may only choose tokens no longer than
what is left (`allowed`), always ends with a whole chunk.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dct, idct
from tokenizers import Tokenizer, models, trainers

from embodichain.errors import LearnerError
from embodichain.types import CHUNK
from learner.codecs.config import SCALE
from learner.records.shipped import SHIPPED_WEIGHTS
from learner.vision.config import BUILTIN

FIRST_SYMBOL = 0x4E00
"""Unicode code point of the smallest coefficient; thousands of code points follow it without a gap or a surrogate."""
VOCABULARY = 1280
"""Tokens: at the default scale, 721 coefficients and 559 merged sequences."""


class FastTokenizer:
    """Encodes chunks [K, channels] of normalised actions in -clip..clip as tokens, and decodes them."""

    def __init__(self, tokenizer: Tokenizer, *, channels: int, scale: float, clip: float, chunk: int = CHUNK) -> None:
        self._tokenizer = tokenizer
        self.channels, self.scale, self.clip, self.chunk = channels, scale, clip, chunk
        self.limit = largest(scale, clip, chunk)
        size = tokenizer.get_vocab_size()
        self.lengths: NDArray[np.int64] = np.array([len(str(tokenizer.id_to_token(i))) for i in range(size)])
        """Number of symbols in each token, [vocabulary]."""

    @property
    def num_symbols(self) -> int:
        """Number of symbols in a chunk, K x channels."""
        return self.chunk * self.channels

    def integers(self, chunk: NDArray[np.floating]) -> NDArray[np.int64]:
        """Rounded DCT coefficients [K, channels] of a chunk [K, channels], whose actions are clipped to -clip..clip first."""
        coefficients = np.asarray(dct(np.clip(chunk, -self.clip, self.clip), axis=0, norm="ortho"))
        return np.rint(coefficients * self.scale).astype(np.int64)

    def encode(self, chunk: NDArray[np.floating]) -> list[int]:
        """Tokens of a chunk [K, channels]."""
        return self._tokenizer.encode(as_text(self.integers(chunk), self.limit)).ids

    def decode(self, tokens: Sequence[int]) -> NDArray[np.float64]:
        """The chunk [K, channels] that tokens encode; raises LearnerError unless they hold exactly `num_symbols` symbols."""
        text = "".join(str(self._tokenizer.id_to_token(token)) for token in tokens)
        if len(text) != self.num_symbols:
            raise LearnerError(
                f"tokens of {len(text)} symbols are no chunk of {self.chunk} x {self.channels}: decode under its mask"
            )
        values = np.frombuffer(text.encode("utf-32-le"), np.uint32).astype(np.int64) - FIRST_SYMBOL - self.limit
        return np.asarray(idct(values.reshape(self.chunk, self.channels) / self.scale, axis=0, norm="ortho"))

    def allowed(self, left: int) -> NDArray[np.bool_]:
        """Mask [vocabulary] of the tokens of at most `left` symbols; with `left` >= 1 there always are some."""
        return self.lengths <= left

    def save(self, folder: Path) -> None:
        """Writes `fast.json`, which `load_fast` reads."""
        folder.mkdir(parents=True, exist_ok=True)
        bounds = {"channels": self.channels, "scale": self.scale, "clip": self.clip, "chunk": self.chunk}
        saved = bounds | {"tokenizer": self._tokenizer.to_str()}
        (folder / "fast.json").write_text(json.dumps(saved), encoding="utf-8")


def largest(scale: float, clip: float, chunk: int) -> int:
    """The largest coefficient of a chunk of K actions within -clip..clip, as an integer: clip sqrt(K) scale."""
    return round(clip * math.sqrt(chunk) * scale)


def as_text(integers: NDArray[np.int64], limit: int) -> str:
    """One character for each coefficient, row by row: coefficients beyond +-`limit` are clipped."""
    letters = (integers.reshape(-1).clip(-limit, limit) + limit + FIRST_SYMBOL).astype(np.uint32)
    return letters.tobytes().decode("utf-32-le")


def train_fast(
    chunks: Iterable[NDArray[np.floating]],
    *,
    channels: int,
    scale: float = SCALE,
    clip: float = 3.0,
    vocabulary: int = VOCABULARY,
    chunk: int = CHUNK,
) -> FastTokenizer:
    """Learns a tokenizer from `chunks`, each [K, channels]; some thousand chunks take seconds."""
    limit = largest(scale, clip, chunk)
    alphabet = [chr(FIRST_SYMBOL + i) for i in range(2 * limit + 1)]
    tokenizer = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=max(vocabulary, len(alphabet)), initial_alphabet=alphabet, show_progress=False, special_tokens=[]
    )
    plain = FastTokenizer(Tokenizer(models.BPE()), channels=channels, scale=scale, clip=clip, chunk=chunk)
    tokenizer.train_from_iterator((as_text(plain.integers(actions), limit) for actions in chunks), trainer)
    return FastTokenizer(tokenizer, channels=channels, scale=scale, clip=clip, chunk=chunk)


def load_fast(source: str) -> FastTokenizer:
    """The tokenizer in the folder `source`, or the one of this package for "builtin"; raises LearnerError when there is none."""
    path = (SHIPPED_WEIGHTS / "fast" if source == BUILTIN else Path(source)) / "fast.json"
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        tokenizer = Tokenizer.from_str(saved.pop("tokenizer"))
    except (OSError, ValueError, KeyError) as error:
        raise LearnerError(f"no action tokenizer at {path}: {error}; make one with `embodichain codec train fast`") from error
    return FastTokenizer(tokenizer, **saved)
