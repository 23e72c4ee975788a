"""One batch: first as views into leased ring slots, then gathered into tensors of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embodichain.errors import LearnerError
from embodichain.types import Segment
from learner.data.gather import Slots
from learner.data.windows import Read, TrajectoryView, WindowView

Copy = Callable[[Tensor, Tensor], object]
"""Copies its second argument into its first, either before it returns or asynchronously; then the caller of `gather` must wait."""


class Lease(Protocol):
    """Trajectories held for reading."""

    def __len__(self) -> int:
        """Number of trajectories."""
        ...

    def __getitem__(self, index: int, /) -> TrajectoryView:
        """The trajectory at `index`."""
        ...

    def release(self) -> None:
        """Returns the trajectories to their source; safe to call twice."""
        ...


class RingLease(Lease, Protocol):
    """A lease of a ring, whose trajectories lie in numbered slots."""

    @property
    def slots(self) -> NDArray[np.int64]:
        """The slot of each trajectory, [B]."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """One gathered batch in physical units, with T chunks and T + 1 frames a window.

    Steps after the end of an episode are zero and marked invalid.
    """

    rgb_BThw3: Tensor | None
    """uint8 [B, T + 1, cameras, h, w, 3]; None where workers encoded the frames."""
    proprio_BTA: Tensor
    actions_BTKA: Tensor
    action_mask_BA: Tensor
    """bool [B, A]: channels that the robot has."""
    segment_BT: Tensor
    """uint8 [B, T], values of `types.Segment`."""
    valid_BT: Tensor
    instructions: tuple[str, ...]
    reads: tuple[Read, ...]
    """What was read for each window."""
    latents_BTvrcC: Tensor | None = None
    """float16 [B, T + 1, cameras, rows, columns, channels], encoded by the workers; then `rgb_BThw3` is None."""
    depth: Tensor | None = None
    """Depth of every frame: [m], [B, T + 1, cameras, h, w], or latents as `latents_BTvrcC`; None where it was not asked for."""
    between: Tensor | None = None
    """The b pictures inside each chunk: uint8 [B, T, b, cameras, h, w, 3], or latents [B, T, b, cameras, rows, columns, channels];
    None where they were not asked for."""
    opening: Tensor | None = None
    """The first frame of each trajectory, as `rgb_BThw3` or `latents_BTvrcC` with T = 0; None where it was not asked for."""

    @property
    def trajectory_ids(self) -> tuple[int, ...]:
        """Packed id of each window's trajectory."""
        return tuple(read.trajectory_id for read in self.reads)

    @property
    def starts(self) -> tuple[int, ...]:
        """First chunk of each window."""
        return tuple(read.start for read in self.reads)

    @property
    def imitate_BT(self) -> Tensor:
        """Steps whose actions are to be imitated, bool [B, T]: valid, and not part of a failed attempt."""
        return self.valid_BT & (self.segment_BT != Segment.FAILURE)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The fields that are tensors, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Batch:
        """The batch on a device; returns `self` if it already is there."""
        return replace(self, **{name: value.to(device, non_blocking=non_blocking) for name, value in self.tensors.items()})

    def saved(self) -> dict[str, Any]:
        """As tensors in host memory and plain values, for a checkpoint that is read with `weights_only`."""
        reads = [tuple(read) for read in self.reads]
        return {**self.to("cpu").tensors, "instructions": list(self.instructions), "reads": reads}

    @classmethod
    def loaded(cls, state: Mapping[str, Any]) -> Batch:
        """The inverse of `saved`."""
        reads = tuple(Read(*read) for read in state["reads"])
        return cls(**{"rgb_BThw3": None, **state, "instructions": tuple(state["instructions"]), "reads": reads})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LeasedBatch:
    """Windows of leased trajectories. Their tensors are views into the ring and must not be used after `release`."""

    windows: tuple[WindowView, ...]
    window: int
    """Chunks to which all windows are padded; 0 pads to the longest window of the batch."""
    lease: Lease
    slots: Slots | None = None
    """Where the trajectories lie, if in a ring. If the ring lies on the learner's device, one kernel launch gathers a field."""
    depth_field: str = ""
    """Name of the trajectory field that holds depth."""
    between_field: str = ""
    """Name of the trajectory field that holds the pictures inside chunks."""

    @property
    def reads(self) -> tuple[Read, ...]:
        """What was read for each window."""
        ages: Sequence[float] = getattr(self.lease, "ages_s", [0.0] * len(self.windows))
        return tuple(
            Read(int(view.trajectory_id), view.start, view.length, view.action.shape[1], int(view.read_index) + 1, float(age_s))
            for view, age_s in zip(self.windows, ages, strict=True)
        )

    def gather(
        self,
        device: torch.device | str = "cpu",
        *,
        opening: bool = False,
        depth: bool = False,
        between: int = 0,
        copy: Copy = Tensor.copy_,
    ) -> Batch:
        """Stacks the windows into new tensors on `device`, padding short ones; includes `opening`, `depth`, and `between` pictures
        inside each chunk on request.

        This is the only copy between the ring and the learner. Fields that are not gathered by one kernel launch are copied by
        `copy`, one call for each window and field. If `copy` is asynchronous, the caller must wait for it before it uses the batch
        or releases the lease.

        Raises LearnerError for a depth that the stream does not carry, and for another number of pictures than it carries.
        """
        w = self.windows
        if depth and w[0].depth is None:
            raise LearnerError("this model learns depth, and the stream carries none: set world.depth true")
        carried = 0 if w[0].between is None else w[0].between.shape[1]
        if between and between != carried:
            raise LearnerError(
                f"this model learns from {between} pictures inside each chunk, and the stream carries {carried or 'none'}: set "
                f"world.between {between}"
            )
        encoded = w[0].latents is not None
        lengths = torch.tensor([view.length for view in w])
        size = self.window or int(lengths.max())
        starts = torch.tensor([view.start for view in w])

        def taken(name: str, parts: Iterable[Tensor | None], frames: int) -> Tensor:
            """Windows of a field that are `frames` longer than their chunks."""
            found = self.slots.windows(name, starts, lengths + frames, size + frames, device) if self.slots is not None else None
            return _stack([part for part in parts if part is not None], size + frames, device, copy) if found is None else found

        def moved(made: Tensor) -> Tensor:
            """Moves a small tensor made here through `copy` as well: a plain transfer would wait for all earlier copies."""
            out = torch.empty_like(made, device=device)
            copy(out, made)
            return out

        return Batch(
            rgb_BThw3=taken("rgb", (view.rgb for view in w), 1) if not encoded else None,
            latents_BTvrcC=taken("latents", (view.latents for view in w), 1) if encoded else None,
            proprio_BTA=taken("proprio", (view.proprio for view in w), 1),
            actions_BTKA=taken("action", (view.action for view in w), 0),
            action_mask_BA=moved(torch.stack([view.action_mask for view in w]).bool()),
            segment_BT=moved(_stack([view.segment for view in w], size, "cpu")),
            valid_BT=moved(torch.arange(size)[None] < lengths[:, None]),
            instructions=tuple(view.instruction for view in w),
            reads=self.reads,
            opening=_stack([view.opening for view in w], 1, device, copy) if opening else None,
            depth=taken(self.depth_field, (view.depth for view in w), 1) if depth else None,
            between=taken(self.between_field, (view.between for view in w), 0) if between else None,
        )

    def release(self) -> None:
        """Returns the trajectories to the ring, after they are gathered; safe to call twice."""
        self.lease.release()


def _stack(parts: list[Tensor], length: int, device: torch.device | str, copy: Copy = Tensor.copy_) -> Tensor:
    """Parts [<= length, ...] into one new tensor [B, length, ...] on `device`, zero beyond each part's end."""
    shape = len(parts), length, *parts[0].shape[1:]
    if torch.device(device).type == "cpu" and copy is Tensor.copy_:
        # NumPy asks the kernel for huge pages where arrays are large, and copies rows as one piece each: faster than torch here.
        whole = np.empty(shape, parts[0].numpy().dtype)
        for row, part in zip(whole, parts, strict=True):
            row[: part.shape[0]] = part.numpy()
            row[part.shape[0] :] = 0
        return torch.from_numpy(whole)
    out = torch.empty(shape, dtype=parts[0].dtype, device=device)
    for row, part in zip(out, parts, strict=True):
        copy(row[: part.shape[0]], part)
        row[part.shape[0] :] = 0
    return out
