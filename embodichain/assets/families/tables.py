"""Tables that ship with the package: density and friction of materials, and the sizes of objects by category."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from embodichain.errors import AssetError
from embodichain.types import Material

MATERIALS_FILE = Path(__file__).with_name("materials.json")

CATEGORIES_FILE = Path(__file__).with_name("categories.json")


@cache
def material_table() -> dict[str, Material]:
    """All materials by name, from the table that ships with the package."""
    entries = json.loads(MATERIALS_FILE.read_text())["materials"]
    keys = ("density", "static_friction", "dynamic_friction", "restitution")
    return {name: Material(name=name, **{key: float(entry[key]) for key in keys}) for name, entry in entries.items()}


@cache
def category_table() -> dict[str, dict[str, object]]:
    """All known categories by name, from the table that ships with the package."""
    return json.loads(CATEGORIES_FILE.read_text(encoding="utf-8"))["categories"]


@cache
def wikidata_codes() -> dict[str, str]:
    """The Wikidata item of each material and category that has one."""
    materials = json.loads(MATERIALS_FILE.read_text())["materials"]
    return {name: str(entry["wikidata"]) for name, entry in (materials | category_table()).items() if "wikidata" in entry}


def material(name: str) -> Material:
    """The material called `name`; raises AssetError, which lists the known ones, when there is none."""
    table = material_table()
    if name not in table:
        raise AssetError(f"source: unknown material {name!r}; available: {', '.join(sorted(table))}")
    return table[name]
