"""Registers CoWVLA as a family: settings, named sizes, constructor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from learner.codecs.config import LatentSpec
from learner.models.cowvla.config import CowvlaConfig
from learner.models.cowvla.sizes import SIZES, smallest
from learner.models.family import Family

if TYPE_CHECKING:
    from learner.models.world_model import WorldModel


def _build(config: CowvlaConfig, latents: LatentSpec, text_dim: int) -> WorldModel:
    from learner.models.cowvla.model import Cowvla  # imports torch

    return Cowvla(config, latents=latents, text_dim=text_dim)


COWVLA = Family(config=CowvlaConfig, build=_build, smallest=smallest, sizes=SIZES)
