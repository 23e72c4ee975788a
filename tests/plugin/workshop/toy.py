"""A family of world models as somebody else would write it: it maps the measured state to a chunk, and expects no change."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import nn

from embodichain.types import ACTION_DIM, CHUNK
from learner.models.family import Family, ModelConfig
from learner.models.world_model import Decision, Losses, Seen, WorldModel


@dataclass(frozen=True, slots=True, kw_only=True)
class ToyConfig(ModelConfig):
    family: ClassVar[str] = "workshop.toy:TOY"
    width: int = 8


class Remembered(NamedTuple):
    seen: Seen | None
    steps: int
    size_bytes: int = 0


class Toy(WorldModel):
    horizon = CHUNK
    modes = ("early",)

    def __init__(self, config, latents, text_dim):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(ACTION_DIM, config.width), nn.Tanh(), nn.Linear(config.width, CHUNK * ACTION_DIM))

    def chunk(self, proprio):
        return self.layers(proprio).unflatten(-1, (CHUNK, ACTION_DIM))

    def draw(self, window, generator):
        return None

    def losses(self, window, draws, grid, *, valid_BT, imitate_BT, action_mask_BA):
        errors = (self.chunk(window.proprio_BTA[:, :-1]) - window.actions_BTKA).square().mean(dim=2)
        chunk = (errors * action_mask_BA[:, None] * imitate_BT[..., None]).mean()
        return Losses(chunk, {"chunk": chunk})

    def read_text(self, text_BLC):
        return None

    def empty(self):
        return Remembered(None, 0)

    def observe(self, state, seen, text, grid, made=None):
        return Remembered(seen, state.steps + 1)

    def noise(self, latents_BNC, generator):
        return torch.randn(len(latents_BNC), generator=generator)

    def decide(self, state, noise, text, grid):
        return Decision(self.chunk(state.seen.proprio_BA), state.seen.latents_BNC, {"chunk": 1})

    def check(self, mode):
        assert mode.name in self.modes

    def unbegun(self, noise):
        return noise

    def begin(self, state, noise, text, grid, mode, *, stopped=bool, made=None):
        return noise

    def finish(self, state, started, text, grid, *, made=None):
        return self.decide(state, started, text, grid)

    def forward_flops(self, extent):
        return (
            2.0 * extent.windows * extent.steps * sum(layer.weight.numel() for layer in self.layers if isinstance(layer, nn.Linear))
        )


TOY = Family(config=ToyConfig, build=Toy, smallest=ToyConfig, sizes={"broad": lambda: ToyConfig(width=32)})


def toy_cpu():
    """A recipe that trains it."""
    from dataclasses import replace

    from learner.models.config import AgentConfig
    from learner.runs.recipes import seconds_cpu

    base = seconds_cpu()
    learner = replace(base.learner, agent=AgentConfig(model=ToyConfig()), measure_batches=1)
    world = replace(base.world, tasks=("turn_switch",), width=32, height=32)
    return replace(base, recipe="workshop.toy:toy_cpu", world=world, learner=learner, stream=replace(base.stream, engine="serial"))
