"""The fields of MuJoCo Warp's model that differ between worlds, and those that must be equal in all of them.

Both lists are derived from its declarations, so that no field of a later version is forgotten: every field that it can store per
world is stored so, and every other field from MuJoCo's model must be equal for worlds to be simulated together.
"""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import mujoco
import mujoco_warp as mjw
import numpy as np

from embodichain.errors import RobotError

_PICTURES = ("cam_", "light_", "mat_")
NOT_PER_WORLD = frozenset({"geom_rgba", "geom_matid"})
"""Fields that MuJoCo Warp can store per world but only its renderer reads, besides those of cameras, lights and materials."""
_MESHES = ("mesh_", "oct_", "hfield_")
NOT_SHARED = frozenset({"dof_length", "geom_fluid", "site_size", "mapM2M", "mapM2D", "mapD2M"})
"""Fields with one value for all worlds that may nevertheless differ, besides those of meshes. Without sleeping bodies, a fluid, or
touch sensors no step reads the first three; the others follow from the structure of M and D."""
STATE = ("qpos", "qvel", "qacc_warmstart", "ctrl", "mocap_pos", "mocap_quat")
"""The parts of a world's state that a step reads, besides applied forces."""


def _arrays() -> dict[str, tuple[Any, ...]]:
    """The declared shape of every array of `mujoco_warp.Model`, by name."""
    return {field.name: tuple(field.type.shape) for field in dataclasses.fields(mjw.Model) if hasattr(field.type, "shape")}  # type: ignore[union-attr]


PER_WORLD = tuple(
    name for name, shape in _arrays().items() if shape[0] == "*" and name not in NOT_PER_WORLD and not name.startswith(_PICTURES)
)
"""Fields that are stored per world."""
SHARED = tuple(
    name
    for name, shape in _arrays().items()
    if shape[0] != "*" and name not in NOT_SHARED and not name.startswith(_MESHES) and hasattr(mujoco.MjModel, name)
)
"""Fields that must be equal in worlds that are simulated together."""


def signature(model: mujoco.MjModel) -> bytes:
    """A key that is equal for models that can be simulated together. Absent geoms must be `Shown` meanwhile."""
    digest = hashlib.blake2b(digest_size=16)
    for name in SHARED:
        values = np.ascontiguousarray(getattr(model, name))
        digest.update(f"{name} {values.shape} {values.dtype}".encode())
        digest.update(values.tobytes())
    return digest.digest()


def check(model: mujoco.MjModel) -> None:
    """Raises RobotError for a model with parts whose values are computed at loading, or whose state is not copied here."""
    parts = {
        "actuators with damping of their own": bool(model.actuator_damping.any() or model.actuator_dampingpoly.any()),
        "actuators with a state": model.na > 0,
        "delayed actuators or sensors": model.nhistory > 0,
        "flexible bodies": model.nflex > 0,
        "plug-ins": model.nplugin > 0,
    }
    if found := [what for what, there in parts.items() if there]:
        raise RobotError(f"physics 'mujoco_warp' cannot simulate {', '.join(found)} of this robot: choose physics='mujoco'")
