"""The one schema of the pipe: fields of a trajectory, its identity and its provenance."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from embodichain.types.mishaps import Failed, Pushed

ACTION_DIM = 30
"""Unified dual-arm action: left EEF pose 0-6, right EEF pose 7-13, left joints 14-20, right joints 21-27, grippers 28-29.

What `camera_spec` gives an action; whoever handles a trajectory asks its own spec: `TrajectorySpec.action_dim`.
"""
CHUNK = 16
"""Actions after each frame, unless a spec says otherwise (`TrajectorySpec.chunk`): at 50 Hz a frame is taken every 0.32 s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One array of a trajectory: its name, shape and NumPy dtype name."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def size_bytes(self) -> int:
        """Bytes of the array, unpadded."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    def allocate(self) -> NDArray:
        """A zeroed private array."""
        return np.zeros(self.shape, self.dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrajectorySpec:
    """The one schema of the pipe: it sizes a slot, types the rollout's writes and is checked when the learner attaches.

    `horizon` is the most chunks a trajectory may have: it has then `horizon + 1` frames.
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
        """The field called `name`; raises KeyError naming those that exist."""
        for entry in self.fields:
            if entry.name == name:
                return entry
        raise KeyError(f"no field {name!r}; fields: {[f.name for f in self.fields]}")

    @property
    def chunk(self) -> int:
        """Actions after each frame; raises KeyError for a trajectory without actions."""
        return self._action_shape[1]

    @property
    def action_dim(self) -> int:
        """Channels of an action; raises KeyError for a trajectory without actions."""
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
    def schema_hash(self) -> int:
        """63-bit hash of names, shapes, dtypes and horizon: equal exactly when two specs lay a slot out alike."""
        text = json.dumps([self.horizon, [(f.name, list(f.shape), f.dtype) for f in self.fields]])
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1

    def allocate(self) -> dict[str, NDArray]:
        """Zeroed private arrays of every field: a slot outside any ring, for tests, replay and evaluation."""
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
    chunk: int = CHUNK,
    action_dim: int = ACTION_DIM,
) -> TrajectorySpec:
    """The standard trajectory of a dual-arm episode.

    Fields (F = horizon, C = cameras, K = chunk, A = action_dim): `rgb` uint8 [F+1, C, h, w, 3]; `depth` float32 [F+1, C, h, w] in
    metres, 0 where nothing was hit, and `segmentation` uint8 [F+1, C, h, w], 0 room, 1 table, 2 robot, 3 + i object i, then
    grains (each only when asked for); `proprio` float32 [F+1, A] measured, `action` float32 [F, K, A] commanded, both in the
    unified representation; `action_mask` uint8 [A], 0 where the robot has no such channel; `segment` uint8 [F]; `num_chunks`
    int32 []; `trajectory_id` uint64 []; `instruction` and `info` UTF-8 bytes, zero-padded.

    With `latents` (rows, columns, channels) the frames come encoded: `latents` float16 [F+1, C, rows, columns, channels] instead
    of `rgb`. Raises ValueError for a chunk or an action without anything in it.
    """
    if chunk < 1 or action_dim < 1:
        raise ValueError(f"a chunk holds at least 1 action of at least 1 channel, got chunk={chunk}, action_dim={action_dim}")
    frames = horizon + 1
    if latents is None:
        fields = [Field(name="rgb", shape=(frames, cameras, height, width, 3), dtype="uint8")]
    else:
        fields = [Field(name="latents", shape=(frames, cameras, *latents), dtype="float16")]
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


@dataclass(frozen=True, slots=True, kw_only=True)
class TrajectoryId:
    """Who made a trajectory: worker 0..65535, its life (epoch 0..255, raised at each restart), its sequence number in that life."""

    worker: int
    epoch: int
    sequence: int

    def pack(self) -> int:
        """As 64 bits: epoch 8 | worker 16 | sequence 40."""
        return (self.epoch & 0xFF) << 56 | (self.worker & 0xFFFF) << 40 | (self.sequence & 0xFF_FFFF_FFFF)

    @classmethod
    def unpack(cls, packed: int) -> TrajectoryId:
        """The inverse of `pack`."""
        return cls(worker=packed >> 40 & 0xFFFF, epoch=packed >> 56 & 0xFF, sequence=packed & 0xFF_FFFF_FFFF)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrajectoryInfo:
    """Provenance of one trajectory: enough to trace any sample to its assets and to simulate it again."""

    task: str
    robot: str
    physics: str
    scene_seed: int
    worker: int
    engine_version: str
    assets: Mapping[str, str]
    """Content hash by role."""
    expansion: Mapping[str, float]
    success: bool
    reason: str
    recovered: bool = False
    failed: tuple[Failed, ...] = ()
    """Its failed attempts."""
    pushed: tuple[Pushed, ...] = ()
    """External forces that acted on it: a replay needs them beside the actions."""

    def encode(self) -> bytes:
        """UTF-8 JSON of at most INFO_BYTES; `reason` is cut first when it is longer. Raises ValueError when that is not enough."""
        data = json.dumps(asdict(self), separators=(",", ":"), ensure_ascii=False).encode()
        excess = len(data) - INFO_BYTES
        if excess > 0:
            if excess >= len(self.reason):
                raise ValueError(f"trajectory info of {len(data)} bytes exceeds {INFO_BYTES}: record fewer expansion parameters")
            return replace(self, reason=self.reason[: len(self.reason) - excess]).encode()
        return data

    @classmethod
    def decode(cls, data: bytes | NDArray[np.uint8]) -> TrajectoryInfo:
        """Reads what `encode` wrote, from bytes or from a slot's `info` field."""
        values = json.loads(bytes(data).rstrip(b"\0").decode())
        failed = tuple(Failed(**entry) for entry in values.pop("failed", ()))
        pushed = tuple(Pushed(**{**entry, "force": tuple(entry["force"])}) for entry in values.pop("pushed", ()))
        return cls(**values, failed=failed, pushed=pushed)


def write_text(out: NDArray[np.uint8], data: bytes) -> None:
    """Writes bytes into a zero-padded uint8 field in place; raises ValueError when they do not fit."""
    if len(data) > out.shape[0]:
        raise ValueError(f"text of {len(data)} bytes exceeds the field's {out.shape[0]}")
    out[: len(data)] = np.frombuffer(data, np.uint8)
    out[len(data) :] = 0


def read_text(data: NDArray[np.uint8]) -> str:
    """The string in a zero-padded UTF-8 field."""
    return bytes(data).rstrip(b"\0").decode()
