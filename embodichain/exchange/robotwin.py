"""Writes RoboTwin 2.0's layout: a folder for each task, with an HDF5 file, an instruction and a video for each episode.

Source: its public collector, and public programs that read its data. The cameras' intrinsics and extrinsics are left out, because
our trajectories do not hold them; programs that read only images and joints do not need them.
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
from embodichain.exchange import claim
from embodichain.exchange.card import Card
from embodichain.exchange.claim import FolderClaim, Form
from embodichain.exchange.files import read_json, remove_partials, replacing, write_json, write_text
from embodichain.exchange.recorded import POSE, DatasetLayout, Recorded
from embodichain.export.video import write_video
from embodichain.types import TrajectoryInfo

__all__ = ["RoboTwinWriter"]

_CONFIG = "demo_embodichain"
"""Name of the folder inside a task's folder; RoboTwin names it after the configuration of the collector."""
_QUALITY = 95
"""Quality of the JPEG images, up to 100."""
_FORM = Form(
    name="robotwin",
    mark=Path("embodichain.json"),
    counted=Path("episodes.json"),
    second=f"*/{_CONFIG}/data/episode1.hdf5",
)


_CONTENTS = (
    "RoboTwin 2.0's layout: TASK/demo_embodichain with `data/episodeN.hdf5` (`observation/CAMERA/rgb` as JPEG, `joint_action`,",
    "`endpose`), `instructions/episodeN.json`, `video/episodeN.mp4` and `seed.txt`. `episodes.json` holds the provenance.",
)


class RoboTwinWriter:
    """Writes one folder; implements `writers.DatasetWriter`. Owned by one thread.

    `joint_action` holds at each frame the latest command: joint targets [rad], as RoboTwin's drive targets, and grippers as a
    share of the full opening, 0 to 1. `endpose` holds the measured poses.
    """

    def __init__(self, folder: Path, layout: DatasetLayout, card: Card, *, resume: bool = False) -> None:
        """Raises ConfigError as `check` does, and when another writer has the folder."""
        _check_arms(layout)
        self._claim = FolderClaim(folder, _FORM, layout, card.command, resume=resume)
        self.folder, self._layout, self._card = folder, layout, card
        self._notes = folder / _FORM.counted
        self._written: list[dict[str, str]] = read_json(self._notes) if self._claim.going_on else []
        for note in self._written:
            card.add(TrajectoryInfo.decode(note["info"].encode()))
        self._clear()

    @classmethod
    def check(cls, folder: Path, layout: DatasetLayout, *, resume: bool) -> None:
        """Raises ConfigError for a robot without a left and a right arm, and as `claim.check` does; changes nothing."""
        _check_arms(layout)
        claim.check(folder, _FORM, layout, resume=resume)

    @property
    def trajectory_ids(self) -> list[int]:
        """Packed ids of all episodes in the data set, in order."""
        return [int(note["trajectory_id"]) for note in self._written]

    @property
    def num_episodes(self) -> int:
        """Episodes that are in the data set."""
        return len(self._written)

    def add(self, recorded: Recorded) -> None:
        """Adds one episode; it is on disk and counted when this returns."""
        task = recorded.info.task
        number = Counter(note["task"] for note in self._written)[task]
        place = self.folder / task / _CONFIG
        with replacing(place / f"data/episode{number}.hdf5") as partial, h5py.File(partial, "w") as file:
            self._fill(file, recorded)
        write_json(place / f"instructions/episode{number}.json", {"seen": [recorded.instruction], "unseen": [recorded.instruction]})
        head = self._layout.cameras.index("head") if "head" in self._layout.cameras else 0
        write_video(place / f"video/episode{number}.mp4", recorded.rgb[:, head], fps=float(self._layout.fps))
        note = {"task": task, "trajectory_id": str(recorded.trajectory_id), "info": recorded.info.text()}
        self._written.append(note)
        seeds = [str(TrajectoryInfo.decode(n["info"].encode()).scene_seed) for n in self._written if n["task"] == task]
        write_text(place / "seed.txt", " ".join(seeds))
        self._card.add(recorded.info)
        write_json(self._notes, self._written)  # from here on the episode counts

    def close(self) -> None:
        """Writes the card."""
        self._clear()
        write_text(self.folder / "README.md", self._card.text(_CONTENTS))
        self._claim.release()

    def __enter__(self) -> RoboTwinWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _clear(self) -> None:
        """Removes what an unfinished episode left, where this writer puts it."""
        remove_partials(self.folder / name for name in (_FORM.mark, _FORM.counted, "README.md"))
        counted = Counter(note["task"] for note in self._written)
        for place in self.folder.glob(f"*/{_CONFIG}"):
            remove_partials([place / "seed.txt"])
            for kind, suffix in (("data", "hdf5"), ("instructions", "json"), ("video", "mp4")):
                claim.clear(place / kind, rf"episode(\d+)\.{suffix}", counted[place.parent.name])

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


def _check_arms(layout: DatasetLayout) -> None:
    if set(layout.arms) != {"left", "right"}:
        raise ConfigError(f"RoboTwin's layout has a left and a right arm, {layout.robot!r} has {', '.join(layout.arms)}")


def _camera(name: str) -> str:
    """RoboTwin's name of a camera: "head_camera", and "left_camera" for the left arm's wrist camera."""
    return f"{name.removesuffix('_wrist')}_camera"


def _jpeg(picture: NDArray[np.uint8]) -> bytes:
    """A JPEG file with red and blue exchanged, as RoboTwin's are: its readers take the BGR of OpenCV's decoder for RGB."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture[..., ::-1])).save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()
