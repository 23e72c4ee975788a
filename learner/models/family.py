"""What a family of world models registers: its settings, named sizes, and a constructor.

A family is a folder beside this file and one line in `families`. Its settings do not import torch, so that command lines can list
and check them quickly; the model itself is imported when it is built.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from embodichain.errors import ConfigError, unknown
from embodichain.types import ACTION_DIM, CHUNK
from learner.codecs.config import LatentSpec

if TYPE_CHECKING:
    from learner.models.world_model import WorldModel


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Settings of a world model. Each family has its own subclass, whose fields all have defaults."""

    family: ClassVar[str]
    """The family's name in `families.FAMILIES`, or "package.module:NAME" of its `Family`."""

    free: ClassVar[frozenset[str]] = frozenset()
    """Settings that a training may choose anew when it starts from a policy, because they do not decide what its weights mean."""

    chunk: int = CHUNK
    """Actions between two frames; must equal `world.chunk` of the stream."""

    action_dim: int = ACTION_DIM
    """Channels of an action and of a measured state; must equal those of the stream's trajectories."""

    def check_actions(self, chunk: int, action_dim: int) -> None:
        """Raises ConfigError unless the stream's chunks have as many actions, of as many channels, as this model's chunks."""
        if self.chunk != chunk:
            raise ConfigError(
                f"the stream has {chunk} actions in a chunk, the model {self.chunk}: "
                "set world.chunk and learner.agent.model.chunk alike"
            )
        if self.action_dim != action_dim:
            raise ConfigError(
                f"an action of the stream has {action_dim} channels, one of the model {self.action_dim}: "
                "set learner.agent.model.action_dim to those of the stream"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One family of world models."""

    config: Callable[..., ModelConfig]
    """The class of its settings."""
    build: Callable[[Any, LatentSpec, int], WorldModel]
    """Builds a model from settings, the kind of latents, and the channels of a text token; draws from torch's global generator.

    Raises ConfigError for settings that do not fit the latents."""
    smallest: Callable[[], ModelConfig]
    """Settings of the smallest model that runs; used in tests of the whole pipeline."""
    sizes: Mapping[str, Callable[[], ModelConfig]] = field(default_factory=dict)
    """Settings by name of the size."""

    def size(self, name: str) -> ModelConfig:
        """The settings of a named size; raises ConfigError for an unknown name, listing the sizes of this family."""
        if name not in self.sizes:
            raise unknown("model size", name, self.sizes)
        return self.sizes[name]()
