"""The mapping from another data set to our robot: which of its columns is which camera and joint, and at which rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from embodichain.errors import ConfigError, nearest
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

    def worded(self, sentence: str) -> str:
        """The instruction that takes the place of their `sentence`."""
        if isinstance(self.instruction, str):
            return self.instruction or sentence
        return self.instruction.get(sentence, sentence)


def load(path: Path) -> Correspondence:
    """Reads a mapping file; raises ConfigError when it cannot be read or has unknown keys or values."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read the mapping {path}: {error}") from error
    known = ("cameras", "action", "state", "keys", "instruction", "fps")
    if not isinstance(values, dict) or set(values) - set(known):
        found = sorted(map(str, values)) if isinstance(values, dict) else type(values).__name__
        raise ConfigError(f"a mapping holds {', '.join(known)}; {path} holds {found}")
    keys = values.get("keys", {})
    action = {channel: _pick(path, channel, value) for channel, value in values.get("action", {}).items()}
    state = {channel: _pick(path, channel, value) for channel, value in values.get("state", {}).items()}
    return Correspondence(
        cameras=dict(values.get("cameras", {})),
        action=action,
        state=state or action,
        action_key=keys.get("action", lerobot.ACTION),
        state_key=keys.get("state", lerobot.STATE),
        instruction=words if isinstance(words := values.get("instruction", ""), dict) else str(words),
        fps=float(values.get("fps", 0.0)),
    )


def _pick(path: Path, channel: str, value: Any) -> Pick:
    if isinstance(value, str | int) and not isinstance(value, bool):
        return Pick(name=str(value))
    if isinstance(value, dict) and set(value) == {"value"}:
        return Pick(offset=float(value["value"]))
    if isinstance(value, dict) and "from" in value and set(value) <= {"from", "scale", "offset"}:
        return Pick(name=str(value["from"]), scale=float(value.get("scale", 1.0)), offset=float(value.get("offset", 0.0)))
    raise ConfigError(
        f"{path} maps {channel!r} to {value!r}: give the name or the index of their number, {{from: NAME, scale: S, offset: O}}, "
        "or {value: CONSTANT}"
    )


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
