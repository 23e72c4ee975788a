"""Scenes, the state observed while one is played, and the verdict on it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embodichain.types.assets import Asset
from embodichain.types.bounds import Bounds
from embodichain.types.mishaps import Push, Pushed
from embodichain.types.poses import Pose, Vec3
from embodichain.types.robots import CONTROL_HZ, ArmParts
from embodichain.types.settings import Sensor, Setting

TABLE_SIZE: Vec3 = (0.7, 1.2, 0.04)
"""Size of the table top along X, Y and Z [m]. The centre of its upper side is the origin of the world."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ObjectPlacement:
    """One asset in a scene, under the role that the task gives it ("mouse", "pad_target", "switch")."""

    role: str
    asset: Asset
    pose: Pose
    joint_positions: tuple[float, ...] = ()
    color: tuple[float, float, float, float] | None = None
    """The colour of every body, as for a red and a blue pad; None keeps the asset's own colours."""


Range = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectRequest:
    """One object that a task asks the scene sampler for: its category, and the ranges of its origin [m] and yaw [rad] on the table.

    `reach` names affordances that some arm must reach; an object without any only needs space.
    """

    role: str
    category: str
    x: Range = (-0.15, 0.15)
    y: Range = (-0.20, 0.20)
    yaw: Range = (-math.pi, math.pi)
    joint_positions: tuple[float, ...] = ()
    color: tuple[float, float, float, float] | None = None
    reach: tuple[str, ...] = ()
    standoff: float = 0.0
    """Distance [m] that the tip stays before those affordances, against their approach, because a carried object is in between."""
    arms: tuple[str, ...] = ()
    """Names of the arms of which one must reach them; any arm will do when empty."""
    height: Range = (0.0, math.inf)
    """Range of heights [m] of the asset; an object that must fit into another has an upper limit."""
    margin: float = 0.0
    """Room [m] around it beyond the clearance between any two objects, for fingers."""
    onto: tuple[str, str, str] | None = None
    """The role of an earlier object that it stands on, that object's affordance, and its own affordance that is put in the same
    place ("" for its origin). Then x and y are ignored, and yaw is the turn about the Z axis of these frames.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Grains:
    """Loose balls that stand in for a liquid: they roll and slide without friction and lose speed on impact.

    `radius` [m], `density` [kg/m^3], `drag` [1/s] (the rate at which a ball without contact loses speed), `positions` of their
    centres at the start [m], in world coordinates.
    """

    radius: float = 0.0045
    density: float = 1000.0
    drag: float = 0.5
    color: tuple[float, float, float, float] = (0.25, 0.55, 0.90, 1.0)
    positions: tuple[Vec3, ...] = ()

    @property
    def mass(self) -> float:
        """Mass of one ball [kg]."""
        return 4.0 / 3.0 * math.pi * self.radius**3 * self.density


@dataclass(frozen=True, slots=True, kw_only=True)
class Filling:
    """A request for grains: how many, of what radius [m] and colour, in the object under `role`, above its affordance "inside"."""

    role: str
    count: int
    radius: float = 0.0045
    color: tuple[float, float, float, float] = (0.25, 0.55, 0.90, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Nudge:
    """A request for an external push on a body of the object under `role`: a force [N] in the frame of that object's asset, from
    `begin_s` [s] on, for `lasts_s` [s].
    """

    role: str
    body: str
    force: Vec3
    begin_s: float
    lasts_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneRequest:
    """What a task asks of one scene: its objects, and the instruction in words."""

    instruction: str
    objects: tuple[ObjectRequest, ...]
    same_arm: bool = False
    """Whether a single arm must reach every named affordance, because nothing is handed over."""
    ascending: tuple[str, ...] = ()
    """Roles whose assets must differ in size by `size_step`, smallest first."""
    size_step: float = 0.0
    """Least difference in size [m] between neighbours in `ascending`; size is the cube root of the bounding box's volume."""
    filling: Filling | None = None
    """Grains inside one of the objects; None for no grains."""
    nudges: tuple[Nudge, ...] = ()
    """External pushes during the episode, whatever drives the robot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Light:
    """A directional or point light: position and direction in the world frame, RGB intensity in 0..1."""

    position: Vec3 = (0.0, 0.0, 1.5)
    direction: Vec3 = (0.0, 0.0, -1.0)
    diffuse: Vec3 = (0.6, 0.6, 0.6)


class Texture(StrEnum):
    """The pattern of a surface, which is multiplied by its colour."""

    PLAIN = "plain"
    WOOD = "wood"
    CLOTH = "cloth"
    SPECKLE = "speckle"
    CHECKER = "checker"
    STRIPES = "stripes"
    MARBLE = "marble"


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraLook:
    """How a camera differs from its description: factor of its focal length; shift [m] and rotation [rad] in its own frame."""

    zoom: float = 1.0
    shift: Vec3 = (0.0, 0.0, 0.0)
    turn: Vec3 = (0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wander:
    """Ornstein-Uhlenbeck processes around the scene's values: their standard deviations and their common time constant [s].

    `brightness` and `warmth` of the light (logarithms of its intensity and of the ratio of red to blue), its `direction` [rad],
    `exposure` [stops], and `shake` of each camera [rad]. Light and exposure are the same for all cameras.
    """

    seed: int = 0
    time_constant_s: float = 3.0
    brightness: float = 0.0
    warmth: float = 0.0
    direction: float = 0.0
    exposure: float = 0.0
    shake: float = 0.0


class NoiseSource(StrEnum):
    """What the noise of pixels is drawn from; a version of the stream, since pictures with noise differ between them."""

    NORMAL = "normal"
    """NumPy's normal numbers, on a CPU only: the noise of all streams before there was a choice."""
    HASH = "hash"
    """An integer hash of scene, moment and pixel, bitwise the same on a CPU and on a GPU; see `physics.noise`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Looks:
    """The appearance of a scene: textures by role ("table" is one), cameras by name, exposure [stops], pixel noise (standard
    deviation, full scale 1), and how light and cameras change during the episode.
    """

    textures: Mapping[str, Texture] = field(default_factory=dict)
    cameras: Mapping[str, CameraLook] = field(default_factory=dict)
    exposure: float = 0.0
    noise: float = 0.0
    wander: Wander = Wander()
    noise_source: NoiseSource = NoiseSource.NORMAL
    setting: Setting | None = None
    """Room, table, environment map and finishes; None for the bare table and floor, whose textures are then those above."""
    sensor: Sensor | None = None
    """What else the cameras add to a picture; None for nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dynamics:
    """How a robot's drives differ from its description: factors of stiffness, servo damping, torque limit, joint damping and the
    friction of gripping surfaces; and `delay_s` [s] from a command to its effect, in whole physics steps.
    """

    stiffness: float = 1.0
    servo_damping: float = 1.0
    torque: float = 1.0
    joint_damping: float = 1.0
    grip_friction: float = 1.0
    delay_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scene:
    """Everything that decides an episode before it starts: the same scene replays the same trajectory."""

    seed: int
    task: str
    instruction: str
    objects: tuple[ObjectPlacement, ...]
    lights: tuple[Light, ...] = (Light(),)
    table_color: tuple[float, float, float, float] = (0.62, 0.55, 0.47, 1.0)
    looks: Looks = field(default_factory=Looks)
    dynamics: Dynamics = Dynamics()
    expansion: Mapping[str, float] = field(default_factory=dict)
    """The values drawn by domain expansion; they are kept in the trajectory's provenance."""
    grains: Grains = Grains()
    """Loose balls; empty in a scene without a liquid."""
    happening: tuple[Pushed, ...] = ()
    """External forces that act in every episode of this scene, in addition to those that a pilot provokes."""
    bounds: Bounds = field(default_factory=Bounds)
    """Limits of the robot's conduct, whatever drives it and whatever the task."""

    def object(self, role: str) -> ObjectPlacement:
        """The placement under `role`; raises KeyError naming the roles that exist."""
        for placement in self.objects:
            if placement.role == role:
                return placement
        raise KeyError(f"no object {role!r} in scene {self.seed}; roles: {[o.role for o in self.objects]}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """Two bodies that touched within one control period. Names: "robot/<arm>/<body>", "<role>/<body>", "table", "grains".

    All grains of a scene count as one body. `force` is the normal force [N] averaged over the period (multiplied by the period, its
    impulse), `penetration` the deepest overlap of the two in it [m], and `peak` the largest resultant of the normal forces [N] in
    one of its physics steps. `push` is the mean resultant [N] with which the first pushes the second, a vector in the world frame.
    In `peak` and `push` opposing normal forces cancel, as those of surfaces that face each other in a corner; in `force` they add
    up.
    """

    first: str
    second: str
    force: float
    penetration: float = 0.0
    peak: float = 0.0
    push: Vec3 = (0.0, 0.0, 0.0)


class Touches(NamedTuple):
    """The contacts of one control period as arrays over pairs of bodies; see `Contact`."""

    pair: NDArray[np.integer]
    """Body numbers, shape [n, 2]."""
    force: NDArray[np.floating]
    """Mean forces [N], shape [n]."""
    depth: NDArray[np.floating]
    """Deepest overlaps [m], shape [n]."""
    peak: NDArray[np.floating]
    """Largest resultants of one physics step [N], shape [n]."""
    push: NDArray[np.floating]
    """Mean forces of the first body on the second [N], shape [n, 3]."""

    def named(self, bodies: Sequence[str]) -> tuple[Contact, ...]:
        """The same contacts, with the names of the bodies."""
        touched: list[list[int]] = self.pair.tolist()
        forces: list[float] = self.force.tolist()
        depths: list[float] = self.depth.tolist()
        peaks: list[float] = self.peak.tolist()
        pushes: list[list[float]] = self.push.tolist()
        return tuple(
            [
                Contact(first=bodies[first], second=bodies[second], force=mean, penetration=deepest, peak=peak, push=(x, y, z))
                for (first, second), mean, deepest, peak, (x, y, z) in zip(touched, forces, depths, peaks, pushes, strict=True)
            ]
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WorldState:
    """The state that experts and graders may use at one control step.

    `measured` has the layout of a command (joint positions [rad], gripper opening [m]). Object poses are those of each object's
    root body frame; `object_velocities` are their (linear [m/s], angular [rad/s]) velocities, shape [6]. `grain_positions` [m] and
    `grain_velocities` [m/s] belong to the grains' centres, shape [N, 3].
    """

    time_s: float
    measured: NDArray[np.float64]
    object_poses: Mapping[str, Pose]
    object_velocities: Mapping[str, NDArray[np.float64]]
    object_joints: Mapping[str, tuple[float, ...]]
    contacts: tuple[Contact, ...]
    grain_positions: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 3)))
    grain_velocities: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 3)))
    control_hz: int = CONTROL_HZ
    """Control steps per second, to convert a number of states into seconds."""
    arms: tuple[ArmParts, ...] = ()
    """The robot's arms in the order of its commands, to attribute contacts."""

    def force_between(self, first: str, second: str) -> float:
        """Sum of mean normal forces [N] between bodies whose names start with the two prefixes, in either order."""
        return sum(
            contact.force
            for contact in self.contacts
            if (contact.first.startswith(first) and contact.second.startswith(second))
            or (contact.first.startswith(second) and contact.second.startswith(first))
        )

    def touching(self, first: str, second: str) -> bool:
        """Whether bodies whose names start with the two prefixes pressed on each other at any time in the period."""
        return self.force_between(first, second) > 0.0

    def deepest(self) -> float:
        """Largest penetration [m] of any two bodies within the period; 0 when nothing touches."""
        return max((contact.penetration for contact in self.contacts), default=0.0)


class Segment(IntEnum):
    """What a chunk of a trajectory shows."""

    NOMINAL = 0
    FAILURE = 1
    RECOVERY = 2

    @classmethod
    def of_chunk(cls, steps: Sequence[Segment]) -> Segment:
        """The label of a chunk whose control steps have these labels: FAILURE if any has, else RECOVERY if any, else NOMINAL."""
        return next((label for label in (cls.FAILURE, cls.RECOVERY) if label in steps), cls.NOMINAL)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Step:
    """One control step of a pilot: the command, and the segment it belongs to."""

    command: NDArray[np.float64]
    segment: Segment = Segment.NOMINAL
    failed_steps: int = 0
    """How many of the steps just before this one belonged to a failed attempt. The rollout relabels them FAILURE."""
    mishap: str = ""
    """How that attempt failed, one of `Mishap`; "" when `failed_steps` is 0."""
    provoked: bool = False
    """Whether that attempt was disturbed on purpose."""
    pushes: tuple[Push, ...] = ()
    """External forces that act during this step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A grader's judgement of a whole trajectory; `progress` in 0..1 says how much of the task was achieved."""

    success: bool
    reason: str
    progress: float = 0.0
