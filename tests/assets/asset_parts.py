"""The truth that a broken mesh came from."""

from embodichain.assets.geometry.shapes import Solid, to_solid
from embodichain.assets.geometry.topology import components


def exact_union(mesh):
    """The solid that clean overlapping components make together."""
    solid = Solid.compose([])
    for piece in components(mesh):
        solid = solid + to_solid(piece)
    return solid
