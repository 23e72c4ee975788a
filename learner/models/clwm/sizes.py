"""Named sizes of the Causal Latent World Model, from one that trains on two cores to the shape of Wan2.2-5B."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from learner.models.clwm.config import ClwmConfig, NextFrame


def tiny() -> ClwmConfig:
    """For CPUs, 0.72 M parameters.

    As in all sizes, Stage 1 predicts the change of the frame, and actions see the imagined frame; in half of the training steps
    that is a frame sampled by the model itself. Two sampling steps: with a half-trained Stage 1, each further step adds variance.
    """
    return ClwmConfig(next_frame=NextFrame.CHANGE, see_imagined=True, own_imagination=0.5, video_steps=2)


def small() -> ClwmConfig:
    """For one GPU, 37 M parameters."""
    return replace(tiny(), dim=384, layers=12, heads=6, ffn=1536, time_frequencies=256)


def base() -> ClwmConfig:
    """As wide as DINOv3-base, 143 M parameters."""
    return replace(small(), dim=768, heads=12, ffn=3072)


def wan5b() -> ClwmConfig:
    """The shape of Wan2.2-TI2V-5B with a memory in every block, 6.3 B parameters, of which a Wan checkpoint fills 5.0 B.

    Use it with `TextConfig(source=..., max_words=512)` of UMT5-XXL: the checkpoint expects its 4,096 text channels.
    """
    shape = replace(tiny(), dim=3072, layers=30, heads=24, ffn=14336, time_frequencies=256, memory_every=1)
    return replace(shape, video_shift=5.0)


SIZES: dict[str, Callable[[], ClwmConfig]] = {size.__name__: size for size in (tiny, small, base, wan5b)}


def smallest() -> ClwmConfig:
    """For tests of the whole pipeline, 0.2 M parameters."""
    return replace(tiny(), dim=48, heads=2, layers=2, ffn=96)
