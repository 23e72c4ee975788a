"""A warm start: a training that begins from the weights and the normaliser of a trained policy, with a schedule of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from embodichain.errors import ConfigError
from learner.inference.policy_file import load_agent
from learner.models.agent import Agent
from learner.models.config import AgentConfig
from learner.records.run_folder import RunFolder
from learner.records.shipped import BUILTIN, shipped
from learner.records.weight_files import mismatches
from learner.training.module import AgentModule

_SHOWN = 8
"""Most differences that an error lists."""


def check_start(path: str, config: AgentConfig) -> None:
    """Raises ConfigError when a training of `config` cannot begin from the policy at `path`; nothing is trained or written."""
    if path:
        _begin(path, Agent(config))


def start_from(path: str, module: AgentModule) -> None:
    """Takes weights and normaliser of the policy at `path` over into a module that has not been trained; "" changes nothing.

    Optimiser, schedule, averages and the stream begin anew. The policies from which a training descends are kept in its checkpoints
    and in the policies that are saved of it. Raises ConfigError that lists what does not fit.
    """
    if path:
        _begin(path, module.agent)


def _begin(path: str, agent: Agent) -> None:
    checkpoint = _file(path)
    policy = load_agent(checkpoint)
    problems = _differences(agent.config, policy.config)
    own, other = agent.state_dict(), policy.state_dict()
    problems = problems or mismatches(own, other)
    if not problems:
        # Policies may be saved in float16, which rounds the frozen weights, too.
        frozen = [name for name in own if name.startswith(("encoder.", "text."))]
        problems = [f"{name}: other values" for name in frozen if not torch.allclose(own[name], other[name], rtol=2e-3, atol=1e-5)]
    if problems:
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise ConfigError(
            f"a training of this configuration cannot start from the policy {path}: {'; '.join(problems[:_SHOWN])}{more}; "
            "choose its recipe and its settings, or train from the beginning"
        )
    # How many frames the memory holds in training follows from this training's own windows.
    agent.load_state_dict({**other, "memory_span": own["memory_span"].clone()})
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    agent.ancestry = (*policy.ancestry, {"policy": path, "sha256": digest})


def _file(path: str) -> Path:
    """The weights of a policy that is given as a file, a checkpoint, a run or builtin:NAME."""
    if path.startswith(BUILTIN):
        return shipped(path.removeprefix(BUILTIN))
    return RunFolder.open(Path(path)).checkpoint if Path(path).is_dir() else Path(path)


def _differences(own: AgentConfig, other: AgentConfig) -> list[str]:
    """Settings that decide what the weights mean and that differ, as "model.heads 4, there 3"."""
    if own.model.family != other.model.family:
        return [f"family {own.model.family}, there {other.model.family}"]
    free = {"seed", "encoder.source", "encoder.max_images", *(f"model.{name}" for name in own.model.free)}
    mine, theirs = _flat(own.to_dict()), _flat(other.to_dict())
    names = sorted((mine.keys() | theirs.keys()) - free)
    return [f"{name} {mine.get(name)}, there {theirs.get(name)}" for name in names if mine.get(name) != theirs.get(name)]


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in tree.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return found
