"""Registers X-WAM as a family: settings, named sizes, constructor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from learner.codecs.config import LatentSpec
from learner.models.family import Family
from learner.models.x_wam.config import XwamConfig
from learner.models.x_wam.sizes import SIZES, smallest

if TYPE_CHECKING:
    from learner.models.world_model import WorldModel


def _build(config: XwamConfig, latents: LatentSpec, text_dim: int) -> WorldModel:
    from learner.models.x_wam.model import Xwam  # imports torch

    return Xwam(config, latents=latents, text_dim=text_dim)


X_WAM = Family(config=XwamConfig, build=_build, smallest=smallest, sizes=SIZES)
