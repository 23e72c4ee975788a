"""Procedural families of table-top objects: random parameters in, clean solids with joints and affordances out.

A family is a function that takes a random generator and returns a `design.Design`. Importing this package imports no family.
"""

from embodichain.assets.families.catalog import FAMILIES

__all__ = ["FAMILIES"]
