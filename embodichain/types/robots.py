"""A robot: MJCF text, arms, cameras, and the layout of its commands."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embodichain.types.poses import Pose

CONTROL_HZ = 50
"""Commands per second of a robot that sets no other rate (`Robot.control_hz`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingers:
    """Size of each finger of a gripper [m], in the frame of the arm's site.

    The defaults are those of the built-in platform; a robot that is loaded from a file has those of its own geometry.
    """

    half_width: float = 0.011
    """Half the extent along the site's X axis."""
    thickness: float = 0.016
    """Extent along the closing axis, outward from the pad."""
    below: float = 0.010
    """Extent beyond the site along the approach axis."""
    above: float = 0.055
    """Extent back from the site, as far as the hand that carries the fingers."""


FINGERS = Fingers()
"""The fingers of the built-in platform."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One serial arm with a parallel gripper, by the names it has in the robot's MJCF.

    `site` is the point between the finger tips; its Z axis is the approach direction, its Y axis the closing direction.
    `gripper_joints` are the driven joints of the gripper: prismatic joints of equal travel, or hinges of a linkage. The opening [m]
    is the distance between the two finger pads.
    """

    name: str
    joints: tuple[str, ...]
    site: str
    home: tuple[float, ...]
    gripper_joints: tuple[str, ...] = ()
    gripper_open: float = 0.0
    gripper_squeeze: float = 0.0
    """How far below zero the commanded opening may go [m]. Thin objects are held by that."""
    gripper_travel: tuple[float, ...] = field(default=(), repr=False)
    """Change of the opening for one unit of each gripper joint [m/rad], for a linkage, whose joints are 0 with the pads together.
    Empty for prismatic joints, of which each opens by as much as it moves, towards the end of its range that is farther from 0.
    """
    gripper_rest: tuple[tuple[str, float], ...] = field(default=(), repr=False)
    """The other joints of a linkage, each with its position when the gripper is open [rad]."""
    finger_bodies: tuple[tuple[str, ...], ...] = field(default=(), repr=False)
    """The bodies of each finger of a linkage; empty where each gripper joint carries one finger."""
    fingers: Fingers = field(default=FINGERS, repr=False)
    gripper_problem: str = field(default="", repr=False)
    """Why no gripper could be made of the joints beyond the wrist, and what to do; they are held still. "" where all is well."""
    joint_speed: tuple[float, ...] = field(default=(), repr=False)
    """Speed limit of each joint [rad/s]; empty where the robot's description sets none."""
    gripper_speed: float = field(default=0.0, repr=False)
    """Largest speed at which the opening may change [m/s]; 0 where the description sets none."""

    @property
    def command_size(self) -> int:
        """Number of joint targets plus one, for the gripper opening."""
        return len(self.joints) + 1

    @property
    def unusual(self) -> str:
        """What differs from the defaults of later versions; "" for nothing, so that the hashes of earlier robots stay valid."""
        later = ("gripper_travel", "gripper_rest", "finger_bodies", "fingers", "gripper_problem", "joint_speed", "gripper_speed")
        found = {name: value for name in later if (value := getattr(self, name)) and value != FINGERS}
        return repr(found) if found else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmParts:
    """The parts of a simulated robot that belong to one arm. Judges attribute contacts and grip forces by them."""

    name: str
    bodies: frozenset[str]
    """Names, as in contacts, of all bodies that the arm's joints move, fingers included."""
    fingers: Mapping[str, int]
    """For each body that a gripper joint moves, the number of that joint, which identifies the finger."""
    grip_force: float
    """Largest force that one finger can exert [N]; 0 when the robot's file sets no limit."""
    joints: slice
    """Position of the arm's joints in a command or a measurement."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Camera:
    """A camera of the robot with its vertical field of view [degrees]. The resolution is a setting of the run."""

    name: str
    fovy: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Robot:
    """A robot as MJCF text; `world_from_base` is the pose of its base frame.

    A *command* of a robot is a float64 vector: for each arm in order its joint targets [rad], then its gripper opening [m].
    """

    name: str
    mjcf: str
    arms: tuple[Arm, ...]
    cameras: tuple[Camera, ...]
    world_from_base: Pose = field(default_factory=Pose)
    mesh_dir: Path | None = None
    control_hz: int = CONTROL_HZ
    """Commands per second: each is held for one control period of 1 / control_hz seconds."""
    channels: tuple[int, ...] = ()
    """The channels of a command's values in the unified representation, for a robot that is commanded by displacements, as in
    foreign benchmarks (`robots.benchmarks`). Empty where commands are joint targets, from which every channel follows.
    """

    def __post_init__(self) -> None:
        if self.control_hz < 1:
            raise ValueError(f"robot {self.name!r} takes at least 1 command per second, got control_hz={self.control_hz}")
        if self.channels and len(set(self.channels)) != self.command_size:
            raise ValueError(f"robot {self.name!r} has commands of {self.command_size} values, got channels {self.channels}")

    @property
    def command_size(self) -> int:
        """Length of a command and of `WorldState.measured`."""
        return sum(arm.command_size for arm in self.arms)

    @property
    def home(self) -> NDArray[np.float64]:
        """The command that holds the arms at home with grippers open, shape [command_size]."""
        return np.array([value for arm in self.arms for value in (*arm.home, arm.gripper_open)])

    def still(self, measured: NDArray[np.float64]) -> NDArray[np.float64]:
        """The command that keeps the robot still: the measured joints, or no displacement and an open gripper."""
        return self.home if self.channels else measured.copy()

    @property
    def content_hash(self) -> str:
        """A hash that changes whenever the description does; it is part of the key of every cache derived from the robot."""
        parts = [self.mjcf, repr(self.arms), repr(self.cameras), repr(self.world_from_base)]
        if self.control_hz != CONTROL_HZ:  # left out at the default rate, so that the hash, and with it existing caches, stay valid
            parts.append(f"{self.control_hz} Hz")
        if self.channels:
            parts.append(repr(self.channels))
        parts += [unusual for arm in self.arms if (unusual := arm.unusual)]
        text = "\0".join(parts)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
