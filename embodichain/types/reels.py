"""Reels: trajectories whose pictures are still to be drawn. They note where everything was, and travel in rings like any other."""

from __future__ import annotations

from enum import StrEnum

from embodichain.types.trajectories import Field, TrajectorySpec

NOTES, SCENE, STAGE = "notes", "scene", "stage"
"""Fields that a reel has instead of pictures: see `reel_spec`."""
PICTURES = ("rgb", "latents", "depth", "depth_latents", "segmentation")
"""Fields of a trajectory that show what cameras saw: what is drawn, and what is computed from that."""
MOST_NUMBERS = 1024
"""Numbers of a note [float64]: two hundred grains take six hundred, a robot and ten objects less than a hundred."""
SCENE_BYTES = 16384
"""Room for a scene whose assets are named and not contained: a few kilobytes, most of them positions of grains."""


class CameraMode(StrEnum):
    """When and where pictures of a stream are drawn. They are the same to the bit in every mode."""

    SNAPSHOTS = "snapshots"
    """While the episode is played."""
    REELS = "reels"
    """After it, by whoever played it, when it is a success: a failed episode costs no picture."""
    DARKROOM = "darkroom"
    """After it, in one process that develops the reels of all workers."""


def reel_spec(spec: TrajectorySpec, *, numbers: int = MOST_NUMBERS, scene_bytes: int = SCENE_BYTES) -> TrajectorySpec:
    """What a worker writes whose pictures are drawn elsewhere: all of `spec` but its pictures, and what they are drawn from.

    F + 1 frames, N `numbers`: `notes` float64 [F+1, N], what `Posable.note` wrote before each chunk and after the last, then
    zeros; `scene` uint8 [scene_bytes], the scene as `Stage.write` writes it; `stage` uint64 [], of which `Stage` its assets are.
    """
    kept = tuple(field for field in spec.fields if field.name not in PICTURES)
    return TrajectorySpec(
        horizon=spec.horizon,
        fields=(
            *kept,
            Field(name=NOTES, shape=(spec.horizon + 1, numbers), dtype="float64"),
            Field(name=SCENE, shape=(scene_bytes,), dtype="uint8"),
            Field(name=STAGE, shape=(), dtype="uint64"),
        ),
    )
