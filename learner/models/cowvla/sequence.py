"""The layout of CoWVLA's sequence and its attention mask, as pure functions of sizes.

A step is [begin of view, codes of the keyframe, measured state, motion query, begin of actions, action tokens]. State and query
exist only in models that have them, actions not in pretraining. Every step has room for the longest chunk; unused places are
padding that nothing attends to.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class StepLayout(NamedTuple):
    """Sizes of a step."""

    codes: int
    state: bool
    query: bool
    actions: int
    """Places for action tokens; 0 in pretraining."""

    @property
    def view(self) -> int:
        """Tokens before the begin of actions."""
        return 1 + self.codes + self.state + self.query

    @property
    def size(self) -> int:
        """Tokens in a step."""
        return self.view + (1 + self.actions if self.actions else 0)


def visible(layout: StepLayout, steps: int, span: int, used_BS: Tensor) -> Tensor:
    """The attention mask, bool [B, 1, S, S]: a token sees used tokens before it, in its own step and the `span` - 1 before that."""
    place = torch.arange(steps * layout.size, device=used_BS.device)
    step = place // layout.size
    causal = (place[:, None] >= place) & (step[:, None] - step < span)
    itself = torch.eye(len(place), dtype=torch.bool, device=used_BS.device)
    return ((causal & used_BS[:, None]) | itself)[:, None]


def positions(
    step: float, cameras: int, rows: int, columns: int, state: bool, query: bool, actions: int, device: torch.device | None = None
) -> Tensor:
    """Rotary positions (t, h, w) of a whole step, float64 [.., 3]; includes the begin of actions even if there are no actions."""
    h, w = torch.meshgrid(
        torch.arange(rows, dtype=torch.float64, device=device),
        torch.arange(columns, dtype=torch.float64, device=device),
        indexing="ij",
    )
    codes = torch.stack([torch.zeros_like(h), h, w], dim=-1).reshape(-1, 3).repeat(cameras, 1)
    here = torch.tensor([[0.0, -1.0, -1.0]], dtype=torch.float64, device=device)
    t = torch.arange(1, actions + 1, dtype=torch.float64, device=device) / (ROOM + 1)
    acts = torch.stack([t, torch.full_like(t, -1.0), torch.full_like(t, -1.0)], dim=1)
    found = torch.cat([here, codes, here.expand(state + query + 1, -1), acts])
    found[:, 0] += step
    return found


ROOM = 64
"""Action token j has rotary time (j + 1) / 65 within its step, whatever `most_tokens` is."""
