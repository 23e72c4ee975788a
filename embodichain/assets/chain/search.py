"""Searches for the best variant of one asset: scale, material, collision budget and stable pose, scored within a budget of trials.

Deterministic by seed. The score is measured on the asset that would be delivered: physics rests, drops, pushes and lifts it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from embodichain.assets.chain.candidates import Candidate, Readiness, SearchConfig
from embodichain.assets.chain.record import Record
from embodichain.assets.chain.settings import ChainConfig
from embodichain.assets.families import parts as parts_room
from embodichain.assets.families import tables
from embodichain.assets.families.parts import Source
from embodichain.assets.geometry.shapes import moved
from embodichain.assets.geometry.supports import supports, tipping_angle
from embodichain.assets.physical import grasp
from embodichain.assets.physical import simulated_checks as behave
from embodichain.assets.physical.mass import solid_properties
from embodichain.errors import AssetError
from embodichain.types import Asset, Body, Joint, JointKind, Mesh, Pose, Quaternion
from embodichain.types.poses import compose

_SCALES = tuple(round(0.75 + 0.05 * step, 2) for step in range(11))
_HULL_COSTS = (0.001, 0.002, 0.003, 0.006, 0.012, 0.03)
_VERTICES = (16, 32, 64)
_SCALE_DOUBT = 0.2
"""Standard deviation of the error of a stated scale, as a logarithm: a fifth up or down multiplies fidelity by about 0.6."""
_MATERIAL_KIN = 2.0
"""Materials whose density is within this factor of the given one may replace it."""
_OTHER_SIDE = 0.6
"""Fidelity of standing in another pose than the given one."""
_STEADY = math.radians(20.0)
_FREE_VERTICES = 600.0
"""Number of hull vertices at which the speed term is one half."""

Assemble = Callable[[Source, ChainConfig], tuple[Asset, Record]]
"""The part of the chain from a source with repaired solids to an asset in memory."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Found:
    """The best asset, how it was made, and the score of the plain chain's asset."""

    asset: Asset
    record: Record
    candidate: Candidate
    score: Readiness
    plain: Readiness
    tried: int


def search(raw: Source, config: ChainConfig, settings: SearchConfig, assemble: Assemble) -> Found:
    """Tries `settings.budget` candidates and returns the best; a candidate that a stage refuses is skipped.

    Raises:
        AssetError: a stage refuses the plain chain's candidate.
    """
    rng = np.random.default_rng([settings.seed, 7])
    plain = Candidate(hull_cost=config.collision.hull_cost, max_vertices=config.collision.max_vertices)
    space = _Space.of(raw, settings, plain)
    made: dict[tuple[int, float, int], tuple[Asset, Record] | None] = {}

    def tried(candidate: Candidate) -> tuple[Readiness, Asset, Record] | None:
        base = (candidate.support, candidate.hull_cost, candidate.max_vertices)
        if base not in made:
            collision = replace(config.collision, hull_cost=candidate.hull_cost, max_vertices=candidate.max_vertices)
            try:
                made[base] = assemble(turned(raw, space.turns[candidate.support]), replace(config, collision=collision))
            except AssetError:
                if candidate == plain:
                    raise
                made[base] = None
        built = made[base]
        if built is None:
            return None
        asset = scaled(of_material(built[0], raw, candidate.material), raw, candidate.scale)
        return score(asset, built[1], raw, candidate, settings), asset, built[1]

    first = tried(plain)
    assert first is not None
    best, chosen = first, plain
    seen = {plain}
    for step in range(settings.budget - 1):
        # Alternate between a candidate anywhere in the space and one that differs from the best so far in one choice.
        candidate = space.fresh(rng, chosen if step % 2 else None, seen)
        if candidate is None:
            break
        result = tried(candidate)
        if result is not None and result[0].total > best[0].total + 1e-9:
            best, chosen = result, candidate
    return Found(asset=best[1], record=best[2], candidate=chosen, score=best[0], plain=first[0], tried=len(seen))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Space:
    """The values that each property of a candidate may have for one source."""

    scale: tuple[float, ...]
    material: tuple[str, ...]
    hull_cost: tuple[float, ...]
    max_vertices: tuple[int, ...]
    support: tuple[int, ...]
    turns: tuple[Quaternion, ...]

    @classmethod
    def of(cls, raw: Source, settings: SearchConfig, plain: Candidate) -> _Space:
        """The choices that the settings leave free and the source allows."""
        turns: tuple[Quaternion, ...] = ((1.0, 0.0, 0.0, 0.0),)
        if "support" in settings.over and len(raw.parts) == 1 and not raw.joints:
            mesh = raw.parts[0].mesh
            turns += supports(mesh, solid_properties(mesh, 1.0).center_of_mass)
        kin = ("",)
        if "material" in settings.over:
            given = tables.material(main_part(raw).material)
            near = [
                other.name
                for other in tables.material_table().values()
                if other.name != given.name and abs(math.log(other.density / given.density)) <= math.log(_MATERIAL_KIN)
            ]
            kin += tuple(sorted(near))
        collision = "collision" in settings.over
        return cls(
            scale=_SCALES if "scale" in settings.over else (1.0,),
            material=kin,
            hull_cost=tuple(sorted({*_HULL_COSTS, plain.hull_cost})) if collision else (plain.hull_cost,),
            max_vertices=tuple(sorted({*_VERTICES, plain.max_vertices})) if collision else (plain.max_vertices,),
            support=tuple(range(len(turns))),
            turns=turns,
        )

    def fresh(self, rng: np.random.Generator, near: Candidate | None, seen: set[Candidate]) -> Candidate | None:
        """A new candidate: anywhere, or with one property different from `near`; None when almost all have been tried."""
        names = [name for name in ("scale", "material", "hull_cost", "max_vertices", "support") if len(getattr(self, name)) > 1]
        for _ in range(200 if names else 0):
            changed = names if near is None else [names[int(rng.integers(len(names)))]]
            changes = {name: getattr(self, name)[int(rng.integers(len(getattr(self, name))))] for name in changed}
            candidate = replace(near or Candidate(hull_cost=self.hull_cost[0], max_vertices=self.max_vertices[0]), **changes)
            if candidate not in seen:
                seen.add(candidate)
                return candidate
        return None


def score(asset: Asset, record: Record, raw: Source, candidate: Candidate, settings: SearchConfig) -> Readiness:
    """Scores an asset; `record` holds how well its hulls fit."""
    fits = {entry.part: entry.after for entry in record.entries if entry.stage == "collision"}
    volumes = {entry.part: float(entry.before["volume"]) for entry in record.entries if entry.stage == "physical"}
    overlap = sum(volumes[p] * (1 - float(fit["missing"])) / (1 + float(fit["over"])) for p, fit in fits.items())
    fidelity = overlap / sum(volumes.values()) * math.exp(-((math.log(candidate.scale) / _SCALE_DOUBT) ** 2) / 2)
    if candidate.material:
        densities = tables.material(candidate.material).density / tables.material(main_part(raw).material).density
        fidelity *= 0.9 * math.exp(-abs(math.log(densities)))
    if candidate.support:
        fidelity *= _OTHER_SIDE
    found = behave.behave(asset)
    steady = 0.0 if behave.faults(asset, found) else min(tipping_angle(asset) / _STEADY, 1.0)
    vertices = sum(len(hull.vertices) for body in asset.bodies for hull in body.hulls)
    terms = {
        "fidelity": fidelity,
        "stability": steady,
        "graspability": graspability(asset),
        "speed": 1.0 / (1.0 + vertices / _FREE_VERTICES),
    }
    weights = settings.weights
    logs = sum(weight * math.log(max(terms[name], 1e-6)) for name, weight in weights.items())
    return Readiness(**terms, total=math.exp(logs / sum(weights.values())))


def graspability(asset: Asset, gripper: grasp.GripperConfig | None = None) -> float:
    """Share of the promised grasps that hold in a simulated lift; without any, how well the smallest side fits the gripper."""
    promised = grasp.grasps(asset)
    if promised:
        return sum(grasp.lift(asset, name).held for name in promised) / len(promised)
    if asset.fixed_base:
        return 1.0  # it is operated where it stands, not lifted
    opening = (gripper or grasp.GripperConfig()).opening
    least = float((asset.bounds[1] - asset.bounds[0]).min())
    return min(1.0, opening / least)


def main_part(raw: Source) -> parts_room.Part:
    """The part whose material the search varies: the one with the largest bounding box."""
    return max(raw.parts, key=lambda part: float(np.ptp(part.mesh.vertices, axis=0).prod()))


# ------------------------------------------------------------------------------------------------- changes that are exact


def turned(raw: Source, quaternion: Quaternion) -> Source:
    """Stands a source of one part on another side, above the origin."""
    if quaternion == (1.0, 0.0, 0.0, 0.0):
        return raw
    (part,) = raw.parts
    vertices = moved(part.mesh, compose(Pose(quaternion=quaternion), part.pose)).vertices
    middle = (vertices.min(axis=0) + vertices.max(axis=0)) / 2
    shift = (-float(middle[0]), -float(middle[1]), -float(vertices[:, 2].min()))
    placed = compose(Pose(position=shift, quaternion=quaternion), part.pose)
    affordances = {name: (owner, compose(placed, pose)) for name, (owner, pose) in raw.affordances.items()}
    return replace(raw, parts=(replace(part, mesh=moved(part.mesh, placed), pose=Pose(), seams=()),), affordances=affordances)


def scaled(asset: Asset, raw: Source, factor: float) -> Asset:
    """Scales all lengths of an asset. Unless stated, mass grows with the cube of the factor; inertia with mass times its square."""
    if factor == 1.0:
        return asset
    given = {part.name for part in raw.parts if part.mass is not None}
    bodies = tuple(_scaled_body(body, factor, 1.0 if body.name in given else factor**3) for body in asset.bodies)
    return replace(
        asset,
        bodies=bodies,
        joints=tuple(_scaled_joint(joint, factor) for joint in asset.joints),
        affordances={name: (owner, _scaled_pose(pose, factor)) for name, (owner, pose) in asset.affordances.items()},
    )


def of_material(asset: Asset, raw: Source, name: str) -> Asset:
    """Gives the main body another material; its mass follows the density unless it was stated."""
    if not name:
        return asset
    main = main_part(raw)
    other = tables.material(name)
    bodies = []
    for body in asset.bodies:
        if body.name == main.name:
            factor = 1.0 if main.mass is not None else other.density / body.material.density
            moments = tuple(moment * factor for moment in body.diagonal_inertia)
            body = replace(body, material=other, surfaces=(), mass=body.mass * factor, diagonal_inertia=moments)
        bodies.append(body)
    return replace(asset, bodies=tuple(bodies))


def _scaled_body(body: Body, factor: float, heavier: float) -> Body:
    def larger(mesh: Mesh) -> Mesh:
        return Mesh(vertices=mesh.vertices * factor, faces=mesh.faces)

    first, second, third = (moment * heavier * factor**2 for moment in body.diagonal_inertia)
    x, y, z = (value * factor for value in body.center_of_mass)
    return replace(
        body,
        mass=body.mass * heavier,
        center_of_mass=(x, y, z),
        diagonal_inertia=(first, second, third),
        visual=larger(body.visual),
        hulls=tuple(larger(hull) for hull in body.hulls),
        body_pose=_scaled_pose(body.body_pose, factor),
    )


def _scaled_pose(pose: Pose, factor: float) -> Pose:
    x, y, z = (value * factor for value in pose.position)
    return replace(pose, position=(x, y, z))


def _scaled_joint(joint: Joint, factor: float) -> Joint:
    """Scales a joint. Gravity torques grow with the fourth power of length, forces with the third; so do friction and damping."""
    x, y, z = (value * factor for value in joint.anchor)
    turning = joint.kind is JointKind.REVOLUTE
    length = 1.0 if turning else factor
    load = factor**4 if turning else factor**3
    return replace(
        joint,
        anchor=(x, y, z),
        lower=joint.lower * length,
        upper=joint.upper * length,
        friction=joint.friction * load,
        damping=joint.damping * load,
        stiffness=joint.stiffness * load / length,
        rest=joint.rest * length,
    )


def summary(found: Found) -> Mapping[str, object]:
    """The entry about a search in the sidecar."""
    candidate = found.candidate
    return {
        "total": found.score.total,
        "terms": dict(found.score.terms),
        "plain": found.plain.total,
        "tried": found.tried,
        "chosen": {
            "scale": candidate.scale,
            "material": candidate.material or "as given",
            "hull_cost": candidate.hull_cost,
            "max_vertices": candidate.max_vertices,
            "support": candidate.support,
        },
    }
