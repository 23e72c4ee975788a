"""Registers LingBot-VA as a family: settings, named sizes, constructor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from learner.codecs.config import LatentSpec
from learner.models.family import Family
from learner.models.lingbot_va.config import LingbotConfig
from learner.models.lingbot_va.sizes import SIZES, smallest

if TYPE_CHECKING:
    from learner.models.world_model import WorldModel


def _build(config: LingbotConfig, latents: LatentSpec, text_dim: int) -> WorldModel:
    from learner.models.lingbot_va.model import LingbotVa  # imports torch

    return LingbotVa(config, latents=latents, text_dim=text_dim)


LINGBOT_VA = Family(config=LingbotConfig, build=_build, smallest=smallest, sizes=SIZES)
