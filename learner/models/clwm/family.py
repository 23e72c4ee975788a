"""Registers the Causal Latent World Model as a family: settings, named sizes, constructor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from learner.codecs.config import LatentSpec
from learner.models.clwm.config import ClwmConfig
from learner.models.clwm.sizes import SIZES, smallest
from learner.models.family import Family

if TYPE_CHECKING:
    from learner.models.world_model import WorldModel


def _build(config: ClwmConfig, latents: LatentSpec, text_dim: int) -> WorldModel:
    from learner.models.clwm.model import Clwm  # imports torch

    return Clwm(config, latents=latents, text_dim=text_dim)


CLWM = Family(config=ClwmConfig, build=_build, smallest=smallest, sizes=SIZES)
