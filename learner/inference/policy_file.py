"""Saves a policy as one file: weights, configuration, and the robot and cameras that it needs."""

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
"""Version of the `.safetensors` file; it is raised when older versions of this package could not read the file."""

_ADVICE = "save the agent again with save_agent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """The robot, cameras and world that an agent was trained with. Needed to serve or evaluate it, not to compute with it."""

    robot: str = "dual_piper"
    """A name from `embodichain list`, or the path of an MJCF file."""
    width: int = 64
    height: int = 64
    """Height of every camera's images [pixels]."""
    painter: str = "raycast"
    """The renderer of the images; files without this key used the ray caster."""
    tasks: tuple[str, ...] = ()
    horizon: int = 64
    """Most chunks in a training episode."""
    instances: Mapping[str, int] = field(default_factory=dict)
    """Number of instances of each asset family in its scenes; empty means the default of a world."""
    instances_seed: int = 0
    visual: bool = False
    physical: bool = False
    """Whether looks and physics were randomised for every episode, within the default ranges of a world."""
    bounds: Bounds = UNBOUNDED
    """Bounds on the robot's conduct; files without this key were evaluated without bounds."""


def save_agent(agent: Agent, path: Path, setup: Setup, *, half: bool = False) -> None:
    """Writes weights and configuration, without the optimiser, to one `.safetensors` file for `load_agent` and `load_setup`.

    The file appears atomically. With `half`, weights are stored in float16, which halves the file; statistics keep their precision,
    and after loading everything is computed in float32.
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
        ancestry=json.dumps(agent.ancestry),
        setup=json.dumps(asdict(setup)),
    )


def load_setup(path: Path) -> Setup:
    """The `Setup` that `save_agent` wrote; raises LearnerError for any other file."""
    _, metadata = read_weights(path, form=AGENT_FORMAT, advice=_ADVICE, only_metadata=True)
    try:
        saved = json.loads(metadata["setup"])
        bounds = Bounds(**saved["bounds"]) if "bounds" in saved else UNBOUNDED
        return Setup(**{**saved, "tasks": tuple(saved["tasks"]), "bounds": bounds})
    except (KeyError, TypeError, ValueError) as error:
        raise LearnerError(f"{path} does not say what it was trained on: {error!r}; write it again with save_agent") from error


def load_agent(path: Path | str, device: str = "cpu") -> Agent:
    """Loads the agent from a training checkpoint or a `.safetensors` file of `save_agent`, without executing code from the file.

    Raises LearnerError when there is none, or listing what does not fit this version.
    """
    path = Path(path)
    if not path.exists():
        raise LearnerError(f"no checkpoint at {path}")
    try:
        if path.suffix == ".safetensors":
            weights, metadata = read_weights(path, form=AGENT_FORMAT, advice=_ADVICE)
            config, ancestry = metadata["agent_config"], metadata.get("ancestry", "[]")
        else:
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
            prefix = "agent."
            weights = {name.removeprefix(prefix): w for name, w in checkpoint["state_dict"].items() if name.startswith(prefix)}
            weights |= checkpoint.get("average", {})
            config, ancestry = checkpoint["agent_config"], checkpoint.get("ancestry", "[]")
        agent = Agent(AgentConfig.from_dict(json.loads(config)))
        agent.ancestry = tuple(json.loads(ancestry))
    except (KeyError, TypeError, RuntimeError, ValueError, UnpicklingError) as error:
        raise LearnerError(f"checkpoint {path} holds no agent that this version reads: {error!r}") from error
    mismatch = mismatches(agent.state_dict(), weights)
    if mismatch:
        raise LearnerError(f"checkpoint {path} does not fit its own configuration: {'; '.join(mismatch)}")
    agent.load_state_dict(weights)
    return agent.to(device).eval()
