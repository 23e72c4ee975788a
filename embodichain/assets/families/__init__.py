"""Procedural families of table-top objects: random parameters in, clean solids with joints and affordances out."""

from embodichain.assets.families.catalog import FAMILIES
from embodichain.assets.families.design import Design, Family, SolidPart

__all__ = ["FAMILIES", "Design", "Family", "SolidPart"]
