"""Codecs: they turn camera frames into latents, and action chunks into tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embodichain.lazy import public

if TYPE_CHECKING:
    from learner.codecs.catalog import make_codec
    from learner.codecs.codec import Codec
    from learner.codecs.config import EncoderConfig, FastConfig, LatentSpec, MotionConfig, PretrainConfig, VaeConfig, VqConfig
    from learner.codecs.dino import Encoder
    from learner.codecs.fast import FastTokenizer, load_fast, train_fast
    from learner.codecs.motion import MotionExtractor, load_motion, save_motion
    from learner.codecs.vae import Vae, VaeCodec, load_vae, save_vae
    from learner.codecs.vq import VqAutoencoder, VqCodec, load_vq, save_vq
    from learner.codecs.wan import WanCodec, load_wan_vae

__all__ = [
    "Codec",
    "Encoder",
    "EncoderConfig",
    "FastConfig",
    "FastTokenizer",
    "LatentSpec",
    "MotionConfig",
    "MotionExtractor",
    "PretrainConfig",
    "Vae",
    "VaeCodec",
    "VaeConfig",
    "VqAutoencoder",
    "VqCodec",
    "VqConfig",
    "WanCodec",
    "load_fast",
    "load_motion",
    "load_vae",
    "load_vq",
    "load_wan_vae",
    "make_codec",
    "save_motion",
    "save_vae",
    "save_vq",
    "train_fast",
]

__getattr__, __dir__ = public(
    __name__,
    dict.fromkeys(["make_codec"], "catalog")
    | dict.fromkeys(["Codec"], "codec")
    | dict.fromkeys(
        ["EncoderConfig", "FastConfig", "LatentSpec", "MotionConfig", "PretrainConfig", "VaeConfig", "VqConfig"], "config"
    )
    | dict.fromkeys(["Encoder"], "dino")
    | dict.fromkeys(["FastTokenizer", "load_fast", "train_fast"], "fast")
    | dict.fromkeys(["MotionExtractor", "load_motion", "save_motion"], "motion")
    | dict.fromkeys(["Vae", "VaeCodec", "load_vae", "save_vae"], "vae")
    | dict.fromkeys(["VqAutoencoder", "VqCodec", "load_vq", "save_vq"], "vq")
    | dict.fromkeys(["WanCodec", "load_wan_vae"], "wan"),
)
