"""Which fields of MuJoCo Warp's model differ from world to world, and which have to be the same in all of them.

Both lists are derived from its declarations, so that a field which a later version adds cannot be forgotten: by default every field
that it can store per world is stored so, and every other that comes from MuJoCo's model decides which worlds are alike.
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
"""Fields that MuJoCo Warp can store per world and that only its renderer reads, beside those of cameras, lights and materials."""
_MESHES = ("mesh_", "oct_", "hfield_")
NOT_SHARED = frozenset({"dof_length", "geom_fluid", "site_size", "mapM2M", "mapM2D", "mapD2M"})
"""Fields of one value for all worlds that may differ nevertheless, beside those of meshes: no step reads the first three without
sleeping bodies, a fluid, or touch sensors; the others follow from the structure of M and D."""
STATE = ("qpos", "qvel", "qacc_warmstart", "ctrl", "mocap_pos", "mocap_quat")
"""What a step reads of a world's state, beside forces that are applied."""


def _arrays() -> dict[str, tuple[Any, ...]]:
    """The shape of every array of `mujoco_warp.Model` as it is declared, by name."""
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
"""Fields in which worlds that are simulated together have to agree."""


def signature(model: mujoco.MjModel) -> bytes:
    """Equal for models that can be simulated together. What is absent must be `Shown`."""
    digest = hashlib.blake2b(digest_size=16)
    for name in SHARED:
        values = np.ascontiguousarray(getattr(model, name))
        digest.update(f"{name} {values.shape} {values.dtype}".encode())
        digest.update(values.tobytes())
    return digest.digest()


def check(model: mujoco.MjModel) -> None:
    """Raises RobotError for a model with parts whose values are derived when it is loaded, or whose state is not carried here."""
    parts = {
        "actuators with damping of their own": bool(model.actuator_damping.any() or model.actuator_dampingpoly.any()),
        "actuators with a state": model.na > 0,
        "delayed actuators or sensors": model.nhistory > 0,
        "flexible bodies": model.nflex > 0,
        "plug-ins": model.nplugin > 0,
    }
    if found := [what for what, there in parts.items() if there]:
        raise RobotError(f"physics 'mujoco_warp' cannot simulate {', '.join(found)} of this robot: choose physics='mujoco'")
