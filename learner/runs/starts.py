"""Begins a training from a trained agent: its weights and statistics, with a new optimiser, schedule and stream."""

from __future__ import annotations

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

    The models' settings may differ where no weight's shape depends on them, such as noise, sampling steps and weights of losses.

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
        problems = problems or mismatches(agent.state_dict(), trained.state_dict())
    if problems:
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        shown = "; ".join(problems[:_SHOWN]) + more
        raise ConfigError(
            f"the training cannot start from {start}: {shown}. Give the settings of that agent, or another learner.start"
        )
    span = agent.memory_span.clone()
    agent.load_state_dict(trained.state_dict())
    agent.memory_span.copy_(span)  # it tells how this training's windows are cut
