"""How CoWVLA's sequence is laid out, and who sees whom in it: pure functions of counts.

A step is [begin of view, codes of the keyframe, measured state, motion query, begin of actions, action tokens]; state and query
only in models that have them, actions not in pretraining. Every step has room for the longest chunk; what is not used is padding,
which nothing sees.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Layout(NamedTuple):
    """Sizes of a step."""

    codes: int
    state: bool
    query: bool
    actions: int
    """Room for action tokens; 0 in pretraining."""

    @property
    def view(self) -> int:
        """Tokens up to the begin of actions."""
        return 1 + self.codes + self.state + self.query

    @property
    def size(self) -> int:
        """Tokens of a step."""
        return self.view + (1 + self.actions if self.actions else 0)


def visible(layout: Layout, steps: int, span: int, used_BS: Tensor) -> Tensor:
    """Whether each token sees each, bool [B, 1, S, S]: what came before in its own and the last `span` - 1 steps, and is used."""
    place = torch.arange(steps * layout.size, device=used_BS.device)
    step = place // layout.size
    causal = (place[:, None] >= place) & (step[:, None] - step < span)
    itself = torch.eye(len(place), dtype=torch.bool, device=used_BS.device)
    return ((causal & used_BS[:, None]) | itself)[:, None]


def positions(
    step: float, cameras: int, rows: int, columns: int, state: bool, query: bool, actions: int, device: torch.device | None = None
) -> Tensor:
    """Rotary positions (t, h, w) of a whole step, with the begin of actions even where there are none, float64 [.., 3]."""
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
"""Action token j lies at (j + 1) / 65 of its step, whatever room training gives."""
