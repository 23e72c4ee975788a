"""What decides an episode, what is seen of it, and how it is judged."""

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

TABLE_SIZE: Vec3 = (0.7, 1.2, 0.04)
"""Of the table top along X, Y and Z [m]; the middle of its upper side is the origin of the world."""


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
    standoff: float = 0.0
    """How far before those affordances, against their approach, the tip must come [m]: what it sets down keeps it off."""
    arms: tuple[str, ...] = ()
    """Names of the arms of which one must reach them; any arm will do when empty."""
    height: Range = (0.0, math.inf)
    """Heights [m] that the asset may have: what must fit into another has a highest."""
    margin: float = 0.0
    """Room [m] kept free around it beyond what the layout keeps between any two objects: fingers must come in there."""
    onto: tuple[str, str, str] | None = None
    """An earlier role that it stands on, that object's affordance, and its own that lies in the same place ("" for its origin); x
    and y then count for nothing, and yaw is how far it is turned about the frames' Z axis."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grains:
    """Loose balls in a scene that stand in for a liquid: they roll and slide without friction and lose speed to what they hit.

    `radius` [m], `density` [kg/m^3], `drag` [1/s] (how fast a ball that touches nothing comes to rest), `positions` of their
    centres at the start [m], in world coordinates.
    """

    radius: float = 0.0045
    density: float = 1000.0
    drag: float = 0.5
    color: tuple[float, float, float, float] = (0.25, 0.55, 0.90, 1.0)
    positions: tuple[Vec3, ...] = ()

    @property
    def mass(self) -> float:
        """Of one ball [kg]."""
        return 4.0 / 3.0 * math.pi * self.radius**3 * self.density


@dataclass(frozen=True, slots=True, kw_only=True)
class Filling:
    """A wish for grains: how many, of what radius [m] and colour, in the object under `role`, above its affordance "inside"."""

    role: str
    count: int
    radius: float = 0.0045
    color: tuple[float, float, float, float] = (0.25, 0.55, 0.90, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Nudge:
    """A wish that something else than the robot pushes a body of the object under `role`: with a force [N] in the frame of that
    object's asset, from `begin_s` [s] on, for `lasts_s` [s].
    """

    role: str
    body: str
    force: Vec3
    begin_s: float
    lasts_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneRequest:
    """A task's wish for one scene: its objects and the instruction in words."""

    instruction: str
    objects: tuple[ObjectRequest, ...]
    same_arm: bool = False
    """Whether one arm must reach every affordance named, because the task hands nothing over."""
    ascending: tuple[str, ...] = ()
    """Roles whose assets must differ in size, smallest first: see `size_step`."""
    size_step: float = 0.0
    """Least difference [m] from one of `ascending` to the next in size: the edge of a cube as large as the bounding box."""
    filling: Filling | None = None
    """Grains that one of the objects holds; no grains when None."""
    nudges: tuple[Nudge, ...] = ()
    """What happens while the episode lasts, whoever drives the robot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Light:
    """A directional or point light: position and direction in the world frame, RGB intensity in 0..1."""

    position: Vec3 = (0.0, 0.0, 1.5)
    direction: Vec3 = (0.0, 0.0, -1.0)
    diffuse: Vec3 = (0.6, 0.6, 0.6)


class Texture(StrEnum):
    """What a surface may look like; its colour multiplies the pattern."""

    PLAIN = "plain"
    WOOD = "wood"
    CLOTH = "cloth"
    SPECKLE = "speckle"
    CHECKER = "checker"
    STRIPES = "stripes"
    MARBLE = "marble"


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraLook:
    """How a camera differs from its description: factor of its focal length; in its own frame a shift [m] and a turn [rad]."""

    zoom: float = 1.0
    shift: Vec3 = (0.0, 0.0, 0.0)
    turn: Vec3 = (0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wander:
    """Ornstein-Uhlenbeck processes around what the scene says: their standard deviations and their common time constant [s].

    `brightness` and `warmth` of the light (logarithms of its intensity and of red over blue), its `direction` [rad], `exposure`
    [stops], and `shake` of each camera [rad]. Light and exposure are the same for all cameras.
    """

    seed: int = 0
    time_constant_s: float = 3.0
    brightness: float = 0.0
    warmth: float = 0.0
    direction: float = 0.0
    exposure: float = 0.0
    shake: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Looks:
    """What cameras make of a scene: textures by role ("table" is one), cameras by name, exposure [stops], noise of a pixel
    (standard deviation, full scale 1), and how light and cameras change while the episode lasts.
    """

    textures: Mapping[str, Texture] = field(default_factory=dict)
    cameras: Mapping[str, CameraLook] = field(default_factory=dict)
    exposure: float = 0.0
    noise: float = 0.0
    wander: Wander = Wander()


@dataclass(frozen=True, slots=True, kw_only=True)
class Dynamics:
    """How a robot's drives differ from its description: factors of stiffness, servo damping, torque limit, joint damping and the
    friction of whatever grips; `delay_s` [s] from a command to its effect, in whole physics steps.
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
    """What domain expansion drew: kept in the trajectory's provenance."""
    grains: Grains = Grains()
    """Loose balls; a scene without a liquid has none."""
    happening: tuple[Pushed, ...] = ()
    """External forces that act in every episode of this scene, beside what its pilot provokes."""
    bounds: Bounds = field(default_factory=Bounds)
    """How the robot may conduct itself; whoever drives it, and whatever the task."""

    def object(self, role: str) -> ObjectPlacement:
        """The placement under `role`; raises KeyError naming the roles that exist."""
        for placement in self.objects:
            if placement.role == role:
                return placement
        raise KeyError(f"no object {role!r} in scene {self.seed}; roles: {[o.role for o in self.objects]}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """Two bodies that touched within one control period. Names: "robot/<arm>/<body>", "<role>/<body>", "table", "grains".

    All grains of a scene count as one body.

    `force` is the normal force [N] averaged over the period (times 20 ms: its impulse), `penetration` the deepest that the two
    overlapped in it [m], `peak` the largest resultant of the normal forces [N] of one physics step in it. `push` is the mean
    resultant [N] with which the first pushes the second, a vector in the world frame. Both count the pressure of surfaces that
    face each other, as in a corner, by what is left of it, where `force` adds it up.
    """

    first: str
    second: str
    force: float
    penetration: float = 0.0
    peak: float = 0.0
    push: Vec3 = (0.0, 0.0, 0.0)


class Touches(NamedTuple):
    """The contacts of one control period as arrays, by pair of bodies; see `Contact`."""

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
        """The same with the names of the bodies."""
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
    """What experts and graders may know at one control step.

    `measured` has the layout of a command (joint positions [rad], gripper opening [m]). Object poses are of each object's
    root body frame, `object_velocities` its (linear [m/s], angular [rad/s]) velocity, shape [6]. `grain_positions` [m] and
    `grain_velocities` [m/s] are of the grains' centres, shape [N, 3].
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
    """Control steps per second: by it whoever counts states knows how long that was."""
    arms: tuple[ArmParts, ...] = ()
    """The robot's arms, in the order of its commands: whose a contact is."""

    def force_between(self, first: str, second: str) -> float:
        """Sum of mean normal forces [N] between bodies whose names start with the two prefixes, in either order."""
        return sum(
            contact.force
            for contact in self.contacts
            if (contact.first.startswith(first) and contact.second.startswith(second))
            or (contact.first.startswith(second) and contact.second.startswith(first))
        )

    def touching(self, first: str, second: str) -> bool:
        """Whether any body named with the one prefix pressed on one named with the other at any moment of the period."""
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
    """One control step of a pilot: the command and what it is part of."""

    command: NDArray[np.float64]
    segment: Segment = Segment.NOMINAL
    failed_steps: int = 0
    """How many of the steps just before this one turn out to be a failed attempt: the rollout relabels them FAILURE."""
    mishap: str = ""
    """How that attempt failed, one of `Mishap`; "" when `failed_steps` is 0."""
    provoked: bool = False
    """Whether that attempt was disturbed."""
    pushes: tuple[Push, ...] = ()
    """External forces that act during this step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A grader's judgement of a whole trajectory; `progress` in 0..1 says how far it came."""

    success: bool
    reason: str
    progress: float = 0.0
