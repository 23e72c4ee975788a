"""Reads LeRobot v3 data sets of any origin as trajectories of this engine; an unsuitable one raises with all that it lacks.

Everything is checked when a data set is opened, except the contents of its films and its rows.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
from av.error import FFmpegError
from numpy.typing import NDArray
from PIL import Image

from embodichain import __version__
from embodichain.errors import ConfigError
from embodichain.exchange import lerobot_layout as lerobot
from embodichain.exchange import lerobot_opening as opening
from embodichain.exchange.mapping import Correspondence, pick_columns
from embodichain.exchange.recorded import channels_of
from embodichain.motion.action import ActionCodec
from embodichain.types import (
    INFO_BYTES,
    INSTRUCTION_BYTES,
    Robot,
    Segment,
    TrajectoryId,
    TrajectoryInfo,
    TrajectorySpec,
    write_text,
)

__all__ = ["WORKER", "LeRobotFolder"]

WORKER = 0xFFFF
"""Worker number in the ids of trajectories read from a data set; no simulating worker has it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Columns:
    """Which numbers of a data set's column make a command of ours, with the scale and offset of each."""

    key: str
    columns: NDArray[np.int64]
    scales: NDArray[np.float64]
    offsets: NDArray[np.float64]

    def read(self, table: pa.Table, per_row: int) -> NDArray[np.float64]:
        """Commands of all rows, [rows, per_row, n]."""
        values = np.stack(table[self.key].to_numpy()).astype(np.float64).reshape(table.num_rows, per_row, -1)
        return values[..., self.columns] * self.scales + self.offsets


class LeRobotFolder:
    """One LeRobot data set, read for one robot and one trajectory layout. Owned by one thread.

    Episodes that are shorter than a chunk are left out, and counted in `left_out`; numbers count the others.

    Raises ConfigError when the folder is no readable data set of version 3, lacks a camera or a joint that the robot needs (the
    message names all that is missing and what is available), has no episode that is long enough, or says more than an instruction
    holds.
    """

    def __init__(self, folder: Path, robot: Robot, spec: TrajectorySpec, mapping: Correspondence | None = None) -> None:
        """`spec` gives the commands per chunk and the size to which images are resized; without `mapping`, names must be ours."""
        self.folder, self._mapping = folder, mapping or Correspondence()
        self._robot, self._codec, self._chunk = robot, ActionCodec(robot), spec.chunk
        _, _, self._height, self._width, _ = spec.field("rgb").shape
        self._info = opening.read_info(folder)
        self._per_row = opening.rows_per_command(folder)
        self._fps = self._mapping.fps or float(self._info["fps"])
        missing: list[str] = []
        if extra := sorted({"depth", "segmentation"} & {entry.name for entry in spec.fields}):
            missing.append(f"{' and '.join(extra)} of every frame, which such a data set does not hold")
        channels = channels_of(robot)
        self._mapping.check(channels, [camera.name for camera in robot.cameras])
        self._action = self._columns(self._mapping.action_key, channels, self._mapping.action, "command", missing, self._per_row)
        self._state = self._columns(self._mapping.state_key, channels, self._mapping.state, "measured", missing, 1)
        self._cameras = [self._mapping.cameras.get(c.name, lerobot.IMAGES + c.name) for c in robot.cameras]
        features = self._info["features"]
        pictures = sorted(key for key, feature in features.items() if feature["dtype"] in ("video", "image"))
        for camera, key in zip(robot.cameras, self._cameras, strict=True):
            if key not in pictures:
                missing.append(f"camera {camera.name} (looked for {key!r} among {', '.join(pictures) or 'none'})")
        if missing:
            numbers = ", ".join(map(str, self._names(self._mapping.action_key)))
            raise ConfigError(
                f"{folder} cannot be read as experience of robot {robot.name!r}; missing: {'; '.join(missing)}. "
                f"Its commands are called {numbers or 'nothing'}: say in a mapping (--static.mapping FILE.yaml) which is which"
            )
        films = [key for key in self._cameras if features[key]["dtype"] == "video"]
        entries = opening.read_episodes(folder, self._info["total_episodes"], films)
        self._episodes = self._long_enough(entries)
        self.left_out = len(entries) - len(self._episodes)
        """Episodes that are shorter than a chunk."""
        opening.check_files(folder, self._info, self._episodes, films)
        self._check_words()

    @property
    def num_episodes(self) -> int:
        """Episodes in the data set that are long enough."""
        return len(self._episodes)

    def trajectory_id(self, number: int) -> int:
        """Packed trajectory id of episode `number`; it holds the episode's index in the data set."""
        return TrajectoryId(worker=WORKER, epoch=0, sequence=self._episodes[number]["episode_index"]).pack()

    def episode(self, number: int) -> dict[str, NDArray]:
        """Episode `number` as arrays in the layout of `camera_spec`, without padding.

        Commands and states recorded at another rate than the robot's are interpolated linearly in time; for images the latest
        one is taken. An incomplete chunk at the end is dropped. Raises ConfigError when the files hold less than the data set says.
        """
        entry = self._episodes[number]
        path = opening.file_of(self.folder, self._info, entry)
        table = opening.read_rows(path, entry["episode_index"])
        if lost := sorted({self._action.key, self._state.key} - set(table.column_names)):
            raise ConfigError(f"{path} lacks the columns {', '.join(lost)}, which meta/info.json lists")
        rows = table.num_rows
        commands = self._action.read(table, self._per_row)[:-1].reshape(-1, self._robot.command_size)
        states = self._state.read(table, 1)[:, 0]
        hz, theirs = self._robot.control_hz, self._fps * self._per_row
        if not self._same_rate:
            times = np.arange(self._num_commands(rows)) / hz
            commands = _interpolated(commands, theirs, times)
        chunks = len(commands) // self._chunk
        if chunks < 1:
            raise ConfigError(
                f"{path} holds {rows} rows of episode {entry['episode_index']}, of {entry['length']} that it should hold"
            )
        frame_times = np.arange(chunks + 1) * self._chunk / hz
        frames = np.minimum(np.floor(frame_times * self._fps + 1e-4).astype(int), rows - 1)
        commands = commands[: chunks * self._chunk].reshape(chunks, self._chunk, -1)
        at_rows = np.allclose(frames / self._fps, frame_times)
        measured = states[frames] if at_rows else _interpolated(states, self._fps, frame_times)
        mask, action = self._codec.mask, self._codec.encode(commands)
        out = {
            "rgb": np.stack([self._pictures(entry, table, key, frames) for key in self._cameras], axis=1),
            "proprio": self._codec.encode(measured),
            "action": action,
            "action_mask": mask,
            "segment": self._segments(table, chunks, hz),
            "num_chunks": np.array(chunks, np.int32),
            "trajectory_id": np.array(self.trajectory_id(number), np.uint64),
            "instruction": np.zeros(INSTRUCTION_BYTES, np.uint8),
            "info": np.zeros(INFO_BYTES, np.uint8),
        }
        write_text(out["instruction"], self._words(entry).encode())
        write_text(out["info"], self._provenance(entry).encode())
        return out

    # ------------------------------------------------------------------------------------------------------------- parts

    @property
    def _same_rate(self) -> bool:
        hz = self._robot.control_hz
        return abs(hz - self._fps * self._per_row) <= 1e-6 * hz

    def _num_commands(self, rows: int) -> int:
        """How many commands at the robot's rate an episode of `rows` rows makes."""
        if self._same_rate:
            return (rows - 1) * self._per_row
        return int((rows - 1) / self._fps * self._robot.control_hz + 1e-6)

    def _long_enough(self, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The episodes that make a chunk; raises ConfigError when none does."""
        found = [entry for entry in entries if self._num_commands(entry["length"]) >= self._chunk]
        if not found:
            longest = max(entry["length"] for entry in entries)
            raise ConfigError(
                f"no episode of {self.folder} is long enough: the longest lasts {(longest - 1) / self._fps:.2f} s, and a chunk "
                f"{self._chunk / self._robot.control_hz:.2f} s; choose another, or shorter chunks (--world.chunk)"
            )
        return found

    def _words(self, entry: Mapping[str, Any]) -> str:
        """The instruction of an episode, which a mapping may replace."""
        return self._mapping.worded(next(iter(entry["tasks"]), ""))

    def _check_words(self) -> None:
        """Raises ConfigError for an instruction that does not fit into a trajectory: cut short it might say the opposite."""
        long = {words for entry in self._episodes if len((words := self._words(entry)).encode()) > INSTRUCTION_BYTES}
        if long:
            first = min(long)
            raise ConfigError(
                f"{len(long)} instructions of {self.folder} are longer than the {INSTRUCTION_BYTES} bytes that a trajectory holds; "
                f"the first has {len(first.encode())}: {first!r}. Say it shorter in a mapping (--static.mapping FILE.yaml), as "
                "instruction: {THEIRS: YOURS}, or instruction: YOURS for all"
            )

    def _columns(
        self, key: str, channels: tuple[str, ...], picks: Mapping[str, Any], what: str, missing: list[str], per_row: int
    ) -> _Columns:
        names = [name.removesuffix("@0") for name in self._names(key)]
        names = names[: len(names) // per_row]
        if key not in self._info["features"]:
            missing.append(f"the column {key!r} (there are {', '.join(self._info['features'])})")
            return _Columns(key=key, columns=np.zeros(0, np.int64), scales=np.zeros(0), offsets=np.zeros(0))
        columns, scales, offsets = pick_columns(channels, picks, names, what, missing)
        return _Columns(key=key, columns=columns, scales=scales, offsets=offsets)

    def _names(self, key: str) -> list[str]:
        """Names of the numbers in a column; their indices as strings where the data set names none."""
        feature = self._info["features"].get(key, {"shape": [0]})
        names: Any = feature.get("names") or []
        if isinstance(names, dict):  # {"motors": [...]}, as earlier versions wrote
            names = next(iter(names.values()))
        return [str(name) for name in names] if len(names) == feature["shape"][0] else [str(i) for i in range(feature["shape"][0])]

    def _pictures(self, entry: Mapping[str, Any], table: pa.Table, key: str, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Images of one camera in these rows, [len(rows), h, w, 3]."""
        if self._info["features"][key]["dtype"] == "image":
            files = {row: Image.open(io.BytesIO(table[key][row].as_py()["bytes"])).convert("RGB") for row in set(rows.tolist())}
        else:
            files = self._decoded(entry, key, set(rows.tolist()))
        size = (self._width, self._height)
        sized = {row: np.asarray(p if p.size == size else p.resize(size, Image.Resampling.BOX)) for row, p in files.items()}
        return np.stack([sized[row] for row in rows.tolist()])

    def _decoded(self, entry: Mapping[str, Any], key: str, wanted: set[int]) -> dict[int, Image.Image]:
        path = opening.file_of(self.folder, self._info, entry, key)
        begin, fps = float(entry[f"videos/{key}/from_timestamp"]), float(self._info["fps"])
        found: dict[int, Image.Image] = {}
        try:
            with av.open(str(path)) as container:
                stream = container.streams.video[0]
                tick = float(stream.time_base or 0.0)
                if begin:
                    container.seek(int(begin / tick), stream=stream)  # goes to the key frame before `begin`: decoding starts there
                for frame in container.decode(stream):
                    row = round(((frame.pts or 0) * tick - begin) * fps)
                    if row in wanted:
                        found[row] = Image.fromarray(frame.to_ndarray(format="rgb24"))
                        if len(found) == len(wanted):
                            return found
        except (OSError, FFmpegError) as error:
            raise ConfigError(f"cannot read the film {path}: {error}") from error
        raise ConfigError(f"the film {path} ends before frame {min(wanted - found.keys())} of episode {entry['episode_index']}")

    def _segments(self, table: pa.Table, chunks: int, hz: int) -> NDArray[np.uint8]:
        """The `Segment` of each chunk where the data set labels its rows; otherwise all are `PLANNED` (0)."""
        out = np.zeros(chunks, np.uint8)
        if lerobot.SEGMENT in table.column_names:
            labels = [Segment(int(value)) for value in table[lerobot.SEGMENT].to_numpy()]
            for chunk in range(chunks):
                first = int(chunk * self._chunk / hz * self._fps + 1e-4)
                end = int(np.ceil((chunk + 1) * self._chunk / hz * self._fps - 1e-4))
                out[chunk] = Segment.of_chunk(labels[first : max(end, first + 1)])
        return out

    def _provenance(self, entry: Mapping[str, Any]) -> TrajectoryInfo:
        """The stored provenance when this engine wrote the data set; otherwise a note of the data set and episode."""
        number = entry["episode_index"]
        if note := entry.get("provenance/info"):
            return TrajectoryInfo.decode(note.encode())
        return TrajectoryInfo(
            task=self._words(entry),
            robot=self._robot.name,
            physics="recorded",
            scene_seed=number,
            worker=WORKER,
            engine_version=__version__,
            assets={},
            expansion={},
            success=True,
            reason=f"episode {number} of {self.folder.name}",
        )


def _interpolated(values: NDArray[np.float64], hz: float, times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows [N, n] sampled at `hz`, interpolated at `times` [s]; constant before the first and after the last."""
    own = np.arange(len(values)) / hz
    return np.stack([np.interp(times, own, column) for column in values.T], axis=1)
