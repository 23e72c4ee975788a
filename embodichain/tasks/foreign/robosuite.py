"""Tasks of robosuite for one arm, with our own experts, because robosuite has none.

An expert is a script of waypoints for the hand. It knows where the cubes are, moves in steps of the controller, and turns the
gripper until its fingers are aligned with a cube's faces.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from embodichain.physics.foreign.state import EnvironmentState
from embodichain.tasks.foreign.task import ForeignTask

_LIMIT = 500
"""Control steps of an episode, the limit of robosuite's own benchmark."""
_STEP, _TURN = 0.05, 0.5
"""Translation [m] and rotation [rad] of a full command."""
_OPEN, _SHUT = -1.0, 1.0
_NEAR = 0.008
"""Distance at which the hand counts as at a waypoint [m]."""
_ALIGNED = 0.06
"""Angle within which the fingers count as aligned with a cube's faces [rad]."""
_ABOVE = 0.10
"""Height of the hand above its target [m]."""
_STACKED = 0.045
"""Height of the carried cube's centre above the other's [m], a little more than the sum of both halves."""
_CLOSING = 12
"""Control steps that the gripper takes to close or open."""

Vec = NDArray[np.float64]
_UP: Vec = np.array((0.0, 0.0, 1.0))


def tasks() -> dict[str, Callable[[], ForeignTask]]:
    """Every task that has an expert, by its name in robosuite."""
    experts = {"Lift": ("Lift the cube.", _Lift), "Stack": ("Stack the red cube onto the green one.", _Stack)}
    return {
        name: partial(ForeignTask, f"robosuite:{name}", instruction=words, limit=_LIMIT, begin=begin)
        for name, (words, begin) in experts.items()
    }


class _Lift:
    """Moves over the cube, down, closes, and lifts."""

    cube = "cube"

    def __init__(self) -> None:
        self._stage, self._left = 0, _CLOSING

    def __call__(self, state: EnvironmentState) -> Vec:
        """The command for this state."""
        cube = state.observation[f"{self.cube}_pos"]
        turn = _turn_to(state, f"{self.cube}_quat")
        if self._stage == 0:
            if abs(turn) < _ALIGNED and self._at(state, cube + _ABOVE * _UP, flat=True):
                self._stage = 1
            return _towards(state, cube + _ABOVE * _UP, turn, _OPEN)
        if self._stage == 1:
            if self._at(state, cube):
                self._stage = 2
            return _towards(state, cube, turn, _OPEN)
        if self._stage == 2:
            self._left -= 1
            if self._left == 0:
                self._stage = 3
            return _towards(state, _hand(state), 0.0, _SHUT)
        return self._carry(state)

    def _carry(self, state: EnvironmentState) -> Vec:
        return _towards(state, _hand(state) + _STEP * _UP, 0.0, _SHUT)

    @staticmethod
    def _at(state: EnvironmentState, goal: Vec, *, flat: bool = False) -> bool:
        error = goal - _hand(state)
        return bool(np.linalg.norm(error[:2] if flat else error) < _NEAR)


class _Stack(_Lift):
    """Lifts one cube, carries it over the other, sets it down there, lets go and moves away."""

    cube = "cubeA"

    def __init__(self) -> None:
        super().__init__()
        self._carried, self._held = 0, np.zeros(3)

    def _carry(self, state: EnvironmentState) -> Vec:
        first, second = state.observation["cubeA_pos"], state.observation["cubeB_pos"]
        if self._carried == 0:
            self._held = first - _hand(state)
            self._carried, self._height = 1, float(_hand(state)[2]) + _ABOVE
        over = np.array([second[0], second[1], self._height]) - (self._held[0], self._held[1], 0.0)
        if self._carried == 1:
            if _hand(state)[2] > self._height - 2 * _NEAR:
                self._carried = 2
            return _towards(state, np.array([*_hand(state)[:2], self._height]), 0.0, _SHUT)
        if self._carried == 2:
            if self._at(state, over, flat=True):
                self._carried = 3
            return _towards(state, over, 0.0, _SHUT)
        rest = second + _STACKED * _UP - self._held
        if self._carried == 3:
            if _hand(state)[2] < rest[2] + _NEAR / 2:
                self._carried, self._left = 4, _CLOSING
            return _towards(state, rest, 0.0, _SHUT)
        self._left -= 1
        if self._left > 0:
            return _towards(state, _hand(state), 0.0, _OPEN)
        return _towards(state, _hand(state) + _STEP * _UP, 0.0, _OPEN)


def _hand(state: EnvironmentState) -> Vec:
    return state.observation["robot0_eef_pos"]


def _towards(state: EnvironmentState, goal: Vec, turn: float, grip: float) -> Vec:
    """The command that moves the hand towards a point [m] and turns it about the vertical [rad], by at most one step."""
    move = np.clip((goal - _hand(state)) / _STEP, -1.0, 1.0)
    return np.array([*move, 0.0, 0.0, np.clip(turn / _TURN, -1.0, 1.0), grip])


def _turn_to(state: EnvironmentState, cube: str) -> float:
    """Rotation of the hand about the vertical that aligns its fingers with faces of the cube [rad], at most an eighth of a turn."""
    error = _yaw(state.observation[cube]) - _yaw(state.observation["robot0_eef_quat"])
    quarter = math.pi / 2
    return (error + quarter / 2) % quarter - quarter / 2


def _yaw(quaternion: Vec) -> float:
    """Angle of a body's X axis about the vertical [rad], from a quaternion (x, y, z, w)."""
    x, y, z, w = quaternion
    return math.atan2(2.0 * (x * y + w * z), 1.0 - 2.0 * (y * y + z * z))
