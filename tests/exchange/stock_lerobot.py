"""Runs in lerobot's own environment: writes what its stock loader reads of a data set into an .npz file."""

import sys

import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset

folder, out = sys.argv[1:]
data = LeRobotDataset("local/exported", root=folder, video_backend="pyav")
items = [data[i] for i in range(len(data))]
found = {key: np.stack([np.asarray(item[key]) for item in items]) for key in items[0] if key != "task"}
found |= {f"stats.{key}.{kind}": values for key, kinds in data.meta.stats.items() for kind, values in kinds.items()}
np.savez(
    out,
    task=[item["task"] for item in items],
    num_episodes=data.num_episodes,
    lengths=data.meta.episodes["length"],
    fps=data.fps,
    **found,
)
