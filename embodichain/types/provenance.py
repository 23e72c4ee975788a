"""The origin of a trajectory: its identity, and everything needed to simulate it again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace

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

    def encode(self) -> bytes:
        """UTF-8 JSON of at most INFO_BYTES; `reason` is shortened if need be. Raises ValueError when that is not enough."""
        values = asdict(self)
        if not self.versions:  # left out when empty, so that the bytes stay as they were before the field existed
            del values["versions"]
        if not self.instances:
            del values["instances"]
        data = json.dumps(values, separators=(",", ":"), ensure_ascii=False).encode()
        excess = len(data) - INFO_BYTES
        if excess > 0:
            if excess >= len(self.reason):
                raise ValueError(f"trajectory info of {len(data)} bytes exceeds {INFO_BYTES}: record fewer expansion parameters")
            return replace(self, reason=self.reason[: len(self.reason) - excess]).encode()
        return data

    @classmethod
    def decode(cls, data: bytes | NDArray[np.uint8]) -> TrajectoryInfo:
        """Reads the output of `encode`, from bytes or from a slot's `info` field."""
        values = json.loads(bytes(data).rstrip(b"\0").decode())
        failed = tuple(Failed(**entry) for entry in values.pop("failed", ()))
        pushed = tuple(Pushed(**{**entry, "force": tuple(entry["force"])}) for entry in values.pop("pushed", ()))
        return cls(**values, failed=failed, pushed=pushed)
