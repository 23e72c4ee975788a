"""How weights move: AdamW or Muon with warm-up and a schedule, and the average of the weights that evaluation and export use."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor, nn

from embodichain.errors import ConfigError


class Schedule(StrEnum):
    """What the learning rate does after its warm-up."""

    COSINE = "cosine"
    CONSTANT = "constant"


class Matrices(StrEnum):
    """Which rule moves the matrices inside the backbone: those of its blocks, of the glance and of the aim."""

    ADAMW = "adamw"
    MUON = "muon"


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerConfig:
    """AdamW with linear warm-up, then a cosine down to `final_share` of the rate at `total_steps` (0: the training's last step).

    The rate is for the tiny model and a few thousand steps; models of billions of parameters take 1e-4 and less.
    """

    rate: float = 4e-3
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.95)
    schedule: Schedule = Schedule.COSINE
    warmup_steps: int = 50
    total_steps: int = 0
    final_share: float = 0.05
    memory_rate: float = 1.0
    """Rate of the memory layers as a multiple of the others': 10 where a trained backbone is finetuned with new memories."""
    matrices: Matrices = Matrices.ADAMW
    """"muon": momentum made orthogonal, scaled so that `rate` serves both (Jordan et al. 2024; Liu et al. 2025, arXiv:2502.16982).
    It needs whole matrices, so none that are sharded."""

    def __post_init__(self) -> None:
        if self.rate <= 0 or self.warmup_steps < 0 or self.total_steps < 0 or self.memory_rate <= 0:
            raise ConfigError(f"optimizer needs rate and memory_rate > 0 and steps >= 0, got {self}")

    def share(self, step: int, training_steps: int) -> float:
        """Learning rate at a step of a training of `training_steps` (below 1: without end, constant), as a share of `rate`."""
        total = self.total_steps or training_steps
        constant = total < 1 or self.schedule is Schedule.CONSTANT
        return warm_cosine(step, total, warmup=self.warmup_steps, final_share=1.0 if constant else self.final_share)

    def optimizer(self, module: nn.Module, *, fused: bool = True) -> torch.optim.Optimizer:
        """The optimiser of what is trained in `module`."""
        if self.matrices is Matrices.ADAMW:
            return self.adamw(module, fused=fused)
        hidden = inner_matrices(module)
        scaled = {"lr": self.rate, "weight_decay": self.weight_decay, "adjust_lr_fn": "match_rms_adamw"}
        return Together((torch.optim.Muon(hidden, **scaled), self.adamw(module, fused=fused, without=hidden)))

    def adamw(self, module: nn.Module, *, fused: bool = True, without: Sequence[Tensor] = ()) -> torch.optim.AdamW:
        """AdamW; vectors and scalars (norms, gates, biases, tables' rows) do not decay."""
        groups, apart = [], set(without)
        named = [(name, p) for name, p in module.named_parameters() if p.requires_grad and p not in apart]
        for factor in (1.0, self.memory_rate) if self.memory_rate != 1.0 else (None,):
            mine = [p for name, p in named if factor is None or ("memories." in name) == (factor != 1.0)]
            rate = {} if factor is None else {"lr": self.rate * factor}
            groups.append({"params": [p for p in mine if p.ndim >= 2], "weight_decay": self.weight_decay, **rate})
            groups.append({"params": [p for p in mine if p.ndim < 2], "weight_decay": 0.0, **rate})
        return torch.optim.AdamW(groups, lr=self.rate, betas=self.betas, fused=fused)


def warm_cosine(step: int, steps: int, *, warmup: int = 0, final_share: float = 0.0) -> float:
    """Learning rate as a share of the highest: linear over `warmup` steps, then a cosine down to `final_share` at `steps`."""
    if step < warmup:
        return (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, steps - warmup))
    return final_share + (1.0 - final_share) * 0.5 * (1.0 + math.cos(math.pi * done))


def inner_matrices(module: nn.Module) -> list[Tensor]:
    """Weights of the linear maps in blocks, glance and aim; not those that lead in or out of the backbone."""
    return [
        inner.weight
        for name, inner in module.named_modules()
        if isinstance(inner, nn.Linear) and inner.weight.requires_grad and {"blocks", "glance", "aim"} & set(name.split("."))
    ]


class Together(torch.optim.Optimizer):
    """Optimisers of different parameters that step as one; groups and state are theirs."""

    def __init__(self, parts: Sequence[torch.optim.Optimizer]) -> None:
        self.parts = tuple(parts)
        super().__init__([dict(group) for part in self.parts for group in part.param_groups], {})
        self._share()

    def _share(self) -> None:
        """Who sets a rate in our groups sets it in theirs."""
        self.param_groups = [group for part in self.parts for group in part.param_groups]

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of each, after `closure`; returns what that gives."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Those of the parts, in order."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Gives each part its own back."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._share()


@dataclass(frozen=True, slots=True, kw_only=True)
class AverageConfig:
    """Exponential moving average of the weights: after n steps it keeps min(decay, (1 + n) / (10 + n)) of itself; 0 has none."""

    decay: float = 0.999

    def __post_init__(self) -> None:
        if not 0.0 <= self.decay < 1.0:
            raise ConfigError(f"average.decay must be in 0..1 and below 1, got {self.decay}")


class WeightAverage:
    """The average, outside of the module it follows: no optimiser or distributed wrapper sees it."""

    def __init__(self, config: AverageConfig, module: nn.Module) -> None:
        self.config = config
        self._averages: dict[str, Tensor] = {}
        self._begin(module)

    def _begin(self, module: nn.Module) -> None:
        if self.config.decay:
            self._averages = {name: p.detach().clone() for name, p in module.named_parameters() if p.requires_grad}

    @torch.no_grad()
    def follow(self, module: nn.Module, steps: int) -> None:
        """Takes in the weights after `steps` optimiser steps."""
        if not self._averages:
            return
        if steps <= 1:
            self._begin(module)  # wherever the weights are by now
        keep = min(self.config.decay, (1 + steps) / (10 + steps))
        current = dict(module.named_parameters())
        for name, average in self._averages.items():
            average.lerp_(current[name].detach(), 1.0 - keep)

    def state_dict(self) -> dict[str, Tensor]:
        """The averages by name, whole: a collective where weights are sharded."""
        return {name: whole(average) for name, average in self._averages.items()}

    def load(self, module: nn.Module, saved: Mapping[str, Tensor]) -> None:
        """Goes on from `saved`, placed as the module's weights are."""
        self._begin(module)
        for name, average in self._averages.items():
            if name in saved:
                average.copy_(placed(saved[name], average))


def whole(tensor: Tensor) -> Tensor:
    """A sharded tensor gathered on the CPU, any other as it is."""
    gather: Any = getattr(tensor, "full_tensor", None)
    return tensor if gather is None else gather().cpu()


def placed(tensor: Tensor, like: Tensor) -> Tensor:
    """A whole tensor sharded as `like` is."""
    mesh: Any = getattr(like, "device_mesh", None)
    if mesh is None:
        return tensor.to(like)
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(like, DTensor)
    return distribute_tensor(tensor.to(device=mesh.device_type, dtype=like.dtype), mesh, like.placements)
