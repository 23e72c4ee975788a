"""Where assets come from: an unoptimised `Source` of parts, joints and affordances, here from procedural families by seed."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np

from embodichain.assets import families
from embodichain.assets.geometry.corrupt import MessConfig, broken
from embodichain.assets.geometry.shapes import concatenate
from embodichain.errors import AssetError
from embodichain.types import Joint, Material, Mesh, Pose

_MATERIALS_FILE = Path(__file__).with_name("materials.json")
_CATEGORIES_FILE = Path(__file__).with_name("categories.json")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """One body before optimisation: a triangle soup in the part's frame, and what it is made of.

    `shell_thickness` [m] > 0 makes the closed surface a hollow shell of that wall; a given `mass` [kg] wins over density.
    """

    name: str
    mesh: Mesh
    material: str
    color: tuple[float, float, float, float]
    pose: Pose = field(default_factory=Pose)
    shell_thickness: float = 0.0
    mass: float | None = None
    seams: tuple[float, ...] = ()
    """Heights in the part's frame [m] that no convex piece reaches across: where another thing fits closely."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Source:
    """An asset before optimisation, in metres, Z up, with the provenance that ends up in its USD file."""

    name: str
    category: str
    parts: tuple[Part, ...]
    joints: tuple[Joint, ...] = ()
    affordances: Mapping[str, tuple[str, Pose]] = field(default_factory=dict)
    licence: str
    origin: str
    parameters: Mapping[str, float | str] = field(default_factory=dict)


@cache
def material_table() -> dict[str, Material]:
    """Every material by name, from the table that ships with the package."""
    entries = json.loads(_MATERIALS_FILE.read_text())["materials"]
    keys = ("density", "static_friction", "dynamic_friction", "restitution")
    return {name: Material(name=name, **{key: float(entry[key]) for key in keys}) for name, entry in entries.items()}


@cache
def category_table() -> dict[str, dict[str, object]]:
    """Every known kind of thing by name, from the table that ships with the package."""
    return json.loads(_CATEGORIES_FILE.read_text(encoding="utf-8"))["categories"]


@cache
def wikidata_codes() -> dict[str, str]:
    """Wikidata item of each material and category that has one."""
    materials = json.loads(_MATERIALS_FILE.read_text())["materials"]
    return {name: str(entry["wikidata"]) for name, entry in (materials | category_table()).items() if "wikidata" in entry}


def material(name: str) -> Material:
    """The material called `name`; raises AssetError listing those that exist."""
    table = material_table()
    if name not in table:
        raise AssetError(f"source: unknown material {name!r}; available: {', '.join(sorted(table))}")
    return table[name]


def categories() -> tuple[str, ...]:
    """Every procedural family."""
    return tuple(families.FAMILIES)


def instance_name(category: str, seed: int) -> str:
    """What an instance of a family is called: an identifier, whatever module a family comes from."""
    return f"{re.sub(r'[^A-Za-z0-9_]', '_', category)}_{seed:03d}"


def procedural(category: str, seed: int, mess: MessConfig | None = None) -> Source:
    """An instance of a procedural family; with `mess`, its meshes are broken as generators break them.

    Raises:
        ConfigError: no family is called `category`, nor does "package.module:function" import one.
    """
    rng = np.random.default_rng([zlib.crc32(category.encode()), seed])
    design = families.FAMILIES.get(category)(rng)
    parts = tuple(
        Part(
            name=solid.name,
            mesh=concatenate(solid.pieces),
            material=solid.material,
            color=solid.color,
            pose=solid.pose,
            shell_thickness=solid.shell_thickness,
            mass=solid.mass,
            seams=solid.seams,
        )
        for solid in design.solids
    )
    source = Source(
        name=instance_name(category, seed),
        category=category,
        parts=parts,
        joints=design.joints,
        affordances=design.affordances,
        licence="Apache-2.0",
        origin=f"embodichain procedural family {category!r}, seed {seed}",
        parameters=design.parameters,
    )
    return source if mess is None else messy(source, np.random.default_rng([zlib.crc32(category.encode()), seed, 1]), mess)


def messy(source: Source, rng: np.random.Generator, config: MessConfig) -> Source:
    """The same asset with every part's mesh broken."""
    return replace(source, parts=tuple(replace(part, mesh=broken(part.mesh, rng, config)) for part in source.parts))
