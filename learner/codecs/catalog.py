"""Which codecs there are, by the name in `EncoderConfig.codec`. Importing this file imports none of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from embodichain.registry import Registry
from learner.codecs.config import EncoderConfig

if TYPE_CHECKING:
    from learner.codecs.codec import Codec

CODECS: Registry[Callable[[EncoderConfig], Codec]] = Registry(
    "codec",
    "embodichain.codecs",
    {
        "dino": "learner.codecs.dino:Encoder",
        "emu3": "learner.codecs.emu3:Emu3Codec",
        "siglip": "learner.codecs.siglip:SiglipCodec",
        "vae": "learner.codecs.vae:VaeCodec",
        "vq": "learner.codecs.vq:VqCodec",
        "wan": "learner.codecs.wan:WanCodec",
    },
)
"""Codecs of single frames by name."""


def make_codec(config: EncoderConfig) -> Codec:
    """Makes the codec that a configuration names; raises ConfigError for a name that does not exist or cannot be imported."""
    return CODECS.get(config.codec)(config)


def for_writing(**options: Any) -> Codec:
    """Makes the codec with which simulation workers encode frames before they write them; takes the fields of `EncoderConfig`."""
    return make_codec(EncoderConfig(**options))
