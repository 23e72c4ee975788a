"""The agent: encoder, text encoder, normalizer and world model as one module, which is what checkpoints contain."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from embodichain.errors import ConfigError, LearnerError
from learner.backbone.grid import Grid
from learner.backbone.text import TextEncoder
from learner.codecs.catalog import make_codec
from learner.data.batch import Batch
from learner.models.config import AgentConfig
from learner.models.families import family_of
from learner.models.normalize import Measurement, Normalizer
from learner.models.window import Window
from learner.models.world_model import Losses


class Agent(nn.Module):
    """Encoder, text encoder, normalizer and world model as one module: takes and returns physical values, computes normalised."""

    memory_span: Tensor
    """int64 scalar: how many frames the memory held in training; in closed loop it is restarted after as many. 0 means that it was
    trained along whole episodes and is never restarted within one."""

    ancestry: tuple[Mapping[str, str], ...] = ()
    """The policies from which its training started, the oldest first, each with its path then and the SHA-256 of its file."""

    def __init__(self, config: AgentConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = make_codec(config.encoder)
        self.text = TextEncoder(config.text)
        self.normalizer = Normalizer(config.normalizer, self.encoder.latents, config.model.action_dim)
        self.register_buffer("memory_span", torch.tensor(1))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.model = family_of(config.model).build(config.model, self.normalizer.spec, self.text.dim)
        if self.model.needs.depth and not self.encoder.encodes_depth:
            raise ConfigError(f"the model learns depth, which the codec {config.encoder.codec!r} does not encode: use codec vae")
        self._check_codes()

    def _check_codes(self) -> None:
        """Raises ConfigError unless the codec has the codebook that the model reads."""
        asked, codec = self.model.needs.codes, self.config.encoder.codec
        if asked and not self.encoder.num_codes:
            raise ConfigError(f"the model reads codes, of which the codec {codec!r} has none: use codec vq or emu3")
        if asked and asked != self.encoder.num_codes:
            raise ConfigError(
                f"the model reads codes of a book of {asked}, that of the codec {codec!r} has {self.encoder.num_codes}: set "
                f"learner.agent.model.codes {self.encoder.num_codes}"
            )

    @property
    def num_trained_parameters(self) -> int:
        """Number of trainable parameters."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    def grid(self, rgb: Tensor) -> Grid:
        """The layout of the latents of frames [..., cameras, h, w, 3]."""
        return Grid(rgb.shape[-4], *self.encoder.grid(rgb.shape[-3], rgb.shape[-2]))

    @torch.no_grad()
    def encoded(self, batch: Batch) -> tuple[Tensor, Grid]:
        """The latents [B, T, N, C] of a batch's frames, not normalised, and their layout; encoded here unless the workers did."""
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
        """Encodes and normalises a batch."""
        return self._window(batch, *self.encoded(batch))

    @torch.no_grad()
    def _window(self, batch: Batch, latents: Tensor, grid: Grid) -> Window:
        self._check_actions(batch)
        needs = self.model.needs
        return Window(
            latents_BTNC=self.normalizer.latents(latents),
            proprio_BTA=self.normalizer.proprio(batch.proprio_BTA),
            actions_BTKA=self.normalizer.actions(batch.actions_BTKA, batch.proprio_BTA[:, :-1]),
            text_BLC=self.text(batch.instructions),
            opening_BNC=self._opening(batch) if self.model.needs.opening else None,
            depth_BTNC=self._depth(batch) if self.model.needs.depth else None,
            codes_BTN=self.encoder.codes_of(latents) if needs.codes else None,
            motion_BTM=self._motions(batch, latents, grid.cameras) if needs.motions else None,
        )

    def _check_actions(self, batch: Batch) -> None:
        """Raises ConfigError unless the batch's chunks are such as the model was made for."""
        self.config.model.check_actions(*batch.actions_BTKA.shape[2:])

    @torch.no_grad()
    def _depth(self, batch: Batch) -> Tensor:
        """Normalised latents [B, T, N, C] of the frames' depths."""
        if batch.depth is None:
            raise LearnerError("this agent learns depth: gather(..., depth=True)")
        written = batch.latents_BTvrcC is not None and batch.depth.ndim == batch.latents_BTvrcC.ndim
        ready = batch.depth.flatten(2, 4).to(self.normalizer.latent_mean) if written else self.encoder.depth_latents(batch.depth)
        return self.normalizer.latents(ready)

    def _motions(self, batch: Batch, latents: Tensor, cameras: int) -> Tensor:
        """Motions [B, clips, M] of all clips of consecutive frames, or [B, T, M] of each chunk if pictures lie inside it."""
        if not self.model.needs.between:
            return self.encoder.motions_of(latents, cameras)
        if batch.between is None:
            raise LearnerError("this agent learns from pictures inside chunks: gather(..., **model.needs.gathered)")
        written = batch.latents_BTvrcC is not None
        pictures = batch.between.flatten(1, 2)
        inside, _ = self._encoded(None if written else pictures, pictures if written else None)
        inside = inside.unflatten(1, batch.between.shape[1:3])
        clips = torch.cat([latents[:, :-1, None], inside, latents[:, 1:, None]], dim=2)
        return self.encoder.motions_of(clips.flatten(0, 1), cameras).unflatten(0, clips.shape[:2]).flatten(2)

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
        window = self._window(batch, latents, grid)
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
        """Adds a batch to the statistics for the normalizer."""
        self._check_actions(batch)
        measurement.add(
            action_BTKA=batch.actions_BTKA,
            proprio_BTA=batch.proprio_BTA,
            action_mask_BA=batch.action_mask_BA,
            latents_BTNC=self.encoded(batch)[0],
            valid_BT=batch.valid_BT,
        )

    def new_measurement(self) -> Measurement:
        """Empty statistics for this agent's normalizer."""
        return Measurement(self.config.normalizer, self.encoder.latents, self.config.model.action_dim)
