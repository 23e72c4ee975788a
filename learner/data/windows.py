"""Cuts windows from trajectories as zero-copy tensors, and counts which parts of each trajectory have been read."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embodichain.errors import LearnerError
from embodichain.types import Segment, read_text
from learner.data.config import Sampling


class TrajectoryView(Protocol):
    """Read-only arrays of one trajectory, valid while its lease is held. Implementations: the ring's, `MemorySource`'s."""

    @property
    def trajectory_id(self) -> int:
        """Packed TrajectoryId."""
        ...

    @property
    def read_index(self) -> int:
        """How many times the trajectory had been acquired before."""
        ...

    def __getitem__(self, name: str, /) -> Any:
        """The field `name`, a view of the trajectory's storage: a NumPy array, or one on a device that speaks DLPack."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WindowView:
    """Zero-copy tensors over the storage of one trajectory: `length` chunks from `start` and the frames around them."""

    trajectory_id: int
    read_index: int
    start: int
    length: int
    rgb: Tensor | None
    """uint8 frames; None when the trajectory holds latents, encoded by the workers."""
    latents: Tensor | None
    proprio: Tensor
    action: Tensor
    action_mask: Tensor
    segment: Tensor
    depth: Tensor | None
    """Depth of every frame, [m] or as latents; None if the trajectory has none."""
    between: Tensor | None
    """The pictures inside each chunk, [chunks, b, ...] as `rgb` or `latents`; None if the trajectory has none."""
    opening: Tensor
    """The trajectory's first frame, as `rgb` or `latents`."""
    instruction: str


def place_window(
    segment: NDArray[np.uint8], window: int, rng: np.random.Generator, sampling: Sampling, openings: float = 0.0
) -> tuple[int, int]:
    """Draws a window: its first chunk and its length, at most `window` chunks, in an episode with segments uint8 [chunks].

    With probability `openings` the window begins at the start of the episode. `window` 0 means the whole episode.
    """
    chunks = len(segment)
    if not window:
        return 0, chunks
    length = min(window, chunks)
    if openings and rng.random() < openings:
        return 0, length
    if sampling is Sampling.SOUND:
        starts = np.flatnonzero(segment[: chunks - length + 1] != Segment.FAILURE)
        return int(rng.choice(starts) if len(starts) else rng.integers(chunks - length + 1)), length
    crossings = np.flatnonzero(segment[1:] != segment[:-1]) + 1
    if sampling is Sampling.EPISODE or not len(crossings) or length < 2:
        return int(rng.integers(chunks - length + 1)), length
    if sampling is Sampling.BOUNDARY:
        crossing = int(rng.choice(crossings))
        return int(rng.integers(max(0, crossing - length + 1), min(crossing - 1, chunks - length) + 1)), length
    edges = np.array([0, *crossings, chunks])
    run = int(np.searchsorted(edges, rng.integers(chunks), side="right")) - 1
    first, end = int(edges[run]), int(edges[run + 1])
    length = min(window, end - first)
    return int(rng.integers(first, end - length + 1)), length


def cut(
    view: TrajectoryView,
    window: int,
    rng: np.random.Generator,
    sampling: Sampling = Sampling.EPISODE,
    *,
    openings: float = 0.0,
    encoded: bool = False,
    depth: str = "",
    between: str = "",
) -> WindowView:
    """Cuts a window drawn by `place_window`; all tensors share the trajectory's memory.

    `encoded` says that the trajectory holds latents instead of pixels; `depth` and `between` name its fields of depth and
    of pictures inside chunks, "" for none.
    """
    chunks = int(view["num_chunks"])
    if chunks < 1:
        raise LearnerError(f"trajectory {view.trajectory_id} has {chunks} chunks; only complete attempts belong in the ring")
    start, length = place_window(view["segment"][:chunks], window, rng, sampling, openings)
    stop = start + length
    return WindowView(
        trajectory_id=view.trajectory_id,
        read_index=view.read_index,
        start=start,
        length=length,
        rgb=None if encoded else as_tensor(view["rgb"])[start : stop + 1],
        latents=as_tensor(view["latents"])[start : stop + 1] if encoded else None,
        proprio=as_tensor(view["proprio"])[start : stop + 1],
        action=as_tensor(view["action"])[start:stop],
        action_mask=as_tensor(view["action_mask"]),
        segment=as_tensor(view["segment"])[start:stop],
        depth=as_tensor(view[depth])[start : stop + 1] if depth else None,
        between=as_tensor(view[between])[start:stop] if between else None,
        opening=as_tensor(view["latents" if encoded else "rgb"])[:1],
        instruction=read_text(view["instruction"]),
    )


def as_tensor(array: Any) -> Tensor:
    """A tensor that shares the memory of an array, on the CPU or, through DLPack, on a device."""
    return torch.from_numpy(array) if isinstance(array, np.ndarray) else torch.from_dlpack(array)


class Read(NamedTuple):
    """The record of reading one window. It stays valid after the lease has ended."""

    trajectory_id: int
    start: int
    """First chunk of the window."""
    length: int
    """Chunks in the window."""
    horizon: int
    """State-action pairs of a chunk."""
    reads: int
    """How often the trajectory had been read, this time included."""
    age_s: float
    """Time from its publication to this read [s]; 0 for sources that do not publish."""


class Coverage:
    """Which chunks of each trajectory have been read, because the E of the Efficiency Law counts a state-action pair only once.

    Remembers the last `capacity` trajectories, which is more than any ring holds.
    """

    def __init__(self, capacity: int = 1 << 16) -> None:
        self._capacity = capacity
        self._chunks: OrderedDict[int, int] = OrderedDict()

    def state(self) -> dict[str, list[int]]:
        """What a checkpoint keeps: ids, and for each a number whose bit c tells whether chunk c has been read."""
        return {"ids": [*self._chunks], "chunks": [*self._chunks.values()]}

    def restore(self, state: Mapping[str, Sequence[int]]) -> None:
        """The inverse of `state`."""
        self._chunks = OrderedDict(zip(map(int, state["ids"]), map(int, state["chunks"]), strict=True))

    def take(self, reads: Sequence[Read]) -> list[int]:
        """Adds reads; returns, for each, how many pairs of its trajectory have been read at least once by now."""
        counts = []
        for read in reads:
            seen = self._chunks.pop(read.trajectory_id, 0) | ((1 << read.length) - 1) << read.start
            self._chunks[read.trajectory_id] = seen
            counts.append(seen.bit_count() * read.horizon)
        while len(self._chunks) > self._capacity:
            self._chunks.popitem(last=False)
        return counts
