"""The seam between world models and everything else: what a model computes, and what it may ask of the stream.

Training, inference, evaluation and serving see a model through `WorldModel` alone, and find it by its `family.Family`.

Shapes: B batch, T steps of a window, N latents a frame, C channels of a latent, K actions a chunk, H actions a decision, A action
channels. Everything that a model reads or returns is normalised.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor, nn

from embodichain.errors import ConfigError, unknown
from learner.backbone.grid import Grid
from learner.backbone.wan_weights import LoadReport
from learner.memory.config import Recompute
from learner.models.window import Extent, Window

Draws: TypeAlias = Any
"""Noise and flow times of one training step: made by a family's `draw`, read by its `losses`."""
TextMemory: TypeAlias = Any
"""What a family keeps of one instruction: made by `read_text`, once an instruction."""
Noise: TypeAlias = Any
"""Where the sampling of one decision begins: made by `noise`."""
Prepared: TypeAlias = Any
"""What inference needs besides observations and noise, computed in advance: made by `prepare`, None where there is nothing."""
Started: TypeAlias = Any
"""A decision under way: made by `begin`, completed by `finish`."""


class Needs(NamedTuple):
    """What a batch must carry for a model beside latents, states and actions."""

    opening: bool = False
    """The first frame of each trajectory."""
    depth: bool = False
    """Depth of every frame, which the codec encodes."""
    codes: bool = False
    """Codes of every frame's patches, and motions of clips, which the codec makes of latents."""


class Losses(NamedTuple):
    """Of one training step: the scalar to minimise, and its parts by name, which become `loss/<name>` in every logger."""

    total: Tensor
    parts: Mapping[str, Tensor]


class Seen(NamedTuple):
    """One observation: a frame, the measured state, and the chunk executed before the frame (None before an episode's first)."""

    latents_BNC: Tensor
    proprio_BA: Tensor
    executed_BKA: Tensor | None
    imagined: Mapping[str, Tensor] | None = None
    """`Decision.extras` of the decision whose imagined frame stands in for this one; None for a frame that was seen."""
    codes_BN: Tensor | None = None
    """Codes of the frame's patches, for models that read them."""


class Decision(NamedTuple):
    """What a model decides after an observation."""

    actions_BHA: Tensor
    """The actions to come; the first K of them are executed before the next observation."""
    imagined_BNC: Tensor | None
    """The frame expected after the chunk; None from a model that imagines none."""
    evaluations: Mapping[str, int]
    """Evaluations of the network that this decision waited for, by the name of the stage."""
    extras: Mapping[str, Tensor] = MappingProxyType({})
    """What else the family makes, by name: further frames, depth."""
    is_ahead: bool = False
    """Whether it was made whole before the observation: its actions are relative to the state that was expected then."""


class Prefix(NamedTuple):
    """Actions under way while a decision is made: what is left of the last one, and how many of them are committed."""

    actions_BHA: Tensor
    """From the new frame on, normalised with the state measured now; as many as are known."""
    delay: int
    """d: the new decision takes over after so many."""


class State(Protocol):
    """What a model remembers of an episode. Immutable: an observation makes a new one."""

    @property
    def steps(self) -> int:
        """Frames observed."""
        ...

    @property
    def size_bytes(self) -> int:
        """Bytes of its tensors."""
        ...


class Mode(NamedTuple):
    """A way to decide ahead of the observation: a name out of `WorldModel.modes`, and how far `begin` goes, 0 to 1."""

    name: str
    share: float


def never() -> bool:
    """Nobody asks `begin` to stop."""
    return False


class WorldModel(nn.Module, ABC):
    """A model between normalised latents and normalised actions: it holds parameters and no state of any episode.

    Matrices in parts called `blocks`, `glance` and `aim` are those that `optimizer.matrices` speaks of; a part called `memories`
    learns at `optimizer.memory_rate`.
    """

    needs: Needs = Needs()
    horizon: int
    """H, actions of a decision: a multiple of the chunk."""
    modes: tuple[str, ...] = ()
    """Names of the ways in which it decides ahead of an observation; () for a model that cannot."""
    late_modes: tuple[str, ...] = ()
    """Names of the ways in which it decides while the last decision goes on; () for a model that cannot."""
    recompute: Recompute
    """How training trades work for memory; may be set at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.recompute = Recompute()

    # ------------------------------------------------------------------------------------------------------------ training

    def check_training(self) -> None:
        """Raises ConfigError for settings with which this model may be loaded and played, but cannot learn what it is asked."""

    @abstractmethod
    def draw(self, window: Window, generator: torch.Generator) -> Draws:
        """Noise and flow times of one training step, from a generator on the CPU."""

    @abstractmethod
    def losses(
        self, window: Window, draws: Draws, grid: Grid, *, valid_BT: Tensor, imitate_BT: Tensor, action_mask_BA: Tensor
    ) -> Losses:
        """The losses of one training step.

        Args:
            window: T + 1 frames and the T chunks between them.
            draws: of `draw`.
            grid: how the latents of a frame lie.
            valid_BT: steps that are not padding.
            imitate_BT: steps whose actions are worth imitating.
            action_mask_BA: action channels that the robot has.
        """

    # ----------------------------------------------------------------------------------------------------------- inference

    @abstractmethod
    def read_text(self, text_BLC: Tensor) -> TextMemory:
        """What is kept of an instruction: computed once for each."""

    @abstractmethod
    def empty(self) -> Any:
        """The state before an episode's first frame, for any batch size."""

    def restart(self, state: Any, span: int) -> Any:
        """The state in which the next frame is observed, where training's windows held `span` frames.

        A model that remembers only as long as it was trained to returns an emptied state; all others return `state` itself.
        """
        return state

    @abstractmethod
    def observe(self, state: Any, seen: Seen, text: TextMemory, grid: Grid, made: Prepared = None) -> Any:
        """The state after an observation; `state` stays as it is."""

    @abstractmethod
    def noise(self, latents_BNC: Tensor, generator: torch.Generator) -> Noise:
        """Where the sampling of a decision begins, for frames of this shape."""

    def prepare(self, noise: Noise, grid: Grid) -> Prepared:
        """What `observe`, `begin` and `finish` would otherwise compute each time; follows from weights, grid and batch size."""
        return None

    @abstractmethod
    def decide(self, state: Any, noise: Noise, text: TextMemory, grid: Grid) -> Decision:
        """The actions after the last observation; `state` stays as it is."""

    def decide_from(self, state: Any, noise: Noise, prefix: Prefix, text: TextMemory, grid: Grid, mode: Mode) -> Decision:
        """A decision that takes over from actions under way; called where gradients are possible, so not in inference mode."""
        raise unknown("mode", mode.name, self.late_modes)

    def check(self, mode: Mode) -> None:
        """Raises ConfigError, listing what is possible, unless this model can decide ahead or late in that way."""
        raise unknown("mode", mode.name, self.modes)

    def unbegun(self, noise: Noise) -> Started:
        """A decision of which nothing is done yet."""
        raise ConfigError(f"{type(self).__name__} decides nothing ahead of an observation: serve and judge it without --sai")

    def begin(
        self,
        state: Any,
        noise: Noise,
        text: TextMemory,
        grid: Grid,
        mode: Mode,
        *,
        stopped: Callable[[], bool] = never,
        made: Prepared = None,
    ) -> Started:
        """The part of a decision that `mode` makes before the observation, with a `state` that holds a surrogate of it.

        `stopped` is asked before each evaluation of the network; once it says so, what is done until then is returned.
        """
        raise unknown("mode", mode.name, self.modes)

    def finish(self, state: Any, started: Started, text: TextMemory, grid: Grid, *, made: Prepared = None) -> Decision:
        """Completes a decision with the state that holds the real observation.

        With the state that `begin` had, the result is bit for bit that of `decide`.
        """
        raise ConfigError(f"{type(self).__name__} decides nothing ahead of an observation: serve and judge it without --sai")

    def foresee(self, state: Any, seen: Seen, noise: Noise, text: TextMemory, grid: Grid, mode: Mode) -> Seen:
        """A better surrogate of the next observation than `seen`, where `mode` computes one in the background; `seen` elsewhere.

        `state` holds all that was observed before it, and `seen.executed_BKA` the chunk that leads to it.
        """
        return seen

    # --------------------------------------------------------------------------------------------------------- large models

    def load_backbone(self, folder: Path | str) -> LoadReport:
        """Fills the backbone from a checkpoint of a video model; raises ConfigError in a family that has no such backbone."""
        raise ConfigError(f"{type(self).__name__} starts from no backbone of another model: leave learner.backbone empty")

    def compile_blocks(self, **options: Any) -> None:
        """Has `torch.compile` make what training repeats; does nothing in a family that repeats nothing."""

    def shards(self) -> Iterator[nn.Module]:
        """The parts whose weights are gathered apart in sharded training, innermost first; the whole model comes after them."""
        return iter(())

    @abstractmethod
    def forward_flops(self, extent: Extent) -> float:
        """Multiplications and additions of the forward pass of one training step."""
