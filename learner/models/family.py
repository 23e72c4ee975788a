"""Families of world models as everything else finds them: settings, named sizes, and what builds a model.

A family is a folder beside this file and one line in `families`. Its settings import nothing heavy, so that a command line can name
and check them at once; the model itself is imported when it is built.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from embodichain.errors import ConfigError, unknown
from embodichain.types import CHUNK
from learner.codecs.config import LatentSpec

if TYPE_CHECKING:
    from learner.models.world_model import WorldModel


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Settings of some family's world model; each family has its own subclass, whose fields all have defaults."""

    family: ClassVar[str]
    """The family's name in `families.FAMILIES`, or "package.module:NAME" of its `Family`."""

    chunk: int = CHUNK
    """Actions between two frames, as the stream has them (`world.chunk`)."""

    def check_chunk(self, chunk: int) -> None:
        """Raises ConfigError unless the stream's chunks have as many actions as this model's."""
        if self.chunk != chunk:
            raise ConfigError(
                f"the stream has {chunk} actions in a chunk, the model {self.chunk}: "
                "set world.chunk and learner.agent.model.chunk alike"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One family of world models."""

    config: Callable[..., ModelConfig]
    """The class of its settings."""
    build: Callable[[Any, LatentSpec, int], WorldModel]
    """A model of given settings, for latents of that kind and text tokens of so many channels; draws from torch's generator.

    Raises ConfigError for settings that do not fit the latents."""
    smallest: Callable[[], ModelConfig]
    """Settings of the smallest model that runs, with which the pipe is tested."""
    sizes: Mapping[str, Callable[[], ModelConfig]] = field(default_factory=dict)
    """Settings by the name of a size."""

    def size(self, name: str) -> ModelConfig:
        """The settings of a named size; raises ConfigError listing those that this family has."""
        if name not in self.sizes:
            raise unknown("model size", name, self.sizes)
        return self.sizes[name]()
