"""The transformer block that all streams of tokens share, its rotary positions, flow-time embedding and output head.

Block as in Wan2.2: layer norm without affine → six-way modulation by flow time → self-attention with RMS-normed queries and
keys and 3D rotary positions → gated residual → cross-attention to text → modulated feed-forward.

Tokens of one kind, such as the patches of a frame or the actions of a chunk, are a group, [B, T, N, D]. Each group has its own
modulation and rotary positions.

Shapes: B batch, T time steps, N tokens of a group a time step, D width, H heads, d = D / H.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_EPS = 1e-6
PLACE_WAVES = 4
"""Number of wavelengths in the position features of a patch, for each of its two axes."""


class Rotation(NamedTuple):
    """Rotary embedding of channel pairs (i, i + d / 2): cosines, and sines with a minus for the first of a pair, each [N, d]."""

    cos: Tensor
    sin: Tensor


class KeyValue(NamedTuple):
    """Keys and values of attention, each [B, T, H, N, d]."""

    keys: Tensor
    values: Tensor

    def spread(self, count: int) -> KeyValue:
        """Repeats each batch entry `count` times in a row, [B x count, ...]."""
        return KeyValue(self.keys.repeat_interleave(count, dim=0), self.values.repeat_interleave(count, dim=0))

    def first(self, steps: int) -> KeyValue:
        """Keys and values of the first `steps` time steps; -1 means all but the last."""
        return KeyValue(self.keys[:, :steps], self.values[:, :steps])


class Projected(NamedTuple):
    """Queries [B, T, H, N, d] of one group, and its own keys and values."""

    queries: Tensor
    own: KeyValue


def wide(x: Tensor) -> Tensor:
    """Casts half precisions to float32; float32 and float64 stay."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def rotary(positions: Tensor, width: int, theta: float = 1e4) -> Rotation:
    """Rotary embedding of positions (t, h, w), [N, 3]; as in Wan, 44/42/42 of 128 head channels encode t/h/w."""
    spatial = 2 * (width // 6)
    parts = (width - 2 * spatial, spatial, spatial)
    angles = []
    for axis, size in enumerate(parts):
        frequencies = theta ** (-torch.arange(0, size, 2, dtype=torch.float64, device=positions.device) / max(size, 1))
        angles.append(positions[:, axis : axis + 1].double() * frequencies)
    angle = torch.cat(angles, dim=1)
    cos, sin = angle.cos(), angle.sin()
    return Rotation(torch.cat([cos, cos], dim=1), torch.cat([-sin, sin], dim=1))


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Applies a rotary embedding to x [..., N, d], computed in float32 or better."""
    swapped = x.roll(x.shape[-1] // 2, dims=-1)
    return torch.addcmul(x * rotation.cos, swapped, rotation.sin).to(x.dtype)


def grid_positions(cameras: int, rows: int, columns: int, time: float, device: torch.device | None = None) -> Tensor:
    """Positions (t, h, w) of the patches of all cameras at frame `time`, [cameras x rows x columns, 3]. Cameras share positions."""
    h, w = torch.meshgrid(torch.arange(rows, device=device), torch.arange(columns, device=device), indexing="ij")
    one = torch.stack([torch.full_like(h, 0), h, w], dim=-1).reshape(-1, 3).double()
    one[:, 0] = time
    return one.repeat(cameras, 1)


def place_waves(rows: int, columns: int) -> Tensor:
    """Position features of each patch centre: sine and cosine at 0.5, 1, 2, 4 periods an image, y then x: [rows x columns, 16]."""
    y, x = torch.meshgrid((torch.arange(rows) + 0.5) / rows, (torch.arange(columns) + 0.5) / columns, indexing="ij")
    angles = torch.stack([y, x], dim=-1).reshape(-1, 2, 1) * (math.pi * 2.0 ** torch.arange(PLACE_WAVES))
    return torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(1)


def chunk_positions(count: int, time: float, device: torch.device | None = None) -> Tensor:
    """Positions of the actions after the frame at `time`: action j of n at time + (j + 1) / (n + 1), h = w = -1; [count, 3]."""
    t = time + torch.arange(1, count + 1, dtype=torch.float64, device=device) / (count + 1)
    return torch.stack([t, torch.full_like(t, -1.0), torch.full_like(t, -1.0)], dim=1)


def body_positions(count: int, device: torch.device | None = None) -> Tensor:
    """Positions, relative to a frame, of its measured robot state (t = 0) and of the `count` actions before it, [1 + count, 3]."""
    here = torch.tensor([[0.0, -1.0, -1.0]], dtype=torch.float64, device=device)
    return torch.cat([here, chunk_positions(count, -1.0, device)])


def rotations(positions: Callable[..., Tensor], arguments: tuple[float, ...], width: int, like: Tensor) -> Rotation:
    """Rotary embedding of positions(*arguments, device), on the device of `like`, in its dtype but at least float32.

    Results are cached when gradients are off: inference asks for the same positions again and again.
    """
    make = _rotations if torch.compiler.is_compiling() or torch.is_grad_enabled() else _kept_rotations
    return make(positions, arguments, width, like.device, like.dtype)


def _rotations(
    positions: Callable[..., Tensor], arguments: tuple[float, ...], width: int, device: torch.device, dtype: torch.dtype
) -> Rotation:
    cos, sin = rotary(positions(*arguments, device), width)
    return Rotation(wide(cos.to(device, dtype)), wide(sin.to(device, dtype)))


@lru_cache(maxsize=256)
def _kept_rotations(
    positions: Callable[..., Tensor], arguments: tuple[float, ...], width: int, device: torch.device, dtype: torch.dtype
) -> Rotation:
    with torch.inference_mode(False):  # an inference tensor in the cache would break a later training step of this process
        return _rotations(positions, arguments, width, device, dtype)


class TimeEmbedding(nn.Module):
    """Embeds the flow time of one modality: a vector for its output head, and the six-way modulation that all blocks share."""

    def __init__(self, dim: int, frequencies: int) -> None:
        super().__init__()
        self.count = frequencies // 2
        self.embed = nn.Sequential(nn.Linear(frequencies, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.project = nn.Sequential(nn.SiLU(), nn.Linear(dim, 6 * dim))

    def forward(self, time: Tensor) -> tuple[Tensor, Tensor]:
        """Flow times [B, T] → (embedding [B, T, 1, D], modulation [B, T, 6, D])."""
        # Frequencies in float32: half precision could not tell neighbouring flow times apart at angles of up to 1000.
        scale = torch.exp(-math.log(1e4) * torch.arange(self.count, device=time.device) / self.count)
        angle = 1000.0 * (1.0 - wide(time))[..., None] * scale
        embedding = self.embed(torch.cat([angle.cos(), angle.sin()], dim=-1).to(cast("nn.Linear", self.embed[0]).weight))
        return embedding.unsqueeze(-2), self.project(embedding).unflatten(-1, (6, -1))


class Head(nn.Module):
    """Output head of one modality: modulated layer norm, then a linear map that is initialised to zero."""

    def __init__(self, dim: int, channels: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(2, dim) / math.sqrt(dim))
        self.output = nn.Linear(dim, channels)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, tokens: Tensor, embedding: Tensor) -> Tensor:
        """Tokens [B, T, N, D] and flow-time embedding [B, T, 1, D] → [B, T, N, channels]."""
        return self.output(modulated(tokens, *self.modulation(embedding)))

    def modulation(self, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """Shift and gain of the norm, each [B, T, 1, D], from an embedding [B, T, 1, D]."""
        shift, scale = (self.table + embedding).chunk(2, dim=-2)
        return shift, 1.0 + scale


def modulated(tokens: Tensor, shift: Tensor, gain: Tensor) -> Tensor:
    """LN(tokens) gain + shift; the layer norm runs in float32 and has no weights of its own."""
    normed = F.layer_norm(wide(tokens), tokens.shape[-1:], eps=_EPS).to(tokens.dtype)
    return torch.addcmul(shift, normed, gain)


def pack(groups: Sequence[Tensor]) -> Tensor:
    """Groups [B, T, N, D] concatenated into [B, sum T N, D], for layers that act on each token alone."""
    return torch.cat([group.flatten(1, 2) for group in groups], dim=1)


def unpack(packed: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """The inverse of `pack`."""
    sizes = [group.shape[1] * group.shape[2] for group in like]
    return [part.unflatten(1, (group.shape[1], group.shape[2])) for part, group in zip(packed.split(sizes, 1), like, strict=True)]


class Block(nn.Module):
    """One transformer block, split in three calls so that each model family computes attention and memory between them.

    `project` gives queries, keys and values of each group; `merge` adds the attention outputs; `express` adds cross-attention to
    the text and the feed-forward.
    """

    def __init__(self, dim: int, heads: int, ffn: int, *, joint: int = 0, text: int = 0) -> None:
        """`joint` is the width of self-attention and `text` that of text tokens; 0 means `dim`."""
        super().__init__()
        joint, text = joint or dim, text or dim
        self.heads = heads
        self.table = nn.Parameter(torch.randn(6, dim) / math.sqrt(dim))
        self.query_key_value = nn.Linear(dim, 3 * joint)
        self.query_norm = nn.RMSNorm(joint, eps=_EPS)
        self.key_norm = nn.RMSNorm(joint, eps=_EPS)
        self.output = nn.Linear(joint, dim)
        self.text_norm = nn.LayerNorm(dim, eps=_EPS)
        self.text_query = nn.Linear(dim, dim)
        self.text_key_value = nn.Linear(text, 2 * dim)
        self.text_query_norm = nn.RMSNorm(dim, eps=_EPS)
        self.text_key_norm = nn.RMSNorm(dim, eps=_EPS)
        self.text_output = nn.Linear(dim, dim)
        self.expand = nn.Linear(dim, ffn)
        self.contract = nn.Linear(ffn, dim)

    def forward(self, act: Callable[..., Any], *inputs: Any) -> Any:
        """Returns act(*inputs), where `act` uses this block. FSDP gathers the block's weights only during its `forward`."""
        return act(*inputs)

    def modulation(self, modulation: Tensor) -> tuple[Tensor, ...]:
        """Shift, gain, gate of attention, then of the feed-forward, each [B, T, 1, D], from [B, T, 6, D]; gain is 1 + scale."""
        parts = (self.table + modulation).split(1, dim=-2)
        return parts[0], 1.0 + parts[1], parts[2], parts[3], 1.0 + parts[4], parts[5]

    def project(
        self, groups: Sequence[Tensor], modulations: Sequence[tuple[Tensor, ...]], rotations: Sequence[Rotation]
    ) -> list[Projected]:
        """Queries, keys and values of self-attention for each group."""
        packed = pack([modulated(group, m[0], m[1]) for group, m in zip(groups, modulations, strict=True)])
        queries, keys, values = self.query_key_value(packed).chunk(3, dim=-1)
        parts = [unpack(x, groups) for x in (self.query_norm(queries), self.key_norm(keys), values)]
        return [
            Projected(rotate(self._split(q), rotation), KeyValue(rotate(self._split(k), rotation), self._split(v)))
            for q, k, v, rotation in zip(*parts, rotations, strict=True)
        ]

    def merge(
        self, groups: Sequence[Tensor], attended: Sequence[Tensor], modulations: Sequence[tuple[Tensor, ...]]
    ) -> list[Tensor]:
        """Adds attention outputs [B, T, H, N, d] through the output projection and the gate."""
        flat = self.output(pack([out.transpose(-2, -3).flatten(-2) for out in attended]))
        return [torch.addcmul(g, out, m[2]) for g, out, m in zip(groups, unpack(flat, groups), modulations, strict=True)]

    def text_memory(self, text: Tensor) -> KeyValue:
        """Keys and values for cross-attention from text tokens [B, L, D], each [B, H, L, d]; needed once per instruction."""
        keys, values = self.text_key_value(text).chunk(2, dim=-1)
        return KeyValue(self._split(self.text_key_norm(keys)), self._split(values))

    def express(self, groups: Sequence[Tensor], modulations: Sequence[tuple[Tensor, ...]], text: KeyValue) -> list[Tensor]:
        """Cross-attention to text, then the modulated feed-forward."""
        packed = pack(groups)
        queries = self._split(self.text_query_norm(self.text_query(self.text_norm(packed))))
        read = F.scaled_dot_product_attention(queries, text.keys, text.values)
        groups = unpack(packed + self.text_output(read.transpose(-2, -3).flatten(-2)), groups)
        packed = pack([modulated(group, m[3], m[4]) for group, m in zip(groups, modulations, strict=True)])
        out = self.contract(F.gelu(self.expand(packed), approximate="tanh"))
        return [torch.addcmul(g, o, m[5]) for g, o, m in zip(groups, unpack(out, groups), modulations, strict=True)]

    def _split(self, flat: Tensor) -> Tensor:
        return flat.unflatten(-1, (self.heads, -1)).transpose(-2, -3)


def join(first: KeyValue, second: KeyValue) -> KeyValue:
    """Concatenates keys and values along the tokens."""
    return KeyValue(torch.cat([first.keys, second.keys], dim=-2), torch.cat([first.values, second.values], dim=-2))


def attend(queries: Tensor, seen: KeyValue) -> Tensor:
    """Softmax attention of queries [B, T, H, N, d] within each step: T is folded into the batch."""
    out = F.scaled_dot_product_attention(queries.flatten(0, 1), seen.keys.flatten(0, 1), seen.values.flatten(0, 1))
    return out.unflatten(0, queries.shape[:2])
