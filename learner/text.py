"""Turns instructions into tokens that the backbone cross-attends to: hashed n-grams of words, no download, no vocabulary."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from embodichain.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class TextConfig:
    """Sizes of the built-in text features."""

    dim: int = 64
    max_words: int = 16
    buckets: int = 4096
    ngram: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.dim, self.max_words, self.buckets, self.ngram) < 1:
            raise ConfigError(f"text sizes must be at least 1, got {self}")


class TextEncoder(nn.Module):
    """One token per word: the mean of fixed random vectors of the word and its byte n-grams, plus a sinusoid of its place.

    Words that share n-grams ("switch", "switches") get similar tokens. The vectors are fixed, so equal text gives equal
    tokens in any process; the backbone's learned projection gives them meaning. As with UMT5, unused places are zero.
    """

    table: Tensor
    places: Tensor

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        generator = torch.Generator().manual_seed(config.seed)
        table = torch.randn(config.buckets, config.dim, generator=generator)
        self.register_buffer("table", table, persistent=False)
        self.register_buffer("places", _sinusoid(config.max_words, config.dim), persistent=False)
        self._cache: dict[str, Tensor] = {}

    @property
    def dim(self) -> int:
        """Channels of a text token."""
        return self.config.dim

    @torch.no_grad()
    def forward(self, instructions: Sequence[str]) -> Tensor:
        """Text tokens, float32 [B, max_words, dim]; words beyond `max_words` are dropped."""
        return torch.stack([self._tokens(text) for text in instructions]).to(self.table.device)

    def _tokens(self, text: str) -> Tensor:
        if text in self._cache:
            return self._cache[text]
        tokens = torch.zeros(self.config.max_words, self.config.dim)
        table, places = self.table.cpu(), self.places.cpu()
        for place, word in enumerate(text.lower().split()[: self.config.max_words]):
            vector = table[self._buckets(word)].sum(dim=0)
            tokens[place] = vector * (math.sqrt(self.config.dim) / vector.norm()) + places[place]
        if len(self._cache) >= 1024:
            self._cache.clear()
        self._cache[text] = tokens
        return tokens

    def _buckets(self, word: str) -> list[int]:
        data = f"<{word.strip('.,;:!?')}>".encode()
        size = self.config.ngram
        grams = [data, *(data[i : i + size] for i in range(max(len(data) - size + 1, 0)))]
        return [zlib.crc32(gram) % self.config.buckets for gram in grams]


def _sinusoid(places: int, dim: int) -> Tensor:
    """Sines and cosines of the place at geometric frequencies, [places, dim]."""
    frequencies = torch.exp(-math.log(1e4) * torch.arange((dim + 1) // 2) / max(1, (dim + 1) // 2))
    angles = torch.arange(places)[:, None] * frequencies[None]
    return torch.cat([angles.sin(), angles.cos()], dim=1)[:, :dim]
