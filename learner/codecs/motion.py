"""Motion of a clip, separated from its content: a few numbers that, with the first frame, reconstruct the whole clip.

After VidTwin (Wang et al. 2025, "VidTwin: Video VAE with Decoupled Structure and Dynamics"): structure is a vector at every site of
the grid, motion is averaged to profiles along rows and along columns. Here structure comes from the first frame alone, and motion
from differences of frames, through layers without bias or norm, so that a clip in which nothing moves has exactly zero motion.

Shapes: B clips of one camera, F frames (5), C latent channels, h x w sites, S numbers of structure a site, M of motion a clip.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embodichain.errors import LearnerError
from learner.records.shipped import SHIPPED_WEIGHTS
from learner.records.weight_files import mismatches, read_weights, write_weights
from learner.vision.config import BUILTIN

FRAMES = 5
"""Frames in a clip."""
_LIFT, _WIDTH, _STRUCTURE, _QUERIES = 64, 8, 8, 4
_FORMAT = "embodichain-motion-1"


class Parts(NamedTuple):
    """Structure [B, 4 x 8, h, w], and motion along columns [B, 4, 8, w] and rows [B, 4, 8, h]."""

    structure: Tensor
    across: Tensor
    down: Tensor

    @property
    def motion(self) -> Tensor:
        """The motion as one vector, [B, M]."""
        return torch.cat([self.across.flatten(1), self.down.flatten(1)], dim=1)


class MotionExtractor(nn.Module):
    """Splits clips of latents into structure and motion, and reconstructs them; stores mean and deviation of the motions."""

    motion_mean: Tensor
    motion_std: Tensor

    def __init__(self, channels: int, rows: int, columns: int, seed: int = 0) -> None:
        super().__init__()
        self.shape = (channels, rows, columns)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.lift = nn.Conv2d(channels, _LIFT, 1)
            self.queries = nn.Parameter(torch.randn(_QUERIES, _LIFT) / 8.0)
            self.key, self.value = nn.Conv2d(_LIFT, _LIFT, 1), nn.Conv2d(_LIFT, _QUERIES * _STRUCTURE, 1)
            self.change = nn.Conv2d(channels, _WIDTH, 1, bias=False)
            self.content = nn.Conv2d(_QUERIES * _STRUCTURE, _LIFT, 1)
            self.sideways = nn.Linear(_WIDTH, _LIFT, bias=False)
            self.upright = nn.Linear(_WIDTH, _LIFT, bias=False)
            self.out = nn.Sequential(
                nn.Conv2d(_LIFT, _LIFT, 3, padding=1), nn.SiLU(), nn.Conv2d(_LIFT, _LIFT, 3, padding=1), nn.SiLU()
            )
            self.last = nn.Conv2d(_LIFT, channels, 1)
        numbers = (FRAMES - 1) * _WIDTH * (rows + columns)
        self.register_buffer("motion_mean", torch.zeros(numbers))
        self.register_buffer("motion_std", torch.ones(numbers))

    @property
    def num_motions(self) -> int:
        """M, the length of a clip's motion vector."""
        return len(self.motion_mean)

    def apart(self, clips_BFChw: Tensor) -> Parts:
        """Structure of the first frame and motion of all frames, from clips [B, F, C, h, w]."""
        lifted = F.silu(self.lift(clips_BFChw[:, 0]))
        weights = torch.einsum("qd,bdhw->bqhw", self.queries, self.key(lifted)).softmax(dim=1)
        structure = self.value(lifted).unflatten(1, (_QUERIES, _STRUCTURE)) * (_QUERIES * weights)[:, :, None]
        steps = clips_BFChw[:, 1:] - clips_BFChw[:, :-1]
        change = self.change(steps.flatten(0, 1)).unflatten(0, steps.shape[:2])
        return Parts(structure.flatten(1, 2), change.mean(dim=3), change.mean(dim=4))

    def together(self, parts: Parts) -> Tensor:
        """Reconstructs clips [B, F, C, h, w]: the first frame, and later ones as the first changed by the motion up to them."""
        content = self.content(parts.structure)
        moved = (
            self.sideways(parts.across.transpose(2, 3)).permute(0, 1, 3, 2)[:, :, :, None]
            + self.upright(parts.down.transpose(2, 3)).permute(0, 1, 3, 2)[..., None]
        )
        so_far = torch.cat([torch.zeros_like(moved[:, :1]), moved.cumsum(dim=1)], dim=1)
        whole = (content[:, None] + so_far).flatten(0, 1)
        return self.last(whole + self.out(whole)).unflatten(0, (len(content), FRAMES))

    def motions(self, clips_BFChw: Tensor) -> Tensor:
        """Motions [B, M] of clips [B, F, C, h, w], with the stored mean and deviation normalised to 0 and 1."""
        return (self.apart(clips_BFChw).motion - self.motion_mean) / self.motion_std


def save_motion(extractor: MotionExtractor, folder: Path) -> None:
    """Writes `model.safetensors`, which `load_motion` reads."""
    shape = " ".join(map(str, extractor.shape))
    write_weights(folder / "model.safetensors", extractor.state_dict(), form=_FORMAT, shape=shape)


def load_motion(source: str) -> MotionExtractor:
    """The extractor in the folder `source`, or the one of this package for "builtin"; raises LearnerError when there is none."""
    path = (SHIPPED_WEIGHTS / "motion" if source == BUILTIN else Path(source)) / "model.safetensors"
    weights, metadata = read_weights(path, form=_FORMAT, advice="train it again with `embodichain codec train motion`")
    channels, rows, columns = map(int, metadata["shape"].split())
    extractor = MotionExtractor(channels, rows, columns)
    if problems := mismatches(extractor.state_dict(), weights):
        raise LearnerError(f"motion extractor {path} does not fit this version: {'; '.join(problems)}")
    extractor.load_state_dict(weights)
    return extractor.eval()
