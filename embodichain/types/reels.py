"""Reels: trajectories whose pictures are not drawn yet. They record where everything was, and travel in rings like others."""

from __future__ import annotations

from enum import StrEnum

from embodichain.types.trajectories import Field, TrajectorySpec

NOTES, SCENE, STAGE = "notes", "scene", "stage"
BETWEEN_NOTES = "between_notes"
"""Fields that a reel has in place of pictures: see `reel_spec`."""
PICTURES = ("rgb", "latents", "depth", "depth_latents", "segmentation", "between", "between_latents")
"""Fields of a trajectory that hold pictures, or values computed from pictures."""
MOST_NUMBERS = 1024
"""Length of a note [float64 values]. Two hundred grains take six hundred; a robot and ten objects less than a hundred."""
SCENE_BYTES = 16384
"""Bytes for a scene that refers to its assets by name: a few kilobytes, mostly positions of grains."""


class CameraMode(StrEnum):
    """When and where the pictures of a stream are drawn. They are bitwise equal in every mode."""

    SNAPSHOTS = "snapshots"
    """During the episode."""
    REELS = "reels"
    """After the episode, in the same process, and only if it was a success: a failed episode costs no pictures."""
    DARKROOM = "darkroom"
    """After the episode, in one process that draws the pictures of all workers."""


class DarkroomPlace(StrEnum):
    """Where the darkroom of a stream draws."""

    HOST = "host"
    """On a CPU, whatever draws the pictures."""
    CARD = "card"
    """On the GPU that holds the ring, straight into its slots."""


def reel_spec(spec: TrajectorySpec, *, numbers: int = MOST_NUMBERS, scene_bytes: int = SCENE_BYTES) -> TrajectorySpec:
    """The fields that a worker writes when its pictures are drawn elsewhere: those of `spec` without pictures, and what to draw
    from.

    With F + 1 frames and N = `numbers`: `notes` float64 [F+1, N], the output of `Posable.note` before each chunk and after the
    last, padded with zeros; `scene` uint8 [scene_bytes], as `Stage.write` writes it; `stage` uint64 [], the identity of the `Stage`
    that holds the scene's assets. Where there are b pictures inside each chunk, `between_notes` float64 [F, b, N] are their notes.
    """
    kept = tuple(field for field in spec.fields if field.name not in PICTURES)
    inside = (spec.horizon, spec.between, numbers)
    return TrajectorySpec(
        horizon=spec.horizon,
        fields=(
            *kept,
            Field(name=NOTES, shape=(spec.horizon + 1, numbers), dtype="float64"),
            *((Field(name=BETWEEN_NOTES, shape=inside, dtype="float64"),) if spec.between else ()),
            Field(name=SCENE, shape=(scene_bytes,), dtype="uint8"),
            Field(name=STAGE, shape=(), dtype="uint64"),
        ),
    )
