"""Collision meshes of files as the convex pieces that engines collide: convex ones as they are, others decomposed and told."""

from __future__ import annotations

from embodichain.assets.families.parts import Fate, Kept
from embodichain.assets.geometry.collision import convex_hull, decompose, measure, reduce_hull
from embodichain.assets.geometry.repair import repair
from embodichain.assets.geometry.shapes import signed_volume
from embodichain.errors import AssetError
from embodichain.types import Mesh

_MOST_VERTICES = 64
_CONVEX = 0.97
"""Share of its hull that a mesh must fill to be taken as convex."""


def pieces(mesh: Mesh, of: str, *, hull: bool = False) -> tuple[list[Mesh], Kept]:
    """The convex pieces of a collision mesh, and what the table says of them.

    Args:
        mesh: as the file has it.
        of: the body's name.
        hull: whether the file asks for its convex hull.

    Raises:
        AssetError: it spans no volume.
    """
    whole = convex_hull(mesh.vertices)
    volume = signed_volume(whole)
    if hull or signed_volume(mesh) >= _CONVEX * volume:
        kept = reduce_hull(whole, _MOST_VERTICES)
        lost = 1.0 - signed_volume(kept) / volume
        fate = Fate.KEPT if lost < 1e-4 else Fate.CHANGED
        reason = "" if fate is Fate.KEPT else f"a hull of {_MOST_VERTICES} vertices, as engines want, leaves out {lost:.2%}"
        return [kept], Kept(of=of, what="collision mesh", stated=volume, written=volume * (1 - lost), fate=fate, reason=reason)
    try:
        solid, _ = repair(mesh)
        hulls = list(decompose(solid))
        fit = measure(solid, hulls)
        reason = f"not convex: {len(hulls)} convex pieces add {fit.over:.1%} and leave out {fit.missing:.1%} of its volume"
    except AssetError as error:
        hulls = [reduce_hull(whole, _MOST_VERTICES)]
        reason = f"its convex hull stands for it: {error}"
    stated = f"mesh of {len(mesh.faces)} faces"
    return hulls, Kept(of=of, what="collision mesh", stated=stated, written=f"{len(hulls)} hulls", fate=Fate.CHANGED, reason=reason)
