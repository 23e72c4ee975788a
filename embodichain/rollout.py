"""THE loop: one pilot drives one scene in one physics, and every frame and action lands in the arrays of a slot."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from embodichain import __version__
from embodichain.errors import SceneError
from embodichain.motion.action import ActionCodec
from embodichain.protocols import Expert, Grader, Physics, Pilot, Task
from embodichain.types import (
    CHUNK,
    Failed,
    Push,
    Pushed,
    Scene,
    Segment,
    Step,
    TrajectoryId,
    TrajectoryInfo,
    TrajectorySpec,
    Verdict,
    WorldState,
    write_text,
)
from embodichain.types.mishaps import pushes_at, runs

__all__ = [
    "ExpertPilot",
    "Outcome",
    "Timings",
    "check_start",
    "replay",
    "rollout",
    "write_provenance",
]

_DEEP, _SUSTAINED = 0.002, 5
"""No trajectory is a success in which bodies stay deeper than this inside each other [m] for so many control steps in a row."""
_INSIDE = 0.004
"""Deepest that bodies may overlap at the start of an episode [m]."""


@dataclass(slots=True, kw_only=True)
class Timings:
    """Seconds spent in each part of the loop, summed over the episodes it was passed to."""

    physics_s: float = 0.0
    render_s: float = 0.0
    pilot_s: float = 0.0
    write_s: float = 0.0
    encode_s: float = 0.0
    """Encode-on-write; 0 where the learner encodes."""
    physics_steps: int = 0
    frames: int = 0

    def add(self, other: Timings) -> None:
        """Adds another episode's seconds and counts."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one episode."""

    verdict: Verdict
    num_chunks: int
    recovered: bool
    failed: tuple[Failed, ...] = ()
    """Failed attempts, in order."""
    pushed: tuple[Pushed, ...] = ()
    """External forces that acted."""
    timings: Timings = field(default_factory=Timings)


class ExpertPilot:
    """Drives by a task's scripted expert, which sees the true state at every control step."""

    def __init__(self, task: Task, scene: Scene, physics: Physics, rng: np.random.Generator) -> None:
        self._start = lambda state: task.expert(scene, physics.robot, state, rng)
        self._expert: Expert | None = None

    def look(self, frame: Mapping[str, NDArray]) -> None:
        """An expert needs no pictures."""

    def command(self, state: WorldState) -> Step | None:
        """The expert's next step; None once it has returned."""
        try:
            if self._expert is None:
                self._expert = self._start(state)
                return next(self._expert)
            return self._expert.send(state)
        except StopIteration:
            return None


def rollout(
    physics: Physics,
    codec: ActionCodec,
    scene: Scene,
    pilot: Pilot,
    grader: Grader,
    out: Mapping[str, NDArray],
    spec: TrajectorySpec,
    *,
    until_success: bool = False,
) -> Outcome:
    """Plays `scene` once and writes the trajectory into `out`, the writable arrays of `spec`'s fields.

    A frame is rendered before each chunk of 16 control steps and once after the last. When the pilot finishes inside a chunk the
    rest of that chunk holds its last command. Commands are rounded to float32 before they act, so that the stored actions
    replay the episode bitwise. A chunk with any FAILURE step is labelled FAILURE, else RECOVERY if any, else NOMINAL; steps that
    turn out later to be a failed attempt (`Step.failed_steps`) are relabelled first, and the grader pardons what has been made good
    by the end. With `until_success` the episode ends with the first chunk after which the grader is content: for pilots that
    cannot say that they are done.

    Raises whatever the pilot or physics raises (MotionError, SceneError); `out` is then incomplete and must not be published.
    """
    timings = Timings()
    clock = time.perf_counter
    started = clock()
    state = physics.reset(scene)
    check_start(scene, state)
    write_text(out["instruction"], scene.instruction.encode())
    out["action_mask"][:] = codec.mask
    depth, segmentation = out.get("depth"), out.get("segmentation")
    command = codec.round(state.measured)
    commands = np.empty((CHUNK, len(command)))
    segment = Segment.NOMINAL
    segments: list[Segment] = []
    failed: list[Failed] = []
    pushes: list[tuple[Push, ...]] = []
    finished = False
    num_chunks = deep_steps = longest_deep = 0
    timings.physics_s += clock() - started

    def record_frame(index: int) -> None:
        before = clock()
        physics.render(
            out["rgb"][index],
            None if depth is None else depth[index],
            None if segmentation is None else segmentation[index],
        )
        out["proprio"][index] = codec.encode(state.measured)
        timings.render_s += clock() - before
        timings.frames += 1

    while num_chunks < spec.horizon and not finished:
        record_frame(num_chunks)
        before = clock()
        frame = {"rgb": out["rgb"][num_chunks], "proprio": out["proprio"][num_chunks], "instruction": out["instruction"]}
        pilot.look(frame)
        timings.pilot_s += clock() - before
        for k in range(CHUNK):
            before = clock()
            step = None if finished else pilot.command(state)
            after_pilot = clock()
            if step is None:
                finished = True
            else:
                command = codec.round(step.command)
                segment = step.segment
                if step.failed_steps:
                    begin, noticed = len(segments) - step.failed_steps, len(segments)
                    segments[begin:] = [Segment.FAILURE] * step.failed_steps
                    failed.append(Failed(begin=begin, noticed=noticed, mishap=step.mishap, provoked=step.provoked))
                    grader.pardon()
            segments.append(segment)
            pushes.append(() if step is None else step.pushes)
            state = physics.step(command, pushes[-1])
            after_physics = clock()
            commands[k] = command
            grader.observe(state)
            deep_steps = deep_steps + 1 if state.deepest() > _DEEP else 0
            longest_deep = max(longest_deep, deep_steps)
            timings.pilot_s += after_pilot - before
            timings.physics_s += after_physics - after_pilot
            timings.write_s += clock() - after_physics
        before = clock()
        out["action"][num_chunks] = codec.encode(commands)
        timings.write_s += clock() - before
        num_chunks += 1
        finished = finished or (until_success and grader.verdict().success)
    record_frame(num_chunks)

    before = clock()
    out["num_chunks"][()] = num_chunks
    for index in range(num_chunks):
        seen = segments[index * CHUNK : (index + 1) * CHUNK]
        out["segment"][index] = next((s for s in (Segment.FAILURE, Segment.RECOVERY) if s in seen), Segment.NOMINAL)
    for name in ("action", "segment"):
        out[name][num_chunks:] = 0
    for name in ("rgb", "proprio", *(name for name in ("depth", "segmentation") if name in out)):
        out[name][num_chunks + 1 :] = 0
    timings.write_s += clock() - before
    timings.physics_steps = num_chunks * CHUNK
    labels = out["segment"][:num_chunks]
    verdict = grader.verdict()
    if verdict.success and longest_deep >= _SUSTAINED:
        verdict = replace(verdict, success=False, reason=f"bodies stayed over {1e3 * _DEEP:.0f} mm inside each other")
    recovered = verdict.success and bool((labels == Segment.RECOVERY).any())
    return Outcome(
        verdict=verdict,
        num_chunks=num_chunks,
        recovered=recovered,
        failed=tuple(failed),
        pushed=runs(pushes),
        timings=timings,
    )


def check_start(scene: Scene, state: WorldState) -> None:
    """Raises SceneError when bodies stand inside each other at the start: they would be thrown apart."""
    worst = max(state.contacts, key=lambda contact: contact.penetration, default=None)
    if worst is not None and worst.penetration > _INSIDE:
        raise SceneError(
            f"scene {scene.seed} of {scene.task!r} begins with {worst.first!r} {1e3 * worst.penetration:.1f} mm inside "
            f"{worst.second!r}, {1e3 * _INSIDE:.0f} mm allowed: move them apart, or sample the scene again"
        )


def replay(
    physics: Physics,
    codec: ActionCodec,
    scene: Scene,
    actions: NDArray[np.float32],
    grader: Grader | None = None,
    *,
    failed: Sequence[Failed] = (),
    pushed: Sequence[Pushed] = (),
) -> WorldState:
    """Plays stored actions, shape [F, 16, 30], from the scene they were recorded in and returns the state they end in.

    The inverse of `rollout`: with the same physics, and pushed by the same forces, that state is bitwise the one the recording
    ended in. A `grader` sees every step, so that a stored label can be checked, and pardons the failed attempts.
    """
    state = physics.reset(scene)
    noticed = {attempt.noticed for attempt in failed}
    for number, action in enumerate(actions.reshape(-1, actions.shape[-1])):
        if grader is not None and number in noticed:
            grader.pardon()
        state = physics.step(codec.decode(action), pushes_at(pushed, number))
        if grader is not None:
            grader.observe(state)
    return state


def write_provenance(
    out: Mapping[str, NDArray], scene: Scene, outcome: Outcome, *, identity: TrajectoryId, robot: str, physics: str
) -> None:
    """Writes id and provenance of a finished episode into its slot, so that any sample can be traced and simulated again."""
    info = TrajectoryInfo(
        task=scene.task,
        robot=robot,
        physics=physics,
        scene_seed=scene.seed,
        worker=identity.worker,
        engine_version=__version__,
        assets={placement.role: placement.asset.content_hash for placement in scene.objects},
        expansion=scene.expansion,
        success=outcome.verdict.success,
        reason=outcome.verdict.reason,
        recovered=outcome.recovered,
        failed=outcome.failed,
        pushed=outcome.pushed,
    )
    write_text(out["info"], info.encode())
    out["trajectory_id"][()] = identity.pack()
