"""A policy as one file: weights, configuration and what it must be driven with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from pickle import UnpicklingError

import torch

from embodichain.errors import LearnerError
from embodichain.types.bounds import UNBOUNDED, Bounds
from learner.models.agent import Agent
from learner.models.config import AgentConfig
from learner.records.weight_files import mismatches, read_weights, write_weights

AGENT_FORMAT = "embodichain-agent-1"
"""Of a `.safetensors` file: raised when an older version could not read it."""

_ADVICE = "save the agent again with save_agent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What an agent was trained on and must be driven with: needed to serve it, not to compute with it."""

    robot: str = "dual_piper"
    """A name from `embodichain list`, or the path of an MJCF file."""
    width: int = 64
    height: int = 64
    """Of every camera's pictures [pixels]."""
    painter: str = "raycast"
    """What drew them; files older than this key were drawn by rays."""
    tasks: tuple[str, ...] = ()
    horizon: int = 64
    """Most chunks an episode had."""
    instances: Mapping[str, int] = field(default_factory=dict)
    """How many instances of each family its scenes were made of; empty for those that a world has if not told otherwise."""
    instances_seed: int = 0
    visual: bool = False
    physical: bool = False
    """Whether looks and physics were redrawn for every episode, within the ranges that a world has if not told otherwise."""
    bounds: Bounds = UNBOUNDED
    """How its robot may conduct itself; files older than this key were judged without bounds."""


def save_agent(agent: Agent, path: Path, setup: Setup, *, half: bool = False) -> None:
    """Writes one `.safetensors` file that `load_agent` and `load_setup` read: weights and configuration, no optimiser. Atomic.

    With `half` weights are kept in float16, statistics as they are: half the file, and computed with in float32 all the same.
    """
    weights = agent.state_dict()
    if half:
        learned = {name for name, _ in agent.named_parameters()}
        weights = {name: weight.half() if name in learned else weight for name, weight in weights.items()}
    write_weights(
        path,
        weights,
        form=AGENT_FORMAT,
        agent_config=json.dumps(agent.config.to_dict()),
        setup=json.dumps(asdict(setup)),
    )


def load_setup(path: Path) -> Setup:
    """What `save_agent` was told; raises LearnerError for any other file."""
    _, metadata = read_weights(path, form=AGENT_FORMAT, advice=_ADVICE, only_metadata=True)
    try:
        saved = json.loads(metadata["setup"])
        bounds = Bounds(**saved["bounds"]) if "bounds" in saved else UNBOUNDED
        return Setup(**{**saved, "tasks": tuple(saved["tasks"]), "bounds": bounds})
    except (KeyError, TypeError, ValueError) as error:
        raise LearnerError(f"{path} does not say what it was trained on: {error!r}; write it again with save_agent") from error


def load_agent(path: Path | str, device: str = "cpu") -> Agent:
    """The agent in a training checkpoint or in a `.safetensors` file of `save_agent`; executes nothing that a file holds.

    Raises LearnerError when there is none, or listing what does not fit this version.
    """
    path = Path(path)
    if not path.exists():
        raise LearnerError(f"no checkpoint at {path}")
    try:
        if path.suffix == ".safetensors":
            weights, metadata = read_weights(path, form=AGENT_FORMAT, advice=_ADVICE)
            config = metadata["agent_config"]
        else:
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
            prefix = "agent."
            weights = {name.removeprefix(prefix): w for name, w in checkpoint["state_dict"].items() if name.startswith(prefix)}
            weights |= checkpoint.get("average", {})
            config = checkpoint["agent_config"]
        agent = Agent(AgentConfig.from_dict(json.loads(config)))
    except (KeyError, TypeError, RuntimeError, ValueError, UnpicklingError) as error:
        raise LearnerError(f"checkpoint {path} holds no agent that this version reads: {error!r}") from error
    mismatch = mismatches(agent.state_dict(), weights)
    if mismatch:
        raise LearnerError(f"checkpoint {path} does not fit its own configuration: {'; '.join(mismatch)}")
    agent.load_state_dict(weights)
    return agent.to(device).eval()
