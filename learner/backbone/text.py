"""Turns instructions into tokens for cross-attention, by a pretrained UMT5 or, without one, by hashed n-grams of words."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from learner.backbone.config import TextConfig
from learner.vision.pretrained import load_umt5

_CACHED = 1024


class TextEncoder(nn.Module):
    """Encodes instructions. Frozen: equal text gives equal tokens, and checkpoints do not contain its weights.

    Each instruction is encoded once, on the CPU, and cached.
    """

    _place: Tensor

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        if config.source:
            self._encode, self.dim = load_umt5(config.source, config.max_words)
        else:
            self._encode, self.dim = HashedWords(config), config.dim
        self.register_buffer("_place", torch.zeros(0), persistent=False)
        self._cache: dict[str, Tensor] = {}

    _encode: Callable[[str], Tensor]
    dim: int
    """Channels of a text token."""

    def forward(self, instructions: Sequence[str]) -> Tensor:
        """Text tokens, float32 [B, max_words, dim]; what is beyond `max_words` is dropped, unused places are zero."""
        return torch.stack([self._tokens(text) for text in instructions]).to(self._place.device)

    def _tokens(self, text: str) -> Tensor:
        if text not in self._cache:
            if len(self._cache) >= _CACHED:
                self._cache.clear()
            self._cache[text] = self._encode(text)
        return self._cache[text]


class HashedWords:
    """One token per word: the mean of fixed random vectors of the word and its byte n-grams, plus a sinusoid of its place.

    Words that share n-grams ("switch", "switches") get similar tokens. The vectors are fixed, so equal text gives equal
    tokens in any process; the backbone's learned projection gives them meaning.
    """

    def __init__(self, config: TextConfig) -> None:
        self._config = config
        self._table = torch.randn(config.buckets, config.dim, generator=torch.Generator().manual_seed(config.seed))
        self.places = _sinusoid(config.max_words, config.dim)
        """Positional encoding that is added to the word at each place, [max_words, dim]."""

    def __call__(self, text: str) -> Tensor:
        """Tokens of one instruction, [max_words, dim]."""
        config = self._config
        tokens = torch.zeros(config.max_words, config.dim)
        for place, word in enumerate(text.lower().split()[: config.max_words]):
            vector = self._table[self._buckets(word)].sum(dim=0)
            tokens[place] = vector * (math.sqrt(config.dim) / vector.norm()) + self.places[place]
        return tokens

    def _buckets(self, word: str) -> list[int]:
        data = f"<{word.strip('.,;:!?')}>".encode()
        size = self._config.ngram
        grams = [data, *(data[i : i + size] for i in range(max(len(data) - size + 1, 0)))]
        return [zlib.crc32(gram) % self._config.buckets for gram in grams]


def _sinusoid(places: int, dim: int) -> Tensor:
    """Sinusoidal positional encoding (Vaswani et al. 2017), [places, dim]."""
    frequencies = torch.exp(-math.log(1e4) * torch.arange((dim + 1) // 2) / max(1, (dim + 1) // 2))
    angles = torch.arange(places)[:, None] * frequencies[None]
    return torch.cat([angles.sin(), angles.cos()], dim=1)[:, :dim]
