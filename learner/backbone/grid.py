"""How the latents of a frame lie."""

from __future__ import annotations

from typing import NamedTuple


class Grid(NamedTuple):
    """How the N latents of a frame lie: cameras x rows x columns."""

    cameras: int
    rows: int
    columns: int

    @property
    def size(self) -> int:
        """N."""
        return self.cameras * self.rows * self.columns
