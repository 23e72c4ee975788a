"""How a source and its asset fall and slide, each played by MuJoCo itself; by mechanics where MuJoCo cannot read the source.

Both are played under one set of options, for those belong to the world and not to the thing. They slide on a plane that has no
friction of its own, so that every collider rubs as it says; their turning is held by a large inertia, so that they slide and
do not tip over.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import mujoco
import numpy as np
from numpy.typing import NDArray

from embodichain.assets.physical.mjcf import to_mjcf
from embodichain.assets.physical.simulation import native_spec
from embodichain.errors import AssetError
from embodichain.types import Asset, Body, rotate
from embodichain.types.poses import quaternion_of

DROP_S, SLIDE_S, SLOPE = 0.1, 0.3, math.radians(35.0)
"""How long a thing falls and slides [s], and how steep the plane is [rad]."""
GRAVITY = 9.81
_SETTLE_S, _STEP_S = 0.5, 0.002
_EVERYTHING = 0x7FFFFFFF
"""Collides with whatever collides with anything."""
_HELD = 1e4
"""Moments of inertia [kg m^2] of what does not turn within a second."""

Motion = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Rotation and shift [m] from one frame to another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """How far [m] a thing fell and slid in the time for it; None where it does not, or nobody can say."""

    fall: float | None = None
    slide: float | None = None


def falls(asset: Asset) -> bool:
    """Whether an asset is loose: what is bolted down does not fall."""
    return not any(joint.parent == "" for joint in asset.joints)


def slides(asset: Asset) -> bool:
    """Whether an asset is one rigid thing, which slides as a whole."""
    return falls(asset) and not asset.movable_joints


def root_of(asset: Asset) -> Body:
    """The body that the others hang on."""
    carried = {joint.child for joint in asset.joints if joint.parent}
    return next(body for body in asset.bodies if body.name not in carried)


def of_asset(asset: Asset) -> Moved:
    """How the asset moves, by the MJCF that it is delivered with."""
    root = root_of(asset).name
    spec = lambda: mujoco.MjSpec.from_string(to_mjcf(asset, visual=False))  # noqa: E731 - a fresh one for each play
    return Moved(
        fall=_fallen(spec(), root) if falls(asset) else None,
        slide=_slid(spec(), root, None, None) if slides(asset) else None,
    )


def of_source(source: Path, root: str, asset: Asset, motion: Motion | None, *, rubs: bool) -> Moved:
    """How a URDF or MJCF file moves by itself; its own `root` is what becomes the asset's.

    Args:
        source: the file.
        root: the name of the body that everything else hangs on, in the file.
        asset: what it became: loose or bolted down, rigid or not.
        motion: from the file's frame to the asset's, in which it slides; it is not asked to where nobody knows.
        rubs: whether the file says how it rubs; else it is played with the asset's friction, for MuJoCo would make one up.

    Raises:
        AssetError: MuJoCo cannot play it.
    """
    friction = None if rubs else root_of(asset).material.dynamic_friction
    try:
        fall = _fallen(_native(source), root) if falls(asset) else None
        slide = _slid(_native(source), root, motion, friction) if motion is not None and slides(asset) else None
    except (ValueError, OSError, mujoco.FatalError) as error:
        raise AssetError(f"referee: MuJoCo itself cannot play {source.name}: {error}") from error
    return Moved(fall=fall, slide=slide)


def in_newton(asset: Asset) -> Moved:
    """How the asset moves in Newton, as that reads its USD: by its MuJoCo solver, on the processor.

    Newton's other solvers compile for minutes more; what this one compiles once in an environment, Warp keeps.
    """
    return Moved(
        fall=_newton(asset, sliding=False) if falls(asset) else None, slide=_newton(asset, sliding=True) if slides(asset) else None
    )


def _newton(asset: Asset, *, sliding: bool) -> float:
    import newton  # pyright: ignore[reportMissingImports]  # brings Warp, and is there by its own extra

    builder = newton.ModelBuilder()
    builder.add_usd(str(asset.path))
    if sliding:
        builder.add_ground_plane(cfg=newton.ModelBuilder.ShapeConfig(mu=2e-5))
    model = builder.finalize(device="cpu")
    if sliding:
        model.body_inertia.assign(np.tile(_HELD * np.eye(3, dtype=np.float32), (model.body_count, 1, 1)))
        model.body_inv_inertia.assign(np.tile(np.eye(3, dtype=np.float32) / _HELD, (model.body_count, 1, 1)))
    solver = newton.solvers.SolverMuJoCo(
        model, use_mujoco_cpu=True, disable_contacts=not sliding, cone="elliptic", impratio=10.0, integrator="implicitfast"
    )
    states, control = [model.state(), model.state()], model.control()
    masses = np.array(model.body_mass.numpy(), np.float64)

    def center() -> NDArray[np.float64]:
        places, centers = states[0].body_q.numpy().astype(np.float64), model.body_com.numpy().astype(np.float64)
        turned = [rotate((w, x, y, z), one) for (x, y, z, w), one in zip(places[:, 3:], centers, strict=True)]
        return np.asarray(masses @ (places[:, :3] + turned) / masses.sum(), np.float64)

    def run(duration_s: float) -> None:
        for _ in range(round(duration_s / _STEP_S)):
            solver.step(states[0], states[1], control, None, _STEP_S)
            states.reverse()

    if not sliding:
        start = center()
        run(DROP_S)
        return float(start[2] - center()[2])
    run(_SETTLE_S)
    model.set_gravity((GRAVITY * math.sin(SLOPE), 0.0, -GRAVITY * math.cos(SLOPE)))
    solver.notify_model_changed(newton.ModelFlags.MODEL_PROPERTIES)
    start = center()
    run(SLIDE_S)
    return float(np.linalg.norm((center() - start)[:2]))


def by_mechanics(asset: Asset) -> Moved:
    """How the asset shall move: by Galilei, and where it rubs the same everywhere, by Coulomb."""
    steps = round(DROP_S / _STEP_S)
    fall = GRAVITY * _STEP_S**2 * steps * (steps + 1) / 2  # as steps of this length have it
    frictions = {surface.dynamic_friction for body in asset.bodies for surface in body.touching}
    if len(frictions) != 1 or not slides(asset):
        return Moved(fall=fall if falls(asset) else None)
    pull = max(math.sin(SLOPE) - frictions.pop() * math.cos(SLOPE), 0.0)
    return Moved(fall=fall, slide=GRAVITY * pull * SLIDE_S**2 / 2)


def _native(source: Path) -> mujoco.MjSpec:
    spec, _ = native_spec(source)
    spec.compiler.boundmass, spec.compiler.boundinertia = 1e-9, 1e-12
    return spec


def _loose(spec: mujoco.MjSpec, root: str) -> mujoco.MjsBody:
    """The root, free to move, under the options that everything is played with."""
    body = spec.body(root)
    if body is None:
        raise ValueError(f"it has no body {root!r}")
    if not body.joints:
        body.add_freejoint()
    option = spec.option
    option.timestep, option.integrator = _STEP_S, mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    option.cone, option.impratio, option.gravity = mujoco.mjtCone.mjCONE_ELLIPTIC, 10.0, [0.0, 0.0, -GRAVITY]
    option.disableflags, option.enableflags, option.density, option.viscosity, option.wind = 0, 0, 0.0, 0.0, [0.0, 0.0, 0.0]
    return body


def _fallen(spec: mujoco.MjSpec, root: str) -> float:
    """How far a thing falls, touching nothing."""
    _loose(spec, root)
    spec.option.disableflags = int(mujoco.mjtDisableBit.mjDSBL_CONTACT)
    model = spec.compile()
    data, body = mujoco.MjData(model), model.body(root).id
    mujoco.mj_forward(model, data)
    start = float(data.subtree_com[body][2])
    _run(model, data, DROP_S)
    mujoco.mj_forward(model, data)  # a step computes where things are before it moves them
    return start - float(data.subtree_com[body][2])


def _slid(spec: mujoco.MjSpec, root: str, motion: Motion | None, friction: float | None) -> float | None:
    """How far a thing slides down a slope; None where it has nothing to touch it with."""
    _loose(spec, root)
    spec.worldbody.add_geom(
        name="slope_of_the_referee", type=mujoco.mjtGeom.mjGEOM_PLANE, size=[10.0, 10.0, 0.1], contype=_EVERYTHING,
        conaffinity=_EVERYTHING, friction=[0.0, 0.0, 0.0], condim=1, priority=-1000,
    )  # fmt: skip
    model = spec.compile()
    body, slope = model.body(root).id, model.geom("slope_of_the_referee").id
    own = [geom for geom in range(model.ngeom) if _below(model, int(model.geom_bodyid[geom]), body)]
    felt = [geom for geom in own if model.geom_contype[geom] or model.geom_conaffinity[geom]]
    if not felt:
        return None
    others = np.setdiff1d(np.arange(model.ngeom), [*own, slope])
    model.geom_contype[others], model.geom_conaffinity[others] = 0, 0
    if friction is not None:
        model.geom_friction[felt, 0], model.geom_condim[felt] = friction, np.maximum(model.geom_condim[felt], 3)
    data = mujoco.MjData(model)
    model.body_inertia[body] = _HELD
    mujoco.mj_setConst(model, data)
    mujoco.mj_resetData(model, data)
    place = int(model.jnt_qposadr[model.body_jntadr[body]])
    if motion is not None:
        turn, shift = motion
        mujoco.mj_kinematics(model, data)
        rotation, position = np.array(data.xmat[body]).reshape(3, 3), np.array(data.xpos[body])
        data.qpos[place : place + 3], data.qpos[place + 3 : place + 7] = turn @ position + shift, quaternion_of(turn @ rotation)
    _run(model, data, _SETTLE_S)
    model.opt.gravity[:] = (GRAVITY * math.sin(SLOPE), 0.0, -GRAVITY * math.cos(SLOPE))
    before = np.array(data.qpos[place : place + 2])
    _run(model, data, SLIDE_S)
    return float(np.linalg.norm(data.qpos[place : place + 2] - before))


def _below(model: mujoco.MjModel, body: int, root: int) -> bool:
    while body and body != root:
        body = int(model.body_parentid[body])
    return body == root


def _run(model: mujoco.MjModel, data: mujoco.MjData, duration_s: float) -> None:
    for _ in range(round(duration_s / model.opt.timestep)):
        mujoco.mj_step(model, data)
