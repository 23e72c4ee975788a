"""Sums the contacts of every world over a control period on the device, as `physics.stepping` does for one world on a CPU.

Each world has a table of pairs of bodies, addressed by a hash of the pair; threads claim rows of it with a compare-and-swap.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import warp as wp
from numpy.typing import NDArray

from embodichain.physics.warp import kernels
from embodichain.types.scenes import Touches

CAPACITY = 64
"""Most pairs of bodies that may touch in one world within a control period; a power of two."""


class Contacts:
    """The tables of a batch of `num_rows` worlds on a device; for one thread.

    Args:
        num_rows: Number of worlds, W.
        owners: The body that each geom's contacts are attributed to.
        num_bodies: Number of bodies in each world.
        device: The Warp device with the tables.
    """

    def __init__(self, num_rows: int, owners: NDArray[np.int32], num_bodies: int, device: str) -> None:
        shape = (num_rows, CAPACITY)
        self._owners = wp.array(owners, dtype=int, device=device)
        self._num_bodies, self._device = num_bodies, device
        self._key, self._since = (wp.zeros(shape, dtype=int, device=device) for _ in range(2))
        self._force, self._depth, self._peak = (wp.zeros(shape, dtype=float, device=device) for _ in range(3))
        self._now, self._push = (wp.zeros(shape, dtype=wp.vec3, device=device) for _ in range(2))
        self._lost = wp.zeros(num_rows, dtype=int, device=device)
        self._read: dict[str, NDArray] = {}

    def clear(self) -> None:
        """Launches the kernel that begins a control period."""
        sums = [self._force, self._depth, self._peak, self._now, self._push, self._lost]
        wp.launch(kernels.clear, dim=self._key.shape, inputs=[self._key, self._since, *sums], device=self._device)

    def add(self, step: int, data: Any) -> None:
        """Launches the kernel that adds the contacts of physics step `step` of the period, from the batch's `mujoco_warp.Data`."""
        found = data.contact
        told = [found.geom, found.worldid, found.efc_address, found.frame, found.dist, data.efc.force]
        sums = [self._key, self._since, self._force, self._depth, self._now, self._push, self._lost]
        wp.launch(
            kernels.add,
            dim=data.naconmax,
            inputs=[step, self._num_bodies, data.nacon, self._owners, *told, *sums],
            device=self._device,
        )
        wp.launch(kernels.close, dim=self._key.shape, inputs=[self._now, self._peak], device=self._device)

    def read(self) -> NDArray[np.bool_]:
        """Copies the tables to the host; returns which worlds had more touching pairs than there is room for."""
        names = ("key", "since", "force", "depth", "peak", "push")
        self._read = {name: getattr(self, f"_{name}").numpy() for name in names}
        return self._lost.numpy() != 0

    def touches(self, row: int, num_steps: int) -> Touches:
        """The contacts of one world from the last `read`, by first touch, then by bodies; means are over `num_steps` steps."""
        table = {name: values[row] for name, values in self._read.items()}
        found = np.flatnonzero(table["key"])
        found = found[np.lexsort((table["key"][found], table["since"][found]))]
        pair = np.stack(np.divmod(table["key"][found] - 1, self._num_bodies), axis=1)
        return Touches(
            pair=pair,
            force=table["force"][found].astype(np.float64) / num_steps,
            depth=table["depth"][found].astype(np.float64),
            peak=table["peak"][found].astype(np.float64),
            push=table["push"][found].astype(np.float64) / num_steps,
        )
