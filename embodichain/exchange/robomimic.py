"""Writes robomimic's HDF5: one file with a group per demonstration, which robomimic's own `SequenceDataset` reads.

An HDF5 file is corrupt when the process that writes it dies. So each demonstration is first written to a file of its own, and the
data set is a small file of links to these, rewritten after each demonstration; `close` packs everything into one file.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from types import TracebackType

import h5py
import numpy as np

from embodichain import __version__
from embodichain.exchange import claim
from embodichain.exchange.card import Card
from embodichain.exchange.claim import FolderClaim, Form
from embodichain.exchange.files import remove_partials, replacing, write_text
from embodichain.exchange.recorded import DatasetLayout, Recorded
from embodichain.types import TrajectoryInfo

__all__ = ["RobomimicWriter"]

_FORM = Form(name="robomimic", mark=Path("embodichain.json"), counted=Path("dataset.hdf5"), second="demos/demo_1.hdf5")

_CONTENTS = (
    "`dataset.hdf5`, as robomimic reads it: `data/demo_N` with `actions` (absolute joint targets [rad] and gripper openings [m],",
    "not scaled to -1..1), `rewards` and `dones` (1 at the end), `segment`; in `obs` and `next_obs` are `state`, `pose`, pictures.",
    "Attributes of a demonstration hold its `instruction` and its `provenance`; those of `data` name the channels (`env_args`).",
)


class RobomimicWriter:
    """Writes `dataset.hdf5` in a folder; implements `writers.DatasetWriter`. Owned by one thread.

    A demonstration of F chunks has F samples: `obs` and `next_obs` with an image for each camera ("head_image"), `state` and
    `pose` as in `Recorded`; `actions` [F, K x n] are absolute commands, not scaled to -1..1.
    """

    def __init__(self, folder: Path, layout: DatasetLayout, card: Card, *, resume: bool = False) -> None:
        """Raises ConfigError as `claim.check` does, and when another writer has the folder."""
        self._claim = FolderClaim(folder, _FORM, layout, card.command, resume=resume)
        self.folder, self.path = folder, folder / _FORM.counted
        self._parts = folder / "demos"
        self._layout, self._card = layout, card
        self._samples = 0
        self.trajectory_ids: list[int] = []
        """Packed ids of all episodes in the data set, in order."""
        if self._claim.going_on:
            with h5py.File(self.path, "r") as file:
                for number in range(len(file.require_group("data"))):
                    demo = file[f"data/demo_{number}"]
                    self._take(int(str(demo.attrs["trajectory_id"])), int(str(demo.attrs["num_samples"])))
                    card.add(TrajectoryInfo.decode(str(demo.attrs["provenance"]).encode()))
            self._unpack()
        remove_partials(folder / name for name in (_FORM.counted, _FORM.mark, "README.md"))
        claim.clear(self._parts, r"demo_(\d+)\.hdf5", self.num_episodes)

    @classmethod
    def check(cls, folder: Path, layout: DatasetLayout, *, resume: bool) -> None:
        """Raises ConfigError where a writer of this layout would not begin; changes nothing."""
        claim.check(folder, _FORM, layout, resume=resume)

    @property
    def num_episodes(self) -> int:
        """Episodes that are in the data set."""
        return len(self.trajectory_ids)

    def add(self, recorded: Recorded) -> None:
        """Adds one demonstration; it is on disk and counted when this returns."""
        number, samples = self.num_episodes, recorded.num_frames - 1
        with replacing(self._part(number)) as partial, h5py.File(partial, "w") as file:
            demo = file.create_group("demo")
            demo.attrs["num_samples"] = samples
            demo.attrs["trajectory_id"] = str(recorded.trajectory_id)
            demo.attrs["instruction"] = recorded.instruction
            demo.attrs["provenance"] = recorded.info.text()
            demo["actions"] = recorded.action.reshape(samples, -1)
            demo["segment"] = recorded.segment
            end = (np.arange(samples) == samples - 1).astype(np.float64)
            demo["rewards"], demo["dones"] = end, end.astype(np.int64)
            for group, frames in (("obs", slice(0, -1)), ("next_obs", slice(1, None))):
                seen = demo.create_group(group)
                seen["state"], seen["pose"] = recorded.state[frames], recorded.state_pose[frames]
                for camera, name in enumerate(self._layout.cameras):
                    pictures = recorded.rgb[frames, camera]
                    seen.create_dataset(f"{name}_image", data=pictures, chunks=(1, *pictures.shape[1:]), compression="lzf")
        self._take(recorded.trajectory_id, samples)
        self._card.add(recorded.info)
        self._link()

    def close(self) -> None:
        """Packs all demonstrations into one file."""
        if self.num_episodes and self._parts.exists():
            with replacing(self.path) as partial, h5py.File(self.path, "r") as links, h5py.File(partial, "w") as file:
                data = self._begin(file)
                for number in range(self.num_episodes):
                    links.copy(links[f"data/demo_{number}"], data, name=f"demo_{number}")
            write_text(self.folder / "README.md", self._card.text(_CONTENTS))
        claim.clear(self._parts, r"demo_(\d+)\.hdf5", 0)
        with contextlib.suppress(OSError):  # there is none, or somebody else keeps files in it
            self._parts.rmdir()
        self._claim.release()

    def __enter__(self) -> RobomimicWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _begin(self, file: h5py.File) -> h5py.Group:
        """The group `data` with the attributes that robomimic reads; environment type 1 stands for another simulator."""
        layout = self._layout
        arguments = {
            "env_name": "EmbodiChain",
            "env_version": __version__,
            "type": 1,
            "env_kwargs": {"robot": layout.robot, "channels": layout.channels, "chunk": layout.chunk, "hz": layout.control_hz},
        }
        data = file.create_group("data")
        data.attrs["total"] = self._samples
        data.attrs["env_args"] = json.dumps(arguments)
        return data

    def _link(self) -> None:
        """Writes the data set as a file of links to the files of the demonstrations."""
        with replacing(self.path) as partial, h5py.File(partial, "w") as file:
            data = self._begin(file)
            for number in range(self.num_episodes):
                data[f"demo_{number}"] = h5py.ExternalLink(str(self._part(number).relative_to(self.folder)), "/demo")

    def _unpack(self) -> None:
        """Splits a packed data set into one file per demonstration again, so that it can be extended."""
        with h5py.File(self.path, "r") as file:
            for number in range(self.num_episodes):
                if not self._part(number).exists():
                    with replacing(self._part(number)) as partial, h5py.File(partial, "w") as part:
                        file.copy(file[f"data/demo_{number}"], part, name="demo")
        self._link()

    def _take(self, trajectory_id: int, samples: int) -> None:
        self._samples += samples
        self.trajectory_ids.append(trajectory_id)

    def _part(self, number: int) -> Path:
        return self._parts / f"demo_{number}.hdf5"
