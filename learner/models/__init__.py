"""World models: one interface, and one folder for each model family."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embodichain.lazy import public

if TYPE_CHECKING:
    from learner.models.agent import Agent
    from learner.models.config import AgentConfig, NormalizerConfig
    from learner.models.families import FAMILIES, family_of
    from learner.models.family import Family, ModelConfig
    from learner.models.foresight import Foresight, LinearForecast, foresee
    from learner.models.normalize import Measurement, Normalizer
    from learner.models.window import Extent, Window
    from learner.models.world_model import BatchNeeds, Decision, Losses, Mode, Prefix, Seen, State, WorldModel

__all__ = [
    "FAMILIES",
    "Agent",
    "AgentConfig",
    "BatchNeeds",
    "Decision",
    "Extent",
    "Family",
    "Foresight",
    "LinearForecast",
    "Losses",
    "Measurement",
    "Mode",
    "ModelConfig",
    "Normalizer",
    "NormalizerConfig",
    "Prefix",
    "Seen",
    "State",
    "Window",
    "WorldModel",
    "family_of",
    "foresee",
]

__getattr__, __dir__ = public(
    __name__,
    dict.fromkeys(["Agent"], "agent")
    | dict.fromkeys(["AgentConfig", "NormalizerConfig"], "config")
    | dict.fromkeys(["FAMILIES", "family_of"], "families")
    | dict.fromkeys(["Family", "ModelConfig"], "family")
    | dict.fromkeys(["Foresight", "LinearForecast", "foresee"], "foresight")
    | dict.fromkeys(["Measurement", "Normalizer"], "normalize")
    | dict.fromkeys(["Extent", "Window"], "window")
    | dict.fromkeys(["Decision", "Losses", "Mode", "BatchNeeds", "Prefix", "Seen", "State", "WorldModel"], "world_model"),
)
