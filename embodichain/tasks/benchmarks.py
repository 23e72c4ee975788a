"""Tasks of foreign benchmarks by name: "metaworld:reach-v3". A benchmark is imported only when it is used."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from embodichain.errors import ConfigError, unknown
from embodichain.registry import Registry

if TYPE_CHECKING:
    from embodichain.protocols import Task

BENCHMARKS: Registry[Callable[[], dict[str, Callable[[], Task]]]] = Registry(
    "benchmark",
    "embodichain.benchmarks",
    {
        "metaworld": "embodichain.tasks.foreign.metaworld:tasks",
        "robosuite": "embodichain.tasks.foreign.robosuite:tasks",
    },
)
"""Every benchmark by name: a function that returns its tasks by their names there. Its robot and its physics have the same name."""


def benchmark(name: str) -> str:
    """The benchmark that a task's name begins with, as in "metaworld:reach-v3"; empty for a built-in task."""
    first, colon, _ = name.partition(":")
    return first if colon and first in BENCHMARKS else ""


def find(name: str) -> Callable[[], Task]:
    """The function that makes a benchmark's task; raises ConfigError, which lists its tasks, when there is none of that name."""
    first, _, rest = name.partition(":")
    known = BENCHMARKS.get(first)()
    if rest not in known:
        raise unknown(f"{first} task", rest, known, f"written {first}:NAME")
    return known[rest]


def names(of: str) -> tuple[str, ...]:
    """The full names of a benchmark's tasks, as commands take them."""
    return tuple(f"{of}:{name}" for name in BENCHMARKS.get(of)())


def common(tasks: Iterable[str]) -> str:
    """The benchmark that all these tasks belong to; empty for built-in tasks. Raises ConfigError for a mixture."""
    found = {benchmark(name): name for name in tasks}
    if len(found) > 1:
        raise ConfigError(
            f"tasks of one run share a robot and a physics, and {' and '.join(found.values())} have different ones: run them apart"
        )
    return next(iter(found), "")
