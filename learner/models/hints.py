"""What actions of any family may be told of a frame at once: a pooled frame, and where objects are seen."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embodichain.errors import ConfigError, LearnerError
from embodichain.types import ACTION_DIM
from learner.vision.segmenter import MOMENTS

GLANCE_CHANNELS = 128
"""Channels that a glance keeps of each latent."""

AIM_WIDTH = 4
"""Width of the hidden layers of an aim, in widths of the model."""


class Glance(nn.Module):
    """All latents of a frame in one vector: some channels of each, weighed by where it lies, through one hidden layer.

    What a linear probe of a picture reads, and what visuomotor policies begin with when they flatten their last feature map.
    """

    def __init__(self, latent_dim: int, count: int, dim: int) -> None:
        super().__init__()
        self.count = count
        self.narrow = nn.Linear(latent_dim, GLANCE_CHANNELS)
        self.gather = nn.Linear(count * GLANCE_CHANNELS, 2 * dim)
        self.output = nn.Linear(2 * dim, dim)

    def forward(self, latents: Tensor) -> Tensor:
        """Latents [B, T, N, C] → [B, T, 1, D]; raises ConfigError unless N is what it was made for."""
        if latents.shape[-2] != self.count:
            raise ConfigError(
                f"a frame has {latents.shape[-2]} latents and this model's glance reads {self.count}: "
                "cameras, sizes of pictures and encoder must be those of training (model.glance)"
            )
        narrow = F.gelu(self.narrow(latents), approximate="tanh").flatten(-2)
        return self.output(F.gelu(self.gather(narrow), approximate="tanh")).unsqueeze(-2)


class Aim(nn.Module):
    """Where to go: from where objects are seen, where they were seen when the episode began, and where the arms are.

    Reads the image moments that end each latent (`segmenter.image_moments`), once for each camera. The first frame counts for the
    whole episode, for there nothing hides what stands there. Three layers, because a way from here to there is no sum of both.
    """

    def __init__(self, cameras: int, dim: int) -> None:
        super().__init__()
        self.cameras = cameras
        wide = AIM_WIDTH * dim
        self.layers = nn.Sequential(
            nn.Linear(aim_inputs(cameras), wide),
            nn.GELU(approximate="tanh"),
            nn.Linear(wide, wide),
            nn.GELU(approximate="tanh"),
            nn.Linear(wide, dim),
        )

    def moments(self, latents: Tensor) -> Tensor:
        """Of the cameras of frames, latents [..., N, C] → [..., cameras x 6]; raises ConfigError unless N belongs to so many."""
        return by_camera(latents, self.cameras, "model.aim")[..., 0, -MOMENTS:].flatten(-2)

    def forward(self, moments: Tensor, opening: Tensor, proprio: Tensor) -> Tensor:
        """Moments [B, T, cameras x 6] now, and [B, cameras x 6] at first, and states [B, T, A] → [B, T, 1, D]."""
        first = opening[:, None].expand(-1, moments.shape[1], -1)
        return self.layers(torch.cat([moments, first, proprio], dim=-1)).unsqueeze(-2)


class Hints(nn.Module):
    """What actions are told at once of each frame, for any family: frames at a glance, the aim, both or nothing."""

    def __init__(self, *, latent_dim: int, moments: int, dim: int, glance: int, aim: int) -> None:
        """`glance` latents a frame and `aim` cameras, 0 for none; raises ConfigError for an aim where latents carry no moments."""
        super().__init__()
        if aim and not moments:
            raise ConfigError("model.aim reads where objects are seen: set encoder.segmenter, for one to builtin")
        self.glance = Glance(latent_dim, glance, dim) if glance else None
        self.aim = Aim(aim, dim) if aim else None

    def opening(self, latents_BNC: Tensor | None) -> Tensor | None:
        """What the aim keeps of an episode's first frame, [B, M]; None without an aim. Raises LearnerError when it is missing."""
        if self.aim is None:
            return None
        if latents_BNC is None:
            raise LearnerError("this model aims by the first frame of each trajectory, and the window lacks it (opening_BNC)")
        return self.aim.moments(latents_BNC)

    def forward(self, latents_BTNC: Tensor, opening_BM: Tensor | None, proprio_BTA: Tensor) -> Tensor | None:
        """What is added to the action tokens of each step, [B, T, 1, D]; None for nothing."""
        glance = None if self.glance is None else self.glance(latents_BTNC)
        if self.aim is None or opening_BM is None:
            return glance
        aim = self.aim(self.aim.moments(latents_BTNC), opening_BM, proprio_BTA)
        return aim if glance is None else glance + aim


def by_camera(latents: Tensor, cameras: int, setting: str) -> Tensor:
    """Latents [..., N, C], cameras in order, as [..., cameras, N / cameras, C].

    Raises ConfigError, naming the `setting` that says how many cameras there are, when N is not that of so many.
    """
    if latents.shape[-2] % cameras:
        raise ConfigError(f"{latents.shape[-2]} latents are not those of {cameras} cameras ({setting})")
    return latents.unflatten(-2, (cameras, -1))


def aim_inputs(cameras: int) -> int:
    """Numbers that `Aim` reads of a frame."""
    return 2 * cameras * MOMENTS + ACTION_DIM
