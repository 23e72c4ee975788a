"""One file per task: its goal, expert and success."""

from __future__ import annotations

import importlib
import inspect

from embodichain import errors
from embodichain.expand.recovery import RecoveryConfig
from embodichain.protocols import Task

TASKS: dict[str, str] = {
    "counting": "embodichain.tasks.counting:CountingTask",
    "place_mouse_pad": "embodichain.tasks.place_mouse_pad:PlaceMousePad",
    "turn_switch": "embodichain.tasks.turn_switch:TurnSwitch",
}
"""Every task by name: the import path of its class. A new task is one file and one line here."""


def make(name: str, recovery: RecoveryConfig | None = None) -> Task:
    """The task called `name`; raises ConfigError listing those that exist.

    `recovery` says how often its expert is provoked into a failure; a task in which nothing can fail takes none and is not asked.
    """
    if name not in TASKS:
        raise errors.unknown("task", name, TASKS)
    module, _, attribute = TASKS[name].partition(":")
    kind = getattr(importlib.import_module(module), attribute)
    if recovery is not None and "recovery" in inspect.signature(kind).parameters:
        return kind(recovery=recovery)
    return kind()
