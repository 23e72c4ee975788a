"""Settings of the text features. Importing this file is cheap: it does not import torch."""

from __future__ import annotations

from dataclasses import dataclass

from embodichain.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class TextConfig:
    """Which text encoder: `source` is the folder or hub id of a UMT5 checkpoint; "" means built-in hashed words of these sizes."""

    source: str = ""
    dim: int = 64
    max_words: int = 16
    """Tokens of an instruction: words with the built-in encoder, subword tokens with UMT5 (video models take 512)."""
    buckets: int = 4096
    ngram: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.dim, self.max_words, self.buckets, self.ngram) < 1:
            raise ConfigError(f"text sizes must be at least 1, got {self}")
