"""An asset before optimisation: parts, joints and affordances, with what its file states and the provenance for its USD file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from embodichain.types import Joint, Mesh, Pose, Vec3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Image:
    """A picture as it came: the bytes of a PNG or JPEG file, and the name under which it is kept."""

    name: str
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Finish:
    """How one material looks, in the terms of glTF and UsdPreviewSurface; `images` by what they are: `diffuse`, `normal`,
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
    """What cameras see of a part, in the part's frame, exactly as its file has it.

    Of each vertex: texture coordinates `uv`, shape [V, 2], with v upwards; `normals`, shape [V, 3]; `colors`, shape [V, 4]; each
    None where no mesh of the part has them. `finish` is the index among `finishes` of each face's material, shape [F].
    """

    mesh: Mesh
    finishes: tuple[Finish, ...]
    finish: NDArray[np.int32]
    uv: NDArray[np.float64] | None = None
    normals: NDArray[np.float64] | None = None
    colors: NDArray[np.float64] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Touch:
    """What a file states of how one collider touches: friction and restitution coefficients, None where it says nothing."""

    static_friction: float | None = None
    dynamic_friction: float | None = None
    restitution: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stated:
    """What a file states about the physics of one body, in the part's frame; None where it says nothing.

    Mass [kg]; centre of mass [m]; inertia about it along the part's axes [kg m^2], shape [3, 3]; density [kg/m^3]; friction and
    restitution coefficients of all of it; `colliders` carry their `shape` where they are analytic; others need not be convex.
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
    """Of each collider, where they differ; then the body as a whole states no friction and no restitution."""

    def touching(self, touches: Sequence[Touch]) -> Stated:
        """The same with what is stated of each collider's surface: of the body as a whole where all are alike."""
        if not touches:
            return self
        if len(set(touches)) > 1:
            return replace(self, touches=tuple(touches), static_friction=None, dynamic_friction=None, restitution=None)
        one = touches[0]
        return replace(
            self, static_friction=one.static_friction, dynamic_friction=one.dynamic_friction, restitution=one.restitution
        )


class Fate(StrEnum):
    """What became of something that a file states."""

    KEPT = "kept"
    CHANGED = "changed"
    DROPPED = "dropped"


Value = float | str | tuple[float, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One row of the fidelity table: what of which body or joint, as stated and as written, and the reason where they differ."""

    of: str
    what: str
    stated: Value
    written: Value = None
    fate: Fate
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """One body before optimisation: a triangle soup in the part's frame, and what it is made of.

    `shell_thickness` [m] > 0 makes the closed surface a hollow shell of that wall; a given `mass` [kg] wins over density. A part
    without faces only carries joints. Where `look` is given, it is what cameras see, and the repaired soup serves physics alone.
    """

    name: str
    mesh: Mesh
    material: str
    color: tuple[float, float, float, float]
    pose: Pose = field(default_factory=Pose)
    shell_thickness: float = 0.0
    mass: float | None = None
    seams: tuple[float, ...] = ()
    """Heights in the part's frame [m] that no convex piece reaches across: where another thing fits closely."""
    look: Look | None = None
    stated: Stated = field(default_factory=Stated)
    wall: float = 0.0
    """Thickness [m] to give a surface that is open; 0 refuses one."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Source:
    """An asset before optimisation, in metres, Z up, with the provenance that ends up in its USD file."""

    name: str
    category: str
    parts: tuple[Part, ...]
    joints: tuple[Joint, ...] = ()
    affordances: Mapping[str, tuple[str, Pose]] = field(default_factory=dict)
    licence: str
    origin: str
    parameters: Mapping[str, float | str] = field(default_factory=dict)
    foreign: bool = False
    """Whether it comes from a file: then it is kept as it is, but for what the fidelity table lists."""
    keep_pose: bool = False
    """Leave it as its file has it, even where it does not stand so."""
    apart: tuple[tuple[str, str], ...] = ()
    """Pairs of parts that shall not collide."""
    fidelity: tuple[Kept, ...] = ()
    """What reading already had to change or drop."""
    titles: Mapping[str, str] = field(default_factory=dict)
    """Names as the file has them, of bodies and joints whose own names had to be transcoded."""
    attribution: Mapping[str, str] = field(default_factory=dict)
    """Author, title and address, where known."""
    labels: tuple[str, ...] = ()
    """What its user calls it, beside its category."""
