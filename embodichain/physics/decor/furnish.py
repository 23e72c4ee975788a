"""Rooms and tables: parts that every furnished world contains once, and where they stand for a room or table of a number.

All parts are visible only: they collide with nothing. A room or a table shows some of them by moving them, so that a scene in
another room needs no other compiled model.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import mujoco
import numpy as np
from numpy.typing import NDArray

from embodichain.errors import SceneError
from embodichain.physics.decor.textures import period
from embodichain.types import TABLE_SIZE, Vec3
from embodichain.types.settings import NUM_ROOMS, NUM_TABLES, Setting, SurfaceFinish

__all__ = ["PREFIX", "Decor", "add_decor", "finish"]

PREFIX = "decor/"
"""Begin of the names of all parts."""
_WALLS = 4
_BOXES: tuple[Vec3, ...] = (
    (0.20, 0.45, 0.90), (0.20, 0.60, 0.40), (0.30, 0.30, 0.38), (0.02, 0.50, 0.35), (0.02, 0.35, 0.50), (0.25, 0.80, 0.02),
    (0.15, 0.15, 0.60), (0.40, 0.75, 0.22), (0.05, 0.45, 1.00), (0.18, 0.25, 0.12), (0.03, 0.03, 0.80), (0.30, 0.40, 0.55),
)  # fmt: skip
"""Half sizes of furniture [m]: cupboard, sideboard, crate, two pictures, shelf, pillar, bench, door, box, post, cabinet."""
_ROUNDS: tuple[tuple[float, float], ...] = ((0.16, 0.25), (0.05, 0.70), (0.25, 0.04))
"""Radii and half heights of round pieces [m]: bin, lamp post, lamp shade."""
_HANGING = {3: (1.2, 1.7), 4: (1.2, 1.7), 5: (0.9, 1.6)}
"""Heights of the centres of pieces that hang on a wall, above the floor [m]."""
_LEG = 0.60
"""Half length of a leg [m]; what is too long ends below the floor."""
_HALF = (TABLE_SIZE[0] / 2, TABLE_SIZE[1] / 2)
_LEGS: dict[str, tuple[int, Vec3]] = {
    "square": (4, (0.035, 0.035, _LEG)),
    "thin": (4, (0.018, 0.018, _LEG)),
    "panel": (2, (_HALF[0] - 0.03, 0.02, _LEG)),
    "cabinet": (2, (_HALF[0] - 0.04, 0.20, _LEG)),
    "block": (1, (_HALF[0] - 0.05, _HALF[1] - 0.08, _LEG)),
    "apron": (1, (_HALF[0] - 0.02, _HALF[1] - 0.02, 0.045)),
    "shelf": (1, (_HALF[0] - 0.06, _HALF[1] - 0.06, 0.012)),
}
"""Parts of underframes: how many, and their half sizes [m]."""
_COLUMNS = (4, 0.028)
_TABLES: tuple[tuple[str, ...], ...] = (
    ("square", "apron"), ("thin",), ("panel",), ("cabinet",), ("block",), ("round",),
    ("square", "shelf"), ("thin", "apron"), ("panel", "apron"), ("round", "apron"), ("panel", "shelf"), ("round", "shelf"),
)  # fmt: skip
_FAR = -60.0
"""Height [m] at which parts wait that a scene does not show: beyond what cameras see."""


class _Piece(NamedTuple):
    part: str
    x: float
    y: float
    z: float
    yaw: float


def add_decor(spec: mujoco.MjSpec) -> None:
    """Adds walls, ceiling, furniture and underframes to a world's spec, with their materials."""
    for role in ("floor", "walls", "ceiling", "legs", "furniture"):
        material = spec.add_material(name=f"surface/{role}")
        material.texuniform = True
    spec.add_material(name="surface/robot", rgba=(0.5, 0.5, 0.5, 1.0))
    floor = spec.geom("floor")
    if floor is None:
        floor = spec.worldbody.add_geom(name="floor", type=mujoco.mjtGeom.mjGEOM_PLANE, size=(0, 0, 1), contype=0, conaffinity=0)
    floor.material = "surface/floor"
    for index in range(_WALLS):
        _part(spec, f"wall{index}", mujoco.mjtGeom.mjGEOM_PLANE, (0.0, 0.0, 1.0), "walls")
    _part(spec, "ceiling", mujoco.mjtGeom.mjGEOM_PLANE, (0.0, 0.0, 1.0), "ceiling")
    for index, half in enumerate(_BOXES):
        _part(spec, f"box{index}", mujoco.mjtGeom.mjGEOM_BOX, half, "furniture")
    for index, (radius, half) in enumerate(_ROUNDS):
        _part(spec, f"round{index}", mujoco.mjtGeom.mjGEOM_CYLINDER, (radius, half, 0.0), "furniture")
    for name, (count, size) in _LEGS.items():
        for index in range(count):
            _part(spec, f"{name}{index}", mujoco.mjtGeom.mjGEOM_BOX, size, "legs")
    for index in range(_COLUMNS[0]):
        _part(spec, f"leg{index}", mujoco.mjtGeom.mjGEOM_CYLINDER, (_COLUMNS[1], _LEG, 0.0), "legs")


def _part(spec: mujoco.MjSpec, name: str, kind: mujoco.mjtGeom, size: Vec3, role: str) -> None:
    spec.worldbody.add_geom(
        name=PREFIX + name, type=kind, size=size, material=f"surface/{role}", contype=0, conaffinity=0, group=2, mass=0.0
    )


class Decor:
    """The parts of one furnished model, and what its robot looked like when it was compiled."""

    def __init__(self, model: mujoco.MjModel) -> None:
        """Gives the robot's geoms without a material one of their own, which settings can change."""
        names = [model.geom(index).name for index in range(model.ngeom)]
        bodies = [model.body(int(index)).name for index in model.geom_bodyid]
        self._parts = {name.removeprefix(PREFIX): index for index, name in enumerate(names) if name.startswith(PREFIX)}
        self._floor = names.index("floor")
        robot = [index for index, body in enumerate(bodies) if body.startswith("robot/")]
        own = model.material("surface/robot").id
        bare = [index for index in robot if model.geom_matid[index] < 0]
        model.geom_matid[bare] = own
        self._robot: NDArray[np.intp] = np.array(bare, np.intp)
        self._robot_rgba = model.geom_rgba[self._robot].copy()
        self._own_table = model.geom_contype[self._floor] == 0  # a robot with a table of its own came without a floor
        for index in range(model.nmat):  # numbers of textures now mean those of the library, which a robot's own are not in
            if not model.material(index).name.startswith("surface/"):
                model.mat_texid[index] = -1

    def arrange(self, model: mujoco.MjModel, setting: Setting) -> None:
        """Puts up the room and the table of a setting; raises SceneError for numbers that no room or table has."""
        if not -1 <= setting.room < NUM_ROOMS or not 0 <= setting.table < NUM_TABLES:
            raise SceneError(
                f"there is no room {setting.room} or no table {setting.table}: rooms are -1 (none) to {NUM_ROOMS - 1}, tables 0 "
                f"to {NUM_TABLES - 1}"
            )
        ground = -setting.height
        for index in self._parts.values():
            model.geom_pos[index] = (0.0, 0.0, _FAR)
            model.geom_rgba[index, 3] = 0.0
        model.geom_pos[self._floor, 2] = ground
        if setting.room >= 0:
            self._room(model, setting, ground)
        if not self._own_table:
            for piece in _underframe(setting.table):
                self._put(model, piece)
        self._colour(model, setting)

    def _room(self, model: mujoco.MjModel, setting: Setting, ground: float) -> None:
        rng = np.random.default_rng((2, setting.room))
        # The walls of a room stand at x or y of plus or minus these distances [m].
        away = [float(distance) for distance in rng.uniform(1.3, 3.6, 4)]
        high = float(rng.uniform(2.3, 3.6))
        turns = (0.0, math.pi, 0.5 * math.pi, -0.5 * math.pi)
        for index, turn in enumerate(turns):
            # A wall's normal looks back at the table: planes are seen from that side only.
            inward = (-math.cos(turn), -math.sin(turn), 0.0)
            place = (math.cos(turn) * away[index], math.sin(turn) * away[index], 0.0)
            _set(model, self._parts[f"wall{index}"], place, _upright(inward))
        _set(model, self._parts["ceiling"], (0.0, 0.0, ground + high), np.array((1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, -1.0)))
        shades = {}
        for name in rng.permutation([*(f"box{i}" for i in range(len(_BOXES))), *(f"round{i}" for i in range(len(_ROUNDS)))])[
            : int(rng.integers(5, 12))
        ]:
            wall = int(rng.integers(4))
            piece = str(name)
            number = int(piece.strip("boxrund"))
            hanging = _HANGING.get(number) if piece.startswith("box") else None
            half = _BOXES[number] if piece.startswith("box") else (_ROUNDS[number][0], _ROUNDS[number][0], _ROUNDS[number][1])
            along = float(rng.uniform(-0.8, 0.8)) * min(away[2:] if wall < 2 else away[:2])
            out = away[wall] - half[0] - 0.01
            turn = turns[wall]
            x = math.cos(turn) * out - math.sin(turn) * along
            y = math.sin(turn) * out + math.cos(turn) * along
            up = half[2] if hanging is None else float(rng.uniform(*hanging))
            if abs(x) < half[0] + _HALF[0] + 0.15 and abs(y) < half[1] + _HALF[1] + 0.15:
                continue
            self._put(model, _Piece(piece, x, y, ground + up, turn))
            shades[piece] = rng.uniform(0.25, 1.0) * rng.uniform(0.6, 1.0, 3)
        for piece, shade in shades.items():
            model.geom_rgba[self._parts[piece], :3] = shade

    def _put(self, model: mujoco.MjModel, piece: _Piece) -> None:
        cos, sin = math.cos(piece.yaw), math.sin(piece.yaw)
        _set(model, self._parts[piece.part], (piece.x, piece.y, piece.z), np.array((cos, -sin, 0.0, sin, cos, 0.0, 0.0, 0.0, 1.0)))

    def _colour(self, model: mujoco.MjModel, setting: Setting) -> None:
        for role, colour in setting.colors.items():
            if role == "robot":
                shade = self._robot_rgba[:, :3].mean(axis=1, keepdims=True)
                model.geom_rgba[self._robot, :3] = np.clip(np.array(colour) * (0.5 + 0.9 * shade), 0.0, 1.0)
            elif role == "floor":
                model.geom_rgba[self._floor, :3] = colour
            else:
                for name, index in self._parts.items():
                    if _role(name) == role:
                        model.geom_rgba[index, :3] = colour
        if "robot" not in setting.colors:
            model.geom_rgba[self._robot] = self._robot_rgba


def finish(model: mujoco.MjModel, role: str, texture: int | None, found: SurfaceFinish) -> None:
    """Writes the texture, by its number in the library, and the finish of the surface of `role`."""
    index = model.material(f"surface/{role}").id
    model.mat_texid[index, int(mujoco.mjtTextureRole.mjTEXROLE_RGB)] = -1 if texture is None else texture
    model.mat_specular[index], model.mat_roughness[index] = found.specular, found.roughness
    model.mat_metallic[index] = found.metal
    if texture is not None and model.mat_texuniform[index]:
        # Repetitions are counted per half size of a box, and in units of 2 m on an infinite plane.
        model.mat_texrepeat[index] = 2.0 / period(texture)


def _role(name: str) -> str:
    if name.startswith("wall"):
        return "walls"
    if name == "ceiling":
        return name
    return "furniture" if name.startswith(("box", "round")) else "legs"


def _set(model: mujoco.MjModel, index: int, place: Vec3, rotation: NDArray[np.float64]) -> None:
    model.geom_pos[index] = place
    model.geom_rgba[index, 3] = 1.0
    mujoco.mju_mat2Quat(model.geom_quat[index], rotation)


def _upright(normal: Vec3) -> NDArray[np.float64]:
    """The rotation of a plane whose Z axis is a horizontal `normal` and whose Y axis points up, row by row."""
    x, y, _ = normal
    # Columns: right = up x normal, up, normal.
    return np.array((-y, 0.0, x, x, 0.0, y, 0.0, 1.0, 0.0))


def _underframe(number: int) -> list[_Piece]:
    """The parts below the table top, which ends at a depth of `TABLE_SIZE[2]`."""
    x, y = _HALF[0] - 0.05, _HALF[1] - 0.06
    top = -TABLE_SIZE[2]
    corners = ((x, y), (x, -y), (-x, y), (-x, -y))
    found = []
    for kind in _TABLES[number]:
        if kind in ("square", "thin"):
            found += [_Piece(f"{kind}{index}", *corner, top - _LEG, 0.0) for index, corner in enumerate(corners)]
        elif kind == "round":
            found += [_Piece(f"leg{index}", *corner, top - _LEG, 0.0) for index, corner in enumerate(corners)]
        elif kind in ("panel", "cabinet"):
            inset = _HALF[1] - (0.06 if kind == "panel" else 0.24)
            found += [_Piece(f"{kind}{index}", 0.0, side * inset, top - _LEG, 0.0) for index, side in enumerate((1.0, -1.0))]
        else:
            depth = {"block": _LEG, "apron": 0.045, "shelf": 0.35}[kind]
            found.append(_Piece(f"{kind}0", 0.0, 0.0, top - depth, 0.0))
    return found
