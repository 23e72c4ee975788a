"""An attentive linear probe: measures what can be read from the tokens of a frozen encoder.

From tokens z_p of all cameras the probe computes sum_p softmax_p(q . z_p) (W z_p + b_p): one attention over the patches and one
linear map, both learned for each target; b_p encodes the place of patch p. As nothing else is learned, what the probe reads must be
present in the tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from embodichain.errors import ConfigError
from learner.records.schedules import warm_cosine


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeConfig:
    """How a probe is fitted: AdamW with a cosine schedule."""

    epochs: int = 150
    batch: int = 100
    rate: float = 1e-2
    weight_decay: float = 1e-2
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch) < 1 or self.rate <= 0:
            raise ConfigError(f"a probe needs epochs and batch >= 1 and rate > 0, got {self}")


class Probe(nn.Module):
    """An attentive linear readout of tokens [B, P, C]: `targets` values for each of B observations."""

    def __init__(self, patches: int, channels: int, targets: int) -> None:
        super().__init__()
        self.look = nn.Linear(channels, 1, bias=False)
        self.read = nn.Linear(channels, targets)
        self.place = nn.Parameter(torch.zeros(patches, targets))
        nn.init.zeros_(self.read.weight)
        nn.init.zeros_(self.read.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """Predictions [B, targets] in normalised units, from tokens [B, P, C]."""
        return (self.look(tokens).softmax(dim=1) * (self.read(tokens) + self.place)).sum(dim=1)


def probe(train: Tensor, answers: Tensor, test: Tensor, config: ProbeConfig | None = None) -> Tensor:
    """Fits a probe to tokens [B, P, C] with targets [B, targets]; returns its predictions for the tokens `test`, in the same units.

    Channels are normalised to zero mean and unit deviation with the statistics of `train`.
    """
    config = config or ProbeConfig()
    mean, deviation = train.mean(dim=(0, 1)), train.std(dim=(0, 1)) + 1e-6
    train, test = (train - mean) / deviation, (test - mean) / deviation
    centre, spread = answers.mean(dim=0), answers.std(dim=0) + 1e-9
    wanted = (answers - centre) / spread
    generator = torch.Generator().manual_seed(config.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = Probe(train.shape[1], train.shape[2], answers.shape[1])
    groups = [
        {"params": [model.look.weight, model.read.weight], "weight_decay": config.weight_decay},
        {"params": [model.read.bias, model.place], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=config.rate)
    rounds = max(1, len(train) // config.batch)
    for step in range(config.epochs * rounds):
        if step % rounds == 0:
            order = torch.randperm(len(train), generator=generator)
        rows = order[(step % rounds) * config.batch :][: config.batch]
        for group in optimizer.param_groups:
            group["lr"] = config.rate * warm_cosine(step, config.epochs * rounds)
        optimizer.zero_grad()
        (model(train[rows]) - wanted[rows]).square().mean().backward()
        optimizer.step()
    with torch.no_grad():
        return model(test) * spread + centre
