"""The interface between world models and everything else.

Training, inference, evaluation and serving use a model only through `WorldModel`, and build it by its `family.Family`.

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
"""Noise and flow times of one training step; returned by a family's `draw` and passed to its `losses`."""
TextMemory: TypeAlias = Any
"""An encoded instruction; returned by `read_text`, once for each instruction."""
Noise: TypeAlias = Any
"""The noise from which one decision is sampled; returned by `noise`."""
Prepared: TypeAlias = Any
"""Values for inference that do not depend on observations, computed in advance by `prepare`; None if there are none."""
Started: TypeAlias = Any
"""A decision in progress; begun by `begin`, completed by `finish`."""


class BatchNeeds(NamedTuple):
    """What a model needs in a batch besides latents, states and actions."""

    opening: bool = False
    """Needs the first frame of each trajectory."""
    depth: bool = False
    """Needs the depth of every frame, encoded by the codec."""
    codes: int = 0
    """Needs the discrete codes of every frame, from a codebook of this size, computed by the codec from latents; 0 needs none."""
    motions: bool = False
    """Needs the motions of clips, computed by the codec from latents."""
    between: int = 0
    """Needs as many pictures inside each chunk; motions are then those of the clip from a frame through them to the next frame."""

    @property
    def gathered(self) -> dict[str, Any]:
        """The arguments of `LeasedBatch.gather` that bring what the model needs."""
        return {"opening": self.opening, "depth": self.depth, "between": self.between}


class Losses(NamedTuple):
    """The losses of one training step: the scalar to minimise, and its parts by name, logged as `loss/<name>`."""

    total: Tensor
    parts: Mapping[str, Tensor]


class Seen(NamedTuple):
    """One observation: a frame, the measured state, and the chunk executed before the frame (None for an episode's first frame)."""

    latents_BNC: Tensor
    proprio_BA: Tensor
    executed_BKA: Tensor | None
    imagined: Mapping[str, Tensor] | None = None
    """`Decision.extras` of the decision whose imagined frame stands in for this one; None for a real frame."""
    codes_BN: Tensor | None = None
    """Discrete codes of the frame, for models that need them."""


class Decision(NamedTuple):
    """The decision of a model after an observation."""

    actions_BHA: Tensor
    """The next H actions; the first K of them are executed before the next observation."""
    imagined_BNC: Tensor | None
    """The predicted frame after the chunk; None from a model that predicts none."""
    evaluations: Mapping[str, int]
    """Network evaluations since the observation, by stage."""
    extras: Mapping[str, Tensor] = MappingProxyType({})
    """Further results of a family by name, such as more frames or depth."""
    is_ahead: bool = False
    """Whether the whole decision was made before the observation; its actions are then relative to the expected state."""


class Prefix(NamedTuple):
    """The rest of the last decision, which is executed while the next one is computed."""

    actions_BHA: Tensor
    """The known actions from the new frame on, normalised with the state measured now."""
    delay: int
    """d: the number of these actions that are committed; the new decision takes over after them."""


class State(Protocol):
    """A model's memory of an episode. Immutable: an observation makes a new one."""

    @property
    def steps(self) -> int:
        """Number of frames observed."""
        ...

    @property
    def size_bytes(self) -> int:
        """Bytes of its tensors."""
        ...


class Mode(NamedTuple):
    """A way to decide before the observation: a name from `WorldModel.modes`, and the share that `begin` computes, 0 to 1."""

    name: str
    share: float


def never() -> bool:
    """Always False: the default for `stopped`."""
    return False


class WorldModel(nn.Module, ABC):
    """A model from normalised latents to normalised actions. It holds parameters and no state of any episode.

    Submodules are found by name: `optimizer.matrices` applies to matrices in `blocks`, `glance` and `aim`, and
    `optimizer.memory_rate` to `memories`.
    """

    needs: BatchNeeds = BatchNeeds()
    horizon: int
    """H, actions of a decision: a multiple of the chunk."""
    modes: tuple[str, ...] = ()
    """Modes in which the model can begin a decision before its observation; () if it cannot."""
    late_modes: tuple[str, ...] = ()
    """Modes in which the model can decide while the last decision is being executed; () if it cannot."""
    recompute: Recompute
    """What the backward pass recomputes to save memory; may be changed at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.recompute = Recompute()

    # ------------------------------------------------------------------------------------------------------------ training

    def check_training(self) -> None:
        """Raises ConfigError for settings with which this model can be loaded and used, but not trained sensibly."""

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
            draws: returned by `draw`.
            grid: the layout of the latents of a frame.
            valid_BT: steps that are not padding.
            imitate_BT: steps whose actions are to be imitated.
            action_mask_BA: action channels that the robot has.
        """

    # ----------------------------------------------------------------------------------------------------------- inference

    @abstractmethod
    def read_text(self, text_BLC: Tensor) -> TextMemory:
        """Encodes the text tokens of an instruction; called once for each instruction."""

    @abstractmethod
    def empty(self) -> Any:
        """The memory before an episode's first frame, for any batch size."""

    def restart(self, state: Any, span: int) -> Any:
        """The memory in which to observe the next frame, if training windows held `span` frames.

        A model whose memory works only over the length it was trained on returns an emptied memory once it is full; all others
        return `state` itself.
        """
        return state

    @abstractmethod
    def observe(self, state: Any, seen: Seen, text: TextMemory, grid: Grid, made: Prepared = None) -> Any:
        """The memory after an observation; `state` is not changed."""

    @abstractmethod
    def noise(self, latents_BNC: Tensor, generator: torch.Generator) -> Noise:
        """Draws the noise of one decision, for latents of this shape."""

    def prepare(self, noise: Noise, grid: Grid) -> Prepared:
        """Precomputes what `observe`, `begin` and `finish` would compute each time; depends on weights, grid and batch size."""
        return None

    @abstractmethod
    def decide(self, state: Any, noise: Noise, text: TextMemory, grid: Grid) -> Decision:
        """Decides the actions after the last observation; `state` is not changed."""

    def decide_from(self, state: Any, noise: Noise, prefix: Prefix, text: TextMemory, grid: Grid, mode: Mode) -> Decision:
        """A decision that continues from actions being executed. May need gradients: not to be called in inference mode."""
        raise unknown("mode", mode.name, self.late_modes)

    def check(self, mode: Mode) -> None:
        """Raises ConfigError, listing the possible modes, unless the model has this mode."""
        raise unknown("mode", mode.name, self.modes)

    def unbegun(self, noise: Noise) -> Started:
        """A decision of which nothing has been computed yet."""
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
        """Computes the part of a decision that `mode` makes before the observation; `state` contains a surrogate of it.

        `stopped` is called before each evaluation of the network; once it returns True, the unfinished decision is returned.
        """
        raise unknown("mode", mode.name, self.modes)

    def finish(self, state: Any, started: Started, text: TextMemory, grid: Grid, *, made: Prepared = None) -> Decision:
        """Completes a decision with the memory that contains the real observation.

        With the same memory as in `begin`, the result equals that of `decide` bit for bit.
        """
        raise ConfigError(f"{type(self).__name__} decides nothing ahead of an observation: serve and judge it without --sai")

    def foresee(self, state: Any, seen: Seen, noise: Noise, text: TextMemory, grid: Grid, mode: Mode) -> Seen:
        """Improves the surrogate `seen` of the next observation if `mode` can, in the background; otherwise returns `seen`.

        `state` contains all earlier observations, and `seen.executed_BKA` the chunk that leads to the observation.
        """
        return seen

    # --------------------------------------------------------------------------------------------------------- large models

    def load_backbone(self, folder: Path | str) -> LoadReport:
        """Fills the backbone from a checkpoint of a video model; raises ConfigError in a family without such a backbone."""
        raise ConfigError(f"{type(self).__name__} starts from no backbone of another model: leave learner.backbone empty")

    def compile_blocks(self, **options: Any) -> None:
        """Compiles the repeated blocks of training with `torch.compile`; by default does nothing."""

    def shards(self) -> Iterator[nn.Module]:
        """The submodules that FSDP gathers separately, innermost first; the caller shards the rest of the model after them."""
        return iter(())

    @abstractmethod
    def forward_flops(self, extent: Extent) -> float:
        """FLOPs, multiplications plus additions, of the forward pass of one training step."""
