"""An asset before optimisation: parts, joints and affordances, the values that its file states, and its provenance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from embodichain.types import Joint, Mesh, Pose, Vec3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Image:
    """An image as it was read: the bytes of a PNG or JPEG file, and its file name."""

    name: str
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Finish:
    """The appearance of one material, in the terms of glTF and UsdPreviewSurface. Keys of `images` are `diffuse`, `normal`,
    `orm` (occlusion, roughness and metalness in red, green and blue), `emissive`.
    """

    name: str = ""
    color: tuple[float, float, float, float] = (0.7, 0.7, 0.7, 1.0)
    roughness: float = 0.5
    metallic: float = 0.0
    emissive: Vec3 = (0.0, 0.0, 0.0)
    images: Mapping[str, Image] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Look:
    """The visible surface of a part, in the part's frame, exactly as in its file.

    For each vertex: texture coordinates `uv`, shape [V, 2], with v upwards; `normals`, shape [V, 3]; `colors`, shape [V, 4]; each
    is None if no mesh of the part has it. `finish` is, for each face, the index of its material in `finishes`, shape [F].
    """

    mesh: Mesh
    finishes: tuple[Finish, ...]
    finish: NDArray[np.int32]
    uv: NDArray[np.float64] | None = None
    normals: NDArray[np.float64] | None = None
    colors: NDArray[np.float64] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Touch:
    """The surface properties that a file states for one collider: friction and restitution coefficients; None if not stated."""

    static_friction: float | None = None
    dynamic_friction: float | None = None
    restitution: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stated:
    """The physical properties that a file states for one body, in the part's frame; None where it states none.

    Mass [kg]; centre of mass [m]; inertia about it along the part's axes [kg m^2], shape [3, 3]; density [kg/m^3]; friction and
    restitution coefficients of the whole body. Analytic `colliders` have a `shape`; other colliders need not be convex.
    """

    mass: float | None = None
    center_of_mass: Vec3 | None = None
    inertia: NDArray[np.float64] | None = None
    density: float | None = None
    static_friction: float | None = None
    dynamic_friction: float | None = None
    restitution: float | None = None
    colliders: tuple[Mesh, ...] = ()
    touches: tuple[Touch, ...] = ()
    """Surface properties of each collider, where they differ; the body as a whole then states no friction and no restitution."""

    def touching(self, touches: Sequence[Touch]) -> Stated:
        """A copy with these surface properties of the colliders, stored for the body as a whole if all are the same."""
        if not touches:
            return self
        if len(set(touches)) > 1:
            return replace(self, touches=tuple(touches), static_friction=None, dynamic_friction=None, restitution=None)
        one = touches[0]
        return replace(
            self, static_friction=one.static_friction, dynamic_friction=one.dynamic_friction, restitution=one.restitution
        )


class Preservation(StrEnum):
    """Whether a stated value was kept, changed or dropped."""

    KEPT = "kept"
    CHANGED = "changed"
    DROPPED = "dropped"


Value = float | str | tuple[float, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One row of the fidelity table: a quantity of a body or joint, as stated and as written, and the reason of a difference."""

    of: str
    what: str
    stated: Value
    written: Value = None
    fate: Preservation
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """One body before optimisation: a triangle soup in the part's frame, and what it is made of.

    `shell_thickness` [m] > 0 makes the closed surface a hollow shell of that wall; a given `mass` [kg] wins over density. A part
    without faces only connects joints. Where `look` is given, cameras see it, and the repaired soup is used only for physics.
    """

    name: str
    mesh: Mesh
    material: str
    color: tuple[float, float, float, float]
    pose: Pose = field(default_factory=Pose)
    shell_thickness: float = 0.0
    mass: float | None = None
    seams: tuple[float, ...] = ()
    """Heights in the part's frame [m] that no convex piece crosses: where another object fits closely."""
    look: Look | None = None
    stated: Stated = field(default_factory=Stated)
    wall: float = 0.0
    """Thickness of the wall [m] that an open surface gets; 0 refuses open surfaces."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Source:
    """An asset before optimisation, in metres, Z up, with the provenance that is written into its USD file."""

    name: str
    category: str
    parts: tuple[Part, ...]
    joints: tuple[Joint, ...] = ()
    affordances: Mapping[str, tuple[str, Pose]] = field(default_factory=dict)
    licence: str
    origin: str
    parameters: Mapping[str, float | str] = field(default_factory=dict)
    foreign: bool = False
    """Whether it comes from a file: its values are then kept, except for changes that the fidelity table lists."""
    keep_pose: bool = False
    """Whether to keep the pose of the file even if the object does not stand stably in it."""
    apart: tuple[tuple[str, str], ...] = ()
    """Pairs of parts that must not collide with each other."""
    fidelity: tuple[Kept, ...] = ()
    """Rows about stated values that the reader had to change or drop."""
    titles: Mapping[str, str] = field(default_factory=dict)
    """Original names of bodies and joints that had to be renamed."""
    attribution: Mapping[str, str] = field(default_factory=dict)
    """Author, title and URL, where known."""
    labels: tuple[str, ...] = ()
    """The user's names for it, in addition to its category."""
