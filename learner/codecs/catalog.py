"""Makes codecs by the name in `EncoderConfig.codec`."""

from __future__ import annotations

from typing import Any

from learner.codecs.codec import Codec
from learner.codecs.config import CODECS, EncoderConfig


def make_codec(config: EncoderConfig) -> Codec:
    """Makes the codec that a configuration names; raises ConfigError if it cannot be imported."""
    return CODECS.get(config.codec)(config)


def for_writing(**options: Any) -> Codec:
    """Makes the codec with which simulation workers encode frames before they write them; takes the fields of `EncoderConfig`."""
    return make_codec(EncoderConfig(**options))
