"""Writes RoboTwin 2.0's layout: a folder for each task, and in it an HDF5 file, a sentence and a film for each episode.

Learned from its public collector and from those who read its data. What it keeps of each camera beside pictures (intrinsics and
extrinsics) a trajectory of ours does not hold; readers of pictures and joints do not ask for it.
"""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path
from types import TracebackType

import h5py
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from embodichain.errors import ConfigError
from embodichain.exchange.card import Card
from embodichain.exchange.files import PARTIAL, read_json, replacing, write_json, write_text
from embodichain.exchange.recorded import POSE, Layout, Recorded
from embodichain.export.video import write_video
from embodichain.types import TrajectoryInfo

__all__ = ["RoboTwinWriter"]

_CONFIG = "demo_embodichain"
"""Folder in a task's, where RoboTwin has the name of the configuration that collected."""
_QUALITY = 95
"""Of JPEG pictures."""


_CONTENTS = (
    "RoboTwin 2.0's layout: TASK/demo_embodichain with `data/episodeN.hdf5` (`observation/CAMERA/rgb` as JPEG, `joint_action`,",
    "`endpose`), `instructions/episodeN.json`, `video/episodeN.mp4` and `seed.txt`. `embodichain.json` holds the provenance.",
)


class RoboTwinWriter:
    """Writes one folder; implements `writers.DatasetWriter`. Owned by one thread.

    `joint_action` holds at each frame the command in force [rad], as RoboTwin's drive targets, and of a gripper the share of its
    opening, 0 to 1; `endpose` the measured poses.
    """

    def __init__(self, folder: Path, layout: Layout, card: Card, *, resume: bool = False) -> None:
        """Raises ConfigError for a robot without a left and a right arm, or a folder that holds a data set and is not resumed."""
        if set(layout.arms) != {"left", "right"}:
            raise ConfigError(f"RoboTwin's layout has a left and a right arm, {layout.robot!r} has {', '.join(layout.arms)}")
        self.folder, self._layout, self._card = folder, layout, card
        self._notes = folder / "embodichain.json"
        self._written: list[dict[str, str]] = []
        if self._notes.exists():
            if not resume:
                raise ConfigError(f"{folder} holds a data set already: give --resume to go on with it, or another --out")
            self._written = read_json(self._notes)
        for note in self._written:
            card.add(TrajectoryInfo.decode(note["info"].encode()))
        for path in folder.rglob(f"*{PARTIAL}"):
            path.unlink()

    @property
    def trajectory_ids(self) -> list[int]:
        """Packed ids of all episodes in the data set, in order."""
        return [int(note["trajectory_id"]) for note in self._written]

    @property
    def num_episodes(self) -> int:
        """Episodes that are in the data set."""
        return len(self._written)

    def add(self, recorded: Recorded) -> None:
        """Adds one episode; it is in the data set when this returns."""
        task = recorded.info.task
        number = Counter(note["task"] for note in self._written)[task]
        place = self.folder / task / _CONFIG
        with replacing(place / f"data/episode{number}.hdf5") as partial, h5py.File(partial, "w") as file:
            self._fill(file, recorded)
        write_json(place / f"instructions/episode{number}.json", {"seen": [recorded.instruction], "unseen": [recorded.instruction]})
        head = self._layout.cameras.index("head") if "head" in self._layout.cameras else 0
        write_video(place / f"video/episode{number}.mp4", recorded.rgb[:, head], fps=float(self._layout.fps))
        note = {"task": task, "trajectory_id": str(recorded.trajectory_id), "info": recorded.info.encode().decode()}
        self._written.append(note)
        seeds = [str(TrajectoryInfo.decode(n["info"].encode()).scene_seed) for n in self._written if n["task"] == task]
        write_text(place / "seed.txt", " ".join(seeds))
        self._card.add(recorded.info)
        write_json(self._notes, self._written)  # from here on the episode counts

    def close(self) -> None:
        """Writes the card."""
        write_text(self.folder / "README.md", self._card.text(_CONTENTS))

    def __enter__(self) -> RoboTwinWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _fill(self, file: h5py.File, recorded: Recorded) -> None:
        layout = self._layout
        in_force = np.concatenate([recorded.state[:1], recorded.action[:, -1]])
        begin = 0
        vector: list[NDArray] = []
        for arm, (name, joints) in enumerate(zip(layout.arms, layout.joints, strict=True)):
            end = begin + joints
            gripper = np.clip(in_force[:, end] / (layout.openings[arm] or 1.0), 0.0, 1.0)
            file[f"joint_action/{name}_arm"], file[f"joint_action/{name}_gripper"] = in_force[:, begin:end], gripper
            vector += [in_force[:, begin:end], gripper[:, None]]
            file[f"endpose/{name}_endpose"] = recorded.state_pose[:, len(POSE) * arm : len(POSE) * (arm + 1)]
            file[f"endpose/{name}_gripper"] = np.clip(recorded.state[:, end] / (layout.openings[arm] or 1.0), 0.0, 1.0)
            begin = end + 1
        order = [layout.arms.index(side) for side in ("left", "right")]
        file["joint_action/vector"] = np.concatenate([part for arm in order for part in vector[2 * arm : 2 * arm + 2]], axis=1)
        for camera, name in enumerate(layout.cameras):
            files = [_jpeg(picture) for picture in recorded.rgb[:, camera]]
            longest = max(map(len, files))
            file.create_dataset(f"observation/{_camera(name)}/rgb", data=np.array(files, dtype=f"S{longest}"))


def _camera(name: str) -> str:
    """What RoboTwin calls a camera: head_camera, left_camera for the wrist of the left arm."""
    return f"{name.removesuffix('_wrist')}_camera"


def _jpeg(picture: NDArray[np.uint8]) -> bytes:
    """A JPEG file. Red and blue change places, as in RoboTwin's: its readers get RGB from a decoder that gives BGR."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture[..., ::-1])).save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()
