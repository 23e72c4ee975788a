"""LeRobot v3's layout on disk: the paths of its files and the names of its columns, for both writer and reader.

Source: the format's documentation, and what lerobot 0.4.4 reads. We write one file per episode, which the format allows: files of
finished episodes are never opened for writing again, so that a crash cannot damage them.
"""

from __future__ import annotations

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
    "place",
    "tasks_table",
]

VERSION = "v3.0"
CHUNK_FILES = 1000
"""Most files in one folder; the format calls such a folder a chunk (not a chunk of commands)."""
INFO, STATS, TASKS = Path("meta/info.json"), Path("meta/stats.json"), Path("meta/tasks.parquet")
OURS = Path("meta/embodichain.json")
"""Our own file, for what the format has no field for: how many commands a row holds, and their names."""
_FILE = "chunk-{chunk_index:03d}/file-{file_index:03d}"
DATA = f"data/{_FILE}.parquet"
VIDEO = f"videos/{{video_key}}/{_FILE}.mp4"
EPISODES = f"meta/episodes/{_FILE}.parquet"

ACTION, STATE = "action", "observation.state"
ACTION_POSE, STATE_POSE = "action_pose", "observation.pose"
IMAGES = "observation.images."
"""Prefix of a camera's name in column names."""
SEGMENT, DONE = "segment", "next.done"


def place(template: str, number: int, key: str = "") -> Path:
    """Path of file `number`, relative to the data set; `template` is DATA, EPISODES, or VIDEO with the camera's column in `key`."""
    chunk, index = divmod(number, CHUNK_FILES)
    return Path(template.format(chunk_index=chunk, file_index=index, video_key=key))


def tasks_table(tasks: list[str]) -> pa.Table:
    """The table of instructions by their index; read with pandas, the instructions are its index, as LeRobot expects."""
    metadata = (
        '{"index_columns": ["task"], "column_indexes": [{"name": null, "field_name": null, "pandas_type": "unicode", '
        '"numpy_type": "object", "metadata": {"encoding": "UTF-8"}}], "columns": [{"name": "task_index", "field_name": '
        '"task_index", "pandas_type": "int64", "numpy_type": "int64", "metadata": null}, {"name": "task", "field_name": "task", '
        '"pandas_type": "unicode", "numpy_type": "object", "metadata": null}], "pandas_version": "2.2.0"}'
    )
    columns = {"task_index": pa.array(range(len(tasks)), pa.int64()), "task": pa.array(tasks, pa.string())}
    return pa.table(columns).replace_schema_metadata({"pandas": metadata})
