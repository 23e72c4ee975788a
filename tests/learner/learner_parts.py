"""Small agents and trajectories whose content depends on their number."""

import numpy as np
import torch
from torch import nn

from embodichain import robots
from embodichain.motion.action import ActionCodec
from embodichain.types import CHUNK, Segment, camera_spec, write_text
from learner.backbone.config import TextConfig
from learner.backbone.grid import Grid
from learner.codecs.config import EncoderConfig, LatentSpec
from learner.data.dataset import RingDataset
from learner.memory.config import TttConfig
from learner.models.agent import Agent
from learner.models.clwm.config import ClwmConfig
from learner.models.clwm.model import Clwm
from learner.models.config import AgentConfig
from learner.models.window import Window

PROMPT = "turn the switch on"
HORIZON, CAMERAS, SIDE = 6, 2, 32
NAMES = ("head", "wrist")[:CAMERAS]
GRID = Grid(CAMERAS, 2, 2)
SMALL = AgentConfig(
    encoder=EncoderConfig(dim=24, layers=2, heads=2),
    text=TextConfig(dim=16, max_words=6, buckets=64),
    model=ClwmConfig(dim=32, layers=2, heads=2, ffn=64, memory_every=1, time_frequencies=16, video_steps=2, action_steps=3),
)


def spec():
    return camera_spec(cameras=CAMERAS, height=SIDE, width=SIDE, horizon=HORIZON)


def fill(out, number: int, chunks: int = HORIZON) -> None:
    """A trajectory whose every value follows from its number; what lies beyond its end is poison."""
    rng = np.random.default_rng(number)
    for name in ("proprio", "action"):
        out[name][...] = np.nan
    out["rgb"][...] = 255
    out["segment"][...] = 255
    out["rgb"][: chunks + 1] = rng.integers(0, 255, out["rgb"][: chunks + 1].shape)
    out["proprio"][: chunks + 1] = 0.5 * rng.normal(size=(chunks + 1, 30))
    drift = np.linspace(0.0, 1.0, CHUNK)[None, :, None] * rng.normal(size=(chunks, 1, 30))
    out["action"][:chunks] = out["proprio"][:chunks, None] + 0.2 * drift
    out["action_mask"][:] = 1
    out["action_mask"][[20, 27]] = 0
    out["segment"][:chunks] = Segment.NOMINAL
    out["num_chunks"][...] = chunks
    out["trajectory_id"][...] = number
    write_text(out["instruction"], b"turn the switch on" if number % 2 else b"place the mouse")
    if "info" in out:
        write_text(out["info"], b"")


def trajectory(number: int, chunks: int = HORIZON):
    out = spec().allocate()
    fill(out, number, chunks)
    return out


LIMITS = ActionCodec(robots.get("dual_piper")).limits


def measured(t: int, number: int = 0) -> np.ndarray:
    """The state at frame t of a trajectory, as it can be measured of the robot."""
    return LIMITS.bounded(trajectory(number)["proprio"][t % HORIZON])


def request(t: int, number: int = 0, **extra) -> dict:
    """What a client sends at frame t of a trajectory."""
    pictures = dict(zip(NAMES, trajectory(number)["rgb"][t % HORIZON], strict=True))
    return {"images": pictures, "state": measured(t, number), "prompt": PROMPT, **extra}


def fitted(config: AgentConfig, dataset: RingDataset) -> Agent:
    """An agent whose normalizer has seen one batch."""
    agent = Agent(config)
    agent.memory_span.fill_(4)
    measurement = agent.new_measurement()
    agent.measure(dataset.draw().gather(), measurement)
    agent.normalizer.fit(measurement)
    return agent


def shaken(model: nn.Module, seed: int = 0, scale: float = 0.15) -> nn.Module:
    """Random weights everywhere, so that no zero initialisation hides a path."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    return model


def exact_model(**changes) -> Clwm:
    """A float64 model on latents of 6 channels; its memory takes large steps, so that forgetting it would be seen."""
    settings = {
        "dim": 24,
        "layers": 3,
        "heads": 2,
        "ffn": 32,
        "memory_every": 1,
        "time_frequencies": 8,
        "ttt": TttConfig(base_rate=2.0, gate=0.5),
        **changes,
    }
    torch.manual_seed(0)
    return shaken(Clwm(ClwmConfig(**settings), latents=LatentSpec(6, moments=6), text_dim=5).double()).eval()


def window(batch: int = 2, steps: int = 4, seed: int = 0) -> Window:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    latents = normal(batch, steps + 1, GRID.size, 6)
    return Window(
        latents_BTNC=latents,
        opening_BNC=latents[:, 0],
        proprio_BTA=normal(batch, steps + 1, 30),
        actions_BTKA=normal(batch, steps, CHUNK, 30),
        text_BLC=normal(batch, 3, 5),
    )


def draws_of(model: Clwm, w: Window, seed: int = 0):
    """The random part of a training step."""
    return model.draw(w, torch.Generator().manual_seed(seed))


def frame(t: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures and measured state of a frame of the first trajectory, again from the beginning after six."""
    episode = trajectory(0)
    return episode["rgb"][t % 6], episode["proprio"][t % 6]
