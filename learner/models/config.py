"""Settings of an agent and of its world model; light, for command lines."""

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
    """`relative_*`: commands become differences to the frame's measured values. `min_span`: least distance of the quantiles.

    A channel that hardly moves (an idle arm) would otherwise blow its noise up to full scale; `clip` bounds what lies beyond
    the quantiles of the warm-up. `exact` clips nothing: quantiles move apart until `clip` holds all that the warm-up saw, and what
    lies beyond that stays as it is, so that every chunk comes back as it went. `cameras`: latents of each of so many cameras have
    statistics of their own, because what fills a wrist's picture is a speck to the head; 0 for one for all. `channels`: patch
    channels are projected onto so many leading directions, at most the model's width, which then can express all of them; 0 keeps
    all. The image moments of a segmenter stay beside them.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentConfig:
    """Everything that shapes an agent; saved in its checkpoint."""

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    text: TextConfig = field(default_factory=TextConfig)
    normalizer: NormalizerConfig = field(default_factory=NormalizerConfig)
    model: ModelConfig = field(default_factory=default_model)
    """Of any family: which one its type says."""
    seed: int = 0
    """Initial weights and training noise."""

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings and dicts, and the name of the model's family."""
        return {"family": self.model.family, **asdict(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> AgentConfig:
        """The inverse of `to_dict`; without the name of a family, of the default one's.

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
