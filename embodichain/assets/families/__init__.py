"""Procedural families of table-top objects: random parameters in, clean solids with joints and affordances out.

A family is a function that takes a generator and returns a `design.Design`; this room's names cost no import of any.
"""

from embodichain.assets.families.catalog import FAMILIES

__all__ = ["FAMILIES"]
