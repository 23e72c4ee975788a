"""One episode as an object: it gives the robot's next command and takes in the result, whatever steps the physics.

`rollout.drive` plays one episode in one physics; `rollout.drive_batch` plays many in a batch of worlds. Neither depends on what an
episode records, and no episode depends on how many others are played beside it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from embodichain.errors import ConfigError, MotionError, SceneError
from embodichain.motion.action import ActionCodec
from embodichain.protocols import Grader, Order, Pilot, Shutter
from embodichain.types import Failed, Push, Pushed, Scene, Segment, Timings, TrajectorySpec, Verdict, WorldState, write_text
from embodichain.types.mishaps import pushes_at, runs
from embodichain.types.reels import BETWEEN_NOTES, NOTES

__all__ = ["Draw", "Episode", "NoPictures", "Outcome", "Reels", "Replay", "Snapshots", "check_start"]


_DEEP, _SUSTAINED = 0.002, 5
"""A trajectory is no success if bodies overlap by more than `_DEEP` [m] for `_SUSTAINED` control steps in a row."""
_INSIDE = 0.004
"""Deepest that bodies may overlap at the start of an episode [m]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The result of one episode."""

    verdict: Verdict
    num_chunks: int
    recovered: bool
    failed: tuple[Failed, ...] = ()
    """Failed attempts, in order."""
    pushed: tuple[Pushed, ...] = ()
    """External forces that acted."""
    timings: Timings = field(default_factory=Timings)


# ------------------------------------------------------------------------------------------------------------ shutters

Draw = Callable[[NDArray[np.uint8], NDArray[np.float32] | None, NDArray[np.uint8] | None], None]
"""Draws all cameras now into rgb, depth and segmentation: `Physics.render`, or that of one world of a batch."""


class Snapshots:
    """A shutter that draws every frame at once; implements `protocols.Shutter`."""

    def __init__(self, draw: Draw) -> None:
        self._draw = draw
        self.drawn = 0

    def frame(self, out: Mapping[str, NDArray], index: int) -> Mapping[str, NDArray]:
        """Draws frame `index` into `rgb`, and into `depth` and `segmentation` where they exist."""
        depth, segmentation = out.get("depth"), out.get("segmentation")
        rgb = out["rgb"][index]
        self._draw(rgb, None if depth is None else depth[index], None if segmentation is None else segmentation[index])
        self.drawn += 1
        return {"rgb": rgb}

    def between(self, out: Mapping[str, NDArray], chunk: int, index: int) -> None:
        """Draws a picture inside a chunk into `between`."""
        self._draw(out["between"][chunk, index], None, None)
        self.drawn += 1

    def finish(self, out: Mapping[str, NDArray], num_frames: int) -> None:
        """Clears the frames that were not taken."""
        if "between" in out:
            out["between"][num_frames - 1 :] = 0
        for name in ("rgb", "depth", "segmentation"):
            if name in out:
                out[name][num_frames:] = 0


class Reels:
    """A shutter that records notes, from which `darkroom.Darkroom` draws the pictures later if they are wanted.

    Implements `protocols.Shutter`.
    """

    drawn = 0

    def __init__(self, note: Callable[[NDArray[np.float64]], None]) -> None:
        """`note` writes everything that a picture of the world depends on now: `Posable.note`."""
        self._note = note

    def frame(self, out: Mapping[str, NDArray], index: int) -> Mapping[str, NDArray]:
        """Writes a note of frame `index` into `notes`; returns no pictures."""
        self._note(out[NOTES][index])
        return {}

    def between(self, out: Mapping[str, NDArray], chunk: int, index: int) -> None:
        """Writes a note of a picture inside a chunk into `between_notes`."""
        self._note(out[BETWEEN_NOTES][chunk, index])

    def finish(self, out: Mapping[str, NDArray], num_frames: int) -> None:
        """Clears the notes of older episodes."""
        out[NOTES][num_frames:] = 0
        if BETWEEN_NOTES in out:
            out[BETWEEN_NOTES][num_frames - 1 :] = 0


class NoPictures:
    """A shutter that takes no pictures, for episodes of which only states and actions are used; implements `protocols.Shutter`."""

    drawn = 0

    def frame(self, out: Mapping[str, NDArray], index: int) -> Mapping[str, NDArray]:
        """Takes nothing, and returns no pictures."""
        return {}

    def between(self, out: Mapping[str, NDArray], chunk: int, index: int) -> None:
        """Takes nothing."""

    def finish(self, out: Mapping[str, NDArray], num_frames: int) -> None:
        """Leaves all pictures as they are."""


# ------------------------------------------------------------------------------------------------------------ episodes


class Episode:
    """Plays a scene once with a pilot, and writes the trajectory into `out`, the writable arrays of `spec`'s fields.

    A frame is taken before each chunk of `spec.chunk` control steps and once after the last, and `spec.between` pictures at equal
    distances inside each chunk. When the pilot finishes inside a
    chunk, the rest of that chunk holds its last command. Commands are rounded to float32 before they act, so that the stored
    actions replay the episode bitwise. A chunk with any FAILURE step is labelled FAILURE, else RECOVERY if any, else NOMINAL. Steps
    that turn out later to be a failed attempt (`Step.failed_steps`) are relabelled first, and the grader pardons what has been made
    good by the end. With `until_success` the episode ends with the first chunk after which the grader reports success, for pilots
    that cannot tell when they are done.

    Implements `protocols.Driver`: `begin`, then `command` and `observe` in turn until `command` returns None, then `finish`. If any
    of these raises (MotionError of a pilot, SceneError of a start), `out` is incomplete and must not be published.
    """

    def __init__(
        self,
        scene: Scene,
        pilot: Pilot,
        grader: Grader,
        codec: ActionCodec,
        shutter: Shutter,
        out: Mapping[str, NDArray],
        spec: TrajectorySpec,
        *,
        until_success: bool = False,
    ) -> None:
        """Raises ConfigError when the codec's actions are not those of `spec`."""
        if spec.action_dim != codec.action_dim:
            raise ConfigError(
                f"robot {codec.robot.name!r} acts in {codec.action_dim} channels and the trajectory holds {spec.action_dim}: "
                "lay it out with camera_spec(action_dim=codec.action_dim)"
            )
        self.scene = scene
        self.timings = Timings()
        self._pilot, self._grader, self._codec, self._shutter = pilot, grader, codec, shutter
        self._out, self._horizon, self._chunk = out, spec.horizon, spec.chunk
        self._until_success = until_success
        self._stride = spec.chunk // (spec.between + 1)
        """Control steps from one picture to the next; a whole chunk when there are none between frames."""
        self._commands = np.empty((spec.chunk, codec.robot.command_size))
        self._segments: list[Segment] = []
        self._failed: list[Failed] = []
        self._pushes: list[tuple[Push, ...]] = []
        self._segment = Segment.NOMINAL
        self._finished = False
        self._num_chunks = self._k = self._deep_steps = self._longest_deep = 0

    def begin(self, state: WorldState) -> None:
        """Takes in the initial state; raises SceneError when bodies overlap."""
        before = time.perf_counter()
        check_start(self.scene, state)
        write_text(self._out["instruction"], self.scene.instruction.encode())
        self._out["action_mask"][:] = self._codec.mask
        self._state = state
        self._command = self._codec.round(self._codec.robot.still(state.measured))
        self.timings.write_s += time.perf_counter() - before

    def command(self) -> Order | None:
        """The order for the next control step; None when the episode is over and its last frame taken."""
        if self._k == 0:
            frame = self._take_frame()
            if self._finished or self._num_chunks == self._horizon:
                return None
            before = time.perf_counter()
            self._pilot.look(frame)
        else:
            before = time.perf_counter()
        try:
            step = None if self._finished else self._pilot.command(self._state)
        except (MotionError, SceneError):  # planning in vain takes time as well
            self.timings.pilot_s += time.perf_counter() - before
            raise
        pushes: tuple[Push, ...] = ()
        if step is None:
            self._finished = True
        else:
            self._command, self._segment, pushes = self._codec.round(step.command), step.segment, step.pushes
            if step.failed_steps:
                begin, noticed = len(self._segments) - step.failed_steps, len(self._segments)
                self._segments[begin:] = [Segment.FAILURE] * step.failed_steps
                self._failed.append(Failed(begin=begin, noticed=noticed, mishap=step.mishap, provoked=step.provoked))
                self._grader.pardon()
        pushes += pushes_at(self.scene.happening, len(self._segments))
        self._segments.append(self._segment)
        self._pushes.append(pushes)
        self.timings.pilot_s += time.perf_counter() - before
        return Order(self._command, pushes)

    def observe(self, state: WorldState) -> None:
        """Takes in the state after that control step."""
        before = time.perf_counter()
        self._state = state
        self._commands[self._k] = self._command
        self._grader.observe(state)
        self._deep_steps = self._deep_steps + 1 if state.deepest() > _DEEP else 0
        self._longest_deep = max(self._longest_deep, self._deep_steps)
        self._k += 1
        if self._k % self._stride == 0 and self._k < self._chunk:
            drawing = time.perf_counter()
            self._shutter.between(self._out, self._num_chunks, self._k // self._stride - 1)
            self.timings.render_s += time.perf_counter() - drawing
            before += time.perf_counter() - drawing
        if self._k == self._chunk:
            self._out["action"][self._num_chunks] = self._codec.encode(self._commands)
            self._num_chunks += 1
            self._k = 0
            self._finished = self._finished or (self._until_success and self._grader.verdict().success)
        self.timings.write_s += time.perf_counter() - before

    def finish(self) -> Outcome:
        """Completes the trajectory's arrays and judges it, once `command` has returned None."""
        before = time.perf_counter()
        out, num_chunks = self._out, self._num_chunks
        out["num_chunks"][()] = num_chunks
        for index in range(num_chunks):
            out["segment"][index] = Segment.of_chunk(self._segments[index * self._chunk : (index + 1) * self._chunk])
        for name in ("action", "segment"):
            out[name][num_chunks:] = 0
        out["proprio"][num_chunks + 1 :] = 0
        self._shutter.finish(out, num_chunks + 1)
        self.timings.write_s += time.perf_counter() - before
        self.timings.physics_steps = num_chunks * self._chunk
        self.timings.frames = self._shutter.drawn
        verdict = self._grader.verdict()
        if verdict.success and self._longest_deep >= _SUSTAINED:
            verdict = replace(verdict, success=False, reason=f"bodies stayed over {1e3 * _DEEP:.0f} mm inside each other")
        return Outcome(
            verdict=verdict,
            num_chunks=num_chunks,
            recovered=verdict.success and bool((out["segment"][:num_chunks] == Segment.RECOVERY).any()),
            failed=tuple(self._failed),
            pushed=runs(self._pushes),
            timings=self.timings,
        )

    def _take_frame(self) -> Mapping[str, NDArray]:
        """Takes the frame before the next chunk, or the last frame; returns what the pilot may observe."""
        before = time.perf_counter()
        index, out = self._num_chunks, self._out
        seen = self._shutter.frame(out, index)
        out["proprio"][index] = self._codec.encode(self._state.measured)
        self.timings.render_s += time.perf_counter() - before
        return {**seen, "proprio": out["proprio"][index], "instruction": out["instruction"]}


class Replay:
    """Replays stored actions [F, K, A] with the same external forces; implements `protocols.Driver`.

    A `grader` observes every step, so that a stored label can be checked, and pardons the `failed` attempts.
    """

    def __init__(
        self,
        codec: ActionCodec,
        actions: NDArray[np.float32],
        grader: Grader | None = None,
        *,
        failed: Sequence[Failed] = (),
        pushed: Sequence[Pushed] = (),
    ) -> None:
        self.timings = Timings()
        self._codec = codec
        self._actions = actions.reshape(-1, actions.shape[-1])
        self._grader = grader
        self._noticed = {attempt.noticed for attempt in failed}
        self._pushed = pushed
        self._number = 0

    def begin(self, state: WorldState) -> None:
        """Does nothing, because the actions are stored."""

    def command(self) -> Order | None:
        """The next stored action; None after the last."""
        number = self._number
        if number == len(self._actions):
            return None
        if self._grader is not None and number in self._noticed:
            self._grader.pardon()
        self._number += 1
        return Order(self._codec.decode(self._actions[number]), pushes_at(self._pushed, number))

    def observe(self, state: WorldState) -> None:
        """Passes the state to the grader."""
        if self._grader is not None:
            self._grader.observe(state)


def check_start(scene: Scene, state: WorldState) -> None:
    """Raises SceneError when bodies overlap at the start, because they would be pushed apart violently."""
    worst = max(state.contacts, key=lambda contact: contact.penetration, default=None)
    if worst is not None and worst.penetration > _INSIDE:
        raise SceneError(
            f"scene {scene.seed} of {scene.task!r} begins with {worst.first!r} {1e3 * worst.penetration:.1f} mm inside "
            f"{worst.second!r}, {1e3 * _INSIDE:.0f} mm allowed: move them apart, or sample the scene again"
        )
