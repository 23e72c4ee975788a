"""The causal order of LingBot-VA's sequence and its attention mask, as pure functions of sizes.

Frame f has latents z_f, the actions a_f executed before it, and the measured state p_f. Frame 0 is a chunk by itself; after it,
each chunk has K frames: c(f) = ceil(f / K). In the causal order the frames of chunk c have id 2c, and its actions and measured
states have id 2c + 1. So actions are decided from the imagined frames of their chunk, and never see the state that results from
them.

A training step runs these groups as one packed sequence:

    noisy z, noisy a     to be denoised            see clean tokens before their own id, and each other within their own chunk
    clean z, a, p        the past                  see clean tokens up to their own id
    bare a, forward z    forward dynamics          bare actions of chunk c see clean tokens before id 2c; forward frames see those,
                                                   the bare actions that lead to them, and each other

Forward dynamics needs bare actions, because clean actions have attended to the clean frames that it must predict. All tokens see at
most W ids back.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

import torch
from torch import Tensor


class Role(IntEnum):
    """The role of a group in the packed sequence."""

    NOISY_FRAMES = 0
    NOISY_ACTIONS = 1
    FORWARD_FRAMES = 2
    BARE_ACTIONS = 3
    CLEAN_FRAMES = 4
    CLEAN_BODY = 5
    """Executed actions and measured states."""


class Span(NamedTuple):
    """One group in the packed sequence: its role, the numbers of its frames, and its tokens a frame."""

    role: Role
    first: int
    frames: int
    tokens: int


def chunk_of(frame: int, size: int) -> int:
    """The chunk of a frame, where every chunk after frame 0 holds `size` frames."""
    return -(-frame // size)


def ids(span: Span, size: int) -> Tensor:
    """Ids of a group's tokens in the causal order, int64 [frames x tokens]; groups of forward dynamics have the ids of frames."""
    late = span.role in (Role.NOISY_ACTIONS, Role.CLEAN_BODY)
    of_frames = torch.tensor([2 * chunk_of(span.first + f, size) + late for f in range(span.frames)])
    return of_frames.repeat_interleave(span.tokens)


def visible(spans: Sequence[Span], outputs: int, size: int, window: int) -> Tensor:
    """The attention mask: whether each token of the first `outputs` groups sees each token of all groups, bool [queries, S]."""
    order = torch.cat([ids(span, size) for span in spans])
    roles = torch.cat([torch.full((span.frames * span.tokens,), int(span.role)) for span in spans])
    queries = sum(span.frames * span.tokens for span in spans[:outputs])
    id_q, id_k = order[:queries, None], order[None]
    role_q, role_k = roles[:queries, None], roles[None]
    clean_q, clean_k = role_q >= Role.CLEAN_FRAMES, role_k >= Role.CLEAN_FRAMES
    before = clean_k & torch.where(clean_q, id_k <= id_q, id_k < id_q)
    together = ~clean_k & (role_k == role_q) & (id_k == id_q)
    led_by = (role_q == Role.FORWARD_FRAMES) & (role_k == Role.BARE_ACTIONS) & (id_k == id_q)
    return (before | together | led_by) & (id_q - id_k <= window)


def present(spans: Sequence[Span], valid_BF: Tensor) -> Tensor:
    """Which tokens belong to valid frames, not padding, bool [B, S]; `valid_BF` covers all frames of the window."""
    parts = [valid_BF[:, span.first : span.first + span.frames].repeat_interleave(span.tokens, dim=1) for span in spans]
    return torch.cat(parts, dim=1)


def without_padding(mask: Tensor, here: Tensor) -> Tensor:
    """The mask of each trajectory, [B, 1, queries, S]: padding is seen by padding only, so that no row of the softmax is empty."""
    queries = mask.shape[0]
    return (mask & (here[:, None] | ~here[:, :queries, None]))[:, None]


def frame_positions(first: int, frames: int, cameras: int, rows: int, columns: int, device: torch.device | None = None) -> Tensor:
    """Rotary positions (t, h, w) of latents of `frames` frames from `first` on, [frames x cameras x rows x columns, 3]."""
    t, h, w = (torch.arange(count, dtype=torch.float64, device=device) for count in (frames, rows, columns))
    lattice = torch.stack(torch.meshgrid(t + first, h, w, indexing="ij"), dim=-1)
    return lattice[:, None].expand(-1, cameras, -1, -1, -1).reshape(-1, 3)


def action_positions(first: int, frames: int, count: int, released: bool = False, device: torch.device | None = None) -> Tensor:
    """Rotary positions of `count` actions before each frame: action j of frame f at f - 1 + (j + 1) / (count + 1), h = w = -1.

    In the released layout they are one frame later.
    """
    t = torch.arange(first, first + frames, dtype=torch.float64, device=device)[:, None] - (0.0 if released else 1.0)
    t = (t + torch.arange(1, count + 1, dtype=torch.float64, device=device) / (count + 1)).flatten()
    return torch.stack([t, torch.full_like(t, -1.0), torch.full_like(t, -1.0)], dim=1)


def state_positions(first: int, frames: int, device: torch.device | None = None) -> Tensor:
    """Rotary positions of the measured state at each frame: the frame's time, h = w = -1."""
    t = torch.arange(first, first + frames, dtype=torch.float64, device=device)
    return torch.stack([t, torch.full_like(t, -1.0), torch.full_like(t, -1.0)], dim=1)
