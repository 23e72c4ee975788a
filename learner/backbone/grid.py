"""The spatial layout of the latents of a frame."""

from __future__ import annotations

from typing import NamedTuple


class Grid(NamedTuple):
    """The layout of the N latents of a frame: camera-major, then rows, then columns."""

    cameras: int
    rows: int
    columns: int

    @property
    def size(self) -> int:
        """N, the number of latents in a frame."""
        return self.cameras * self.rows * self.columns
