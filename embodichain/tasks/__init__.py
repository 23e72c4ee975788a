"""One file per task: its goal, expert and success."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterable

import numpy as np

from embodichain import errors
from embodichain.protocols import Task
from embodichain.recovery.recovery import RecoveryConfig

TASKS: dict[str, str] = {
    "counting": "embodichain.tasks.counting:CountingTask",
    "handover_and_place": "embodichain.tasks.handover_and_place:HandoverAndPlace",
    "handover_block": "embodichain.tasks.handover_block:HandoverBlock",
    "hanging_mug": "embodichain.tasks.hanging_mug:HangingMug",
    "open_pan_and_place": "embodichain.tasks.open_pan_and_place:OpenPanAndPlace",
    "place_mouse_pad": "embodichain.tasks.place_mouse_pad:PlaceMousePad",
    "pour_water": "embodichain.tasks.pour_water:PourWater",
    "rank_blocks_by_size": "embodichain.tasks.rank_blocks_by_size:RankBlocksBySize",
    "rearrange_table": "embodichain.tasks.rearrange_table:RearrangeTable",
    "stack_bowls": "embodichain.tasks.stack_bowls:StackBowls",
    "turn_switch": "embodichain.tasks.turn_switch:TurnSwitch",
}
"""Every task by name: the import path of its class. A new task is one file and one line here."""


def make(name: str, recovery: RecoveryConfig | None = None, *, held_out: bool = False) -> Task:
    """The task called `name`; raises ConfigError listing those that exist.

    `recovery` says how often its expert is provoked into a failure; a task in which nothing can fail takes none and is not asked.
    `held_out` asks for scenes unlike those streamed: placed more widely and asked for in other words, where the task has such.
    """
    if name not in TASKS:
        raise errors.unknown("task", name, TASKS)
    module, _, attribute = TASKS[name].partition(":")
    kind = getattr(importlib.import_module(module), attribute)
    options = {"recovery": recovery, "held_out": held_out or None}
    takes = inspect.signature(kind).parameters
    return kind(**{option: value for option, value in options.items() if value is not None and option in takes})


_DRAWS = 64
"""Requests of a task that are looked at: a category that one scene in ten asks for is missed once in 800 tries."""


def categories(chosen: Iterable[Task]) -> set[str]:
    """Asset categories that scenes of these tasks ask for."""
    return {
        wanted.category for task in chosen for draw in range(_DRAWS) for wanted in task.request(np.random.default_rng(draw)).objects
    }
