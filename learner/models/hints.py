"""Hints: direct conditioning of the actions of any family, by pooled features of a frame and by image moments of objects."""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embodichain.errors import ConfigError, LearnerError
from learner.codecs.config import LatentSpec
from learner.vision.segmenter import MOMENTS

GLANCE_CHANNELS = 128
"""Channels to which each latent is projected before pooling."""

AIM_WIDTH = 4
"""Width of the hidden layers of `Aim`, as a multiple of the model's width."""


class Glance(nn.Module):
    """Pools all latents of a frame into one vector: projects each, weighs it by its place, applies one hidden layer.

    It corresponds to flattening the last feature map, with which many visuomotor policies begin.
    """

    def __init__(self, latent_dim: int, count: int, dim: int) -> None:
        super().__init__()
        self.count = count
        self.narrow = nn.Linear(latent_dim, GLANCE_CHANNELS)
        self.gather = nn.Linear(count * GLANCE_CHANNELS, 2 * dim)
        self.output = nn.Linear(2 * dim, dim)

    def forward(self, latents: Tensor) -> Tensor:
        """Latents [B, T, N, C] → [B, T, 1, D]; raises ConfigError unless N equals the `count` that it was made for."""
        if latents.shape[-2] != self.count:
            raise ConfigError(
                f"a frame has {latents.shape[-2]} latents and this model's glance reads {self.count}: "
                "cameras, sizes of pictures and encoder must be those of training (model.glance)"
            )
        narrow = F.gelu(self.narrow(latents), approximate="tanh").flatten(-2)
        return self.output(F.gelu(self.gather(narrow), approximate="tanh")).unsqueeze(-2)


class Aim(nn.Module):
    """Conditions actions on image moments: where objects are seen now and at the start of the episode, and where the arms are.

    Reads the image moments at the end of each latent (`segmenter.image_moments`), once for each camera. The first frame is used
    during the whole episode, because no arm hides an object in it yet. Three layers, because the motion between two places is not a
    sum of functions of each.
    """

    def __init__(self, cameras: int, action_dim: int, dim: int) -> None:
        super().__init__()
        self.cameras = cameras
        wide = AIM_WIDTH * dim
        self.layers = nn.Sequential(
            nn.Linear(aim_inputs(cameras, action_dim), wide),
            nn.GELU(approximate="tanh"),
            nn.Linear(wide, wide),
            nn.GELU(approximate="tanh"),
            nn.Linear(wide, dim),
        )

    def moments(self, latents: Tensor) -> Tensor:
        """Image moments of every camera, latents [..., N, C] → [..., cameras x 6]; raises ConfigError if N does not fit."""
        return by_camera(latents, self.cameras, "model.aim")[..., 0, -MOMENTS:].flatten(-2)

    def forward(self, moments: Tensor, opening: Tensor, proprio: Tensor) -> Tensor:
        """Present moments [B, T, cameras x 6], first moments [B, cameras x 6] and states [B, T, A] → [B, T, 1, D]."""
        first = opening[:, None].expand(-1, moments.shape[1], -1)
        return self.layers(torch.cat([moments, first, proprio], dim=-1)).unsqueeze(-2)


class Hinted(Protocol):
    """What the settings of a family say of its hints; see `Hints`."""

    @property
    def action_dim(self) -> int:
        """Channels of an action and of a state."""
        ...

    @property
    def glance(self) -> int:
        """Number of latents of a frame that are pooled; 0 for none."""
        ...

    @property
    def aim(self) -> int:
        """Number of cameras whose image moments are read; 0 for none."""
        ...


class Hints(nn.Module):
    """The hints for the actions of any family: pooled frames, image moments, both or none."""

    def __init__(self, config: Hinted, latents: LatentSpec, dim: int) -> None:
        """`config.glance` is the number of latents a frame, `config.aim` that of cameras, 0 for none; `dim` the width of actions.

        Raises ConfigError for an aim if latents contain no moments.
        """
        super().__init__()
        if config.aim and not latents.moments:
            raise ConfigError("model.aim reads where objects are seen: set encoder.segmenter, for one to builtin")
        self.glance = Glance(latents.channels, config.glance, dim) if config.glance else None
        self.aim = Aim(config.aim, config.action_dim, dim) if config.aim else None

    def opening(self, latents_BNC: Tensor | None) -> Tensor | None:
        """Image moments of the first frame, [B, M]; None without an aim. Raises LearnerError if the frame is missing."""
        if self.aim is None:
            return None
        if latents_BNC is None:
            raise LearnerError("this model aims by the first frame of each trajectory, and the window lacks it (opening_BNC)")
        return self.aim.moments(latents_BNC)

    def forward(self, latents_BTNC: Tensor, opening_BM: Tensor | None, proprio_BTA: Tensor) -> Tensor | None:
        """The vector that is added to the action tokens of each step, [B, T, 1, D]; None without hints."""
        glance = None if self.glance is None else self.glance(latents_BTNC)
        if self.aim is None or opening_BM is None:
            return glance
        aim = self.aim(self.aim.moments(latents_BTNC), opening_BM, proprio_BTA)
        return aim if glance is None else glance + aim


def by_camera(latents: Tensor, cameras: int, setting: str) -> Tensor:
    """Splits latents [..., N, C] by camera: [..., cameras, N / cameras, C].

    Raises ConfigError, which names the `setting` that holds the number of cameras, when N is not a multiple of it.
    """
    if latents.shape[-2] % cameras:
        raise ConfigError(f"{latents.shape[-2]} latents are not those of {cameras} cameras ({setting})")
    return latents.unflatten(-2, (cameras, -1))


def aim_inputs(cameras: int, action_dim: int) -> int:
    """Number of values that `Aim` reads: image moments of the present and of the first frame, and the state."""
    return 2 * cameras * MOMENTS + action_dim
