"""Named sizes of CoWVLA, from one that trains on two cores to the paper's shape."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from learner.models.cowvla.config import CowvlaConfig


def tiny() -> CowvlaConfig:
    """For CPUs, 0.9 M parameters."""
    return CowvlaConfig()


def base() -> CowvlaConfig:
    """For one GPU, 115 M parameters."""
    return replace(tiny(), dim=768, layers=12, heads=12, ffn=3072)


def paper() -> CowvlaConfig:
    """As wide and deep as Emu3, without its grouped-query attention and its vocabulary."""
    return replace(tiny(), dim=4096, layers=32, heads=32, ffn=14336)


SIZES: dict[str, Callable[[], CowvlaConfig]] = {size.__name__: size for size in (tiny, base, paper)}


def smallest() -> CowvlaConfig:
    """For tests of the whole pipeline."""
    return replace(tiny(), dim=48, heads=2, layers=2, ffn=96)
