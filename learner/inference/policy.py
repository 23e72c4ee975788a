"""The agent that a checkpoint carries, and the policy that drives a robot with it: observation in, chunk of actions out."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from embodichain.errors import ConfigError, LearnerError
from embodichain.types import ACTION_DIM, CHUNK
from learner.backbone.text import TextConfig, TextEncoder
from learner.codecs.dino import Encoder, EncoderConfig
from learner.data.dataset import Batch
from learner.memory.ttt import TttConfig
from learner.models.clwm.block_pass import Setting
from learner.models.clwm.config import ClwmConfig
from learner.models.clwm.draws import Grid, Window
from learner.models.clwm.memory import LongTermMemory
from learner.models.clwm.model import Clwm, Losses, TextMemory
from learner.models.normalize import Measurement, Normalizer, NormalizerConfig
from learner.records.weight_files import mismatches, read_weights, write_weights


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentConfig:
    """Everything that shapes an agent; saved in its checkpoint."""

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    text: TextConfig = field(default_factory=TextConfig)
    normalizer: NormalizerConfig = field(default_factory=NormalizerConfig)
    model: ClwmConfig = field(default_factory=ClwmConfig)
    seed: int = 0
    """Initial weights and training noise."""

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings and dicts."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> AgentConfig:
        """The inverse of `to_dict`."""
        model = dict(data["model"])
        model["ttt"] = TttConfig(**model["ttt"])
        return cls(
            encoder=EncoderConfig(**data["encoder"]),
            text=TextConfig(**data["text"]),
            normalizer=NormalizerConfig(**data["normalizer"]),
            model=ClwmConfig(**model),
            seed=data["seed"],
        )


class Agent(nn.Module):
    """Encoder, text encoder, normalizer and world model as one module: physical values outside, normalised ones inside."""

    memory_span: Tensor
    """int64 scalar: how many frames memory held in training; in closed loop it starts afresh after as many."""

    def __init__(self, config: AgentConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config.encoder)
        self.text = TextEncoder(config.text)
        if config.model.aim and not config.encoder.segmenter:
            raise ConfigError("model.aim reads where objects are seen: set encoder.segmenter, for one to builtin")
        self.normalizer = Normalizer(config.normalizer, self.encoder.latent_dim)
        self.register_buffer("memory_span", torch.tensor(1))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.model = Clwm(config.model, latent_dim=self.encoder.latent_dim, text_dim=self.text.dim)

    @property
    def aims(self) -> bool:
        """Whether batches need the first frames of their trajectories."""
        return bool(self.config.model.aim)

    @property
    def num_trained_parameters(self) -> int:
        """Parameters that the optimiser changes."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    def grid(self, rgb: Tensor) -> Grid:
        """How the latents of frames [..., cameras, h, w, 3] lie."""
        return Grid(rgb.shape[-4], *self.encoder.grid(rgb.shape[-3], rgb.shape[-2]))

    @torch.no_grad()
    def encoded(self, batch: Batch) -> tuple[Tensor, Grid]:
        """The latents of a batch's frames [B, T, N, C], not normalised, and how they lie: encoded here, or by the workers."""
        return self._encoded(batch.rgb_BThw3, batch.latents_BTvrcC)

    def _encoded(self, rgb: Tensor | None, ready: Tensor | None) -> tuple[Tensor, Grid]:
        if ready is not None:
            if ready.shape[-1] != self.encoder.latent_dim:
                raise LearnerError(
                    f"the stream's latents have {ready.shape[-1]} channels, the agent's encoder makes {self.encoder.latent_dim}: "
                    "world.encode and learner.agent.encoder must name the same encoder"
                )
            return ready.flatten(2, 4).to(self.normalizer.latent_mean), Grid(*ready.shape[2:5])
        assert rgb is not None, "a batch carries pixels or latents"
        return self.encoder(rgb), self.grid(rgb)

    @torch.no_grad()
    def window(self, batch: Batch) -> Window:
        """A batch, encoded and normalised."""
        return self._window(batch, self.encoded(batch)[0])

    def _window(self, batch: Batch, latents: Tensor) -> Window:
        return Window(
            latents_BTNC=self.normalizer.latents(latents),
            proprio_BTA=self.normalizer.proprio(batch.proprio_BTA),
            actions_BTKA=self.normalizer.actions(batch.actions_BTKA, batch.proprio_BTA[:, :-1]),
            text_BLC=self.text(batch.instructions),
            opening_BNC=self._opening(batch) if self.aims else None,
        )

    @torch.no_grad()
    def _opening(self, batch: Batch) -> Tensor:
        """Normalised latents [B, N, C] of the first frames."""
        if batch.opening is None:
            raise LearnerError("this agent aims by the first frame of each trajectory: gather(..., opening=True)")
        written = batch.latents_BTvrcC is not None
        latents, _ = self._encoded(None if written else batch.opening, batch.opening if written else None)
        return self.normalizer.latents(latents[:, 0])

    def losses(self, batch: Batch, generator: torch.Generator) -> Losses:
        """The training losses of a batch, with noise from `generator` (on the CPU)."""
        latents, grid = self.encoded(batch)
        window = self._window(batch, latents)
        return self.model.losses(
            window,
            self.model.draw(window, generator),
            grid,
            valid_BT=batch.valid_BT,
            imitate_BT=batch.imitate_BT,
            action_mask_BA=batch.action_mask_BA,
        )

    @torch.no_grad()
    def measure(self, batch: Batch, measurement: Measurement) -> None:
        """Adds a batch to the normalizer's warm-up."""
        measurement.add(
            action_BTKA=batch.actions_BTKA,
            proprio_BTA=batch.proprio_BTA,
            action_mask_BA=batch.action_mask_BA,
            latents_BTNC=self.encoded(batch)[0],
            valid_BT=batch.valid_BT,
        )

    def new_measurement(self) -> Measurement:
        """An empty warm-up for this agent's normalizer."""
        return Measurement(self.config.normalizer, self.encoder.latent_dim)


class Noise(NamedTuple):
    """Where the paths of one generation begin: the next frame's noise and the chunk's, or several chunks' of the same frame."""

    video_BNC: Tensor
    action_BKA: Tensor


class Outcome(StrEnum):
    """How a chunk came about."""

    SYNCHRONOUS = "synchronous"
    SPECULATED = "speculated"
    """Begun in the background, ended with the real observation."""
    TAKEN_OVER = "taken over"
    """The observation was early: the background had not come as far as planned."""
    EXPIRED = "expired"
    """The observation was late: the background's work was dropped."""
    BLIND = "blind"
    """The observation was lost: predictions alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inference:
    """What the last chunk cost the one who waited for it: function evaluations of each stage, seconds in all and of them waiting
    for the background.
    """

    outcome: Outcome
    video_evaluations: int
    action_evaluations: int
    blocking_s: float
    waited_s: float = 0.0


class ClwmPolicy:
    """Drives one robot in closed loop; owned by one thread, shares nothing with other policies of the same agent but weights.

    `begin` starts an episode. Each `act` takes in a real frame together with the chunk executed before it (the one it returned, if
    not told otherwise), and returns the next chunk. After the agent's `memory_span` frames the memory starts afresh, as every
    training window did; where objects were seen in the first frame stays.
    """

    def __init__(self, agent: Agent, *, seed: int = 0) -> None:
        if not agent.normalizer.is_fitted:
            raise LearnerError("the agent's normalizer was never measured: train it, or load a checkpoint")
        self._agent = agent.eval()
        self._seed = seed
        self._span = int(agent.memory_span)
        self._generator = torch.Generator()
        self._text: TextMemory | None = None
        self._memory = agent.model.empty_memory()
        self._executed: Tensor | None = None
        self._measured: Tensor | None = None
        self._grid = Grid(0, 0, 0)
        self.imagined: Tensor | None = None
        """Normalised latents of the frame expected after the last chunk, float32 [N, C]."""
        self.seen: Tensor | None = None
        """Normalised latents of the last real frame, float32 [N, C]."""
        self.last: Inference | None = None
        """What the last chunk cost."""

    @property
    def memory(self) -> LongTermMemory:
        """What the policy remembers of this episode."""
        return self._memory

    @torch.inference_mode()
    def begin(self, instruction: str) -> None:
        """Starts an episode: empties the memory, restarts the noise, reads the instruction once."""
        agent = self._agent
        self._generator.manual_seed(self._seed)
        self._text = agent.model.read_text(agent.text([instruction]))
        self._memory = agent.model.empty_memory()
        self._executed, self._measured, self.imagined, self.seen, self.last = None, None, None, None, None

    @torch.inference_mode()
    def act(
        self, rgb: NDArray[np.uint8], proprio: NDArray[np.float32], executed: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """The next chunk of actions for a frame.

        Args:
            rgb: uint8 [cameras, h, w, 3].
            proprio: measured state in the unified representation, [30].
            executed: the 16 actions that the robot executed since the last frame, [16, 30], physical and absolute; None when
                they were those of the last chunk.

        Returns:
            float32 [16, 30] in physical units and absolute, zero in channels that the robot lacks.

        Raises:
            LearnerError: before `begin`, or for an observation of another shape or type.
            ConfigError: for cameras or sizes of pictures that the model does not take. After either the policy is as before.
        """
        began = time.perf_counter()
        latents, measured, grid = self._see(rgb, proprio)
        done = self._executed if executed is None else self._as_executed(executed)
        state = self._agent.normalizer.proprio(measured)
        self._memory = self._remember(self._memory, latents, state, done, self._reading, grid, self._settings(grid))
        self._executed, self._grid, self._measured, self.seen = done, grid, measured, latents[0]
        return self._generate(self._memory, latents, measured, began)

    def close(self) -> None:
        """Frees what the policy holds besides memory: nothing here."""

    # ------------------------------------------------------------------------------------------------------------- parts

    @property
    def _reading(self) -> TextMemory:
        if self._text is None:
            raise LearnerError("the policy has no instruction: call begin(instruction) first")
        return self._text

    def _see(self, rgb: NDArray[np.uint8], proprio: NDArray[np.float32]) -> tuple[Tensor, Tensor, Grid]:
        """Normalised latents [1, N, C], the measured state [1, A] as it is, and how the latents lie."""
        _ = self._reading
        if rgb.ndim != 4 or rgb.shape[-1] != 3 or rgb.dtype != np.uint8 or proprio.shape != (ACTION_DIM,):
            raise LearnerError(
                f"an observation is rgb uint8 [cameras, h, w, 3] and proprio [{ACTION_DIM}], "
                f"got {rgb.dtype} {list(rgb.shape)} and {list(proprio.shape)}"
            )
        agent = self._agent
        device = agent.normalizer.latent_mean.device
        pixels = torch.from_numpy(np.array(rgb, order="C")).to(device)[None]  # a copy: a server's arrays are read only
        measured = torch.from_numpy(np.array(proprio, np.float32)).to(device)[None]
        return agent.normalizer.latents(agent.encoder(pixels)), measured, agent.grid(pixels)

    def _as_executed(self, executed: NDArray[np.float32]) -> Tensor:
        if executed.shape != (CHUNK, ACTION_DIM):
            raise LearnerError(f"executed actions are [{CHUNK}, {ACTION_DIM}], got {list(executed.shape)}")
        if self._measured is None:
            raise LearnerError("executed actions belong between two frames: none was seen before this one")
        actions = torch.from_numpy(np.array(executed, np.float32)).to(self._measured)[None]
        return self._agent.normalizer.actions(actions, self._measured)

    def _settings(self, grid: Grid) -> tuple[Setting, Setting] | None:
        """What observing a frame needs beside the frame, if it was made before: here everything is made when asked."""
        return None

    def _remember(
        self,
        memory: LongTermMemory,
        latents: Tensor,
        proprio: Tensor,
        executed: Tensor | None,
        text: TextMemory,
        grid: Grid,
        made: tuple[Setting, Setting] | None,
    ) -> LongTermMemory:
        """The memory after a frame; it starts afresh when its span is full. Reads nothing of the policy that ever changes."""
        if memory.steps >= self._span:
            memory, executed = self._agent.model.empty_memory(memory.opening), None
        return self._agent.model.observe(memory, latents, proprio, executed, text, grid, made)

    def _noise(self, like: Tensor) -> Noise:
        video = torch.randn(like.shape, generator=self._generator).to(like)
        model = self._agent.config.model
        action = torch.randn((model.action_samples, CHUNK, ACTION_DIM), generator=self._generator).to(like)
        return Noise(video, model.action_temperature * action)

    def _generate(self, memory: LongTermMemory, like: Tensor, measured: Tensor, began: float) -> NDArray[np.float32]:
        """Both stages, from noise to the physical chunk; `like` are the frame's latents."""
        model = self._agent.model
        frame, chunk = model.generate(memory, *self._noise(like), self._reading, self._grid)
        actions = self._release(frame, chunk, measured)
        self.last = Inference(
            outcome=Outcome.SYNCHRONOUS,
            video_evaluations=model.config.video_steps,
            action_evaluations=model.config.action_steps,
            blocking_s=time.perf_counter() - began,
        )
        return actions

    def _release(self, frame: Tensor, chunk: Tensor, measured: Tensor) -> NDArray[np.float32]:
        """Keeps the imagined frame and the chunk (of several the mean), taken as executed; the chunk in physical units."""
        agent = self._agent
        chunk = chunk.mean(dim=0, keepdim=True)
        self._executed = chunk.clamp(-agent.config.normalizer.clip, agent.config.normalizer.clip) * agent.normalizer.action_mask
        self.imagined = frame[0]
        return agent.normalizer.physical_actions(self._executed, measured)[0].float().cpu().numpy()


AGENT_FORMAT = "embodichain-agent-1"
"""Of a `.safetensors` file: raised when an older version could not read it."""
_ADVICE = "save the agent again with save_agent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What an agent was trained on and must be driven with: needed to serve it, not to compute with it."""

    robot: str = "dual_piper"
    """A name from `embodichain list`, or the path of an MJCF file."""
    width: int = 64
    height: int = 64
    """Of every camera's pictures [pixels]."""
    tasks: tuple[str, ...] = ()
    horizon: int = 64
    """Most chunks an episode had."""
    instances: Mapping[str, int] = field(default_factory=dict)
    """How many instances of each family its scenes were made of; empty for those that a world has if not told otherwise."""
    instances_seed: int = 0


def save_agent(agent: Agent, path: Path, setup: Setup) -> None:
    """Writes one `.safetensors` file that `load_agent` and `load_setup` read: weights and configuration, no optimiser. Atomic."""
    write_weights(
        path,
        agent.state_dict(),
        form=AGENT_FORMAT,
        agent_config=json.dumps(agent.config.to_dict()),
        setup=json.dumps(asdict(setup)),
    )


def load_setup(path: Path) -> Setup:
    """What `save_agent` was told; raises LearnerError for any other file."""
    _, metadata = read_weights(path, form=AGENT_FORMAT, advice=_ADVICE, only_metadata=True)
    try:
        saved = json.loads(metadata["setup"])
        return Setup(**{**saved, "tasks": tuple(saved["tasks"])})
    except (KeyError, TypeError, ValueError) as error:
        raise LearnerError(f"{path} does not say what it was trained on: {error!r}; write it again with save_agent") from error


def load_agent(path: Path | str, device: str = "cpu") -> Agent:
    """The agent in a training checkpoint or in a `.safetensors` file of `save_agent`; executes nothing that a file holds.

    Raises LearnerError when there is none, or listing what does not fit this version.
    """
    path = Path(path)
    if not path.exists():
        raise LearnerError(f"no checkpoint at {path}")
    try:
        if path.suffix == ".safetensors":
            weights, metadata = read_weights(path, form=AGENT_FORMAT, advice=_ADVICE)
            config = metadata["agent_config"]
        else:
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
            prefix = "agent."
            weights = {name.removeprefix(prefix): w for name, w in checkpoint["state_dict"].items() if name.startswith(prefix)}
            weights |= checkpoint.get("average", {})
            config = checkpoint["agent_config"]
        agent = Agent(AgentConfig.from_dict(json.loads(config)))
    except (KeyError, TypeError, RuntimeError, ValueError, UnpicklingError) as error:
        raise LearnerError(f"checkpoint {path} holds no agent that this version reads: {error!r}") from error
    mismatch = mismatches(agent.state_dict(), weights)
    if mismatch:
        raise LearnerError(f"checkpoint {path} does not fit its own configuration: {'; '.join(mismatch)}")
    agent.load_state_dict(weights)
    return agent.to(device).eval()
