"""The limits of repair."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairConfig:
    """Tolerances; they are shares of the bounding box's diagonal unless stated otherwise."""

    weld: float = 1e-5
    min_component: float = 0.02
    """Smallest share of the surface that a component must have to be kept."""
    agreement: float = 0.97
    """Smallest intersection over union with the input's inside, by winding number at random points."""
    distance: float = 0.01
    """Largest distance between the two surfaces, at the 98th percentile, in either direction."""
    folded: float = 0.002
    """Largest share of the inside in which the surface may pass through itself."""
    capped: float = 0.02
    """Largest share of the surface that is closed without asking; a larger hole counts as an opening."""
    samples: int = 3000
    resolution: int = 160
    """Cells along the longest side for remeshing."""
    max_faces: int = 5_000_000
