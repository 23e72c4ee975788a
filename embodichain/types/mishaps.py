"""Failures of attempts and external pushes in an episode, recorded with their times, so that a replay applies the same pushes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from embodichain.types.poses import Vec3


class Mishap(StrEnum):
    """How an attempt failed."""

    MISALIGNED = "misaligned"
    """The fingers closed without the object between them, or pressed beside it."""
    SLIP = "slip"
    """The object that a hand carried is no longer held, though the hand did not let go."""
    OUT_OF_BOUNDS = "out_of_bounds"
    """An object is not where it was left, though no hand moved it."""
    COLLISION = "collision"
    """A hand ran into something that it should not touch."""
    TIME_OUT = "time_out"
    """An arm did not reach in time where it was sent."""
    ASTRAY = "astray"
    """The hand gave up before it had touched anything."""
    MISPLACED = "misplaced"
    """The attempt was completed, but the goal was not reached."""
    STUCK = "stuck"
    """No further motion was possible halfway."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """An external force [N] in the world frame that acts on a body's centre of mass during one control step.

    `body` is the role of an object, which means its root body, or the name of a body as contacts give it.
    """

    body: str
    force: Vec3


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """The same push over consecutive control steps of an episode: `steps` of them from step `begin` on."""

    begin: int
    steps: int
    body: str
    force: Vec3


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """One failed attempt: its control steps from `begin` until it was `noticed`, how it failed, and whether it was provoked."""

    begin: int
    noticed: int
    mishap: str
    provoked: bool


def runs(pushes: Sequence[tuple[Push, ...]]) -> tuple[Pushed, ...]:
    """Merges the pushes of each control step of an episode into runs of equal pushes."""
    found: list[Pushed] = []
    for step, acting in enumerate(pushes):
        for push in acting:
            last = next((i for i, run in enumerate(found) if run.begin + run.steps == step and _same(run, push)), None)
            if last is None:
                found.append(Pushed(begin=step, steps=1, body=push.body, force=push.force))
            else:
                run = found[last]
                found[last] = Pushed(begin=run.begin, steps=run.steps + 1, body=run.body, force=run.force)
    return tuple(found)


def pushes_at(pushed: Iterable[Pushed], step: int) -> tuple[Push, ...]:
    """The pushes that act during control step `step`: the inverse of `runs`."""
    return tuple(Push(body=run.body, force=run.force) for run in pushed if run.begin <= step < run.begin + run.steps)


def _same(run: Pushed, push: Push) -> bool:
    return run.body == push.body and run.force == push.force
