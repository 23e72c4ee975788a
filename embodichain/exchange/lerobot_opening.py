"""Checks of a LeRobot data set when it is opened, so that its faults are reported before anything long has begun."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from embodichain.errors import ConfigError
from embodichain.exchange import lerobot_layout as lerobot
from embodichain.exchange.files import check_lerobot, read_json

__all__ = ["check_files", "file_of", "read_episodes", "read_info", "read_rows", "rows_per_command"]

Result = TypeVar("Result")

_POINTER = b"version https://git-lfs"
"""The first bytes of a Git LFS pointer, which lies in place of a file that was not downloaded."""
_PARQUET = b"PAR1"


def read_info(folder: Path) -> dict[str, Any]:
    """`meta/info.json`; raises ConfigError when it is missing, of another version, or lacks what a reader needs."""
    check_lerobot(folder)
    path = folder / lerobot.INFO
    info = read_json(path)
    if not isinstance(info, dict):
        raise ConfigError(f"{path} holds {type(info).__name__} and not an object: it does not describe a LeRobot data set")
    if info.get("codebase_version") != lerobot.VERSION:
        raise ConfigError(
            f"{folder} is of LeRobot's version {info.get('codebase_version')}, and {lerobot.VERSION} is read here: "
            "convert it with lerobot's own script"
        )
    features = list(info["features"].values()) if isinstance(info.get("features"), dict) else []
    known = bool(features) and all(map(_is_feature, features))
    films = known and any(feature["dtype"] == "video" for feature in features)
    wanted: dict[str, tuple[bool, str]] = {
        "fps": (_is_rate(info.get("fps")), "a number above 0"),
        "features": (known, "an object with dtype and shape of every column"),
        "total_episodes": (_is_count(info.get("total_episodes")), "a whole number"),
        "data_path": (isinstance(info.get("data_path"), str), "a pattern of paths"),
        "video_path": (isinstance(info.get("video_path"), str) or not films, "a pattern of paths"),
    }
    if wrong := [f"{name} is {_shown(info, name)}, not {what}" for name, (right, what) in wanted.items() if not right]:
        raise ConfigError(f"{path} does not describe a LeRobot data set: {'; '.join(wrong)}")
    return info


def rows_per_command(folder: Path) -> int:
    """How many commands a row holds: as our own note says where this engine wrote the data set, otherwise 1."""
    path = folder / lerobot.OURS
    if not path.exists():
        return 1
    try:
        return int(read_json(path)["layout"]["chunk"])
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path} does not say how many commands a row holds (layout.chunk): {error!r}") from error


def read_episodes(folder: Path, total: int, films: Iterable[str]) -> list[dict[str, Any]]:
    """The rows of `meta/episodes` in order of episode, without those of an episode that was never completed.

    Raises ConfigError when one is missing, or lacks what says where its data and its `films` (columns of cameras) lie.
    """
    needed = {"episode_index", "length", "tasks", "data/chunk_index", "data/file_index"}
    needed |= {f"videos/{key}/{part}" for key in films for part in ("chunk_index", "file_index", "from_timestamp")}
    found: dict[int, dict[str, Any]] = {}
    for path in sorted((folder / "meta/episodes").glob("*/*.parquet")):
        names = _guarded(path, lambda path=path: pq.read_schema(path)).names
        if lost := sorted(needed - set(names)):
            raise ConfigError(f"{path} lacks the columns {', '.join(lost)}: it does not say where an episode's files lie")
        wanted = [name for name in names if not name.startswith("stats/")]
        rows = _guarded(path, lambda path=path, wanted=wanted: pq.read_table(path, columns=wanted).to_pylist())
        found |= {row["episode_index"]: row for row in rows}
    if lost := [number for number in range(total) if number not in found]:
        raise ConfigError(f"{folder} says that it has {total} episodes and describes no episode {lost[0]}")
    if not total:
        raise ConfigError(f"{folder} has no episode")
    for number in range(total):
        if empty := sorted(name for name in needed if found[number][name] is None):
            raise ConfigError(f"{folder / 'meta/episodes'} says nothing of {', '.join(empty)} of episode {number}")
    return [found[number] for number in range(total)]


def file_of(folder: Path, info: Mapping[str, Any], entry: Mapping[str, Any], key: str = "") -> Path:
    """Where an episode's rows are, or its film of the camera in column `key`; raises ConfigError for a pattern of another kind."""
    name, prefix = ("video_path", f"videos/{key}/") if key else ("data_path", "data/")
    numbers = {part: entry[f"{prefix}{part}"] for part in ("chunk_index", "file_index")}
    try:
        return folder / info[name].format(**numbers, video_key=key)
    except (KeyError, IndexError, ValueError) as error:
        raise ConfigError(
            f"{folder / lerobot.INFO}: {name} is {info[name]!r}, and its places are chunk_index, file_index and video_key"
        ) from error


def check_files(folder: Path, info: Mapping[str, Any], entries: Sequence[Mapping[str, Any]], films: Iterable[str]) -> None:
    """Raises ConfigError unless the files of these episodes are there, and not what Git LFS leaves in their place."""
    rows = {file_of(folder, info, entry) for entry in entries}
    pictures = {file_of(folder, info, entry, key) for key in films for entry in entries}
    for path in sorted(rows | pictures):
        try:
            with path.open("rb") as file:
                begin = file.read(len(_POINTER))
        except OSError as error:
            raise ConfigError(f"{folder} lacks the file {path.relative_to(folder)}: {error.strerror}") from error
        if begin == _POINTER or (path in rows and not begin.startswith(_PARQUET)):
            raise ConfigError(_unreadable(path, begin))


def read_rows(path: Path, number: int) -> pa.Table:
    """The rows of episode `number`; raises ConfigError when the file cannot be read or holds none."""
    table = _guarded(path, lambda: pq.read_table(path, filters=[("episode_index", "=", number)]))
    if not table.num_rows:
        raise ConfigError(f"{path} holds no row of episode {number}, which should be there")
    return table


def _guarded(path: Path, read: Callable[[], Result]) -> Result:
    """What `read` answers; raises ConfigError when pyarrow cannot read the file, whose errors are ValueErrors and OSErrors."""
    try:
        return read()
    except (OSError, ValueError, KeyError) as error:
        begin = path.open("rb").read(len(_POINTER)) if path.is_file() else b""
        raise ConfigError(_unreadable(path, begin, error)) from error


def _unreadable(path: Path, begin: bytes, error: Exception | None = None) -> str:
    if begin == _POINTER:
        return f"{path} is a pointer of Git LFS and not the file itself: run `git lfs pull` in the data set's folder"
    return f"cannot read {path}: " + (str(error) if error else "it is no Parquet file")


def _is_rate(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_feature(value: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("dtype"), str):
        return False
    shape = value.get("shape")
    return isinstance(shape, list) and bool(shape) and all(map(_is_count, shape))


def _shown(info: Mapping[str, Any], name: str) -> str:
    if name not in info:
        return "missing"
    return "not all described" if name == "features" else repr(info[name])
