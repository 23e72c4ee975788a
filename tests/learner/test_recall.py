"""A cue shown once must decide the actions many frames later: solved with memory, at chance without."""

import pytest
import torch

from learner.backbone.flow import euler, time_grid
from learner.backbone.grid import Grid
from learner.codecs.config import LatentSpec
from learner.models.clwm.config import ClwmConfig
from learner.models.clwm.model import Clwm
from learner.models.window import Window
from learner.models.world_model import Seen

GRID = Grid(1, 1, 2)
BATCH, TRAINED_STEPS = 16, 6


def episodes(batch: int, steps: int, generator: torch.Generator) -> tuple[Window, torch.Tensor]:
    """The sign of channel 0 in frame 0 is the cue, and channel 0 of every chunk; later frames are noise in other channels."""
    cue = torch.randint(0, 2, (batch,), generator=generator) * 2.0 - 1.0
    latents = 0.3 * torch.randn(batch, steps + 1, 2, 4, generator=generator)
    latents[..., 0] = 0.0
    latents[:, 0, :, 0] = 2.0 * cue[:, None]
    actions = torch.zeros(batch, steps, 16, 30)
    actions[..., 0] = cue[:, None, None]
    window = Window(latents, torch.zeros(batch, steps + 1, 30), actions, torch.zeros(batch, 2, 4))
    return window, cue


def trained(memory_every: int, seed: int = 0) -> Clwm:
    torch.manual_seed(seed)
    sizes = {"dim": 32, "layers": 2, "heads": 2, "ffn": 64, "time_frequencies": 16, "max_cameras": 1}
    model = Clwm(ClwmConfig(**sizes, memory_every=memory_every, history_noise_prob=0.0), latents=LatentSpec(4), text_dim=4)
    body = model._body_tokens  # executed chunks are hidden from it: else it would copy the one before
    model._body_tokens = lambda proprio, past, *, first: body(proprio, torch.zeros_like(past), first=first)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    valid = torch.ones(BATCH, TRAINED_STEPS, dtype=torch.bool)
    imitate, channels = valid.clone(), torch.zeros(BATCH, 30, dtype=torch.bool)
    imitate[:, 0], channels[:, 0] = False, True
    for step in range(60):
        generator = torch.Generator().manual_seed(step)
        window, _ = episodes(BATCH, TRAINED_STEPS, generator)
        draws = model.draw(window, generator)
        losses = model.losses(window, draws, GRID, valid_BT=valid, imitate_BT=imitate, action_mask_BA=channels)
        optimizer.zero_grad()
        losses.parts["action"].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model


@torch.inference_mode()
def recall(model: Clwm, frames: int) -> float:
    """Share of episodes whose generated chunk has the sign of the cue `frames` frames ago, observed one by one."""
    generator = torch.Generator().manual_seed(1)
    window, cue = episodes(64, frames, generator)
    text, memory = model.read_text(window.text_BLC), model.empty()
    for t in range(frames):
        executed = window.actions_BTKA[:, t - 1] if t else None
        memory = model.observe(memory, Seen(window.latents_BTNC[:, t], window.proprio_BTA[:, t], executed), text, GRID)
    working = model.imagine(memory.fork(), window.latents_BTNC[:, frames], text, GRID)
    noise = torch.randn(64, 16, 30, generator=generator)
    chunk = euler(lambda x, s: model.action_velocity(working, x, s, text), noise, time_grid(6))
    return (chunk[:, :, 0].mean(dim=1) * cue > 0).float().mean().item()


@pytest.mark.parametrize("frames", [2, TRAINED_STEPS, 100])
def test_a_cue_is_recalled_a_hundred_steps_later(remembering, frames):
    assert recall(remembering, frames) > 0.95


@pytest.mark.slow
def test_without_memory_it_is_a_coin_toss():
    without = trained(memory_every=0)
    assert all(0.3 < recall(without, frames) < 0.7 for frames in (TRAINED_STEPS, 100))


@pytest.fixture(scope="module")
def remembering() -> Clwm:
    return trained(memory_every=1)
