"""The stages for parts read from files: stated values are kept, missing ones computed, and those that cannot be kept listed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull, QhullError

from embodichain.assets.chain.part_stages import repaired, simplified
from embodichain.assets.chain.record import Number, Record
from embodichain.assets.chain.settings import ChainConfig
from embodichain.assets.families.parts import Kept, Part, Preservation, Source, Touch
from embodichain.assets.families.tables import material
from embodichain.assets.geometry.articulate import self_contact
from embodichain.assets.geometry.collision import CollisionFit, convex_hull, decompose, measure, reduce_hull
from embodichain.assets.geometry.primitives import recognised
from embodichain.assets.geometry.repair import refuse_open, repair
from embodichain.assets.geometry.shapes import Solid, diagonal, drawn, signed_volume, to_mesh, to_solid
from embodichain.assets.geometry.topology import clean, components
from embodichain.assets.physical.mass import MassProperties, principal, shell_properties, solid_properties, with_mass
from embodichain.assets.reading.mechanisms import LEAST_MOMENT
from embodichain.assets.usd.validate import DENSITIES, INERTIA_REACH, OUTSIDE_M, TRIANGLE
from embodichain.errors import AssetError
from embodichain.types import Body, Material, Mesh

_MISSING = 0.01
"""Largest share of a convex solid's volume that its single hull may leave out."""
_SAME = 1e-4
"""Relative difference up to which two numbers count as equal."""


def prepared(raw: Source, config: ChainConfig, record: Record) -> Source:
    """Gives every part a closed solid: its colliders where the file states all physics, otherwise the repaired mesh.

    Raises:
        AssetError: no solid can be made of a part.
    """
    jointed = len(raw.parts) > 1
    parts = (_convex(part, config, record, least=0.5 if jointed else 0.9) for part in raw.parts)
    return replace(raw, parts=tuple(_solid(part, config, record, jointed=jointed) for part in parts))


def _convex(part: Part, config: ChainConfig, record: Record, least: float) -> Part:
    """Makes the part's colliders convex: pieces of a mesh that fill at least `least` of their hull become it, others are
    decomposed.

    `least` is small for the links of a robot, whose hulls engines use anyway; it must be large for a cup.
    """
    if all(collider.shape is not None for collider in part.stated.colliders):
        return part

    touches: list[Touch] = []

    def work() -> tuple[tuple[Mesh, ...], Mapping[str, Number]]:
        hulls: list[Mesh] = []
        told: list[str] = []
        for number, collider in enumerate(part.stated.colliders):
            # `touches` has one entry for each hull: the pieces of an earlier collider have its surface properties.
            touches.extend(part.stated.touches[number - 1 : number] * (len(hulls) - len(touches)))
            if collider.shape is not None:
                hulls.append(collider)
                continue
            for piece in _pieces(collider):
                whole = convex_hull(piece.vertices)
                fill = abs(signed_volume(piece)) / signed_volume(whole)
                if fill >= least:
                    hulls.append(reduce_hull(whole, config.collision.max_vertices))
                    told += [f"a hull filled to {fill:.1%}"] if fill < 1.0 - _SAME else []
                    lost = 1.0 - signed_volume(hulls[-1]) / signed_volume(whole)
                    of = f"{len(hulls[-1].vertices)} of its {len(whole.vertices)} vertices"
                    told += [f"a hull of {of} leaves out {lost:.2%}"] if lost > _SAME else []
                    continue
                try:
                    solid, _ = repair(piece, config.repair)
                    made = decompose(to_mesh(to_solid(solid).simplify(0.002 * diagonal(solid))), config.collision)
                    fit = measure(solid, made)
                    told.append(f"{len(made)} convex pieces that add {fit.over:.1%} and leave out {fit.missing:.1%}")
                    hulls += made
                except AssetError as error:
                    hulls.append(reduce_hull(whole, config.collision.max_vertices))
                    told.append(f"the hull of a mesh that is no solid ({error})")
        touches.extend(part.stated.touches[-1:] * (len(hulls) - len(touches)))
        if told:
            stated = f"{len(part.stated.colliders)} meshes"
            reason = "engines collide convex pieces: " + "; ".join(list(dict.fromkeys(told))[:6])
            row = Kept(
                of=part.name,
                what="collision mesh",
                stated=stated,
                written=f"{len(hulls)} hulls",
                fate=Preservation.CHANGED,
                reason=reason,
            )
            record.fidelity.append(row)
        return tuple(hulls), {"hulls": len(hulls)}

    before = {"colliders": len(part.stated.colliders)}
    hulls = record.stage("convex", part.name, before, work)
    return replace(part, stated=replace(part.stated, colliders=hulls, touches=tuple(touches)))


def _pieces(mesh: Mesh) -> list[Mesh]:
    """The connected pieces of a collision mesh that span a volume. Some files store a whole decomposition as one mesh."""
    found = [piece for piece in components(clean(mesh, 1e-6 * diagonal(mesh))) if len(piece.vertices) >= 4]
    solid = []
    for piece in found:
        try:
            ConvexHull(piece.vertices)
        except QhullError:
            continue
        solid.append(piece)
    return solid or [mesh]


def _solid(part: Part, config: ChainConfig, record: Record, *, jointed: bool) -> Part:
    stated = part.stated
    if not len(part.mesh.faces):
        return part
    if stated.colliders and _weighs(part):
        return replace(part, mesh=_cover(stated.colliders))
    try:
        return repaired(part, config, record)
    except AssetError as error:
        if jointed and not stated.colliders and _weighs(part):
            # The link needs no solid: its mass is stated, and its file gives it no colliders.
            reason = f"its file lets it touch nothing, and what is seen is no solid to make colliders of: {error}"
            record.fidelity.append(
                Kept(of=part.name, what="colliders", stated="none", written="none", fate=Preservation.KEPT, reason=reason)
            )
            return replace(part, mesh=Mesh(vertices=np.zeros((0, 3)), faces=np.zeros((0, 3), np.int32)))
        if not stated.colliders:
            raise
        reason = f"what is seen is no solid, so its colliders were weighed: {error}"
        record.fidelity.append(
            Kept(of=part.name, what="solid", stated="visual", written="colliders", fate=Preservation.CHANGED, reason=reason)
        )
        return replace(part, mesh=_cover(stated.colliders))


def _weighs(part: Part) -> bool:
    """Whether a file states all mass properties of a part that would otherwise be computed from its shape."""
    return bool(part.stated.mass) and part.stated.inertia is not None


def foreseen(raw: Source, config: ChainConfig) -> None:
    """Raises AssetError early for what `prepared` will refuse, as far as that is cheap to find: open surfaces without a wall."""
    for part in raw.parts:
        spared = len(raw.parts) > 1 and _weighs(part)
        if len(part.mesh.faces) and not part.stated.colliders and not part.wall > 0.0 and not spared:
            refuse_open(part.mesh, config.repair)


def _cover(colliders: tuple[Mesh, ...]) -> Mesh:
    cover = Solid.compose([])
    for collider in colliders:
        cover = cover + to_solid(collider)
    return to_mesh(cover)


def build_body(part: Part, config: ChainConfig, record: Record) -> tuple[Body, Mesh]:
    """The body of a prepared part of a file, and the solid on which grasps are searched; raises AssetError when a stage refuses."""
    surfaces = _surfaces(part)
    surface = surfaces[0] if surfaces else _surface(part)
    _within(part, surfaces or (surface,), record)
    if not len(part.mesh.faces):
        mass = _shapeless(part, record)
        return _body(part, mass, (), surface), part.mesh
    solid = part.mesh
    plain = record.stage("simplify", part.name, {"faces": len(solid.faces)}, lambda: simplified(solid))
    hulls = record.stage("collision", part.name, {"faces": len(plain.faces)}, lambda: _collided(part, plain, config))
    mass = record.stage(
        "physical", part.name, {"volume": signed_volume(solid)}, lambda: _weighed(part, hulls, surface.density, record)
    )
    return replace(_body(part, mass, hulls, surface), surfaces=surfaces), plain


def _body(part: Part, mass: MassProperties, hulls: tuple[Mesh, ...], surface: Material) -> Body:
    return Body(
        name=part.name,
        mass=mass.mass,
        center_of_mass=mass.center_of_mass,
        diagonal_inertia=mass.diagonal_inertia,
        principal_axes=mass.principal_axes,
        visual=part.look.mesh if part.look else part.mesh,
        hulls=hulls,
        material=surface,
        color=part.color,
        body_pose=part.pose,
    )


def _surfaces(part: Part) -> tuple[Material, ...]:
    """The material of each collider, where the file states several."""
    kinds = list(dict.fromkeys(part.stated.touches))
    made = [_surface(part, touch) for touch in kinds]
    plain = material(part.material).name
    named = [replace(one, name=f"{one.name}_touch_{number}") if one.name != plain else one for number, one in enumerate(made)]
    return tuple(named[kinds.index(touch)] for touch in part.stated.touches)


def _surface(part: Part, touch: Touch | None = None) -> Material:
    """The table's material, changed by what the file states about the part, or about one collider."""
    base, stated = material(part.material), part.stated
    touch = touch or Touch(
        static_friction=stated.static_friction, dynamic_friction=stated.dynamic_friction, restitution=stated.restitution
    )
    static, dynamic = touch.static_friction, touch.dynamic_friction
    if static is not None or dynamic is not None:
        dynamic = dynamic if dynamic is not None else min(static or 0.0, base.dynamic_friction)
        static = max(static if static is not None else dynamic, dynamic)
    own = Material(
        name=f"{base.name}_{part.name}",
        density=stated.density if stated.density else base.density,
        static_friction=base.static_friction if static is None else static,
        dynamic_friction=base.dynamic_friction if dynamic is None else dynamic,
        restitution=base.restitution if touch.restitution is None else min(max(touch.restitution, 0.0), 1.0),
    )
    return base if replace(own, name=base.name) == base else own


def _within(part: Part, surfaces: tuple[Material, ...], record: Record) -> None:
    """Records a row for each surface property that could not be written as stated."""
    reason = "no surface has that: it sticks at least as well as it slides, and gives back no more than it takes"
    for name in ("static_friction", "dynamic_friction", "restitution"):
        told = [getattr(touch, name) for touch in part.stated.touches or (part.stated,)]
        made = [getattr(surface, name) for surface in surfaces]
        pairs = [(stated, written) for stated, written in zip(told, made, strict=True) if stated is not None]
        if any(abs(stated - written) > _SAME * max(abs(stated), 1e-9) for stated, written in pairs):
            what = name.replace("_", " ")
            if part.stated.touches:
                sides = tuple(stated for stated, _ in pairs), tuple(written for _, written in pairs)
                _changed(record, part, f"{what} of colliders", sides[0], sides[1], reason)
            else:
                _changed(record, part, what, pairs[0][0], pairs[0][1], reason)


def _collided(part: Part, plain: Mesh, config: ChainConfig) -> tuple[tuple[Mesh, ...], Mapping[str, Number]]:
    """The colliders that the file states; otherwise the analytic shape of the solid; otherwise its convex pieces."""
    solid = part.mesh
    if part.stated.colliders:
        vertices = max(len(hull.vertices) for hull in part.stated.colliders)
        fit = CollisionFit(hulls=len(part.stated.colliders), vertices=vertices, over=0.0, missing=0.0)
        return part.stated.colliders, {**asdict(fit), "collision_source": "file"}
    shape = recognised(solid)
    if shape is not None:
        hull = drawn(shape)
        return (hull,), {**asdict(measure(solid, (hull,))), "collision_source": str(shape.kind)}
    hulls = tuple(decompose(plain, config.collision))
    fit = measure(solid, hulls)
    if len(hulls) == 1 and fit.missing > _MISSING:
        hulls = (filled(hulls[0], solid),)
        fit = measure(solid, hulls)
    return hulls, {**asdict(fit), "collision_source": "decomposed"}


def filled(hull: Mesh, solid: Mesh) -> Mesh:
    """Scales a hull of few vertices about its centre to the volume of the solid, without reaching below its lowest point."""
    middle = hull.vertices.mean(axis=0)
    vertices = middle + (hull.vertices - middle) * (signed_volume(solid) / signed_volume(hull)) ** (1.0 / 3.0)
    vertices[:, 2] = np.maximum(vertices[:, 2], solid.vertices[:, 2].min())
    return convex_hull(vertices)


def set_apart(bodies: Sequence[Body], raw: Source, record: Record) -> tuple[tuple[tuple[str, str], ...], Mapping[str, Number]]:
    """Pairs of bodies whose colliders overlap somewhere in the range of a joint: they are excluded from collision."""
    pairs = []
    for pair, volume in self_contact(bodies, raw.joints, samples=3, once=True).items():
        reason = "their colliders overlap somewhere in a joint's range: filtered, as parents and children of joints are"
        stated = f"overlap of {volume * 1e6:.3g} cm^3"
        row = Kept(
            of=" and ".join(pair), what="contact", stated=stated, written="filtered", fate=Preservation.CHANGED, reason=reason
        )
        record.fidelity.append(row)
        if pair not in raw.apart and pair[::-1] not in raw.apart:
            pairs.append(pair)
    return tuple(pairs), {"filtered": len(pairs)}


# ----------------------------------------------------------------------------------------------------------------- weight


def _weighed(part: Part, hulls: tuple[Mesh, ...], density: float, record: Record) -> tuple[MassProperties, Mapping[str, Number]]:
    """The mass properties that the file states where they are physically possible, otherwise those of the solid."""
    stated, solid = part.stated, part.mesh
    if part.shell_thickness > 0.0:
        plain = shell_properties(solid, density, part.shell_thickness)
    else:
        plain = solid_properties(solid, density)
    points = np.concatenate([solid.vertices, *(hull.vertices for hull in hulls), *([part.look.mesh.vertices] if part.look else [])])
    mass, source = part.mass, "given"
    why = _absurd_mass(part.mass, points) if part.mass else ""
    if part.mass is None or why:
        mass, source = plain.mass, "density"
        if why:
            _changed(record, part, "mass", part.mass, mass, why)
    assert mass is not None
    found = with_mass(plain, mass)
    center, inertia = stated.center_of_mass, stated.inertia
    if center is not None:
        beyond = outside(np.asarray(center), points)
        if beyond > OUTSIDE_M:
            reason = f"{beyond * 1e3:.1f} mm outside the body: that of its solid was taken"
            _changed(record, part, "centre of mass", center, found.center_of_mass, reason)
            center, inertia = None, None if inertia is None else inertia
    if inertia is not None and not why:
        inertia = inertia * (mass / stated.mass) if stated.mass else inertia
        wrong = _absurd_inertia(inertia, mass, points, np.asarray(center or found.center_of_mass))
        if wrong:
            _changed(record, part, "inertia", _six(inertia), _six(found.inertia), wrong)
            inertia = None
    elif inertia is not None:
        _changed(record, part, "inertia", _six(inertia), _six(found.inertia), "it belongs to a mass that was replaced")
        inertia = None
    if inertia is not None:
        diagonal, axes = principal(inertia)
        found = replace(found, inertia=inertia, diagonal_inertia=diagonal, principal_axes=axes)
    if center is not None:
        found = replace(found, center_of_mass=center)
    return found, {"mass": found.mass, "mass_source": source, "density": density, "shell_thickness": part.shell_thickness}


def _shapeless(part: Part, record: Record) -> MassProperties:
    """Mass properties of a body without shape, which only connects joints."""
    inertia = part.stated.inertia
    if inertia is not None:
        wrong = _absurd_inertia(inertia, 1.0, np.zeros((0, 3)), np.zeros(3))
        if wrong:
            _changed(record, part, "inertia", _six(inertia), LEAST_MOMENT, wrong)
            inertia = None
    inertia = np.eye(3) * LEAST_MOMENT if inertia is None else inertia
    diagonal, axes = principal(inertia)
    center = part.stated.center_of_mass or (0.0, 0.0, 0.0)
    assert part.mass is not None
    return MassProperties(mass=part.mass, center_of_mass=center, inertia=inertia, diagonal_inertia=diagonal, principal_axes=axes)


def _changed(record: Record, part: Part, what: str, stated: object, written: object, reason: str) -> None:
    values = [value if isinstance(value, (float, str, tuple)) else None for value in (stated, written)]
    row = Kept(of=part.name, what=what, stated=values[0], written=values[1], fate=Preservation.CHANGED, reason=reason)
    if row not in record.fidelity:
        record.fidelity.append(row)


def _six(inertia: NDArray[np.float64]) -> tuple[float, ...]:
    """Moments and products of inertia: xx, yy, zz, xy, xz, yz."""
    rows, columns = (0, 1, 2, 0, 0, 1), (0, 1, 2, 1, 2, 2)
    return tuple(float(value) for value in inertia[rows, columns])


def _absurd_mass(mass: float, points: NDArray[np.float64]) -> str:
    """Why no object of this size can have that mass; empty when it can."""
    try:
        density = mass / ConvexHull(points).volume
    except (QhullError, ValueError):
        return ""
    low, high = DENSITIES
    return "" if low <= density <= high else f"{density:.3g} kg/m^3 in its hull; solids have {low:g} to {high:g}"


def outside(center: NDArray[np.float64], points: NDArray[np.float64]) -> float:
    """Distance of a point from the hull of other points [m]; negative inside."""
    try:
        hull = ConvexHull(points)
    except (QhullError, ValueError):
        return 0.0
    return float((hull.equations[:, :3] @ center + hull.equations[:, 3]).max())


def _absurd_inertia(inertia: NDArray[np.float64], mass: float, points: NDArray[np.float64], center: NDArray[np.float64]) -> str:
    """Why no mass distribution has that inertia, by the validator's rule; empty when one may have it."""
    if not np.isfinite(inertia).all():
        return "not finite"
    low, middle, high = np.linalg.eigvalsh((inertia + inertia.T) / 2)
    if not low > 0.0:
        return f"a moment of {low:.3g} kg m^2 is not positive"
    if low + middle < high * (1 - TRIANGLE):
        return f"moments {low:.3g}, {middle:.3g}, {high:.3g} kg m^2 break the triangle inequality"
    reach = float(np.linalg.norm(points - center, axis=1).max()) if len(points) else np.inf
    if high > INERTIA_REACH * mass * reach**2:
        return f"a moment of {high:.3g} kg m^2 exceeds mass times reach squared ({mass:.3g} kg, {reach:.3g} m)"
    return ""
