"""A trained model of a world that drifts: decided a chunk ahead, grounded decisions stay close and naive ones do not."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from learner_parts import SMALL, fitted
from torch import nn

from embodichain.types import CHUNK
from learner.backbone.grid import Grid
from learner.codecs.config import LatentSpec
from learner.data.config import DataConfig
from learner.data.dataset import MemorySource, RingDataset
from learner.inference.background import make_policy
from learner.inference.config import SaiConfig
from learner.models.lingbot_va.config import LingbotConfig
from learner.models.lingbot_va.model import LingbotVa
from learner.models.window import Window

pytestmark = pytest.mark.slow
GRID = Grid(1, 1, 2)
PICTURE = np.zeros((1, 32, 32, 3), np.uint8)
CHANNEL = 28
"""A channel of which commands are absolute."""
DRIFT = 0.1
BATCH, STEPS, UPDATES = 16, 4, 900
CHUNKS, EPISODES = 40, 8


def latents_of(x: torch.Tensor) -> torch.Tensor:
    """What a camera shows of the world's state x [...]: two latents of four channels."""
    return torch.stack([x, -x, 0.5 * x, torch.zeros_like(x)], dim=-1).unsqueeze(-2).expand(*x.shape, 2, 4)


def streamed(generator: torch.Generator) -> tuple[Window, torch.Tensor]:
    """Windows of x' = x + a + w. Half of the chunks undo x, and are imitated; the others try something else."""
    x, frames, actions, good = 0.7 * torch.randn(BATCH, generator=generator), [], [], []
    for _ in range(STEPS):
        imitate = torch.rand(BATCH, generator=generator) < 0.5
        action = torch.where(imitate, -x, -x + 0.5 * torch.randn(BATCH, generator=generator))
        frames.append(x)
        actions.append(action)
        good.append(imitate)
        x = x + action + DRIFT * torch.randn(BATCH, generator=generator)
    latents = latents_of(torch.stack([*frames, x], dim=1))
    chunks = torch.zeros(BATCH, STEPS, CHUNK, 30)
    chunks[..., CHANNEL] = torch.stack(actions, dim=1)[..., None]
    window = Window(latents, torch.zeros(BATCH, STEPS + 1, 30), chunks, torch.zeros(BATCH, 2, SMALL.text.dim))
    return window, torch.stack(good, dim=1)


@pytest.fixture(scope="module")
def trained() -> LingbotVa:
    torch.manual_seed(0)
    config = LingbotConfig(
        dim=32,
        layers=2,
        heads=2,
        ffn=64,
        time_frequencies=16,
        max_cameras=1,
        told_state=False,
        most_frames=1,
        forward_share=0.5,
        history_noise_prob=0.0,
        span_low=8,
        span_high=8,
        span=8,
        video_steps=4,
        action_steps=6,
    )
    model = LingbotVa(config, latents=LatentSpec(4), text_dim=SMALL.text.dim)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=UPDATES)
    valid, channels = torch.ones(BATCH, STEPS, dtype=torch.bool), torch.zeros(BATCH, 30, dtype=torch.bool)
    channels[:, CHANNEL] = True
    for step in range(UPDATES):
        generator = torch.Generator().manual_seed(step)
        window, imitate = streamed(generator)
        losses = model.losses(
            window, model.draw(window, generator), GRID, valid_BT=valid, imitate_BT=imitate, action_mask_BA=channels
        )
        optimizer.zero_grad()
        losses.total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return model.eval()


@pytest.fixture(scope="module")
def agent(trained, trajectories):
    dataset = RingDataset(MemorySource(trajectories), DataConfig(batch_size=4, window=3))
    agent = fitted(replace(SMALL, model=trained.config), dataset)
    for span in (agent.normalizer.action_range, agent.normalizer.proprio_range):
        span.copy_(torch.tensor([-1.0, 1.0])[:, None].expand_as(span))
    agent.normalizer.latents = lambda raw: raw
    agent.encoder = nn.Identity()
    agent.encoder.grid = lambda height, width: (1, 2)
    agent.model = trained
    return agent


def error(agent, mode: str) -> float:
    """Root mean square of x over the last twenty chunks."""
    rng, found = np.random.default_rng(0), []
    for episode in range(EPISODES):
        policy = make_policy(agent, None if mode == "synchronous" else SaiConfig(variant=mode), seed=episode)
        policy.begin("hold it")
        x = 0.0
        for chunk in range(CHUNKS):
            agent.encoder.forward = lambda pixels, x=x: latents_of(torch.tensor([x]))
            action = float(policy.act(PICTURE, np.zeros(30, np.float32))[-1, CHANNEL])
            x = float(np.clip(x + action + DRIFT * rng.normal(), -5.0, 5.0))
            if chunk >= CHUNKS - 20:
                found.append(x * x)
        policy.close()
    return float(np.sqrt(np.mean(found)))


def test_a_trained_model_keeps_the_order_of_synchronous_grounded_and_naive_decisions(agent):
    synchronous, grounded, naive = (error(agent, mode) for mode in ("synchronous", "grounded", "naive"))
    print(f"x after 40 chunks: synchronous {synchronous:.3f}, grounded {grounded:.3f}, naive {naive:.3f} (drift {DRIFT})")
    assert synchronous < 1.5 * DRIFT
    assert synchronous < grounded < 0.7 * naive
