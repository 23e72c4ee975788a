"""Named sizes of LingBot-VA, from one that trains on two cores to the paper's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from learner.models.lingbot_va.config import LingbotConfig


def tiny() -> LingbotConfig:
    """For CPUs, 0.7 M parameters."""
    return LingbotConfig()


def base() -> LingbotConfig:
    """For one GPU, shared blocks, 127 M parameters."""
    shape = replace(tiny(), dim=768, layers=12, heads=12, ffn=3072, time_frequencies=256)
    return replace(shape, video_steps=10, action_steps=20, video_shift=5.0)


def paper() -> LingbotConfig:
    """The size of the paper: the shape of Wan2.2-TI2V-5B with an action stream of width 768."""
    shape = replace(base(), dim=3072, layers=30, heads=24, ffn=14336, dual=768, told_state=False)
    return replace(shape, video_steps=3, action_steps=10, until=0.6, text_dropout=0.1, cfg_video=5.0)


SIZES: dict[str, Callable[[], LingbotConfig]] = {size.__name__: size for size in (tiny, base, paper)}


def smallest() -> LingbotConfig:
    """For tests of the whole pipeline."""
    return replace(tiny(), dim=48, heads=2, layers=2, ffn=96, video_steps=1, action_steps=2)
