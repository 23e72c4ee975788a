"""The tasks, one file each: scene request, expert and grader."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib.util import find_spec
from typing import TYPE_CHECKING

from embodichain.errors import ConfigError, nearest, unknown
from embodichain.registry import Registry
from embodichain.tasks.benchmarks import BENCHMARKS, benchmark, find

if TYPE_CHECKING:  # names must be cheap: the command line checks them before it imports anything heavy
    from embodichain.protocols import Task
    from embodichain.recovery.config import RecoveryConfig

__all__ = ["TASKS", "categories", "check", "make"]

_BUILT_IN = {
    "counting": "embodichain.tasks.counting:CountingTask",
    "handover_and_place": "embodichain.tasks.handover_and_place:HandoverAndPlace",
    "handover_block": "embodichain.tasks.handover_block:HandoverBlock",
    "hanging_mug": "embodichain.tasks.hanging_mug:HangingMug",
    "open_pan_and_place": "embodichain.tasks.open_pan_and_place:OpenPanAndPlace",
    "place_mouse_pad": "embodichain.tasks.place_mouse_pad:PlaceMousePad",
    "pour_water": "embodichain.tasks.pour_water:PourWater",
    "put_block_back": "embodichain.tasks.put_block_back:PutBlockBack",
    "rank_blocks_by_size": "embodichain.tasks.rank_blocks_by_size:RankBlocksBySize",
    "rearrange_table": "embodichain.tasks.rearrange_table:RearrangeTable",
    "stack_bowls": "embodichain.tasks.stack_bowls:StackBowls",
    "switch_as_it_was": "embodichain.tasks.switch_as_it_was:SwitchAsItWas",
    "turn_switch": "embodichain.tasks.turn_switch:TurnSwitch",
}
TASKS: Registry[Callable[..., Task]] = Registry(
    "task", "embodichain.tasks", _BUILT_IN, "or package.module:Name, or a benchmark's, as metaworld:reach-v3"
)
"""Every task by name: its class. A new built-in task is one file and one line above."""

_PARTS = ("name", "request", "expert", "grader")


def check(name: str) -> None:
    """Raises ConfigError, which lists the tasks, when there is none of that name; "metaworld:reach-v3" is a benchmark's."""
    if benchmark(name):
        find(name)
        return
    first, colon, _ = name.partition(":")
    if colon and nearest(first, BENCHMARKS) and find_spec(first.partition(".")[0]) is None:
        raise unknown("benchmark", first, BENCHMARKS)
    TASKS.check(name)


def make(name: str, recovery: RecoveryConfig | None = None, *, held_out: bool = False) -> Task:
    """The task called `name`: a built-in one, a benchmark's, or the class that "package.module:Name" names.

    `recovery` sets how often its expert is provoked into a failure; it is passed only to tasks that take it. `held_out` asks for
    scenes unlike the streamed ones, with wider placement and other instructions, where the task has such. Raises ConfigError, which
    lists the tasks, when there is none of that name.
    """
    from inspect import signature

    if benchmark(name):
        return find(name)()
    kind = TASKS.get(name)
    if not callable(kind) or not all(hasattr(kind, part) for part in _PARTS):
        raise ConfigError(f"task {name!r} is no task: {kind!r} must be a class with {', '.join(_PARTS)}")
    options = {"recovery": recovery, "held_out": held_out or None}
    takes = signature(kind).parameters
    return kind(**{option: value for option, value in options.items() if value is not None and option in takes})


_DRAWS = 64
"""Number of requests drawn per task. A category that one scene in ten asks for is missed once in 800 times."""


def categories(chosen: Iterable[Task]) -> set[str]:
    """Asset categories that scenes of these tasks ask for."""
    import numpy as np

    return {
        wanted.category for task in chosen for draw in range(_DRAWS) for wanted in task.request(np.random.default_rng(draw)).objects
    }
