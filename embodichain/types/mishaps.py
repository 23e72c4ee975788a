"""What goes wrong in an episode, and what pushed it: named, timed, and recorded so that a replay is pushed the same way."""

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
    """What a hand carried is no longer held, though it did not let go."""
    OUT_OF_BOUNDS = "out_of_bounds"
    """An object is not where it was left, though no hand moved it."""
    COLLISION = "collision"
    """A hand ran into something that it was not to touch."""
    TIME_OUT = "time_out"
    """An arm did not come along where it should have been some time ago."""
    ASTRAY = "astray"
    """The hand gave up before it had touched anything."""
    MISPLACED = "misplaced"
    """The attempt came to its end, but not to its goal."""
    STUCK = "stuck"
    """Halfway there was no way on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """An external force [N] in the world frame on a body's centre of mass during one control step, beside all that the robot does.

    `body` is the role of an object, for its root body, or the name of a body as contacts give it.
    """

    body: str
    force: Vec3


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """The same push over a run of control steps of an episode: from step `begin` on for `steps` of them."""

    begin: int
    steps: int
    body: str
    force: Vec3


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """One failed attempt: its control steps, from `begin` until it was `noticed`, how it failed, and whether it was provoked."""

    begin: int
    noticed: int
    mishap: str
    provoked: bool


def runs(pushes: Sequence[tuple[Push, ...]]) -> tuple[Pushed, ...]:
    """The pushes of an episode, given for each of its control steps, as runs of equal ones."""
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
    """What acts during control step `step`: the inverse of `runs`."""
    return tuple(Push(body=run.body, force=run.force) for run in pushed if run.begin <= step < run.begin + run.steps)


def _same(run: Pushed, push: Push) -> bool:
    return run.body == push.body and run.force == push.force
