"""Measures how well a world model predicts frames, against two baselines: no change, and a linear map of each latent.

To predict several chunks ahead, the model continues from its own prediction, as when observations are lost: the imagined frame
stands in for the next one, its chunk for the executed actions, and the chunk's last action for the measured state. A model that is
worse than a copy of the present frame, or than one linear map for all latents, has not learned the dynamics.

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
"""Numbers of chunks ahead at which predictions are measured."""
_RIDGE = 1e-4
"""Ridge regularisation of the linear map, relative to the mean variance of its inputs."""


class LinearForecast:
    """The least-squares linear map from a latent to the latent at the same place some chunks later, fitted to all pairs so far."""

    def __init__(self) -> None:
        self._squares: dict[int, Tensor] = {}
        self._products: dict[int, Tensor] = {}

    def add(self, latents_BTNC: Tensor, lengths_B: Tensor) -> None:
        """Adds windows of T + 1 frames, of which the first `lengths` chunks are valid."""
        for ahead in AHEAD:
            if int(lengths_B.max()) < ahead:
                continue
            known = torch.arange(latents_BTNC.shape[1] - ahead, device=lengths_B.device)[None] + ahead <= lengths_B[:, None]
            now = _with_one(latents_BTNC[:, :-ahead][known]).flatten(0, 1).double()
            then = latents_BTNC[:, ahead:][known].flatten(0, 1).double()
            self._squares[ahead] = self._squares.get(ahead, 0) + now.T @ now
            self._products[ahead] = self._products.get(ahead, 0) + now.T @ then

    def predict(self, latents: Tensor, ahead: int) -> Tensor | None:
        """The latents [..., C] expected `ahead` chunks later; None before the first such pair was added."""
        if ahead not in self._squares:
            return None
        squares = self._squares[ahead]
        held = squares + _RIDGE * squares.diagonal().mean() * torch.eye(len(squares), dtype=squares.dtype, device=squares.device)
        return _with_one(latents) @ torch.linalg.solve(held, self._products[ahead]).to(latents)


class Foresight(NamedTuple):
    """Mean squared errors of the prediction and of both baselines, at one number of chunks ahead."""

    ahead: int
    imagined: float
    unchanged: float
    linear: float | None
    """None if the map has not been given any pair yet."""

    def ratios(self) -> dict[str, float]:
        """The error of the imagined frame divided by that of each baseline, by name."""
        found = {f"imagined_over_unchanged_{self.ahead}": self.imagined / max(self.unchanged, 1e-12)}
        if self.linear is not None:
            found[f"imagined_over_linear_{self.ahead}"] = self.imagined / max(self.linear, 1e-12)
        return found


@torch.no_grad()
def foresee(agent: Agent, batch: Batch, generator: torch.Generator, linear: LinearForecast) -> list[Foresight]:
    """Measures predictions from one frame of every window, drawn by `generator`; () for a model that predicts no frames.

    Earlier frames are observed as in closed loop. Windows need at least one chunk; distances longer than every window are left out.
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
