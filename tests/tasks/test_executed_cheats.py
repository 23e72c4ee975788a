"""The judge of conduct: whatever a robot does to reach a goal in a wrong way, carried out in real physics, is refused."""

import importlib
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from embodichain.motion.action import ActionCodec
from embodichain.tasks.judge import Judge
from embodichain.tasks.place_mouse_pad import PlaceMousePad
from embodichain.tasks.turn_switch import TurnSwitch
from embodichain.types import Bounds

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))  # behind the root, for a benchmark is called as a package is
cheats = importlib.import_module("experience_cheats")
executed = importlib.import_module("experience_executed")

OFF = Bounds(**dict.fromkeys(Bounds.__slots__, np.inf))


def played(task, scene, physics):
    """The expert's episode."""
    codec = ActionCodec(physics.robot)
    grader, state, states, commands = task.grader(scene), physics.reset(scene), [], []
    expert = task.expert(scene, physics.robot, state, np.random.default_rng(scene.seed))
    step = next(expert)
    try:
        while True:
            commands.append(codec.round(step.command))
            states.append(physics.step(commands[-1]))
            grader.observe(states[-1])
            step = expert.send(states[-1])
    except StopIteration:
        pass
    assert grader.verdict().success, grader.verdict().reason
    return cheats.Played(scene=scene, actions=codec.encode(np.stack(commands))[None], states=states)


@pytest.fixture(scope="module", params=[(TurnSwitch(), 3, 6), (PlaceMousePad(), 2, 15)], ids=["turn_switch", "place_mouse_pad"])
def case(request, sampler, physics):
    task, seed, least = request.param
    scene = sampler.sample(task, seed)
    return task, played(task, scene, physics), least


def test_no_executed_cheat_passes(case, physics) -> None:
    task, episode, least = case
    codec = ActionCodec(physics.robot)
    found = {kind: executed.perform(kind, task, episode, physics, codec) for kind in executed.KINDS}
    tried = {kind: what for kind, what in found.items() if what is not None}
    assert len(tried) >= least, sorted(tried)
    assert [kind for kind, (success, _) in tried.items() if success] == []


def test_what_is_refused_for_conduct_alone_passes_without_bounds(case, physics) -> None:
    """So it is the bounds that refuse it, and each of these cheats has reached its goal."""
    task, episode, _ = case
    free = replace(episode, scene=replace(episode.scene, bounds=OFF))
    for kind in ("jerk", "ram", "scrape", "clash"):
        success, reason = executed.perform(kind, task, free, physics, ActionCodec(physics.robot))
        assert success, (kind, reason)


def test_every_task_is_graded_by_the_one_judge(sampler) -> None:
    from embodichain.tasks import TASKS, make

    others = {"counting"}  # it has no robot in any physics
    for name in sorted(set(TASKS.built_in) - others):
        grader = importlib.import_module(f"embodichain.tasks.{name}")
        kinds = [value for key, value in vars(grader).items() if key.endswith("Grader") and isinstance(value, type)]
        assert kinds and all(issubclass(kind, Judge) for kind in kinds), make(name)


@pytest.mark.parametrize("name", Bounds.__slots__)
def test_bounds_are_positive(name) -> None:
    with pytest.raises(ValueError, match=name):
        Bounds(**{name: 0.0})
