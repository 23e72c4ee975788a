"""The mapping from another data set to our robot: which of its columns is which camera and joint, and at which rate."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from embodichain.errors import ConfigError, nearest, unknown
from embodichain.exchange import lerobot_layout as lerobot

__all__ = ["Correspondence", "Pick", "load", "pick_columns"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """Source of one number of a command: `scale` * (the data set's number `name`) + `offset`; with an empty name, `offset`."""

    name: str = ""
    scale: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Correspondence:
    """The contents of a mapping file in YAML; what the file leaves out has the same name in the data set as in our robot.

    cameras: {head: observation.images.top, left_wrist: observation.images.cam_left}
    action: {left.joint1: shoulder_pan.pos, left.gripper: {from: gripper.pos, scale: 0.0007}, right.joint1: {value: 0.0}}
    state: {...}                    # as action, which it is when left out
    keys: {action: action, state: observation.state}
    instruction: turn the switch    # instead of all their sentences, or {THEIR SENTENCE: OURS} instead of some
    fps: 30                         # instead of what their info.json says
    """

    cameras: Mapping[str, str] = field(default_factory=dict)
    action: Mapping[str, Pick] = field(default_factory=dict)
    state: Mapping[str, Pick] = field(default_factory=dict)
    action_key: str = lerobot.ACTION
    state_key: str = lerobot.STATE
    instruction: str | Mapping[str, str] = ""
    fps: float = 0.0

    def check(self, channels: Sequence[str], cameras: Sequence[str]) -> None:
        """Raises ConfigError when a channel or a camera that is mapped is none of the robot's."""
        _refuse("", "channel in action", self.action, channels)
        _refuse("", "channel in state", self.state, channels)
        _refuse("", "camera", self.cameras, cameras)

    def worded(self, sentence: str) -> str:
        """The instruction that takes the place of their `sentence`."""
        if isinstance(self.instruction, str):
            return self.instruction or sentence
        return self.instruction.get(sentence, sentence)


def load(path: Path) -> Correspondence:
    """Reads a mapping file; raises ConfigError when it cannot be read or has unknown keys or values of another kind."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read the mapping {path}: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"a mapping holds {', '.join(_KNOWN)}; {path} holds {_kind(values)}")
    _refuse(path, "key", values, _KNOWN)
    keys = _texts(path, values, "keys")
    _refuse(path, "column in keys", keys, ("action", "state"))
    action = {channel: _pick(path, channel, value) for channel, value in _section(path, values, "action").items()}
    state = {channel: _pick(path, channel, value) for channel, value in _section(path, values, "state").items()}
    return Correspondence(
        cameras=_texts(path, values, "cameras"),
        action=action,
        state=state or action,
        action_key=keys.get("action", lerobot.ACTION),
        state_key=keys.get("state", lerobot.STATE),
        instruction=_instruction(path, values),
        fps=_rate(path, values),
    )


_KNOWN = ("cameras", "action", "state", "keys", "instruction", "fps")


def _refuse(path: Path | str, what: str, names: Iterable[object], known: Sequence[str]) -> None:
    """Raises ConfigError for the first name that is not known; it says which was meant."""
    for name in names:
        if name not in known:
            raise unknown(f"{what} of the mapping {path}".rstrip(), str(name), known)


def _section(path: Path, values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The part called `name`, names to values; empty where the file leaves it out."""
    found = values.get(name, {})
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise ConfigError(f"{path}: {name} holds {_kind(found)} where it maps names of ours to theirs: fill it in, or leave it out")
    return found


def _texts(path: Path, values: Mapping[str, Any], name: str) -> dict[str, str]:
    found = _section(path, values, name)
    if wrong := [key for key, value in found.items() if not isinstance(value, str)]:
        raise ConfigError(f"{path}: {name} maps {wrong[0]!r} to {found[wrong[0]]!r}, and must map it to the name of a column")
    return dict(found)


def _instruction(path: Path, values: Mapping[str, Any]) -> str | dict[str, str]:
    found = values.get("instruction", "")
    if isinstance(found, dict):
        return _texts(path, values, "instruction")
    if not isinstance(found, str):
        raise ConfigError(f"{path}: instruction is {found!r}: give a sentence, or {{THEIR SENTENCE: OURS}}")
    return found


def _rate(path: Path, values: Mapping[str, Any]) -> float:
    """The rows per second [Hz]; 0 where the file does not say."""
    if "fps" not in values:
        return 0.0
    fps = _number(values["fps"])
    if not fps or fps < 0.0:
        raise ConfigError(f"{path}: fps is {values['fps']!r}: give the rows per second, a number above 0, or leave it out")
    return fps


def _pick(path: Path, channel: str, value: Any) -> Pick:
    if isinstance(value, str | int) and not isinstance(value, bool):
        return Pick(name=str(value))
    if isinstance(value, dict) and set(value) == {"value"} and (constant := _number(value["value"])) is not None:
        return Pick(offset=constant)
    if isinstance(value, dict) and "from" in value and set(value) <= {"from", "scale", "offset"}:
        scale, offset = _number(value.get("scale", 1.0)), _number(value.get("offset", 0.0))
        if scale is not None and offset is not None:
            return Pick(name=str(value["from"]), scale=scale, offset=offset)
    raise ConfigError(
        f"{path} maps {channel!r} to {value!r}: give the name or the index of their number, {{from: NAME, scale: S, offset: O}}, "
        "or {value: CONSTANT}, with finite numbers"
    )


def _number(value: object) -> float | None:
    """A finite number; None for anything else."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return None


def _kind(value: object) -> str:
    return "nothing" if value is None else f"{type(value).__name__} ({value!r})"


def pick_columns(
    channels: Sequence[str], picks: Mapping[str, Pick], names: Sequence[str], what: str, missing: list[str]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """For each channel its column among `names` (-1: constant), scale and offset; appends what is not found to `missing`."""
    columns, scales, offsets = [], [], []
    for channel in channels:
        pick = picks.get(channel, Pick(name=channel))
        column = -1
        if pick.name.isdigit() and int(pick.name) < len(names):
            column = int(pick.name)
        elif pick.name in names:
            column = list(names).index(pick.name)
        elif pick.name:
            meant = nearest(pick.name, names)
            missing.append(f"{what} {channel} (looked for {pick.name!r}{f', did you mean {meant!r}' if meant else ''})")
        columns.append(column)
        scales.append(pick.scale if column >= 0 else 0.0)
        offsets.append(pick.offset)
    return np.array(columns), np.array(scales), np.array(offsets)
