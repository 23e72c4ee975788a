"""Newton as an independent reader: which values it reads from a USD file, and how the asset falls and slides in it."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embodichain.assets.chain.movements import Moved, falls, slides
from embodichain.assets.chain.witnesses import Testimony, Weighed
from embodichain.assets.physical.simulation import DROP_S, GRAVITY, HELD, SETTLE_S, SLIDE_S, SLOPE, STEP_S, STICKING
from embodichain.types import Asset, rotate
from embodichain.types.poses import matrix_of

COMPILES = "Newton plays it too: its first use compiles for minutes, later ones take what Warp kept (--no-play leaves it out)"
MISSING = "Newton was not asked: it is not installed (pip install 'embodichain[newton]')"


def installed() -> bool:
    """Whether Newton is installed."""
    return importlib.util.find_spec("newton") is not None


def remarks() -> list[str]:
    """Remarks for a report when Newton is not available."""
    return [] if installed() else [MISSING]


def by_newton(file: Path) -> Testimony | None:
    """The values that Newton reads from a USD file; None where Newton is not installed."""
    if not installed():
        return None
    import newton  # pyright: ignore[reportMissingImports]  # imports Warp; installed by an extra of its own

    builder = newton.ModelBuilder()
    builder.add_usd(str(file))
    bodies, friction = {}, {}
    for index, label in enumerate(builder.body_label):
        x, y, z, i, j, k, w = (float(value) for value in builder.body_q[index])
        turn = np.array(matrix_of((w, i, j, k)))
        name = str(label).rpartition("/")[2]
        bodies[name] = Weighed(
            mass=float(builder.body_mass[index]),
            center=turn @ np.array(list(builder.body_com[index]), np.float64) + (x, y, z),
            inertia=turn @ np.array(builder.body_inertia[index], np.float64).reshape(3, 3) @ turn.T,
        )
        collide = int(newton.ShapeFlags.COLLIDE_SHAPES)
        values = {
            round(float(builder.shape_material_mu[shape]), 6)
            for shape in range(builder.shape_count)
            if builder.shape_body[shape] == index and builder.shape_flags[shape] & collide
        }
        friction |= {name: tuple(sorted(values))} if values else {}
    limits = {}
    for index, label in enumerate(builder.joint_label):
        start = builder.joint_qd_start[index]
        kind = newton.JointType(int(builder.joint_type[index]))
        if kind in (newton.JointType.REVOLUTE, newton.JointType.PRISMATIC):
            ends = float(builder.joint_limit_lower[start]), float(builder.joint_limit_upper[start])
            limits |= {str(label).rpartition("/")[2]: ends} if max(map(abs, ends)) < 1e9 else {}
    return Testimony(bodies=bodies, limits=limits, friction=friction)


def in_newton(asset: Asset) -> Moved:
    """How the asset falls and slides in Newton, which reads its USD: with Newton's MuJoCo solver, on the CPU.

    Newton's other solvers would take minutes more to compile; Warp caches the kernels of this one.
    """
    return Moved(
        fall=_newton(asset, sliding=False) if falls(asset) else None, slide=_newton(asset, sliding=True) if slides(asset) else None
    )


def _newton(asset: Asset, *, sliding: bool) -> float:
    import newton  # pyright: ignore[reportMissingImports]  # imports Warp; installed by an extra of its own

    builder = newton.ModelBuilder()
    builder.add_usd(str(asset.path))
    if sliding:
        builder.add_ground_plane(cfg=newton.ModelBuilder.ShapeConfig(mu=2e-5))
    model = builder.finalize(device="cpu")
    if sliding:
        model.body_inertia.assign(np.tile(HELD * np.eye(3, dtype=np.float32), (model.body_count, 1, 1)))
        model.body_inv_inertia.assign(np.tile(np.eye(3, dtype=np.float32) / HELD, (model.body_count, 1, 1)))
    solver = newton.solvers.SolverMuJoCo(
        model, use_mujoco_cpu=True, disable_contacts=not sliding, cone="elliptic", impratio=STICKING, integrator="implicitfast",
        tolerance=0.0,  # as in our MuJoCo simulation: beside so large an inertia the solver would stop too early
    )  # fmt: skip
    states, control = [model.state(), model.state()], model.control()
    masses = np.array(model.body_mass.numpy(), np.float64)

    def center() -> NDArray[np.float64]:
        places, centers = states[0].body_q.numpy().astype(np.float64), model.body_com.numpy().astype(np.float64)
        turned = [rotate((w, x, y, z), one) for (x, y, z, w), one in zip(places[:, 3:], centers, strict=True)]
        return np.asarray(masses @ (places[:, :3] + turned) / masses.sum(), np.float64)

    def run(duration_s: float) -> None:
        for _ in range(round(duration_s / STEP_S)):
            solver.step(states[0], states[1], control, None, STEP_S)
            states.reverse()

    if not sliding:
        start = center()
        run(DROP_S)
        return float(start[2] - center()[2])
    run(SETTLE_S)
    model.set_gravity((GRAVITY * math.sin(SLOPE), 0.0, -GRAVITY * math.cos(SLOPE)))
    solver.notify_model_changed(newton.ModelFlags.MODEL_PROPERTIES)
    start = center()
    run(SLIDE_S)
    return float(np.linalg.norm((center() - start)[:2]))
