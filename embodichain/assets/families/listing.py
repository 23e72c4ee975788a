"""CSV tables of materials and categories, which are published beside assets: one line each, with their sources written out."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping
from typing import Any

from embodichain.assets.families.tables import CATEGORIES_FILE, MATERIALS_FILE

_NUMBERS = ("density", "static_friction", "dynamic_friction", "restitution")


def materials_csv() -> str:
    """Density [kg/m^3], friction and restitution of each material, and the source of each number."""
    table = json.loads(MATERIALS_FILE.read_text(encoding="utf-8"))
    rows = []
    for name, entry in table["materials"].items():
        said = "; ".join(f"{what}: {_spelt(source, table['sources'])}" for what, source in entry["sources"].items())
        rows.append([name, *(entry[key] for key in _NUMBERS), entry.get("wikidata", ""), said])
    return _csv(["material", *_NUMBERS, "wikidata", "sources"], rows)


def categories_csv() -> str:
    """Typical length [m], material and wall thickness [m] of each category, and the sources of these."""
    table = json.loads(CATEGORIES_FILE.read_text(encoding="utf-8"))
    rows = []
    for name, entry in table["categories"].items():
        shortest, longest = entry.get("longest_m", ("", ""))
        said = _spelt(str(entry.get("source", "")), table["sources"])
        rows.append([name, shortest, longest, entry.get("material", ""), entry.get("wall_m", ""), entry.get("wikidata", ""), said])
    return _csv(["category", "longest_from_m", "longest_to_m", "material", "wall_m", "wikidata", "sources"], rows)


def _spelt(source: str, sources: Mapping[str, str]) -> str:
    """Writes out the short names of sources in a remark."""
    return re.sub(r"\b\w+\b", lambda word: sources.get(word[0], word[0]), source)


def _csv(head: list[str], rows: list[list[Any]]) -> str:
    buffer = io.StringIO()
    table = csv.writer(buffer, lineterminator="\n")
    table.writerow(head)
    table.writerows(rows)
    return buffer.getvalue()
