"""An asset as it is read from USD: bodies, convex hulls, materials, joints and affordances."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embodichain.types.poses import Pose, Quaternion, Vec3, rotate, turn, turned


class ShapeKind(StrEnum):
    """Solids that physics engines collide analytically, rather than as the convex hull of points."""

    BOX = "box"
    SPHERE = "sphere"
    CYLINDER = "cylinder"
    CAPSULE = "capsule"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """An analytic solid, centred on its own frame, with its axis along Z.

    `size` [m] holds the edges of a box. For the other kinds it holds the radius, the length (0 for a sphere; without the caps for a
    capsule), and 0. `pose` is mesh_from_shape.
    """

    kind: ShapeKind
    size: Vec3
    pose: Pose = field(default_factory=Pose)

    def scaled(self, factor: float) -> Shape:
        """The same shape with all lengths times `factor`."""
        (a, b, c), (x, y, z) = self.size, self.pose.position
        pose = replace(self.pose, position=(x * factor, y * factor, z * factor))
        return replace(self, size=(a * factor, b * factor, c * factor), pose=pose)


def half_sizes(shape: Shape) -> Vec3:
    """The size of a shape in MuJoCo's convention: half edges of a box; radius and half length of the others."""
    a, b, c = shape.size
    return (a / 2, b / 2, c / 2) if shape.kind is ShapeKind.BOX else (a, b / 2, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mesh:
    """Triangles: vertices [m], shape [V, 3], float64; faces, shape [F, 3], int32, counter-clockwise seen from outside.

    `shape` is the analytic solid that the triangles approximate; where it is given, physics collides it instead of the triangles.
    """

    vertices: NDArray[np.float64]
    faces: NDArray[np.int32]
    shape: Shape | None = None

    def scaled(self, factor: float) -> Mesh:
        """The same mesh with all lengths times `factor`."""
        shape = self.shape.scaled(factor) if self.shape else None
        return Mesh(vertices=factor * self.vertices, faces=self.faces, shape=shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """The material of a surface and of the solid under it: density [kg/m^3], friction and restitution coefficients."""

    name: str
    density: float
    static_friction: float
    dynamic_friction: float
    restitution: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Body:
    """One rigid body in its own frame.

    It has a mass [kg], a centre of mass [m] and a diagonal inertia about it [kg m^2] along `principal_axes` (body_from_principal).
    Cameras see `visual`; physics collides `hulls`, which are convex. A body between two joints may have neither.
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
    surfaces: tuple[Material, ...] = ()
    """The material of each hull, where the hulls differ; empty when all hulls are of `material`."""

    @property
    def touching(self) -> tuple[Material, ...]:
        """The material of each hull's surface."""
        return self.surfaces or (self.material,) * len(self.hulls)


class JointKind(StrEnum):
    """How a child body may move relative to its parent."""

    FIXED = "fixed"
    REVOLUTE = "revolute"
    PRISMATIC = "prismatic"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mimic:
    """A joint that follows another: its position is `multiplier` times that of `joint`, plus `offset` [rad or m]."""

    joint: str
    multiplier: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Joint:
    """A joint between two bodies of one asset, described at position zero in the asset's frame.

    `axis` is a unit vector and `anchor` [m] a point, both in the child's frame. Limits are in rad or m; -inf and inf leave a joint
    unbounded. Damping is in N m s/rad or N s/m, Coulomb friction in N m or N. `parent` "" is the world: the body is bolted where
    the asset is placed. A spring of `stiffness` [N m/rad or N/m] pulls towards the position `rest` [rad or m], which may lie beyond
    the limits. `effort` [N m or N] and `velocity` [rad/s or m/s] are the limits of its drive, inf where they are unknown;
    `armature` [kg m^2 or kg] is the inertia that its drive adds.
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
    stiffness: float = 0.0
    rest: float = 0.0
    effort: float = math.inf
    velocity: float = math.inf
    armature: float = 0.0
    mimic: Mimic | None = None

    @property
    def bounded(self) -> bool:
        """Whether it has both limits."""
        return math.isfinite(self.lower) and math.isfinite(self.upper)

    @property
    def span(self) -> tuple[float, float]:
        """Its limits [rad or m]; where one is missing, the range is one turn or one metre long."""
        half = math.pi if self.kind is JointKind.REVOLUTE else 0.5
        if self.bounded:
            return self.lower, self.upper
        if math.isfinite(self.lower):
            return self.lower, self.lower + 2 * half
        return (self.upper - 2 * half, self.upper) if math.isfinite(self.upper) else (-half, half)

    def motion(self, position: float) -> Pose:
        """The pose of the child's frame at `position` [rad or m], in the child's frame at position zero."""
        if self.kind is JointKind.PRISMATIC:
            x, y, z = self.axis
            return Pose(position=(position * x, position * y, position * z))
        if self.kind is JointKind.REVOLUTE:
            quaternion = turn(self.axis, position)
            x, y, z = self.anchor
            dx, dy, dz = turned(quaternion, self.anchor)
            return Pose(position=(x - dx, y - dy, z - dz), quaternion=quaternion)
        return Pose()


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
    apart: tuple[tuple[str, str], ...] = ()
    """Pairs of bodies that do not collide, because their colliders overlap at the joint between them."""
    scale: float = 1.0
    """The asset's size relative to the size in its file. `content_hash` is that of the file, whatever the scale."""

    @property
    def fixed_base(self) -> bool:
        """Whether a joint bolts a body to the world, as in a switch. Such an asset does not move as a whole."""
        return any(joint.parent == "" for joint in self.joints)

    @property
    def movable_joints(self) -> tuple[Joint, ...]:
        """Joints with a degree of freedom, in the order of `ObjectPlacement.joint_positions`."""
        return tuple(joint for joint in self.joints if joint.kind is not JointKind.FIXED)

    @property
    def bounds(self) -> NDArray[np.float64]:
        """Axis-aligned bounds of all visual vertices at joint position zero [m], shape [2, 3]."""
        return _bounds(self)


@lru_cache(maxsize=128)
def _bounds(asset: Asset) -> NDArray[np.float64]:
    """Computes `Asset.bounds`. The result is cached because planners and samplers ask for it hundreds of times in an episode."""
    points = np.concatenate(
        [rotate(body.body_pose.quaternion, body.visual.vertices) + body.body_pose.position for body in asset.bodies]
    )
    found = np.stack([points.min(axis=0), points.max(axis=0)])
    found.flags.writeable = False
    return found
