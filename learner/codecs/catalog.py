"""Which codecs there are, by the name in `EncoderConfig.codec`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from embodichain.errors import unknown
from learner.codecs.codec import Codec
from learner.codecs.config import EncoderConfig
from learner.codecs.dino import Encoder
from learner.codecs.vae import VaeCodec
from learner.codecs.vq import VqCodec
from learner.codecs.wan import WanCodec

CODECS: dict[str, Callable[[EncoderConfig], Codec]] = {"dino": Encoder, "vae": VaeCodec, "vq": VqCodec, "wan": WanCodec}
"""Codecs of single frames by name."""


def make_codec(config: EncoderConfig) -> Codec:
    """Makes the codec that a configuration names; raises ConfigError, listing those that exist, for an unknown name."""
    if config.codec not in CODECS:
        raise unknown("codec", config.codec, CODECS)
    return CODECS[config.codec](config)


def for_writing(**options: Any) -> Codec:
    """Makes the codec with which simulation workers encode frames before they write them; takes the fields of `EncoderConfig`."""
    return make_codec(EncoderConfig(**options))
