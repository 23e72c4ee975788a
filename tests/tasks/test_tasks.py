"""Tasks are made by name."""

import numpy as np
import pytest

from embodichain import tasks
from embodichain.errors import ConfigError
from embodichain.recovery.config import RecoveryConfig


@pytest.mark.parametrize("name", tasks.TASKS)
def test_every_task_is_made_by_its_name(name: str) -> None:
    assert tasks.make(name).name == name
    assert tasks.make(name, RecoveryConfig(probability=0.5)).name == name


def test_an_unknown_task_is_refused_with_those_that_exist() -> None:
    with pytest.raises(ConfigError, match=r"unknown task 'pour_tea'; available: counting, .*place_mouse_pad, .*turn_switch"):
        tasks.make("pour_tea")


@pytest.mark.parametrize("name", tasks.TASKS)
def test_whatever_a_scene_of_a_task_asks_for_was_foreseen(name):
    """Only foreseen categories are built before the first scene."""
    task = tasks.make(name)
    foreseen = tasks.categories([task])
    for seed in range(1_000, 1_300):
        assert {wanted.category for wanted in task.request(np.random.default_rng(seed)).objects} <= foreseen
