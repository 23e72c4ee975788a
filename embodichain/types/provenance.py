"""The origin of a trajectory: its identity, and everything needed to simulate it again."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodichain.types.mishaps import Failed, Pushed
from embodichain.types.trajectories import INFO_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class TrajectoryId:
    """The identity of a trajectory: worker 0..65535, its epoch 0..255 (raised at each restart), its sequence number
    in the epoch.
    """

    worker: int
    epoch: int
    sequence: int

    def pack(self) -> int:
        """The identity as 64 bits: epoch 8 | worker 16 | sequence 40."""
        return (self.epoch & 0xFF) << 56 | (self.worker & 0xFFFF) << 40 | (self.sequence & 0xFF_FFFF_FFFF)

    @classmethod
    def unpack(cls, packed: int) -> TrajectoryId:
        """The inverse of `pack`."""
        return cls(worker=packed >> 40 & 0xFFFF, epoch=packed >> 56 & 0xFF, sequence=packed & 0xFF_FFFF_FFFF)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Which scene of which world a trajectory shows: all that it takes to make the scene, and the episode, again."""

    number: int
    """Number of the scene in its world."""
    split: str
    """The family of seeds, one of `world.Split`."""
    world: Mapping[str, Any]
    """The values of the world's configuration that differ from the defaults of the revision."""
    world_hash: str
    """Hash of every value of the configuration, those with defaults included."""
    robot_hash: str
    """`Robot.content_hash`."""
    revision: str
    """Version of the engine that made it, and a hash of its sources: `world.revision`."""


_ZLIB = b"x"
"""First byte of what zlib has compressed; JSON begins with a brace."""
_SHORT_REASON = 200
"""Characters that are left of a reason where a record is too long."""


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
    """External forces that acted on it. A replay needs them besides the actions."""
    instances: Mapping[str, str] = field(default_factory=dict)
    """The instance of a pool of assets by role, as in "switch/12"; with the run's configuration, the same asset can be made again.
    Empty where assets come from a fixed catalogue.
    """
    versions: str = ""
    """Versions of a foreign benchmark and its simulator, as in "metaworld 3.1.1, mujoco 3.3.0"; empty for built-in physics."""

    origin: Origin | None = None
    """Which scene of which world it is; None in what others recorded, and in what was recorded before there were origins."""

    def text(self) -> str:
        """The provenance as JSON, of any length: for files."""
        values = asdict(self)
        for name in ("versions", "instances", "origin"):  # left out when empty, so that what lacks them stays as it was
            if not values[name]:
                del values[name]
        return json.dumps(values, separators=(",", ":"), ensure_ascii=False)

    def encode(self) -> bytes:
        """At most INFO_BYTES for a slot: the JSON in UTF-8, compressed where it is longer.

        When even that is too long, `reason` is cut. Raises ValueError when it still does not fit.
        """
        data = self.text().encode()
        if len(data) <= INFO_BYTES:
            return data
        packed = zlib.compress(data, 9)
        if len(packed) <= INFO_BYTES:
            return packed
        if len(self.reason) > _SHORT_REASON:
            return replace(self, reason=self.reason[:_SHORT_REASON]).encode()
        raise ValueError(
            f"trajectory info of {len(data)} bytes, {len(packed)} compressed, exceeds {INFO_BYTES}: place fewer objects, or record "
            "fewer expansion parameters"
        )

    @classmethod
    def decode(cls, data: bytes | NDArray[np.uint8]) -> TrajectoryInfo:
        """Reads the output of `encode` or `text`, from bytes or from a slot's `info` field; raises ValueError for anything else."""
        data = bytes(data)
        if data[:1] == _ZLIB:
            try:
                data = zlib.decompressobj().decompress(data)  # which stops where the padding begins
            except zlib.error as error:
                raise ValueError(f"compressed trajectory info is damaged: {error}") from error
        values = json.loads(data.rstrip(b"\0").decode())
        failed = tuple(Failed(**entry) for entry in values.pop("failed", ()))
        pushed = tuple(Pushed(**{**entry, "force": tuple(entry["force"])}) for entry in values.pop("pushed", ()))
        origin = values.pop("origin", None)
        return cls(**values, failed=failed, pushed=pushed, origin=None if origin is None else Origin(**origin))
