"""The darkroom: draws and encodes the pictures of whole episodes after they were played, from their notes.

A worker can do that for its own reels, once it knows that an episode is worth it; or `darkroom_stage` does it for many workers, in
a process of its own. Pictures and latents are bitwise equal either way.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from numpy.typing import NDArray

from embodichain.config import WorldConfig
from embodichain.episode import Snapshots
from embodichain.errors import ConfigError
from embodichain.protocols import Physics, Posable
from embodichain.types import Timings

__all__ = ["Darkroom", "posable"]


def posable(physics: Physics) -> Posable:
    """The physics itself, checked to support drawing pictures later; raises ConfigError when it has no `note` and `pose`."""
    if not isinstance(physics, Posable):
        raise ConfigError(
            f"the pictures of {type(physics).__name__} can only be drawn while it is played: it has no `note` and `pose`; "
            "choose camera='snapshots'"
        )
    return physics


class Darkroom:
    """Draws and encodes the pictures of episodes in a physics that the caller owns. Used by one thread."""

    def __init__(self, config: WorldConfig, physics: Physics) -> None:
        self._physics = physics
        spec = config.trajectory_spec(physics.robot)
        self._encoder = config.encode.make() if config.encode.factory else None
        encodes_depth = self._encoder is not None and config.depth and self._encoder.encodes_depth
        names = (("rgb",) if self._encoder else ()) + (("depth",) if encodes_depth else ())
        names += ("between",) if self._encoder and spec.between else ()
        self._private = {name: spec.field(name).allocate() for name in names}

    def canvas(self, out: Mapping[str, NDArray]) -> dict[str, NDArray]:
        """The arrays to draw an episode into: those of a trajectory, with private ones in place of latents."""
        return {name: out[name] for name in out if not name.endswith("latents")} | self._private

    def draw(
        self, canvas: Mapping[str, NDArray], notes: NDArray, num_frames: int, timings: Timings, between: NDArray | None = None
    ) -> None:
        """Draws the first `num_frames` frames of the physics' scene from `notes` [F + 1, N], and clears the frames after them.

        `between` [F, b, N] holds the notes of the pictures inside chunks, if there are any.
        """
        before = time.perf_counter()
        posable_physics, shutter = posable(self._physics), Snapshots(self._physics.render)
        for index in range(num_frames):
            posable_physics.pose(notes[index])
            shutter.frame(canvas, index)
            inside = () if between is None or index == num_frames - 1 else between[index]
            for place, note in enumerate(inside):
                posable_physics.pose(note)
                shutter.between(canvas, index, place)
        shutter.finish(canvas, num_frames)
        timings.render_s += time.perf_counter() - before
        timings.frames += shutter.drawn

    def encode(self, canvas: Mapping[str, NDArray], out: Mapping[str, NDArray], num_frames: int, timings: Timings) -> None:
        """Writes the latents of the drawn frames, if the trajectory has any."""
        if self._encoder is None:
            return
        before = time.perf_counter()
        out["latents"][:num_frames] = self._encoder.encode(canvas["rgb"][:num_frames])
        out["latents"][num_frames:] = 0
        if "depth" in self._private:
            out["depth_latents"][:num_frames] = self._encoder.encode_depth(canvas["depth"][:num_frames])
            out["depth_latents"][num_frames:] = 0
        if "between" in self._private:
            pictures, latents = canvas["between"][: num_frames - 1], out["between_latents"]
            found = self._encoder.encode(pictures.reshape(-1, *pictures.shape[2:]))
            latents[: num_frames - 1] = found.reshape(*pictures.shape[:2], *found.shape[1:])
            latents[num_frames - 1 :] = 0
        timings.encode_s += time.perf_counter() - before
