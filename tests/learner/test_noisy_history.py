"""What noisy history buys speculation: a model that knew noisy frames is led astray less by a forecast with noise in it.

A world without noise: a point goes 0.4 of its way to a goal with every chunk, and frames show both. Two models are trained from
the same weights with the same draws. Each speculates on forecasts that are equally wrong: the real frame with some noise in it.
"""

import pytest
import torch

from learner.backbone.grid import Grid
from learner.codecs.config import LatentSpec
from learner.models.clwm.config import ClwmConfig
from learner.models.clwm.inputs import Noise
from learner.models.clwm.model import Clwm
from learner.models.clwm.speculate import StepsAhead, finish, start
from learner.models.window import Window
from learner.models.world_model import Mode, Seen

TOKENS, CHANNELS, STEPS, BATCH, TRAINED = 2, 8, 4, 16, 200
GRID = Grid(1, 1, TOKENS)
SHOWN = torch.randn(TOKENS, CHANNELS, 4, generator=torch.Generator().manual_seed(99)) / 1.15


def episodes(batch: int, generator: torch.Generator) -> Window:
    """The point's moves, in channels 0 and 1 of a chunk, ramp up over it."""
    place, goal = (2 * torch.rand(2, batch, 2, generator=generator) - 1).unbind()
    places, moves = [place], []
    for _ in range(STEPS):
        moves.append(0.4 * (goal - places[-1]))
        places.append(places[-1] + moves[-1])
    states = torch.cat([torch.stack(places, 1), goal[:, None].expand(-1, STEPS + 1, -1)], dim=-1)
    actions = torch.zeros(batch, STEPS, 16, 30)
    actions[..., :2] = 2 * torch.stack(moves, 1)[:, :, None] * torch.linspace(1 / 16, 1, 16)[:, None]
    frames = torch.einsum("nck,btk->btnc", SHOWN, states)
    return Window(frames, torch.zeros(batch, STEPS + 1, 30), actions, torch.zeros(batch, 2, 4))


def trained(history_noise_prob: float, seed: int) -> Clwm:
    torch.manual_seed(seed)
    sizes = {"dim": 32, "layers": 2, "heads": 2, "ffn": 64, "time_frequencies": 16, "max_cameras": 1, "memory_every": 1}
    model = Clwm(
        ClwmConfig(**sizes, told_past=False, history_noise_prob=history_noise_prob), latents=LatentSpec(CHANNELS), text_dim=4
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=TRAINED, pct_start=0.1)
    whole, channels = torch.ones(BATCH, STEPS, dtype=torch.bool), torch.zeros(BATCH, 30, dtype=torch.bool)
    channels[:, :2] = True
    for step in range(TRAINED):
        generator = torch.Generator().manual_seed(step + 10_000 * seed)
        window = episodes(BATCH, generator)
        losses = model.losses(
            window, model.draw(window, generator), GRID, valid_BT=whole, imitate_BT=whole, action_mask_BA=channels
        )
        optimizer.zero_grad()
        losses.total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return model.eval()


@torch.inference_mode()
def errors(model: Clwm, clean_share: float) -> dict[float, float]:
    """RMS difference of speculative from synchronous chunks by s_mid, over the channels of the world."""
    generator = torch.Generator().manual_seed(7)
    window = episodes(64, generator)
    text, memory, executed = model.read_text(window.text_BLC), model.empty(), None
    squares: dict[float, list[float]] = {0.25: [], 0.5: [], 0.75: []}
    for t in range(STEPS):
        frame, state = window.latents_BTNC[:, t], window.proprio_BTA[:, t]
        forecast = clean_share * frame + (1 - clean_share) * torch.randn(frame.shape, generator=generator)
        expected = model.observe(memory, Seen(forecast, state, executed), text, GRID)
        memory = model.observe(memory, Seen(frame, state, executed), text, GRID)
        noise = Noise(torch.randn(frame.shape, generator=generator), torch.randn(64, 16, 30, generator=generator))
        _, chunk = model.generate(memory, *noise, text, GRID)
        for s_mid, found in squares.items():
            started = start(model, expected, noise, text, GRID, StepsAhead.of(Mode("video+action", s_mid), model.config))
            _, speculated = finish(model, memory, started, text, GRID)
            found.append((speculated - chunk)[..., :2].square().mean().item())
        executed = window.actions_BTKA[:, t]
    return {s_mid: (sum(found) / len(found)) ** 0.5 for s_mid, found in squares.items()}


@pytest.mark.slow
def test_noisy_history_lowers_the_error_of_speculating_from_a_forecast_with_noise_left_in_it():
    noisy, clean = trained(0.5, seed=0), trained(0.0, seed=0)
    for clean_share in (0.7, 0.9):
        lower, higher = errors(noisy, clean_share), errors(clean, clean_share)
        assert all(lower[s_mid] < 0.85 * higher[s_mid] for s_mid in higher), (clean_share, lower, higher)
