"""An asset before optimisation: parts, joints and affordances, with the provenance that ends up in its USD file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from embodichain.types import Joint, Mesh, Pose


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """One body before optimisation: a triangle soup in the part's frame, and what it is made of.

    `shell_thickness` [m] > 0 makes the closed surface a hollow shell of that wall; a given `mass` [kg] wins over density.
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
