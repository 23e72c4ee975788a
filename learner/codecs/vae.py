"""The codec "vae": a small variational autoencoder of single images, colour or depth.

Convolutions 3 → 16 → 32 → 64 → 96 channels, each halving the image, with a residual block at each level, and the mirror image of
that as decoder (Kingma & Welling 2014, "Auto-Encoding Variational Bayes"; residual blocks as in latent diffusion, Rombach et al.
2022). Depth is encoded as a grey image by the same weights (`codecs.depth`).

Shapes: B pictures of h x w pixels, values -1 to 1; latents [B, 8, h / 16, w / 16].
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embodichain.errors import LearnerError
from learner.codecs.codec import Codec
from learner.codecs.config import EncoderConfig
from learner.codecs.depth import depth_of, disparity
from learner.records.shipped import SHIPPED_WEIGHTS
from learner.records.weight_files import mismatches, read_weights, write_weights
from learner.vision.config import BUILTIN

CHANNELS = 8
"""Channels of a latent."""
_WIDTHS = (16, 32, 64, 96)
_GROUPS = 8
_FORMAT = "embodichain-vae-1"


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.GroupNorm(_GROUPS, width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.GroupNorm(_GROUPS, width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class Vae(nn.Module):
    """The network: `encode` gives the mean and log variance of latents, `decode` an image."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.seed = seed
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            down: list[nn.Module] = []
            for before, width in zip((3, *_WIDTHS[:-1]), _WIDTHS, strict=True):
                down += [nn.Conv2d(before, width, 3, stride=2, padding=1), _Residual(width)]
            self.encoder = nn.Sequential(*down, nn.GroupNorm(_GROUPS, _WIDTHS[-1]), nn.SiLU())
            self.moments = nn.Conv2d(_WIDTHS[-1], 2 * CHANNELS, 1)
            up: list[nn.Module] = [nn.Conv2d(CHANNELS, _WIDTHS[-1], 3, padding=1)]
            for width, after in zip(_WIDTHS[:0:-1], _WIDTHS[-2::-1], strict=True):
                up += [_Residual(width), nn.Upsample(scale_factor=2.0), nn.Conv2d(width, after, 3, padding=1)]
            first = _WIDTHS[0]
            up += [_Residual(first), nn.GroupNorm(_GROUPS, first), nn.SiLU(), nn.Conv2d(first, 4 * 3, 3, padding=1)]
            self.decoder = nn.Sequential(*up, nn.PixelShuffle(2))

    def encode(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance [B, 8, h / 16, w / 16] of pictures [B, 3, h, w]."""
        mean, log_variance = self.moments(self.encoder(pictures)).chunk(2, dim=1)
        return mean, log_variance.clamp(-12.0, 4.0)

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures [B, 3, h, w], values about -1 to 1."""
        return self.decoder(latents)


def ssim(a: Tensor, b: Tensor, window: int = 11, sigma: float = 1.5) -> Tensor:
    """Mean structural similarity of pictures [B, 3, h, w] with values -1 to 1 (Wang et al. 2004, Gaussian window 11, sigma 1.5)."""
    at = torch.arange(window, dtype=a.dtype, device=a.device) - (window - 1) / 2
    one = torch.exp(-at.square() / (2 * sigma**2))
    one = one / one.sum()
    channels = a.shape[1]

    def blur(x: Tensor) -> Tensor:
        x = F.conv2d(x, one.view(1, 1, -1, 1).expand(channels, -1, -1, -1), groups=channels)
        return F.conv2d(x, one.view(1, 1, 1, -1).expand(channels, -1, -1, -1), groups=channels)

    span = 2.0  # of the values
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b = blur(a * a) - mean_a.square(), blur(b * b) - mean_b.square()
    covariance = blur(a * b) - mean_a * mean_b
    top = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    return (top / ((mean_a.square() + mean_b.square() + c1) * (var_a + var_b + c2))).mean()


def scaled(images: Tensor, like: Tensor) -> Tensor:
    """Pictures [B, 3, h, w] with values -1 to 1, in the dtype of `like`, of images uint8 [B, h, w, 3]."""
    return images.permute(0, 3, 1, 2).to(like.dtype) / 127.5 - 1.0


class VaeCodec(Codec):
    """The autoencoder as a codec: a latent is the mean of the encoder's distribution for a patch of 16 x 16 pixels."""

    decodes = True

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        self.vae = load_vae(config.source) if config.source else Vae(config.seed)
        self.vae.requires_grad_(False)
        self._look_for_objects()
        self.eval()

    @property
    def patch(self) -> int:
        """Side of a patch [pixels]."""
        return 2 ** len(_WIDTHS)

    @property
    def token_dim(self) -> int:
        """Channels of a latent of the autoencoder."""
        return CHANNELS

    def tokens(self, images: Tensor) -> Tensor:
        """Latent means [B, patches, 8] of images uint8 [B, h, w, 3]."""
        mean, _ = self.vae.encode(scaled(images, self.vae.moments.weight))
        return mean.flatten(2).transpose(1, 2)

    def pictures(self, tokens: Tensor, rows: int, columns: int) -> Tensor:
        """Decoded pictures uint8 [B, h, w, 3]."""
        values = self.vae.decode(tokens.transpose(1, 2).unflatten(2, (rows, columns)))
        return ((values + 1.0) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1)

    @property
    def encodes_depth(self) -> bool:
        """Always: depth is encoded as a grey image."""
        return True

    @torch.no_grad()
    def depth_latents(self, depth_m: Tensor) -> Tensor:
        """Latents [..., N, C] of depths [m], [..., cameras, h, w]; channels for moments of objects are zero."""
        *lead, cameras, height, width = depth_m.shape
        rows, columns = self.grid(height, width)
        grey = disparity(depth_m).reshape(-1, 1, height, width).to(self.vae.moments.weight).expand(-1, 3, -1, -1)
        parts = [self.vae.encode(part)[0].flatten(2).transpose(1, 2) for part in grey.split(self.config.max_images)]
        side = self.config.merge
        square = torch.cat(parts).reshape(-1, rows, side, columns, side, CHANNELS).transpose(2, 3)
        latents = square.reshape(*lead, cameras * rows * columns, CHANNELS * side**2)
        return F.pad(latents, (0, self.latent_dim - latents.shape[-1]))

    @torch.no_grad()
    def decode_depth(self, latents: Tensor, cameras: int, rows: int, columns: int) -> Tensor:
        """Depths [m], [..., cameras, h, w], of latents [..., N, C]."""
        side = self.config.merge
        tokens = latents[..., : CHANNELS * side**2].reshape(-1, rows, columns, side, side, CHANNELS).transpose(2, 3)
        planes = tokens.reshape(-1, rows * side, columns * side, CHANNELS).permute(0, 3, 1, 2)
        values = torch.cat([self.vae.decode(part).mean(dim=1) for part in planes.split(self.config.max_images)])
        return depth_of(values).reshape(*latents.shape[:-2], cameras, *values.shape[1:])


def save_vae(vae: Vae, folder: Path) -> None:
    """Writes `model.safetensors`, which `load_vae` reads."""
    write_weights(folder / "model.safetensors", vae.state_dict(), form=_FORMAT, seed=str(vae.seed))


def load_vae(source: str) -> Vae:
    """The trained autoencoder in the folder `source`, or the one of this package for "builtin".

    Raises LearnerError when there is none, or listing what does not fit this version.
    """
    path = (SHIPPED_WEIGHTS / "vae" if source == BUILTIN else Path(source)) / "model.safetensors"
    weights, metadata = read_weights(path, form=_FORMAT, advice="train it again with `embodichain codec train vae`")
    vae = Vae(int(metadata.get("seed", 0)))
    if problems := mismatches(vae.state_dict(), weights):
        raise LearnerError(f"autoencoder {path} does not fit this version: {'; '.join(problems)}")
    vae.load_state_dict(weights)
    return vae.eval()
