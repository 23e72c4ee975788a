"""Grains in a MuJoCo world: frictionless balls with three slide joints each.

The rotation of a frictionless ball has no effect, so three degrees of freedom instead of six suffice. Contacts transfer momentum
only along the normal, which is why many grains flow, level out and pour like a liquid.
"""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from embodichain.errors import SceneError
from embodichain.types import Grains

NAME = "grains"
"""The name of all grains of a scene in contacts, and the prefix of their bodies."""
MOST = 200
"""Most grains in a scene; their contacts dominate the simulation time."""
_RADII = (0.003, 0.02)
"""Smallest and largest radius of a grain [m]; a smaller one could pass through a thin wall in one step of 2 ms."""
_SOLREF = (0.004, 1.0)
_SOLIMP = (0.95, 0.99, 0.0005, 0.5, 2.0)
_GROUP, _PRIORITY = 2, 2


def add_grains(spec: mujoco.MjSpec, grains: Grains) -> None:
    """Adds a scene's grains to a world; raises SceneError when there are too many of them, or too small ones."""
    if len(grains.positions) > MOST:
        raise SceneError(f"a scene may have at most {MOST} grains, got {len(grains.positions)}: ask for fewer and larger ones")
    low, high = _RADII
    if grains.positions and not low <= grains.radius <= high:
        raise SceneError(f"a grain must have a radius of {low}..{high} m, got {grains.radius}: smaller ones pass through walls")
    for number in range(len(grains.positions)):
        name = f"{NAME}/{number}"
        body = spec.worldbody.add_body(name=name)
        for axis in np.eye(3):
            body.add_joint(name=f"{name}/{'xyz'[int(axis.argmax())]}", type=mujoco.mjtJoint.mjJNT_SLIDE, axis=axis)
        body.add_geom(
            name=name,
            type=mujoco.mjtGeom.mjGEOM_SPHERE,
            size=(grains.radius, 0.0, 0.0),
            mass=grains.mass,
            condim=1,
            priority=_PRIORITY,
            solref=_SOLREF,
            solimp=_SOLIMP,
            group=_GROUP,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GrainIndex:
    """Index ranges of the grains in a model: bodies, geoms, positions and velocities."""

    count: int
    bodies: slice
    geoms: slice
    qpos: slice
    qvel: slice

    @classmethod
    def of(cls, model: mujoco.MjModel) -> GrainIndex:
        """Finds the grains in a model."""
        found = [body for body in range(model.nbody) if model.body(body).name.startswith(f"{NAME}/")]
        if not found:
            nothing = slice(0, 0)
            return cls(count=0, bodies=nothing, geoms=nothing, qpos=nothing, qvel=nothing)
        first, count = found[0], len(found)
        geom, joint = int(model.body_geomadr[first]), int(model.body_jntadr[first])
        qpos, qvel = int(model.jnt_qposadr[joint]), int(model.jnt_dofadr[joint])
        return cls(
            count=count,
            bodies=slice(first, first + count),
            geoms=slice(geom, geom + count),
            qpos=slice(qpos, qpos + 3 * count),
            qvel=slice(qvel, qvel + 3 * count),
        )

    def weigh(self, model: mujoco.MjModel, grains: Grains) -> None:
        """Writes the mass, drag and colour of a scene's grains into a model."""
        model.body_mass[self.bodies] = grains.mass
        model.body_inertia[self.bodies] = 0.4 * grains.mass * grains.radius**2
        model.dof_damping[self.qvel] = grains.drag * grains.mass
        model.geom_rgba[self.geoms] = grains.color

    def place(self, data: mujoco.MjData, grains: Grains) -> None:
        """Writes the positions of a scene's grains."""
        data.qpos[self.qpos] = np.array(grains.positions, np.float64).ravel()

    def owners(self, model: mujoco.MjModel) -> NDArray[np.int32]:
        """The body that each geom's contacts are attributed to; all grains count as the first one."""
        bodies = np.ascontiguousarray(model.geom_bodyid, np.int32).copy()
        bodies[self.geoms] = self.bodies.start
        return bodies
