"""Every value that crosses a boundary between two rooms: assets, robots, scenes, trajectories and the ring's schema.

Conventions. SI units. World frame: origin at the centre of the table top, X away from the robot, Y to its left, Z up.
Quaternions are (w, x, y, z). Poses are `a_from_b`: they map coordinates in b to coordinates in a.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import IntEnum, StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Vec3 = tuple[float, float, float]
Quaternion = tuple[float, float, float, float]

ACTION_DIM = 30
"""Unified dual-arm action: left EEF pose 0-6, right EEF pose 7-13, left joints 14-20, right joints 21-27, grippers 28-29."""
CHUNK = 16
"""Actions after each frame: at 50 Hz a frame is rendered every 0.32 s."""
CONTROL_HZ = 50
"""Commands per second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pose:
    """A rigid transform: position [m], unit quaternion (w, x, y, z)."""

    position: Vec3 = (0.0, 0.0, 0.0)
    quaternion: Quaternion = (1.0, 0.0, 0.0, 0.0)


# --------------------------------------------------------------------------------------------------------------- assets


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mesh:
    """Triangles: vertices [m], shape [V, 3], float64; faces, shape [F, 3], int32, counter-clockwise seen from outside."""

    vertices: NDArray[np.float64]
    faces: NDArray[np.int32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What a surface and the solid under it are made of: density [kg/m^3], friction and restitution coefficients."""

    name: str
    density: float
    static_friction: float
    dynamic_friction: float
    restitution: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Body:
    """One rigid body in its own frame.

    Mass [kg]; centre of mass [m]; diagonal inertia about it [kg m^2] along `principal_axes` (body_from_principal).
    `visual` is what cameras see, `hulls` are the convex pieces that physics collides.
    """

    name: str
    mass: float
    center_of_mass: Vec3
    diagonal_inertia: Vec3
    principal_axes: Quaternion
    visual: Mesh
    hulls: tuple[Mesh, ...]
    material: Material
    color: tuple[float, float, float, float] = (0.7, 0.7, 0.7, 1.0)
    body_pose: Pose = field(default_factory=Pose)
    """asset_from_body at joint position zero."""


class JointKind(StrEnum):
    """How a child body may move relative to its parent."""

    FIXED = "fixed"
    REVOLUTE = "revolute"
    PRISMATIC = "prismatic"


@dataclass(frozen=True, slots=True, kw_only=True)
class Joint:
    """A joint between two bodies of one asset, at position zero in the asset's frame.

    `axis` is a unit vector in the child's frame, `anchor` [m] a point in the child's frame; limits in rad or m; damping in
    N m s/rad or N s/m; friction (Coulomb) in N m or N. `parent` "" is the world: the body is bolted where the asset is placed.
    """

    name: str
    kind: JointKind
    parent: str
    child: str
    axis: Vec3 = (0.0, 0.0, 1.0)
    anchor: Vec3 = (0.0, 0.0, 0.0)
    lower: float = 0.0
    upper: float = 0.0
    damping: float = 0.0
    friction: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Asset:
    """A simulation-ready asset as read back from its USD file; its frame rests on z = 0, Z up.

    `affordances` are named frames (body name, body_from_frame): "grasp", "lever_tip", "handle" ...
    """

    name: str
    category: str
    bodies: tuple[Body, ...]
    joints: tuple[Joint, ...] = ()
    affordances: Mapping[str, tuple[str, Pose]] = field(default_factory=dict)
    licence: str = ""
    source: str = ""
    content_hash: str = ""
    path: Path = Path()

    @property
    def fixed_base(self) -> bool:
        """True when a joint bolts a body to the world, as for a switch: such an asset does not move as a whole."""
        return any(joint.parent == "" for joint in self.joints)

    @property
    def movable_joints(self) -> tuple[Joint, ...]:
        """Joints with a degree of freedom, in order: the layout of `ObjectPlacement.joint_positions`."""
        return tuple(joint for joint in self.joints if joint.kind is not JointKind.FIXED)

    @property
    def bounds(self) -> NDArray[np.float64]:
        """Axis-aligned bounds of all visual vertices at joint position zero [m], shape [2, 3]."""
        points = np.concatenate(
            [rotate(body.body_pose.quaternion, body.visual.vertices) + body.body_pose.position for body in self.bodies]
        )
        return np.stack([points.min(axis=0), points.max(axis=0)])


# --------------------------------------------------------------------------------------------------------------- robots


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One serial arm with a parallel gripper, by the names it has in the robot's MJCF.

    `site` is the point between the finger tips: its Z axis is the approach direction, its Y axis the closing direction.
    `gripper_joints` are slides of equal travel; the opening [m] is the distance between the two finger pads.
    """

    name: str
    joints: tuple[str, ...]
    site: str
    home: tuple[float, ...]
    gripper_joints: tuple[str, ...] = ()
    gripper_open: float = 0.0

    @property
    def command_size(self) -> int:
        """Joint targets plus one gripper opening."""
        return len(self.joints) + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Camera:
    """A camera of the robot: vertical field of view [degrees]; resolution is the run's choice, not the camera's."""

    name: str
    fovy: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Robot:
    """A robot as MJCF text; `world_from_base` says where its base frame stands.

    A *command* of a robot is a float64 vector: for each arm in order its joint targets [rad], then its gripper opening [m].
    """

    name: str
    mjcf: str
    arms: tuple[Arm, ...]
    cameras: tuple[Camera, ...]
    world_from_base: Pose = field(default_factory=Pose)
    mesh_dir: Path | None = None

    @property
    def command_size(self) -> int:
        """Length of a command and of `WorldState.measured`."""
        return sum(arm.command_size for arm in self.arms)

    @property
    def home(self) -> NDArray[np.float64]:
        """The command that holds the arms at home with grippers open, shape [command_size]."""
        return np.array([value for arm in self.arms for value in (*arm.home, arm.gripper_open)])

    @property
    def content_hash(self) -> str:
        """Changes whenever the description does; keys every cache derived from the robot."""
        text = "\0".join([self.mjcf, repr(self.arms), repr(self.cameras), repr(self.world_from_base)])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


# --------------------------------------------------------------------------------------------------------------- scenes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ObjectPlacement:
    """One asset in a scene under the role that the task gives it ("mouse", "pad_target", "switch")."""

    role: str
    asset: Asset
    pose: Pose
    joint_positions: tuple[float, ...] = ()
    color: tuple[float, float, float, float] | None = None
    """Overrides the colour of every body when set (red pad, blue pad)."""


Range = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectRequest:
    """What a task asks the scene sampler to place: a category, and the ranges of its origin [m] and yaw [rad] on the table.

    `reach` names affordances that some arm must reach; an object without any is placed for space alone.
    """

    role: str
    category: str
    x: Range = (-0.15, 0.15)
    y: Range = (-0.20, 0.20)
    yaw: Range = (-math.pi, math.pi)
    joint_positions: tuple[float, ...] = ()
    color: tuple[float, float, float, float] | None = None
    reach: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneRequest:
    """A task's wish for one scene: its objects and the instruction in words."""

    instruction: str
    objects: tuple[ObjectRequest, ...]
    same_arm: bool = False
    """Whether one arm must reach every affordance named, because the task hands nothing over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Light:
    """A directional or point light: position and direction in the world frame, RGB intensity in 0..1."""

    position: Vec3 = (0.0, 0.0, 1.5)
    direction: Vec3 = (0.0, 0.0, -1.0)
    diffuse: Vec3 = (0.6, 0.6, 0.6)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scene:
    """Everything that decides an episode before it starts: the same scene replays the same trajectory."""

    seed: int
    task: str
    instruction: str
    objects: tuple[ObjectPlacement, ...]
    lights: tuple[Light, ...] = (Light(),)
    table_color: tuple[float, float, float, float] = (0.62, 0.55, 0.47, 1.0)
    expansion: Mapping[str, float] = field(default_factory=dict)
    """What domain expansion drew: kept in the trajectory's provenance."""

    def object(self, role: str) -> ObjectPlacement:
        """The placement under `role`; raises KeyError naming the roles that exist."""
        for placement in self.objects:
            if placement.role == role:
                return placement
        raise KeyError(f"no object {role!r} in scene {self.seed}; roles: {[o.role for o in self.objects]}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """Two touching bodies and their normal force [N]. Names: "robot/<arm>/<body>", "<role>/<body>", "table"."""

    first: str
    second: str
    force: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WorldState:
    """What experts and graders may know at one control step.

    `measured` has the layout of a command (joint positions [rad], gripper opening [m]). Object poses are of each object's
    root body frame, `object_velocities` its (linear [m/s], angular [rad/s]) velocity, shape [6].
    """

    time_s: float
    measured: NDArray[np.float64]
    object_poses: Mapping[str, Pose]
    object_velocities: Mapping[str, NDArray[np.float64]]
    object_joints: Mapping[str, tuple[float, ...]]
    contacts: tuple[Contact, ...]

    def force_between(self, first: str, second: str) -> float:
        """Sum of normal forces [N] between bodies whose names start with the two prefixes, in either order."""
        return sum(
            contact.force
            for contact in self.contacts
            if (contact.first.startswith(first) and contact.second.startswith(second))
            or (contact.first.startswith(second) and contact.second.startswith(first))
        )

    def touching(self, first: str, second: str) -> bool:
        """Whether any body named with the one prefix presses on one named with the other."""
        return self.force_between(first, second) > 0.0


class Segment(IntEnum):
    """What a chunk of a trajectory shows."""

    NOMINAL = 0
    FAILURE = 1
    RECOVERY = 2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Step:
    """One control step of a pilot: the command and what it is part of."""

    command: NDArray[np.float64]
    segment: Segment = Segment.NOMINAL
    failed_steps: int = 0
    """How many of the steps just before this one turn out to be a failed attempt: the rollout relabels them FAILURE."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A grader's judgement of a whole trajectory; `progress` in 0..1 says how far it came."""

    success: bool
    reason: str
    progress: float = 0.0


# --------------------------------------------------------------------------------------------------------- trajectories


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
    def schema_hash(self) -> int:
        """63-bit hash of names, shapes, dtypes and horizon: equal exactly when two specs lay a slot out alike."""
        text = json.dumps([self.horizon, [(f.name, list(f.shape), f.dtype) for f in self.fields]])
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1

    def allocate(self) -> dict[str, NDArray]:
        """Zeroed private arrays of every field: a slot outside any ring, for tests, replay and evaluation."""
        return {f.name: np.zeros(f.shape, f.dtype) for f in self.fields}


INSTRUCTION_BYTES = 160
INFO_BYTES = 2048


def camera_spec(*, cameras: int, height: int, width: int, horizon: int, depth: bool = False) -> TrajectorySpec:
    """The standard trajectory of a dual-arm episode.

    Fields (F = horizon, C = cameras): `rgb` uint8 [F+1, C, h, w, 3]; `depth` float32 [F+1, C, h, w] in metres, 0 where nothing
    was hit (only when asked for); `proprio` float32 [F+1, 30] measured, `action` float32 [F, 16, 30] commanded, both in the
    unified representation; `action_mask` uint8 [30], 0 where the robot has no such channel; `segment` uint8 [F];
    `num_chunks` int32 []; `trajectory_id` uint64 []; `instruction` and `info` UTF-8 bytes, zero-padded.
    """
    frames = horizon + 1
    fields = [Field(name="rgb", shape=(frames, cameras, height, width, 3), dtype="uint8")]
    if depth:
        fields.append(Field(name="depth", shape=(frames, cameras, height, width), dtype="float32"))
    fields += [
        Field(name="proprio", shape=(frames, ACTION_DIM), dtype="float32"),
        Field(name="action", shape=(horizon, CHUNK, ACTION_DIM), dtype="float32"),
        Field(name="action_mask", shape=(ACTION_DIM,), dtype="uint8"),
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
        return cls(**json.loads(bytes(data).rstrip(b"\0").decode()))


def write_text(out: NDArray[np.uint8], data: bytes) -> None:
    """Writes bytes into a zero-padded uint8 field in place; raises ValueError when they do not fit."""
    if len(data) > out.shape[0]:
        raise ValueError(f"text of {len(data)} bytes exceeds the field's {out.shape[0]}")
    out[: len(data)] = np.frombuffer(data, np.uint8)
    out[len(data) :] = 0


def read_text(data: NDArray[np.uint8]) -> str:
    """The string in a zero-padded UTF-8 field."""
    return bytes(data).rstrip(b"\0").decode()


class FullPolicy(StrEnum):
    """What a writer does when every slot is taken and still has reads left."""

    BLOCK = "block"
    EVICT_OLDEST = "evict_oldest"


@dataclass(frozen=True, slots=True, kw_only=True)
class RingSpec:
    """A ring: how a slot is laid out, how many there are, how often each trajectory may be read."""

    trajectory: TrajectorySpec
    num_slots: int
    max_reads: int = 50
    full_policy: FullPolicy = FullPolicy.BLOCK
    min_ready: int = 1
    """Trajectories that must be ready before the first sample."""

    def __post_init__(self) -> None:
        if not 1 <= self.max_reads <= 16_383:
            raise ValueError(f"max_reads (K) must be 1..16383, got {self.max_reads}; the paper sweeps 213, 50, 10")
        if self.num_slots < 1:
            raise ValueError(f"num_slots must be at least 1, got {self.num_slots}")
        if not 1 <= self.min_ready <= self.num_slots:
            raise ValueError(f"min_ready must be 1..num_slots={self.num_slots}, got {self.min_ready}: more would never start")


def rotate(quaternion: Quaternion, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points, shape [..., 3], turned by a unit quaternion (w, x, y, z)."""
    w, axis = quaternion[0], np.asarray(quaternion[1:])
    cross = 2.0 * np.cross(axis, points)
    return points + w * cross + np.cross(axis, cross)
