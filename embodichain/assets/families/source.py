"""Where assets come from: an unoptimised `Source` of parts, joints and affordances, here from procedural families by seed."""

from __future__ import annotations

import re
import zlib
from dataclasses import replace

import numpy as np

from embodichain.assets.families.catalog import FAMILIES
from embodichain.assets.families.parts import Part, Source
from embodichain.assets.geometry.corrupt import MessConfig, broken
from embodichain.assets.geometry.shapes import concatenate


def categories() -> tuple[str, ...]:
    """Every procedural family."""
    return tuple(FAMILIES)


def instance_name(category: str, seed: int) -> str:
    """What an instance of a family is called: an identifier, whatever module a family comes from."""
    return f"{re.sub(r'[^A-Za-z0-9_]', '_', category)}_{seed:03d}"


def procedural(category: str, seed: int, mess: MessConfig | None = None) -> Source:
    """An instance of a procedural family; with `mess`, its meshes are broken as generators break them.

    Raises:
        ConfigError: no family is called `category`, nor does "package.module:function" import one.
    """
    rng = np.random.default_rng([zlib.crc32(category.encode()), seed])
    design = FAMILIES.get(category)(rng)
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
