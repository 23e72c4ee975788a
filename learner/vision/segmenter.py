"""A segmenter that finds objects in a picture, and image moments of the objects as features for control.

A small convolutional network learns to tell room, table, robot and objects apart from colours alone; the renderer provides the
labels. The mask of the objects is summarised in six numbers: how much of the picture it covers, its centre, its size and its
elongation. Image moments are common features for visual servoing (Hu 1962, "Visual pattern recognition by moment invariants";
Chaumette 2004, "Image moments: a general and useful set of features for visual servoing"). They vary smoothly with the scene, with
sub-pixel resolution, and a policy learns to use them from a few hundred scenes, while positions in patch tokens take thousands.

Shapes: B images of h x w pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from embodichain.errors import ConfigError, LearnerError
from learner.records.shipped import SHIPPED_WEIGHTS
from learner.records.weight_files import mismatches, read_weights, write_weights
from learner.vision.camera_frames import KINDS, CameraFrames
from learner.vision.config import BUILTIN, SegmenterConfig

MOMENTS = 6
"""Number of image moments of a mask."""

_FORMAT = "embodichain-segmenter-1"
_STRIDE = 4
_OBJECT = KINDS.index("object")
_LEAST_PIXELS = 4.0
"""At a mask of this many pixels, moments are halved, so that the moments of a vanishing object fade instead of jumping."""


class Segmenter(nn.Module):
    """A convolutional network that classifies pixels; initial weights are drawn from `seed`."""

    def __init__(self, channels: int, seed: int = 0) -> None:
        super().__init__()
        self.channels = channels
        wide = 2 * channels
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.layers = nn.Sequential(
                nn.Conv2d(3, channels, 5, stride=2, padding=2),
                nn.GELU(),
                nn.Conv2d(channels, wide, 3, stride=2, padding=1),
                nn.GELU(),
                nn.Conv2d(wide, wide, 3, padding=1),
                nn.GELU(),
                nn.Conv2d(wide, wide, 3, padding=2, dilation=2),
                nn.GELU(),
                nn.Conv2d(wide, len(KINDS) * _STRIDE**2, 1),
                nn.PixelShuffle(_STRIDE),
            )

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, kinds, h, w] of room, table, robot and object for images uint8 [B, h, w, 3].

        Raises ConfigError for sizes that are no multiples of 4.
        """
        height, width = images.shape[1:3]
        if height % _STRIDE or width % _STRIDE:
            raise ConfigError(f"pictures of {height}x{width} pixels cannot be segmented: both sides must be multiples of {_STRIDE}")
        weight = next(self.parameters())
        return self.layers(images.permute(0, 3, 1, 2).to(weight.dtype) / 127.5 - 1.0)

    def objects(self, images: Tensor) -> Tensor:
        """Mask of pixels classified as objects, bool [B, h, w], for images uint8 [B, h, w, 3]."""
        return self(images).argmax(dim=1) == _OBJECT

    def moments(self, images: Tensor) -> Tensor:
        """`image_moments` [B, 6] of the objects in images uint8 [B, h, w, 3]."""
        return image_moments(self(images).softmax(dim=1)[:, _OBJECT])


def image_moments(shares: Tensor) -> Tensor:
    """Low moments [B, 6] of a soft mask; `shares` [B, h, w] are the probabilities that a pixel belongs to it.

    They are: the square root of the covered share of the picture; the centre (x, y), with picture edges at -1 and 1; the root mean
    square radius in the same units; cosine and sine of twice the angle of the long axis, times the elongation (0 for a disc, 1 for
    a line). All are zero for an empty mask. Probabilities are squared, so that small probabilities over the whole picture have
    little weight.
    """
    height, width = shares.shape[1:]
    weight = shares.square()
    across = (torch.arange(width, device=shares.device).to(shares) + 0.5) * 2.0 / width - 1.0
    down = (torch.arange(height, device=shares.device).to(shares) + 0.5) * 2.0 / height - 1.0
    columns, rows = weight.sum(dim=1), weight.sum(dim=2)
    area = columns.sum(dim=1)
    norm = 1.0 / (area + _LEAST_PIXELS)
    x, y = norm * (columns @ across), norm * (rows @ down)
    aside, below = across - x[:, None], down - y[:, None]
    xx, yy = norm * (columns * aside.square()).sum(dim=1), norm * (rows * below.square()).sum(dim=1)
    xy = norm * ((weight * aside[:, None]).sum(dim=2) * below).sum(dim=1)
    spread = xx + yy
    round_ = spread + 1e-5
    return torch.stack([(area / (height * width)).sqrt(), x, y, spread.sqrt(), (xx - yy) / round_, 2.0 * xy / round_], dim=1)


def objects_of(views: CameraFrames) -> Tensor:
    """Which pixels show objects, bool [B, h, w]; raises ConfigError for views without segmentation."""
    if views.segmentation is None:
        raise ConfigError("a segmenter learns from segmentation, which this stream lacks: set world.segmentation true")
    return views.segmentation >= _OBJECT


class Fit(NamedTuple):
    """Quality on a batch: the loss, and the intersection over union of object pixels."""

    loss: float
    overlap: float


OnFit = Callable[[int, Fit], bool]
"""Called after every step with its number and quality; returns True to end the training."""


def train_segmenter(segmenter: Segmenter, images: Iterator[CameraFrames], config: SegmenterConfig, on_step: OnFit) -> int:
    """Trains `segmenter` in place on batches of views by cross entropy; returns the number of steps made.

    Ends after `config.steps`, when `images` ends, or when `on_step` says so. Raises ConfigError for views without segmentation and
    LearnerError when the loss is not finite.
    """
    optimizer = torch.optim.AdamW(segmenter.parameters(), lr=config.rate, weight_decay=config.weight_decay)
    step = -1
    for step, batch in enumerate(images):
        shown = objects_of(batch)
        assert batch.segmentation is not None
        logits = segmenter(batch.rgb)
        loss = F.cross_entropy(logits, batch.segmentation.clamp(max=_OBJECT).long())
        if not bool(loss.isfinite()):
            raise LearnerError(f"the segmenter's loss is {loss.item()} at step {step}; lower the rate")
        optimizer.zero_grad()
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = config.rate_at(step)
        optimizer.step()
        with torch.no_grad():
            called = logits.argmax(dim=1) == _OBJECT
            overlap = float((called & shown).sum()) / max(1.0, float((called | shown).sum()))
        if on_step(step + 1, Fit(float(loss.detach()), overlap)) or step + 1 >= config.steps:
            break
    return step + 1


def save_segmenter(segmenter: Segmenter, folder: Path) -> None:
    """Writes `model.safetensors`, which `load_segmenter` reads."""
    write_weights(folder / "model.safetensors", segmenter.state_dict(), form=_FORMAT, channels=str(segmenter.channels))


def load_segmenter(source: str) -> Segmenter:
    """The trained segmenter in the folder `source`, or the one of this package for "builtin".

    Raises LearnerError when there is none, or listing what does not fit this version.
    """
    folder = SHIPPED_WEIGHTS / "segmenter" if source == BUILTIN else Path(source)
    path = folder / "model.safetensors"
    weights, metadata = read_weights(path, form=_FORMAT, advice="train it again with `embodichain segmenter train`")
    segmenter = Segmenter(int(metadata.get("channels", 0)) or SegmenterConfig().channels)
    if problems := mismatches(segmenter.state_dict(), weights):
        raise LearnerError(f"segmenter {path} does not fit this version: {'; '.join(problems)}")
    segmenter.load_state_dict(weights)
    return segmenter.eval()
