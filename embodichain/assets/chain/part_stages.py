"""The stages that turn the triangle soup of one part into a body, and their entries in the report: pure functions without files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace

import numpy as np

from embodichain.assets.chain.record import Number, Record
from embodichain.assets.chain.settings import ChainConfig
from embodichain.assets.families.parts import Part
from embodichain.assets.families.tables import material
from embodichain.assets.geometry.collision import CollisionConfig, decompose, measure
from embodichain.assets.geometry.repair import repair
from embodichain.assets.geometry.shapes import diagonal, signed_volume, to_mesh, to_solid
from embodichain.assets.physical.mass import MassProperties, shell_properties, solid_properties, with_mass
from embodichain.types import Body, Mesh

_SNAP = 0.002
"""Height above the lowest point, as a share of the diagonal, up to which vertices of a resting surface are flattened."""
_SIMPLIFY = 0.002
_MAX_VISUAL_FACES = 5000
_VOLUME_KEPT = 0.01
_SHAPE_KEPT = 0.01
"""Largest share of the volume that simplification may remove or add."""


def repaired(part: Part, config: ChainConfig, record: Record) -> Part:
    """Replaces the part's soup by one closed solid; raises AssetError when the result cannot be trusted."""

    def work() -> tuple[Mesh, Mapping[str, Number]]:
        mesh, report = repair(part.mesh, config.repair, part.wall)
        return mesh, {key: str(value) if isinstance(value, str) else value for key, value in asdict(report).items()}

    size = {"vertices": len(part.mesh.vertices), "faces": len(part.mesh.faces)}
    return replace(part, mesh=record.stage("repair", part.name, size, work))


def build_body(part: Part, config: ChainConfig, record: Record, *, resting: bool) -> tuple[Body, float]:
    """One body from one repaired part, and by how much its frame was lowered [m] so that a `resting` part stands on z = 0.

    Raises:
        AssetError: a stage refused the part.
    """
    solid, lowered = part.mesh, 0.0
    if resting:
        solid, lowered = record.stage("frame", part.name, {"lowest": float(solid.vertices[:, 2].min())}, lambda: _framed(solid))
    visual = record.stage("simplify", part.name, {"faces": len(solid.faces)}, lambda: simplified(solid))
    seams = tuple(height - lowered for height in part.seams)
    hulls = record.stage(
        "collision", part.name, {"faces": len(visual.faces)}, lambda: _collided(visual, solid, config.collision, seams)
    )
    mass = record.stage("physical", part.name, {"volume": signed_volume(solid)}, lambda: _weighed(solid, part))
    body = Body(
        name=part.name,
        mass=mass.mass,
        center_of_mass=mass.center_of_mass,
        diagonal_inertia=mass.diagonal_inertia,
        principal_axes=mass.principal_axes,
        visual=visual,
        hulls=hulls,
        material=material(part.material),
        color=part.color,
        body_pose=part.pose,
    )
    return body, lowered


def _framed(solid: Mesh) -> tuple[tuple[Mesh, float], Mapping[str, Number]]:
    """Moves the solid onto z = 0 and flattens the vertices on which it stands."""
    heights = solid.vertices[:, 2]
    snap = _SNAP * diagonal(solid)
    level = float(np.median(heights[heights < heights.min() + snap]))
    vertices = solid.vertices - [0.0, 0.0, level]
    vertices[vertices[:, 2] < snap / 2, 2] = 0.0
    return (Mesh(vertices=vertices, faces=solid.faces), level), {"lowered": level, "flattened": int((vertices[:, 2] == 0.0).sum())}


def simplified(solid: Mesh) -> tuple[Mesh, Mapping[str, Number]]:
    """The coarsest simplification that keeps volume and shape to one percent."""
    exact = to_solid(solid)
    size, volume = diagonal(solid), exact.volume()
    tolerance, tried = _SIMPLIFY, exact
    for tolerance in (_SIMPLIFY, _SIMPLIFY / 2, _SIMPLIFY / 4, _SIMPLIFY / 8):
        tried = exact.simplify(tolerance * size)
        if abs(tried.volume() / volume - 1) <= _VOLUME_KEPT and (exact - tried).volume() <= _SHAPE_KEPT * volume:
            break
    while tried.num_tri() > _MAX_VISUAL_FACES and tolerance < 0.02:
        tolerance *= 1.5
        tried = exact.simplify(tolerance * size)
    return to_mesh(tried), {"faces": tried.num_tri(), "volume_ratio": tried.volume() / volume, "tolerance": tolerance * size}


def _collided(
    visual: Mesh, solid: Mesh, config: CollisionConfig, seams: tuple[float, ...]
) -> tuple[tuple[Mesh, ...], Mapping[str, Number]]:
    hulls = decompose(visual, config, seams)
    return hulls, asdict(measure(solid, hulls))


def _weighed(solid: Mesh, part: Part) -> tuple[MassProperties, Mapping[str, Number]]:
    density = material(part.material).density
    if part.shell_thickness > 0.0:
        # Noise changes the area but not the volume, so a shell is weighed on a slightly simplified surface.
        smooth = to_mesh(to_solid(solid).simplify(_SIMPLIFY / 2 * diagonal(solid)))
        properties = shell_properties(smooth, density, part.shell_thickness)
    else:
        properties = solid_properties(solid, density)
    source = "density"
    if part.mass is not None:
        properties, source = with_mass(properties, part.mass), "given"
    return properties, {"mass": properties.mass, "mass_source": source, "density": density, "shell_thickness": part.shell_thickness}
