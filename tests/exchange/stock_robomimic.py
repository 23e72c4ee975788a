"""Runs in an environment with robomimic: writes what its stock loader reads of a data set into an .npz file."""

import sys

import numpy as np
from robomimic.utils.dataset import SequenceDataset

file, out = sys.argv[1:]
data = SequenceDataset(
    hdf5_path=file,
    obs_keys=("state", "pose", "head_image"),
    dataset_keys=("actions", "rewards", "dones"),
    load_next_obs=True,
    frame_stack=1,
    seq_length=1,
    pad_frame_stack=True,
    pad_seq_length=True,
    get_pad_mask=False,
    hdf5_cache_mode=None,
)
items = [data[i] for i in range(len(data))]
np.savez(
    out,
    actions=np.stack([item["actions"][0] for item in items]),
    state=np.stack([item["obs"]["state"][0] for item in items]),
    next_state=np.stack([item["next_obs"]["state"][0] for item in items]),
    head_image=np.stack([item["obs"]["head_image"][0] for item in items]),
    dones=np.stack([item["dones"][0] for item in items]),
)
