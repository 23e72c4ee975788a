"""The registry of world model families; installed distributions add others by the entry point group `embodichain.models`."""

from __future__ import annotations

from embodichain.registry import Registry
from learner.models.family import Family, ModelConfig

FAMILIES: Registry[Family] = Registry(
    "model family",
    "embodichain.models",
    {
        "clwm": "learner.models.clwm.family:CLWM",
        "lingbot_va": "learner.models.lingbot_va.family:LINGBOT_VA",
        "x_wam": "learner.models.x_wam.family:X_WAM",
        "cowvla": "learner.models.cowvla.family:COWVLA",
    },
)
"""Families by name."""
DEFAULT = "clwm"
"""The default family, also of files that name none."""


def family_of(config: ModelConfig) -> Family:
    """The family that the settings belong to."""
    return FAMILIES.get(config.family)


def default_model() -> ModelConfig:
    """The default settings of the default family."""
    return FAMILIES.get(DEFAULT).config()
