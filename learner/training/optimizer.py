"""The optimiser, AdamW or Muon, and the moving average of the weights that evaluation and export use."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from learner.training.config import AverageConfig, Matrices, OptimizerConfig
from learner.training.muon import Muon


def make_optimizer(config: OptimizerConfig, module: nn.Module, *, fused: bool = True) -> torch.optim.Optimizer:
    """Makes the optimiser of the trainable parameters of `module`."""
    if config.matrices is Matrices.ADAMW:
        return adamw(config, module, fused=fused)
    hidden = inner_matrices(module)
    muon = Muon(hidden, lr=config.rate, weight_decay=config.weight_decay)
    return Together((muon, adamw(config, module, fused=fused, without=hidden)))


def adamw(config: OptimizerConfig, module: nn.Module, *, fused: bool = True, without: Sequence[Tensor] = ()) -> torch.optim.AdamW:
    """Makes AdamW for the parameters of `module` except `without`; vectors and scalars (norms, gates, biases) do not decay."""
    groups, apart = [], set(without)
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad and p not in apart]
    for factor in (1.0, config.memory_rate) if config.memory_rate != 1.0 else (None,):
        mine = [p for name, p in named if factor is None or ("memories." in name) == (factor != 1.0)]
        rate = {} if factor is None else {"lr": config.rate * factor}
        groups.append({"params": [p for p in mine if p.ndim >= 2], "weight_decay": config.weight_decay, **rate})
        groups.append({"params": [p for p in mine if p.ndim < 2], "weight_decay": 0.0, **rate})
    return torch.optim.AdamW(groups, lr=config.rate, betas=config.betas, fused=fused)


def inner_matrices(module: nn.Module) -> list[Tensor]:
    """Weights of the linear maps in blocks and hints, which Muon optimises; not those into or out of the backbone."""
    return [
        inner.weight
        for name, inner in module.named_modules()
        if isinstance(inner, nn.Linear)
        and inner.weight.requires_grad
        and {"blocks", "glance", "outlook", "aim"} & set(name.split("."))
    ]


class Together(torch.optim.Optimizer):
    """Combines optimisers of different parameters into one."""

    def __init__(self, parts: Sequence[torch.optim.Optimizer]) -> None:
        self.parts = tuple(parts)
        super().__init__([dict(group) for part in self.parts for group in part.param_groups], {})
        self._share()

    def _share(self) -> None:
        """Makes param_groups alias those of the parts, so that learning rate schedulers reach them."""
        self.param_groups = [group for part in self.parts for group in part.param_groups]

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Makes one step of each part; returns the loss from `closure`, if given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """The states of the parts, in order."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restores each part."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._share()


class WeightAverage:
    """A moving average of a module's weights. It is not part of the module, so optimisers and DDP do not see it."""

    def __init__(self, config: AverageConfig, module: nn.Module) -> None:
        self.config = config
        self._averages: dict[str, Tensor] = {}
        self._begin(module)

    def _begin(self, module: nn.Module) -> None:
        if self.config.decay:
            self._averages = {name: p.detach().clone() for name, p in module.named_parameters() if p.requires_grad}

    @torch.no_grad()
    def follow(self, module: nn.Module, steps: int) -> None:
        """Updates the average with the weights after `steps` optimiser steps."""
        if not self._averages:
            return
        if steps <= 1:
            self._begin(module)  # weights may have moved to a device or been sharded since the average was made
        keep = min(self.config.decay, (1 + steps) / (10 + steps))
        current = dict(module.named_parameters())
        for name, average in self._averages.items():
            average.lerp_(current[name].detach(), 1.0 - keep)

    @contextmanager
    def applied(self, module: nn.Module) -> Iterator[None]:
        """Replaces the weights by their averages inside a `with` block; does nothing if there is no average."""
        current = {name: p for name, p in module.named_parameters() if name in self._averages}
        kept = {name: p.detach().clone() for name, p in current.items()}
        try:
            with torch.no_grad():
                for name, p in current.items():
                    p.copy_(self._averages[name])
            yield
        finally:
            with torch.no_grad():
                for name, p in current.items():
                    p.copy_(kept[name])

    def state_dict(self) -> dict[str, Tensor]:
        """The averages by name, as whole tensors; a collective if weights are sharded."""
        return {name: whole(average) for name, average in self._averages.items()}

    def load(self, module: nn.Module, saved: Mapping[str, Tensor]) -> None:
        """Continues from `saved`, on the device and with the sharding of the module's weights."""
        self._begin(module)
        for name, average in self._averages.items():
            if name in saved:
                average.copy_(placed(saved[name], average))


def whole(tensor: Tensor) -> Tensor:
    """Gathers a sharded tensor on the CPU; returns any other unchanged."""
    gather: Any = getattr(tensor, "full_tensor", None)
    return tensor if gather is None else gather().cpu()


def placed(tensor: Tensor, like: Tensor) -> Tensor:
    """Shards a whole tensor like `like`, or moves it to the same device."""
    mesh: Any = getattr(like, "device_mesh", None)
    if mesh is None:
        return tensor.to(like)
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(like, DTensor)
    return distribute_tensor(tensor.to(device=mesh.device_type, dtype=like.dtype), mesh, like.placements)
