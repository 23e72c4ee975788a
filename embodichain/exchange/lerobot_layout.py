"""LeRobot v3's layout on disk: where its files lie and what its columns are called, for the writer and the reader alike.

Learned from the format's documentation and from what lerobot 0.4.4 reads. One file an episode, which the format allows: nothing
that was written is touched again, and so nothing can be lost of it.
"""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa

__all__ = [
    "ACTION",
    "ACTION_POSE",
    "CHUNK_FILES",
    "DATA",
    "DONE",
    "EPISODES",
    "IMAGES",
    "INFO",
    "OURS",
    "SEGMENT",
    "STATE",
    "STATE_POSE",
    "STATS",
    "TASKS",
    "VERSION",
    "VIDEO",
    "number_in",
    "place",
    "tasks_table",
]

VERSION = "v3.0"
CHUNK_FILES = 1000
"""Files in a folder of the format, which calls such a folder a chunk."""
INFO, STATS, TASKS = Path("meta/info.json"), Path("meta/stats.json"), Path("meta/tasks.parquet")
OURS = Path("meta/embodichain.json")
"""What the format has no place for: how many commands a row holds, and their names."""
_FILE = "chunk-{chunk_index:03d}/file-{file_index:03d}"
DATA = f"data/{_FILE}.parquet"
VIDEO = f"videos/{{video_key}}/{_FILE}.mp4"
EPISODES = f"meta/episodes/{_FILE}.parquet"

ACTION, STATE = "action", "observation.state"
ACTION_POSE, STATE_POSE = "action_pose", "observation.pose"
IMAGES = "observation.images."
"""Before a camera's name."""
SEGMENT, DONE = "segment", "next.done"


def place(template: str, number: int, key: str = "") -> Path:
    """The path of file `number` of a kind (DATA, VIDEO of a camera's key, EPISODES), from the data set's folder."""
    chunk, index = divmod(number, CHUNK_FILES)
    return Path(template.format(chunk_index=chunk, file_index=index, video_key=key))


def number_in(path: Path) -> int | None:
    """The inverse of `place`; None for another file."""
    found = re.fullmatch(r"chunk-(\d+)/file-(\d+)\.\w+", f"{path.parent.name}/{path.name}")
    return int(found[1]) * CHUNK_FILES + int(found[2]) if found else None


def tasks_table(tasks: list[str]) -> pa.Table:
    """The sentences of a data set by their index; pandas finds the sentences as the table's index, as LeRobot expects."""
    metadata = (
        '{"index_columns": ["task"], "column_indexes": [{"name": null, "field_name": null, "pandas_type": "unicode", '
        '"numpy_type": "object", "metadata": {"encoding": "UTF-8"}}], "columns": [{"name": "task_index", "field_name": '
        '"task_index", "pandas_type": "int64", "numpy_type": "int64", "metadata": null}, {"name": "task", "field_name": "task", '
        '"pandas_type": "unicode", "numpy_type": "object", "metadata": null}], "pandas_version": "2.2.0"}'
    )
    columns = {"task_index": pa.array(range(len(tasks)), pa.int64()), "task": pa.array(tasks, pa.string())}
    return pa.table(columns).replace_schema_metadata({"pandas": metadata})
