"""Runs in lerobot's own environment: its stock writer on episodes in an .npz file. EPISODES.npz FOLDER; prints one JSON object.

Frames per second of `add_frame` and `save_episode`, H.264 at crf 30 as the writer has it: pictures through PNG files, its default,
and encoded as they come (`streaming_encoding`). One episode goes before, untimed.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset  # pyright: ignore[reportMissingImports] (of its own environment)

episodes, folder = np.load(sys.argv[1]), Path(sys.argv[2])
count = int(episodes["count"])
cameras = [f"observation.images.{name}" for name in episodes["cameras"].tolist()]
_, _, height, width, _ = episodes["rgb_0"].shape
vector = {"dtype": "float32", "shape": (episodes["state_0"].shape[1],), "names": None}
picture = {"dtype": "video", "shape": (height, width, 3), "names": ["height", "width", "channels"]}
features = {"observation.state": vector, "action": vector, **dict.fromkeys(cameras, picture)}


def save(data: LeRobotDataset, number: int) -> int:
    """Writes one episode; returns its frames."""
    rgb, state = episodes[f"rgb_{number}"], episodes[f"state_{number}"]
    for frame in range(len(rgb)):
        pictures = {key: rgb[frame, camera] for camera, key in enumerate(cameras)}
        data.add_frame({"observation.state": state[frame], "action": state[frame], "task": "turn", **pictures})
    data.save_episode()
    return len(rgb)


found = {}
for name, streaming in (("png", False), ("streaming", True)):
    data = LeRobotDataset.create(
        "local/peer", int(episodes["fps"]), features, root=folder / name, vcodec="h264", streaming_encoding=streaming
    )
    save(data, 0)
    before = time.perf_counter()
    frames = sum(save(data, number) for number in range(1, count))
    data.finalize()
    found[name] = frames / (time.perf_counter() - before)
print(json.dumps(found))
