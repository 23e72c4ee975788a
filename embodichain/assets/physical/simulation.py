"""A small MuJoCo world for testing an asset: compiled from MJCF text, stepped, inspected, restarted."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import mujoco
import numpy as np
from numpy.typing import NDArray

from embodichain.errors import AssetError
from embodichain.types.poses import quaternion_of

_ENERGY = int(mujoco.mjtEnableBit.mjENBL_ENERGY)
_BALL = int(mujoco.mjtJoint.mjJNT_BALL)
_MESH, _PLANE = int(mujoco.mjtGeom.mjGEOM_MESH), int(mujoco.mjtGeom.mjGEOM_PLANE)
DROP_S, SLIDE_S, SLOPE = 0.1, 0.3, math.radians(35.0)
"""Duration of a fall and of a slide [s], and the slope of the plane [rad]."""
GRAVITY = 9.81
SETTLE_S, STEP_S = 0.5, 0.002
"""Duration of standing on the plane before sliding [s], and the length of a physics step [s]."""
STICKING = 10.0
"""Ratio of friction to normal impedance in contacts."""
_EVERYTHING = 0x7FFFFFFF
"""Collision bits that match those of every other geom."""
HELD = 1e4
"""Moments of inertia [kg m^2] that prevent an object from turning noticeably within a second."""

Motion = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Rotation and translation [m] from one frame to another."""


class Simulation:
    """One state of a model; several may share a model, if only one is used at a time."""

    def __init__(self, model: mujoco.MjModel) -> None:
        # By default MuJoCo logs every instability to a file in the working folder; here the final state shows it.
        mujoco.set_mju_user_warning(_ignore)
        self.model = model
        self.data = mujoco.MjData(model)
        self.guessed: frozenset[str] = frozenset()
        """Bodies whose inertia, with the parts they carry, differs from the stated one because that is physically impossible."""

    @classmethod
    def of(cls, mjcf: str) -> Self:
        """The world described by MJCF text, in its initial state, with all derived quantities computed."""
        fresh = cls(mujoco.MjModel.from_xml_string(mjcf))
        fresh.forward()
        return fresh

    @classmethod
    def native(cls, file: Path) -> Self:
        """The world that MuJoCo itself makes of a URDF or MJCF file; raises AssetError when MuJoCo cannot read it."""
        spec, guessed = native_spec(file)
        try:
            try:
                world = cls(spec.compile())
            except ValueError as error:
                if "mjMINVAL" not in str(error):
                    raise
                # A moving body needs some mass: links without a stated mass or contacts get less than anybody would state.
                spec.compiler.boundmass, spec.compiler.boundinertia = 1e-9, 1e-12
                world = cls(spec.compile())
        except (ValueError, OSError) as error:
            raise AssetError(f"referee: MuJoCo itself cannot read {file.name}: {error}") from error
        owner, model = world._owners(whole=True), world.model
        world.guessed = frozenset(model.body(owner[model.body(name).id]).name for name in guessed)
        return world

    def weights(self, *, whole: bool = False) -> dict[str, tuple[float, NDArray[np.float64], NDArray[np.float64]]]:
        """Mass [kg], centre of mass [m] and inertia about it [kg m^2] along the world's axes of each body with a mass.

        With `whole`, a body without joints counts as part of the one that carries it.
        """
        model, members, owner = self.model, dict[int, list[int]](), self._owners(whole=whole)
        mujoco.mj_kinematics(model, self.data)
        mujoco.mj_comPos(model, self.data)
        for index in range(1, model.nbody):
            members.setdefault(owner[index], []).append(index)
        found = {}
        for index, bodies in members.items():
            masses, centers = model.body_mass[bodies], self.data.xipos[bodies]
            mass = float(masses.sum())
            if mass <= 0.0:
                continue
            center, inertia = np.asarray(masses @ centers / mass, np.float64), np.zeros((3, 3))
            for body, weight, place in zip(bodies, masses, centers, strict=True):
                turn, arm = np.array(self.data.ximat[body]).reshape(3, 3), place - center
                inertia += turn @ np.diag(model.body_inertia[body]) @ turn.T
                inertia += weight * (arm @ arm * np.eye(3) - np.outer(arm, arm))
            found[model.body(index).name or f"body_{index}"] = (mass, center, inertia)
        return found

    def limits(self) -> dict[str, tuple[float, float]]:
        """Limits of each limited joint [rad or m], relative to its initial position."""
        model, found = self.model, {}
        for index in range(model.njnt):
            if model.jnt_limited[index] and int(model.jnt_type[index]) != _BALL:
                zero = float(model.qpos0[model.jnt_qposadr[index]])
                lower, upper = (float(value) - zero for value in model.jnt_range[index])
                found[model.joint(index).name] = (lower, upper)
        return found

    def frictions(self, *, whole: bool = False) -> dict[str, tuple[float, ...]]:
        """Distinct sliding friction coefficients of each body's colliders, in order; `whole` as in `weights`."""
        model, found, owner = self.model, dict[str, set[float]](), self._owners(whole=whole)
        for geom in range(model.ngeom):
            index = owner[int(model.geom_bodyid[geom])]
            if index and (model.geom_contype[geom] or model.geom_conaffinity[geom]):
                found.setdefault(model.body(index).name or f"body_{index}", set()).add(float(model.geom_friction[geom][0]))
        return {name: tuple(sorted(values)) for name, values in found.items()}

    def _owners(self, *, whole: bool) -> dict[int, int]:
        """The body to which each body is attributed: itself or, if it has no joint, the one that carries it."""
        model, owner = self.model, {0: 0}
        for index in range(1, model.nbody):
            parent = int(model.body_parentid[index])
            owner[index] = owner[parent] if whole and parent and not model.body_jntnum[index] else index
        return owner

    def again(self) -> Self:
        """The same world as compiled, before anything is computed, so that its positions may be set."""
        return type(self)(self.model)

    def kinematics(self) -> None:
        """Computes the poses of bodies and geoms."""
        mujoco.mj_kinematics(self.model, self.data)

    def forward(self) -> None:
        """Computes everything that follows from positions and velocities, including contacts."""
        mujoco.mj_forward(self.model, self.data)

    def steps(self, duration_s: float) -> Iterator[int]:
        """Steps for a duration [s]; yields each step's number before the step, so that forces can be set."""
        for step in range(round(duration_s / self.model.opt.timestep)):
            yield step
            mujoco.mj_step(self.model, self.data)

    def seen(self, duration_s: float) -> Iterator[int]:
        """Steps for a duration [s]; yields each step's number after the step, so that the state can be read."""
        for step in range(round(duration_s / self.model.opt.timestep)):
            mujoco.mj_step(self.model, self.data)
            yield step

    def run(self, duration_s: float) -> None:
        """Steps for a duration [s]."""
        for _ in self.seen(duration_s):
            pass

    @contextmanager
    def energies(self) -> Iterator[None]:
        """A context in which `data.energy` holds the potential and kinetic energy [J]."""
        flags = int(self.model.opt.enableflags)
        self.model.opt.enableflags = flags | _ENERGY
        try:
            yield
        finally:
            self.model.opt.enableflags = flags

    def deepest(self) -> float:
        """Depth of the deepest contact [m]; 0 when nothing touches."""
        return max((-float(contact.dist) for contact in self.data.contact[: self.data.ncon]), default=0.0)

    def lowest(self) -> float:
        """Height of the lowest point of any collider except the floor [m]."""
        model, data, heights = self.model, self.data, []
        for geom in range(model.ngeom):
            if model.geom_type[geom] == _PLANE or not model.geom_contype[geom]:
                continue
            if model.geom_type[geom] != _MESH:  # an analytic geom has no vertices
                heights.append(float(data.geom_xpos[geom][2]) - _reach(model, data, geom))
            else:
                mesh = model.geom_dataid[geom]
                start, count = model.mesh_vertadr[mesh], model.mesh_vertnum[mesh]
                points = model.mesh_vert[start : start + count] @ data.geom_xmat[geom].reshape(3, 3).T + data.geom_xpos[geom]
                heights.append(float(points[:, 2].min()))
        return min(heights)


def native_spec(file: Path) -> tuple[mujoco.MjSpec, frozenset[str]]:
    """The spec that MuJoCo itself makes of a URDF or MJCF file, with all bodies kept; raises AssetError when it cannot be parsed.

    Also returns the bodies whose inertia MuJoCo would refuse. They got another one, so that the rest of the file can be read.
    """
    try:
        spec = mujoco.MjSpec.from_file(str(file))
    except (ValueError, OSError) as error:
        raise AssetError(f"referee: MuJoCo itself cannot read {file.name}: {error}") from error
    spec.compiler.fusestatic = False
    guessed = []
    for body in spec.bodies:
        full = np.array(body.fullinertia, np.float64)
        if not body.explicitinertial or not np.isfinite(full).all():
            continue
        xx, yy, zz, xy, xz, yz = full
        moments = np.linalg.eigvalsh(np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]))
        if moments[0] <= 0.0 or moments[2] > moments[0] + moments[1]:
            body.fullinertia = np.full(6, np.nan)
            body.inertia = np.full(3, 1e-2 * max(float(body.mass), 1e-9))
            guessed.append(body.name)
    return spec, frozenset(guessed)


def _reach(model: mujoco.MjModel, data: mujoco.MjData, geom: int) -> float:
    """How far an analytic geom extends below its centre [m]."""
    kind, (a, b, c) = mujoco.mjtGeom(int(model.geom_type[geom])), (float(value) for value in model.geom_size[geom])
    x, y, z = (abs(float(value)) for value in data.geom_xmat[geom].reshape(3, 3)[2])
    if kind == mujoco.mjtGeom.mjGEOM_BOX:
        return a * x + b * y + c * z
    if kind == mujoco.mjtGeom.mjGEOM_CYLINDER:
        return a * math.sqrt(max(1.0 - z * z, 0.0)) + b * z
    return a + (b * z if kind == mujoco.mjtGeom.mjGEOM_CAPSULE else 0.0)


def _ignore(message: str) -> None:
    """Drops a warning of MuJoCo."""


# --------------------------------------------------------------------------------------------------------------- playing


def fallen(world: Path | str, root: str) -> float:
    """Distance [m] by which everything attached to a body of a URDF or MJCF file, or of MJCF text, falls freely in `DROP_S`.

    Raises:
        AssetError: MuJoCo cannot simulate it.
    """
    try:
        return _fallen(_spec(world), root)
    except (ValueError, mujoco.FatalError) as error:
        raise _unplayed(world, error) from error


def slid(world: Path | str, root: str, motion: Motion | None = None, friction: float | None = None) -> float | None:
    """Distance [m] by which an object slides down a slope in `SLIDE_S`; None if it has no colliders.

    The slope has no friction of its own, so that each collider's own friction acts. A large inertia prevents the object from
    turning, so that it slides and does not tip over.

    Args:
        world: a URDF or MJCF file, or MJCF text.
        root: the body that carries everything else of the object.
        motion: from the frame of the file to the frame in which it slides.
        friction: replaces the friction of all its colliders; None keeps it.

    Raises:
        AssetError: MuJoCo cannot simulate it.
    """
    try:
        return _slid(_spec(world), root, motion, friction)
    except (ValueError, mujoco.FatalError) as error:
        raise _unplayed(world, error) from error


def _unplayed(world: Path | str, error: Exception) -> AssetError:
    return AssetError(f"referee: MuJoCo itself cannot play {world.name if isinstance(world, Path) else 'the asset'}: {error}")


def _spec(world: Path | str) -> mujoco.MjSpec:
    if isinstance(world, str):
        return mujoco.MjSpec.from_string(world)
    spec, _ = native_spec(world)
    spec.compiler.boundmass, spec.compiler.boundinertia = 1e-9, 1e-12
    return spec


def _loose(spec: mujoco.MjSpec, root: str) -> mujoco.MjsBody:
    """Frees the root, and sets the options with which everything is simulated."""
    body = spec.body(root)
    if body is None:
        raise ValueError(f"it has no body {root!r}")
    if not body.joints:
        body.add_freejoint()
    option = spec.option
    option.timestep, option.integrator = STEP_S, mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    option.cone, option.impratio, option.gravity = mujoco.mjtCone.mjCONE_ELLIPTIC, STICKING, [0.0, 0.0, -GRAVITY]
    # MuJoCo scales its solver's tolerance by the mean inertia. With the large inertia that keeps an object upright, any progress
    # seems small enough: the solver stopped at its first guess, and objects on many contact points crept by millimetres.
    option.tolerance = 0.0
    option.disableflags, option.enableflags, option.density, option.viscosity, option.wind = 0, 0, 0.0, 0.0, [0.0, 0.0, 0.0]
    return body


def _fallen(spec: mujoco.MjSpec, root: str) -> float:
    """Distance by which an object falls freely [m]."""
    _loose(spec, root)
    spec.option.disableflags = int(mujoco.mjtDisableBit.mjDSBL_CONTACT)
    model = spec.compile()
    data, body = mujoco.MjData(model), model.body(root).id
    mujoco.mj_forward(model, data)
    start = float(data.subtree_com[body][2])
    _run(model, data, DROP_S)
    mujoco.mj_forward(model, data)  # a step computes the poses before it changes them
    return start - float(data.subtree_com[body][2])


def _slid(spec: mujoco.MjSpec, root: str, motion: Motion | None, friction: float | None) -> float | None:
    """Distance by which an object slides down a slope [m]; None if it has no colliders."""
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
    model.body_inertia[body] = HELD
    mujoco.mj_setConst(model, data)
    mujoco.mj_resetData(model, data)
    place = int(model.jnt_qposadr[model.body_jntadr[body]])
    if motion is not None:
        turn, shift = motion
        mujoco.mj_kinematics(model, data)
        rotation, position = np.array(data.xmat[body]).reshape(3, 3), np.array(data.xpos[body])
        data.qpos[place : place + 3], data.qpos[place + 3 : place + 7] = turn @ position + shift, quaternion_of(turn @ rotation)
    _run(model, data, SETTLE_S)
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
