"""A cue shown once decides an action later: recalled while it is inside the cache's window, and a coin toss once it is beyond."""

import pytest
import torch

from learner.backbone.grid import Grid
from learner.codecs.config import LatentSpec
from learner.models.lingbot_va.config import LingbotConfig
from learner.models.lingbot_va.model import LingbotVa
from learner.models.window import Window
from learner.models.world_model import Seen

GRID = Grid(1, 1, 2)
BATCH, STEPS, LAYERS, WINDOW = 16, 4, 2, 8


def episodes(batch: int, steps: int, generator: torch.Generator) -> tuple[Window, torch.Tensor]:
    """The sign of channel 0 in frame 0 is the cue; only the last chunk tells it, so that no chunk can be copied from another."""
    cue = torch.randint(0, 2, (batch,), generator=generator) * 2.0 - 1.0
    latents = 0.3 * torch.randn(batch, steps + 1, 2, 4, generator=generator)
    latents[..., 0] = 0.0
    latents[:, 0, :, 0] = 2.0 * cue[:, None]
    actions = torch.zeros(batch, steps, 16, 30)
    actions[:, -1, :, 0] = cue[:, None]
    return Window(latents, torch.zeros(batch, steps + 1, 30), actions, torch.zeros(batch, 2, 4)), cue


@pytest.fixture(scope="module")
def trained() -> LingbotVa:
    torch.manual_seed(0)
    config = LingbotConfig(
        dim=32,
        layers=LAYERS,
        heads=2,
        ffn=64,
        time_frequencies=16,
        max_cameras=1,
        most_frames=1,
        forward_share=0.0,
        history_noise_prob=0.0,
        span=WINDOW,
        span_low=WINDOW,
        span_high=WINDOW,
        video_steps=1,
        action_steps=4,
    )
    model = LingbotVa(config, latents=LatentSpec(4), text_dim=4)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    valid = torch.ones(BATCH, STEPS, dtype=torch.bool)
    imitate, channels = torch.zeros_like(valid), torch.zeros(BATCH, 30, dtype=torch.bool)
    imitate[:, -1], channels[:, 0] = True, True
    for step in range(120):
        generator = torch.Generator().manual_seed(step)
        window, _ = episodes(BATCH, STEPS, generator)
        losses = model.losses(
            window, model.draw(window, generator), GRID, valid_BT=valid, imitate_BT=imitate, action_mask_BA=channels
        )
        optimizer.zero_grad()
        losses.parts["action"].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model


@torch.inference_mode()
def recall(model: LingbotVa, frames: int) -> float:
    """Share of episodes whose chunk has the sign of the cue, decided when it was shown `frames` frames ago."""
    generator = torch.Generator().manual_seed(1)
    window, cue = episodes(64, frames, generator)
    text, state = model.read_text(window.text_BLC), model.empty()
    for t in range(frames):
        executed = window.actions_BTKA[:, t - 1] if t else None
        state = model.observe(state, Seen(window.latents_BTNC[:, t], window.proprio_BTA[:, t], executed), text, GRID)
    noise = model.noise(window.latents_BTNC[:, 0], generator)
    chunk = model.decide(state, noise, text, GRID).actions_BHA
    return (chunk[:, :, 0].mean(dim=1) * cue > 0).float().mean().item()


def test_a_cue_inside_the_window_is_recalled(trained):
    assert recall(trained, STEPS) > 0.9


def test_a_cue_beyond_the_windows_of_all_layers_is_a_coin_toss(trained):
    assert 0.3 < recall(trained, LAYERS * WINDOW // 2 + 2) < 0.7
