"""Writes a scene's physical variation into a compiled model: the robot's drives and fingers, masses and inertias of bodies."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from embodichain.errors import SceneError
from embodichain.types import Body, Dynamics
from embodichain.types.poses import matrix_of

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Drives:
    """The robot's nominal drive parameters as compiled, from which every scene starts again."""

    gains: Floats
    biases: Floats
    forces: Floats
    dofs: NDArray[np.intp]
    damping: Floats
    grip: NDArray[np.intp]
    friction: Floats

    @classmethod
    def of(cls, model: mujoco.MjModel, finger_bodies: list[int]) -> Drives:
        """Reads them from a compiled model; `finger_bodies` are the bodies of the fingers."""
        robot = [body for body in range(model.nbody) if model.body(body).name.startswith("robot/")]
        dofs = np.flatnonzero(np.isin(model.dof_bodyid, robot))
        grip = np.flatnonzero(np.isin(model.geom_bodyid, finger_bodies))
        return cls(
            gains=model.actuator_gainprm[:, :3].copy(),
            biases=model.actuator_biasprm[:, :3].copy(),
            forces=model.actuator_forcerange.copy(),
            dofs=dofs,
            damping=model.dof_damping[dofs].copy(),
            grip=grip,
            friction=model.geom_friction[grip].copy(),
        )

    def write(self, model: mujoco.MjModel, dynamics: Dynamics) -> None:
        """Writes the nominal parameters, changed by `dynamics`, into `model`."""
        model.actuator_gainprm[:, :3] = self.gains * dynamics.stiffness
        model.actuator_biasprm[:, :3] = self.biases * (dynamics.stiffness, dynamics.stiffness, dynamics.servo_damping)
        model.actuator_forcerange[:] = self.forces * dynamics.torque
        model.dof_damping[self.dofs] = self.damping * dynamics.joint_damping
        model.geom_friction[self.grip] = self.friction * (dynamics.grip_friction, 1.0, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Balance:
    """The inertial frame that a body was compiled with; its bounding volumes are stored relative to it."""

    body: int
    position: Floats
    axes: Floats
    volumes: slice
    boxes: Floats
    """Centre and half extents of each bounding volume [m], shape [V, 6]."""

    @classmethod
    def of(cls, model: mujoco.MjModel, body: int) -> Balance:
        """Reads it from a compiled model."""
        start = int(model.body_bvhadr[body])
        volumes = slice(start, start + int(model.body_bvhnum[body])) if start >= 0 else slice(0, 0)
        w, x, y, z = model.body_iquat[body].tolist()
        return cls(
            body=body,
            position=model.body_ipos[body].copy(),
            axes=matrix_of((w, x, y, z)),
            volumes=volumes,
            boxes=model.bvh_aabb[volumes].copy(),
        )

    def write(self, model: mujoco.MjModel, source: Body) -> None:
        """Gives the body the mass, centre and inertia of `source`; converts its bounding volumes, slightly enlarged, accordingly.

        Raises SceneError for an impossible mass or inertia.
        """
        moments = sorted(source.diagonal_inertia)
        if not (source.mass > 0.0 and moments[0] > 0.0 and moments[0] + moments[1] >= moments[2] * (1.0 - 1e-6)):
            raise SceneError(
                f"body {model.body(self.body).name!r} has mass {source.mass} kg and moments {source.diagonal_inertia} "
                "kg m^2, which no solid has: all must be positive and none larger than the sum of the others; weigh the asset again"
            )
        model.body_mass[self.body] = source.mass
        model.body_inertia[self.body] = source.diagonal_inertia
        model.body_ipos[self.body] = source.center_of_mass
        model.body_iquat[self.body] = source.principal_axes
        axes = matrix_of(source.principal_axes)
        new_from_old = axes.T @ self.axes
        offset = axes.T @ (self.position - np.array(source.center_of_mass))
        model.bvh_aabb[self.volumes, :3] = self.boxes[:, :3] @ new_from_old.T + offset
        model.bvh_aabb[self.volumes, 3:] = self.boxes[:, 3:] @ np.abs(new_from_old).T


def loosen_frames(model: mujoco.MjModel, bodies: list[int]) -> None:
    """Clears MuJoCo's flags that frames of these bodies and geoms coincide with inertial frames, because those will be moved."""
    model.body_sameframe[bodies] = 0
    model.geom_sameframe[np.isin(model.geom_bodyid, bodies)] = 0
