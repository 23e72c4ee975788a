"""Named sizes of X-WAM, from one that trains on two cores to the paper's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from learner.models.x_wam.config import XwamConfig


def tiny() -> XwamConfig:
    """For CPUs, 0.7 M parameters; without depth."""
    return XwamConfig()


def base() -> XwamConfig:
    """For one GPU, with depth, 155 M parameters."""
    shape = replace(tiny(), dim=768, layers=12, heads=12, ffn=3072, time_frequencies=256)
    return replace(shape, frames=4, depth=4, shift=5.0, video_steps=25, action_steps=10)


def paper() -> XwamConfig:
    """The size of the paper: the shape of Wan2.2-TI2V-5B, with copies of its last ten blocks for depth."""
    shape = replace(base(), dim=3072, layers=30, heads=24, ffn=14336)
    return replace(shape, frames=2, depth=10, video_steps=50)


SIZES: dict[str, Callable[[], XwamConfig]] = {size.__name__: size for size in (tiny, base, paper)}


def smallest() -> XwamConfig:
    """For tests of the whole pipeline."""
    return replace(tiny(), dim=48, heads=2, layers=2, ffn=96, video_steps=2, action_steps=2)
