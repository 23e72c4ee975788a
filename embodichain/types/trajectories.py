"""The schema of trajectories: fields, shapes and dtypes, on which simulation, ring and learner agree."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ACTION_DIM = 30
"""Channels of the unified dual-arm action: left end-effector pose 0-6, right end-effector pose 7-13, left joints 14-20, right
joints 21-27, grippers 28-29.

This is the default of `camera_spec`. Code that handles a trajectory reads `TrajectorySpec.action_dim` of its own spec.
"""
CHUNK = 16
"""Default number of actions after each frame (`TrajectorySpec.chunk`): at 50 Hz a frame is taken every 0.32 s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One array of a trajectory: its name, shape and NumPy dtype name."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def size_bytes(self) -> int:
        """Size of the array in bytes, without padding."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    def allocate(self) -> NDArray:
        """A new array of zeros."""
        return np.zeros(self.shape, self.dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrajectorySpec:
    """The schema of a trajectory. It sizes a slot, types what a rollout writes, and is checked when the learner attaches.

    `horizon` is the largest number of chunks of a trajectory, which then has `horizon + 1` frames.
    """

    horizon: int
    fields: tuple[Field, ...]

    def __post_init__(self) -> None:
        names = [f.name for f in self.fields]
        if len(set(names)) != len(names):
            raise ValueError(f"field names must be unique, got {names}")
        if self.horizon < 1:
            raise ValueError(f"horizon must be at least 1 chunk, got {self.horizon}")

    def field(self, name: str) -> Field:
        """The field called `name`. Raises KeyError, which lists the fields, when there is none."""
        for entry in self.fields:
            if entry.name == name:
                return entry
        raise KeyError(f"no field {name!r}; fields: {[f.name for f in self.fields]}")

    @property
    def chunk(self) -> int:
        """Number of actions after each frame. Raises KeyError for a trajectory without actions."""
        return self._action_shape[1]

    @property
    def action_dim(self) -> int:
        """Number of channels of an action. Raises KeyError for a trajectory without actions."""
        return self._action_shape[2]

    @property
    def _action_shape(self) -> tuple[int, int, int]:
        shape = self.field("action").shape
        if len(shape) != 3 or shape[0] != self.horizon or min(shape) < 1:
            raise ValueError(
                f"field 'action' has shape {list(shape)}: it takes [{self.horizon}, chunk, action_dim] for a horizon of "
                f"{self.horizon} chunks"
            )
        horizon, chunk, action_dim = shape
        return horizon, chunk, action_dim

    @property
    def between(self) -> int:
        """Number of pictures inside each chunk, between two frames; 0 for a trajectory without such pictures."""
        return next((f.shape[1] for f in self.fields if f.name in ("between", "between_latents")), 0)

    @property
    def schema_hash(self) -> int:
        """63-bit hash of names, shapes, dtypes and horizon. Two specs with the same slot layout have the same hash."""
        text = json.dumps([self.horizon, [(f.name, list(f.shape), f.dtype) for f in self.fields]])
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1

    def allocate(self) -> dict[str, NDArray]:
        """New arrays of zeros for every field: a slot outside any ring, for tests, replay and evaluation."""
        return {f.name: f.allocate() for f in self.fields}


INSTRUCTION_BYTES = 160
INFO_BYTES = 4096


def camera_spec(
    *,
    cameras: int,
    height: int,
    width: int,
    horizon: int,
    depth: bool = False,
    segmentation: bool = False,
    latents: tuple[int, int, int] | None = None,
    depth_latents: bool = False,
    between: int = 0,
    chunk: int = CHUNK,
    action_dim: int = ACTION_DIM,
) -> TrajectorySpec:
    """The standard trajectory of a dual-arm episode.

    Fields (F = horizon, C = cameras, K = chunk, A = action_dim): `rgb` uint8 [F+1, C, h, w, 3]; if asked for, `depth` float32 [F+1,
    C, h, w] in metres, 0 where nothing was hit, and `segmentation` uint8 [F+1, C, h, w], 0 room, 1 table, 2 robot, 3 + i object i,
    then grains; `proprio` float32 [F+1, A] measured and `action` float32 [F, K, A] commanded, both in the unified representation;
    `action_mask` uint8 [A], 0 where the robot has no such channel; `segment` uint8 [F]; `num_chunks` int32 []; `trajectory_id`
    uint64 []; `instruction` and `info` UTF-8 bytes, zero-padded.

    With `between` b there are b more pictures inside each chunk, at equal distances in time: `between` uint8 [F, b, C, h, w, 3].

    With `latents` (rows, columns, channels) the frames are stored encoded: `latents` float16 [F+1, C, rows, columns, channels]
    instead of `rgb`, and `between_latents` float16 [F, b, C, rows, columns, channels] instead of `between`. With `depth_latents`
    depth is encoded too, as `depth_latents` of the same shape as `latents`. Raises ValueError for an empty chunk or action, for
    `depth_latents` without `latents`, and for pictures that do not divide a chunk evenly.
    """
    if depth_latents and latents is None:
        raise ValueError("depth is encoded only where frames are: give latents too")
    if chunk < 1 or action_dim < 1:
        raise ValueError(f"a chunk holds at least 1 action of at least 1 channel, got chunk={chunk}, action_dim={action_dim}")
    if between < 0 or chunk % (between + 1):
        raise ValueError(f"{between} pictures do not divide a chunk of {chunk} actions evenly: between + 1 must divide it")
    frames = horizon + 1
    if latents is None:
        fields = [Field(name="rgb", shape=(frames, cameras, height, width, 3), dtype="uint8")]
    else:
        names = ("latents", "depth_latents") if depth_latents else ("latents",)
        fields = [Field(name=name, shape=(frames, cameras, *latents), dtype="float16") for name in names]
    if between:
        shape, dtype = ((height, width, 3), "uint8") if latents is None else (latents, "float16")
        name = "between" if latents is None else "between_latents"
        fields.append(Field(name=name, shape=(horizon, between, cameras, *shape), dtype=dtype))
    if depth:
        fields.append(Field(name="depth", shape=(frames, cameras, height, width), dtype="float32"))
    if segmentation:
        fields.append(Field(name="segmentation", shape=(frames, cameras, height, width), dtype="uint8"))
    fields += [
        Field(name="proprio", shape=(frames, action_dim), dtype="float32"),
        Field(name="action", shape=(horizon, chunk, action_dim), dtype="float32"),
        Field(name="action_mask", shape=(action_dim,), dtype="uint8"),
        Field(name="segment", shape=(horizon,), dtype="uint8"),
        Field(name="num_chunks", shape=(), dtype="int32"),
        Field(name="trajectory_id", shape=(), dtype="uint64"),
        Field(name="instruction", shape=(INSTRUCTION_BYTES,), dtype="uint8"),
        Field(name="info", shape=(INFO_BYTES,), dtype="uint8"),
    ]
    return TrajectorySpec(horizon=horizon, fields=tuple(fields))


def write_text(out: NDArray[np.uint8], data: bytes) -> None:
    """Writes bytes into a zero-padded uint8 field in place; raises ValueError when they do not fit."""
    if len(data) > out.shape[0]:
        raise ValueError(f"text of {len(data)} bytes exceeds the field's {out.shape[0]}")
    out[: len(data)] = np.frombuffer(data, np.uint8)
    out[len(data) :] = 0


def read_text(data: NDArray[np.uint8]) -> str:
    """The string stored in a zero-padded UTF-8 field."""
    return bytes(data).rstrip(b"\0").decode()
