"""Writes LeRobot v3 data sets: each episode completely or not at all, and the data set is readable at any moment.

The files of an episode are written first and `meta/info.json`, which holds the number of episodes, last. So a writer that dies
leaves a data set that is complete up to the episode before; the next writer removes the files of the unfinished episode. It looks
only where it writes itself: whatever else lies in the folder stays.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from embodichain.errors import ConfigError
from embodichain.exchange import claim
from embodichain.exchange import lerobot_layout as lerobot
from embodichain.exchange.card import Card
from embodichain.exchange.claim import FolderClaim, Form
from embodichain.exchange.files import read_json, remove_partials, replacing, write_json, write_text
from embodichain.exchange.recorded import DatasetLayout, Recorded
from embodichain.exchange.statistics import Statistics, merged, of_pictures, of_rows, plain
from embodichain.export.video import write_video
from embodichain.types import TrajectoryInfo

__all__ = ["LeRobotWriter", "VideoConfig"]

_FORM = Form(name="lerobot", mark=lerobot.OURS, counted=lerobot.INFO, second="data/chunk-*/file-001.parquet")
_README = Path("README.md")


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoConfig:
    """How images are encoded as video, with x264."""

    crf: int = 18
    """Constant rate factor of x264: 0 is lossless, 51 the worst quality; at 18 people see no difference."""
    preset: str = "veryfast"
    keyframe_every: int = 2
    """Frames from one key frame to the next; a small number makes random access cheap."""

    def __post_init__(self) -> None:
        if not 0 <= self.crf <= 51 or self.keyframe_every < 1:
            raise ConfigError(f"crf is 0 to 51 and keyframe_every at least 1, got {self.crf} and {self.keyframe_every}")

    @property
    def options(self) -> dict[str, str]:
        """Options by x264's names."""
        return {"crf": str(self.crf), "preset": self.preset, "g": str(self.keyframe_every), "bf": "0"}


class LeRobotWriter:
    """Writes one data set; implements `writers.DatasetWriter`. Owned by one thread; one process writes a folder at a time."""

    def __init__(
        self, folder: Path, layout: DatasetLayout, card: Card, *, video: VideoConfig | None = None, resume: bool = False
    ) -> None:
        """Begins a data set, or continues the one in `folder` with `resume`.

        Raises ConfigError as `claim.check` does, and when another writer has the folder.
        """
        self._claim = FolderClaim(folder, _FORM, layout, card.command, resume=resume)
        self.folder, self.layout = folder, layout
        self._card, self._video = card, video or VideoConfig()
        self._tasks: list[str] = []
        self._frames = 0
        self._statistics: dict[str, Statistics] = {}
        self.trajectory_ids: list[int] = []
        """Packed ids of all episodes in the data set, in order."""
        if self._claim.going_on:
            self._go_on()
            self._describe()
        self._clear()

    @classmethod
    def check(cls, folder: Path, layout: DatasetLayout, *, resume: bool) -> None:
        """Raises ConfigError where a writer of this layout would not begin; changes nothing."""
        claim.check(folder, _FORM, layout, resume=resume)

    @property
    def num_episodes(self) -> int:
        """Episodes that are in the data set."""
        return len(self.trajectory_ids)

    def add(self, recorded: Recorded) -> None:
        """Adds one episode; it is on disk and counted when this returns."""
        number, frames = self.num_episodes, recorded.num_frames
        columns = self._columns(recorded)
        statistics = {name: of_rows(values) for name, values in columns.items()}
        for camera, name in enumerate(self.layout.cameras):
            pictures = recorded.rgb[:, camera]
            path = self.folder / lerobot.place(lerobot.VIDEO, number, lerobot.IMAGES + name)
            write_video(path, pictures, fps=float(self.layout.fps), options=self._video.options, threads=1)
            statistics[lerobot.IMAGES + name] = of_pictures(pictures)
        if recorded.instruction not in self._tasks:
            self._tasks.append(recorded.instruction)
            with replacing(self.folder / lerobot.TASKS) as partial:
                pq.write_table(lerobot.tasks_table(self._tasks), partial)
        task = self._tasks.index(recorded.instruction)
        rows = {
            **columns,
            "timestamp": (np.arange(frames) / float(self.layout.fps)).astype(np.float32),
            "frame_index": np.arange(frames),
            "episode_index": np.full(frames, number),
            "index": np.arange(self._frames, self._frames + frames),
            "task_index": np.full(frames, task),
        }
        statistics |= {name: of_rows(values) for name, values in rows.items() if name not in columns}
        with replacing(self.folder / lerobot.place(lerobot.DATA, number)) as partial:
            pq.write_table(pa.table({name: _array(values) for name, values in rows.items()}), partial)
        with replacing(self.folder / lerobot.place(lerobot.EPISODES, number)) as partial:
            pq.write_table(self._episode(number, recorded, statistics), partial)
        self._take(recorded.trajectory_id, frames, statistics)
        self._card.add(recorded.info)
        self._describe()
        write_json(self.folder / lerobot.INFO, self._info())  # from here on the episode counts

    def close(self) -> None:
        """Removes the files of an interrupted episode; the data set is complete even when this is never called."""
        self._clear()
        self._claim.release()

    def __enter__(self) -> LeRobotWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # ------------------------------------------------------------------------------------------------------------ contents

    def _columns(self, recorded: Recorded) -> dict[str, NDArray]:
        """Columns that hold data, not indices. The row of the last frame, which no command follows, repeats the last command."""
        frames = recorded.num_frames
        last = np.minimum(np.arange(frames), frames - 2)
        done = np.zeros(frames, np.bool_)
        done[-1] = True
        return {
            lerobot.STATE: recorded.state,
            lerobot.STATE_POSE: recorded.state_pose,
            lerobot.ACTION: recorded.action[last].reshape(frames, -1),
            lerobot.ACTION_POSE: recorded.action_pose[last].reshape(frames, -1),
            lerobot.SEGMENT: recorded.segment[last].astype(np.int64),
            lerobot.DONE: done,
        }

    def _episode(self, number: int, recorded: Recorded, statistics: Mapping[str, Statistics]) -> pa.Table:
        """The episode's one row in `meta/episodes`."""
        chunk, index = divmod(number, lerobot.CHUNK_FILES)
        frames, last_s = recorded.num_frames, recorded.num_frames / float(self.layout.fps)
        row: dict[str, Any] = {
            "episode_index": number,
            "tasks": [recorded.instruction],
            "length": frames,
            "data/chunk_index": chunk,
            "data/file_index": index,
            "dataset_from_index": self._frames,
            "dataset_to_index": self._frames + frames,
            "meta/episodes/chunk_index": chunk,
            "meta/episodes/file_index": index,
            "provenance/trajectory_id": str(recorded.trajectory_id),
            "provenance/info": recorded.info.text(),
        }
        for name in self.layout.cameras:
            key = f"videos/{lerobot.IMAGES}{name}/"
            row |= {
                f"{key}chunk_index": chunk,
                f"{key}file_index": index,
                f"{key}from_timestamp": 0.0,
                f"{key}to_timestamp": last_s,
            }
        for name, values in statistics.items():
            row |= {f"stats/{name}/{kind}": numbers for kind, numbers in plain(values).items()}
        return pa.table({name: pa.array([value]) for name, value in row.items()})

    def _features(self) -> dict[str, Any]:
        """The description of the columns in `info.json`."""
        layout = self.layout
        steps = [""] if layout.chunk == 1 else [f"@{step}" for step in range(layout.chunk)]
        shapes: dict[str, tuple[str, list[str] | None, int]] = {
            lerobot.STATE: ("float32", list(layout.channels), len(layout.channels)),
            lerobot.STATE_POSE: ("float32", list(layout.poses), len(layout.poses)),
            lerobot.ACTION: ("float32", [n + step for step in steps for n in layout.channels], layout.chunk * len(layout.channels)),
            lerobot.ACTION_POSE: ("float32", [n + step for step in steps for n in layout.poses], layout.chunk * len(layout.poses)),
            lerobot.SEGMENT: ("int64", None, 1),
            lerobot.DONE: ("bool", None, 1),
            "timestamp": ("float32", None, 1),
            **dict.fromkeys(("frame_index", "episode_index", "index", "task_index"), ("int64", None, 1)),
        }
        features: dict[str, Any] = {
            name: {"dtype": dtype, "shape": [size], "names": names} for name, (dtype, names, size) in shapes.items()
        }
        for name in layout.cameras:
            features[lerobot.IMAGES + name] = {
                "dtype": "video",
                "shape": [layout.height, layout.width, 3],
                "names": ["height", "width", "channels"],
                "info": {
                    "video.height": layout.height,
                    "video.width": layout.width,
                    "video.codec": "h264",
                    "video.pix_fmt": "yuv420p",
                    "video.is_depth_map": False,
                    "video.fps": _number(layout),
                    "video.channels": 3,
                    "has_audio": False,
                },
            }
        return features

    def _info(self) -> dict[str, Any]:
        return {
            "codebase_version": lerobot.VERSION,
            "robot_type": self.layout.robot,
            "total_episodes": self.num_episodes,
            "total_frames": self._frames,
            "total_tasks": len(self._tasks),
            "chunks_size": lerobot.CHUNK_FILES,
            "data_files_size_in_mb": 100,
            "video_files_size_in_mb": 200,
            "fps": _number(self.layout),
            "splits": {"train": f"0:{self.num_episodes}"},
            "data_path": lerobot.DATA,
            "video_path": lerobot.VIDEO,
            "features": self._features(),
        }

    # ------------------------------------------------------------------------------------------------------------- lives

    def _go_on(self) -> None:
        """Reads the instructions, statistics and provenance of the episodes that an earlier writer finished."""
        info = read_json(self.folder / lerobot.INFO)
        if info["total_tasks"]:
            self._tasks = pq.read_table(self.folder / lerobot.TASKS)["task"].to_pylist()[: info["total_tasks"]]
        for number in range(info["total_episodes"]):
            row = pq.read_table(self.folder / lerobot.place(lerobot.EPISODES, number)).to_pylist()[0]
            statistics: dict[str, dict[str, NDArray[np.float64]]] = {}
            for name, value in row.items():
                if name.startswith("stats/"):
                    _, column, kind = name.split("/")
                    statistics.setdefault(column, {})[kind] = np.array(value)
            self._take(int(row["provenance/trajectory_id"]), row["length"], statistics)
            self._card.add(TrajectoryInfo.decode(row["provenance/info"].encode()))

    def _take(self, trajectory_id: int, frames: int, statistics: Mapping[str, Statistics]) -> None:
        for name, values in statistics.items():
            self._statistics[name] = merged(self._statistics[name], values) if name in self._statistics else values
        self._frames += frames
        self.trajectory_ids.append(trajectory_id)

    def _describe(self) -> None:
        """Writes the statistics of all episodes, and the card."""
        write_json(self.folder / lerobot.STATS, {name: plain(values) for name, values in self._statistics.items()})
        write_text(self.folder / _README, self._card.text(_contents(self.layout), tags=("LeRobot",)))

    def _clear(self) -> None:
        """Removes partly written files, and those of an episode that `info.json` does not count, where this writer puts them."""
        remove_partials(self.folder / path for path in (_README, lerobot.INFO, lerobot.STATS, lerobot.TASKS, lerobot.OURS))
        folders = [(self.folder / folder, "parquet") for folder in ("data", "meta/episodes")]
        folders += [(self.folder / "videos" / (lerobot.IMAGES + name), "mp4") for name in self.layout.cameras]
        for folder, kind in folders:
            for chunk in folder.glob("chunk-*"):
                if found := re.fullmatch(r"chunk-(\d{3,})", chunk.name):
                    claim.clear(chunk, rf"file-(\d{{3,}})\.{kind}", self.num_episodes - int(found[1]) * lerobot.CHUNK_FILES)


def _contents(layout: DatasetLayout) -> list[str]:
    """Lines of the card that describe a row."""
    several = f"; {layout.chunk} of them, one after another" if layout.chunk > 1 else ""
    return [
        f"One frame of {len(layout.cameras)} cameras ({', '.join(layout.cameras)}; {layout.width} x {layout.height} pixels),",
        f"{float(layout.fps):g} a second, and the {layout.chunk} command(s) that follow it, at {layout.control_hz} Hz. The last",
        "row of an episode, where `next.done` is true, is the frame after its last command, which it repeats.",
        "",
        "| column | meaning |",
        "|---|---|",
        f"| `action` | commands: joint targets [rad] and gripper openings [m]: {', '.join(layout.channels)}{several} |",
        "| `action_pose` | the poses of the end effectors that they command: position [m], quaternion (w first), world frame |",
        "| `observation.state`, `observation.pose` | the same, measured |",
        "| `segment` | 0 as planned, 1 part of a failed attempt (not to be imitated), 2 recovering from it |",
    ]


def _number(layout: DatasetLayout) -> int | float:
    return layout.fps.numerator if layout.fps.denominator == 1 else float(layout.fps)


def _array(values: NDArray) -> pa.Array:
    """A column of numbers from an array [N], or of lists of equal length from an array [N, n]."""
    if values.ndim == 1:
        return pa.array(values)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
