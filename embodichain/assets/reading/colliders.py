"""Collision meshes of files that mean their convex hull."""

from __future__ import annotations

from embodichain.assets.families.parts import Kept, Preservation
from embodichain.assets.geometry.collision import convex_hull, reduce_hull
from embodichain.assets.geometry.shapes import signed_volume
from embodichain.types import Mesh

MOST_VERTICES = 64
"""Most vertices of a hull, as engines prefer."""


def hull_of(mesh: Mesh, of: str) -> tuple[Mesh, Kept]:
    """The convex hull of a collision mesh, and its row for the fidelity table; raises AssetError when it has no volume."""
    whole = convex_hull(mesh.vertices)
    volume = signed_volume(whole)
    kept = reduce_hull(whole, MOST_VERTICES)
    lost = 1.0 - signed_volume(kept) / volume
    fate = Preservation.KEPT if lost < 1e-4 else Preservation.CHANGED
    reason = "" if fate is Preservation.KEPT else f"a hull of {MOST_VERTICES} vertices, as engines want, leaves out {lost:.2%}"
    return kept, Kept(of=of, what="collision mesh", stated=volume, written=volume * (1 - lost), fate=fate, reason=reason)
