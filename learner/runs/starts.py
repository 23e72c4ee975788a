"""Begins a training from a trained agent: its weights and statistics, with a new optimiser, schedule and stream."""

from __future__ import annotations

import hashlib
from dataclasses import fields
from pathlib import Path

from embodichain.errors import ConfigError
from learner.inference.policy_file import load_agent
from learner.models.agent import Agent
from learner.records.weight_files import mismatches

_SAME = ("encoder", "text", "normalizer")
"""Settings that say what the model's inputs and outputs are: trained weights mean nothing under others."""
_SHOWN = 8


def begin_from(agent: Agent, start: Path | str) -> None:
    """Gives `agent` the weights and statistics of the trained agent in the file `start`, a checkpoint or what `save_agent` wrote.

    Settings of the model may differ that a family names as free, such as noise, sampling steps and weights of losses. The agent
    then knows its descent (`Agent.ancestry`).

    Raises:
        ConfigError: It is of another family, sees or acts otherwise, or has weights of other shapes; lists the differences.
        LearnerError: There is no such file, or it holds no agent that this version reads.
    """
    trained = load_agent(start)
    mine, its = agent.config, trained.config
    if mine.model.family != its.model.family:
        problems = [f"its model family is {its.model.family}, not {mine.model.family}"]
    else:
        named = ((name, getattr(its, name), getattr(mine, name)) for name in _SAME)
        problems = [f"{name}: {theirs} instead of {own}" for name, theirs, own in named if theirs != own]
        its_model, my_model = its.model, mine.model
        fixed = [f.name for f in fields(my_model) if f.name not in my_model.free]
        named = ((name, getattr(its_model, name), getattr(my_model, name)) for name in fixed)
        settings = [f"model.{name}: {theirs} instead of {own}" for name, theirs, own in named if theirs != own]
        problems = problems or mismatches(agent.state_dict(), trained.state_dict()) or settings
    if problems:
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        shown = "; ".join(problems[:_SHOWN]) + more
        raise ConfigError(
            f"the training cannot start from {start}: {shown}. Give the settings of that agent, or another learner.start"
        )
    span = agent.memory_span.clone()
    agent.load_state_dict(trained.state_dict())
    agent.memory_span.copy_(span)  # it tells how this training's windows are cut
    digest = hashlib.sha256(Path(start).read_bytes()).hexdigest()
    agent.ancestry = (*trained.ancestry, {"policy": str(start), "sha256": digest})
