"""Settings of an agent and of its world model. Importing this file is cheap: it does not import torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from embodichain.errors import ConfigError
from learner.backbone.config import TextConfig
from learner.codecs.config import EncoderConfig
from learner.models.families import DEFAULT, FAMILIES, default_model
from learner.models.family import ModelConfig
from learner.records.plain import structured

_POSITIONS = (0, 1, 2, 7, 8, 9)

_JOINTS = tuple(range(14, 28))


@dataclass(frozen=True, slots=True, kw_only=True)
class NormalizerConfig:
    """How actions, states and latents are normalised.

    `relative_*`: actions are taken relative to the frame's measured values. `min_span`: smallest distance of the quantiles; without
    it, the noise of a channel that hardly moves (an idle arm) would be scaled up to full range. `clip`: bound of normalised values.
    `exact`: nothing is clipped; quantiles are moved apart until `clip` holds every action of the warm-up, and values beyond pass
    unchanged, so that every chunk is recovered exactly. `cameras`: latents of this many cameras have statistics of their own, since
    a wrist camera sees objects much larger than the head camera; 0 for common statistics. `channels`: patch channels are projected
    onto this many leading directions, at most the model's width, so that the model can express all of them; 0 keeps all. Image
    moments of a segmenter are not projected.
    """

    relative_joints: bool = True
    relative_positions: bool = True
    min_span: float = 0.01
    clip: float = 3.0
    exact: bool = False
    cameras: int = 0
    channels: int = 0

    def __post_init__(self) -> None:
        if self.min_span <= 0 or self.clip < 1 or self.cameras < 0 or self.channels < 0:
            raise ConfigError(
                f"normalizer needs min_span > 0, clip >= 1, cameras >= 0 and channels >= 0, got {self.min_span}, {self.clip}, "
                f"{self.cameras} and {self.channels}"
            )

    @property
    def relative_channels(self) -> tuple[int, ...]:
        """Action channels expressed relative to the measured state."""
        return (_POSITIONS if self.relative_positions else ()) + (_JOINTS if self.relative_joints else ())

    def check(self, action_dim: int) -> None:
        """Raises ConfigError when channels are to be relative that actions of `action_dim` channels do not have."""
        if max(self.relative_channels, default=-1) >= action_dim:
            raise ConfigError(
                f"relative positions and joints are channels {list(self.relative_channels)} of the unified action, and an action "
                f"here has {action_dim} channels: set normalizer.relative_positions and normalizer.relative_joints to False"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentConfig:
    """All settings of an agent; saved in its checkpoint."""

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    text: TextConfig = field(default_factory=TextConfig)
    normalizer: NormalizerConfig = field(default_factory=NormalizerConfig)
    model: ModelConfig = field(default_factory=default_model)
    """Settings of the world model; their type selects the family."""
    seed: int = 0
    """Seed of initial weights and training noise."""

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain numbers, strings and dicts, with the name of the model's family."""
        return {"family": self.model.family, **asdict(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> AgentConfig:
        """The inverse of `to_dict`; if no family is named, the default family.

        Raises ConfigError for a family that does not exist here; KeyError, TypeError or ValueError for settings that it lacks.
        """
        family = FAMILIES.get(data.get("family", DEFAULT))
        return cls(
            encoder=structured(EncoderConfig, data["encoder"]),
            text=structured(TextConfig, data["text"]),
            normalizer=structured(NormalizerConfig, data["normalizer"]),
            model=structured(family.config, data["model"]),
            seed=data["seed"],
        )
