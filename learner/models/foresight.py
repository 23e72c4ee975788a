"""How well a world model foresees: its imagined frames against no change and against a linear map of each latent.

Some chunks ahead, the model goes on from what it imagined, as when observations are lost: the imagined frame stands in for the next
one, its chunk for what was executed, and the chunk's last action for the state. Whoever imagines less well than a copy of the
present frame, or than one linear map for all latents, has no model of the world.

Shapes: B batch, T steps, N latents per frame, C latent channels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from learner.data.batch import Batch
from learner.models.agent import Agent
from learner.models.world_model import Seen

AHEAD = (1, 2, 4)
"""Chunks ahead at which foresight is measured."""
_RIDGE = 1e-4
"""Of the linear map, relative to the mean variance of what it reads."""


class LinearForecast:
    """The best linear map from each latent to the one that is seen in its place some chunks later, of all pairs taken in so far."""

    def __init__(self) -> None:
        self._squares: dict[int, Tensor] = {}
        self._products: dict[int, Tensor] = {}

    def add(self, latents_BTNC: Tensor, lengths_B: Tensor) -> None:
        """Takes in windows of T + 1 frames, of which each holds so many chunks."""
        for ahead in AHEAD:
            if int(lengths_B.max()) < ahead:
                continue
            known = torch.arange(latents_BTNC.shape[1] - ahead, device=lengths_B.device)[None] + ahead <= lengths_B[:, None]
            now = _with_one(latents_BTNC[:, :-ahead][known]).flatten(0, 1).double()
            then = latents_BTNC[:, ahead:][known].flatten(0, 1).double()
            self._squares[ahead] = self._squares.get(ahead, 0) + now.T @ now
            self._products[ahead] = self._products.get(ahead, 0) + now.T @ then

    def predict(self, latents: Tensor, ahead: int) -> Tensor | None:
        """The latents [..., C] expected `ahead` chunks later; None before any such pair was taken in."""
        if ahead not in self._squares:
            return None
        squares = self._squares[ahead]
        held = squares + _RIDGE * squares.diagonal().mean() * torch.eye(len(squares), dtype=squares.dtype, device=squares.device)
        return _with_one(latents) @ torch.linalg.solve(held, self._products[ahead]).to(latents)


class Foresight(NamedTuple):
    """Mean squared errors so many chunks ahead."""

    ahead: int
    imagined: float
    unchanged: float
    linear: float | None
    """None where the map has seen no pair yet."""

    def ratios(self) -> dict[str, float]:
        """Of the imagined frame to the two others, by name."""
        found = {f"imagined_over_unchanged_{self.ahead}": self.imagined / max(self.unchanged, 1e-12)}
        if self.linear is not None:
            found[f"imagined_over_linear_{self.ahead}"] = self.imagined / max(self.linear, 1e-12)
        return found


@torch.no_grad()
def foresee(agent: Agent, batch: Batch, generator: torch.Generator, linear: LinearForecast) -> list[Foresight]:
    """What the agent foresees from one frame of every window, drawn by `generator`; () of a model that imagines nothing.

    Frames before that one are observed as in closed loop. Needs windows of one chunk at least, and says nothing of distances that
    none of them spans.
    """
    model, (latents, grid) = agent.model, agent.encoded(batch)
    window, lengths = agent.window(batch), batch.valid_BT.sum(dim=1)
    frames = window.latents_BTNC
    furthest = [ahead for ahead in AHEAD if ahead <= int(lengths.max())]
    start = int(torch.randint(int(lengths.max()) - furthest[-1] + 1, (), generator=generator))
    text, state, executed = model.read_text(window.text_BLC), model.empty(), None
    for t in range(start + 1):
        before = model.restart(state, int(agent.memory_span))
        executed = window.actions_BTKA[:, t - 1] if t and before is state else None
        codes = None if window.codes_BTN is None else window.codes_BTN[:, t]
        state = model.observe(before, Seen(frames[:, t], window.proprio_BTA[:, t], executed, codes_BN=codes), text, grid)
    measured, found = batch.proprio_BTA[:, start].to(latents), []
    for ahead in range(1, furthest[-1] + 1):
        decision = model.decide(state, model.noise(frames[:, start], generator), text, grid)
        if decision.imagined_BNC is None:
            return []
        chunk = agent.normalizer.playable(decision.actions_BHA[:, : agent.config.model.chunk])
        if ahead in furthest and bool((spans := start + ahead <= lengths).any()):
            found.append(_compared(frames[spans], decision.imagined_BNC[spans], start, ahead, linear))
        measured = agent.normalizer.physical_actions(chunk, measured)[:, -1]
        seen = Seen(decision.imagined_BNC, agent.normalizer.proprio(measured), chunk, decision.extras)
        state = model.observe(model.restart(state, int(agent.memory_span)), seen, text, grid)
    return found


def _compared(frames: Tensor, imagined: Tensor, start: int, ahead: int, linear: LinearForecast) -> Foresight:
    now, then = frames[:, start], frames[:, start + ahead]
    guess = linear.predict(now, ahead)
    errors = [float((x - then).square().mean()) for x in (imagined, now)]
    return Foresight(ahead, errors[0], errors[1], None if guess is None else float((guess - then).square().mean()))


def _with_one(latents: Tensor) -> Tensor:
    return torch.cat([latents, torch.ones_like(latents[..., :1])], dim=-1)
