"""Causes of lost workers, and budgets of losses within a window of time."""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass
from enum import StrEnum

from embodichain.errors import ConfigError, EmbodiChainError

__all__ = ["Budgets", "Cause", "Deaths"]


class Cause(StrEnum):
    """Why a number failed; for every cause except SCENE the worker is lost too."""

    SCENE = "scene"
    """An exception during the simulation; the worker continues with the next number."""
    MEMORY = "memory"
    """The machine ran out of memory, and Ray ended the worker."""
    NODE = "node"
    """The node has died."""
    PREEMPTED = "preempted"
    """The machine was preempted by its provider."""
    CRASH = "crash"
    """The process ended, by a signal or a fault in compiled code."""
    HANG = "hang"
    """There was no heartbeat for too long."""


@dataclass(frozen=True, kw_only=True)
class Budgets:
    """How many losses of each cause a run survives within `window_s`; one more ends the run with an error."""

    scene: int = 20
    memory: int = 20
    node: int = 20
    """Number of nodes, however many workers each had."""
    preempted: int = 200
    crash: int = 20
    hang: int = 10
    window_s: float = 300.0
    """Length of the window [s]."""

    def __post_init__(self) -> None:
        for cause in Cause:
            if (value := getattr(self, cause.value)) < 0:
                raise ConfigError(f"stream.budgets.{cause} must be 0 or more, got {value}")
        if self.window_s <= 0:
            raise ConfigError(f"stream.budgets.window_s must be positive, got {self.window_s}")


class Deaths:
    """Counts losses against their budgets."""

    def __init__(self, budgets: Budgets) -> None:
        self._budgets = budgets
        self._recent: dict[Cause, deque[tuple[float, str]]] = defaultdict(deque)

    def count(self, cause: Cause, *, now_s: float, node: str, what: str) -> None:
        """Counts one loss at `now_s` (of a monotonic clock) on `node`; `what` describes it.

        Raises EmbodiChainError when the budget of its cause is used up.
        """
        recent, window = self._recent[cause], self._budgets.window_s
        while recent and recent[0][0] < now_s - window:
            recent.popleft()
        if cause is Cause.NODE and any(where == node for _, where in recent):
            return  # this node's death has already been counted with another of its workers
        recent.append((now_s, node))
        limit = getattr(self._budgets, cause.value)
        if len(recent) > limit:
            raise EmbodiChainError(
                f"{len(recent)} losses by cause {cause.value!r} within {window:g} s, and stream.budgets.{cause.value} is {limit}; "
                f"the last: {what}"
            )
