"""Makes an unoptimised `Source` of parts, joints and affordances from a procedural family and a seed."""

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
    """Names of all procedural families."""
    return tuple(FAMILIES)


def instance_name(category: str, seed: int) -> str:
    """Name of an instance of a family: a valid identifier, whichever module defines the family."""
    return f"{re.sub(r'[^A-Za-z0-9_]', '_', category)}_{seed:03d}"


def procedural(category: str, seed: int, mess: MessConfig | None = None) -> Source:
    """An instance of a procedural family; with `mess`, its meshes get the faults that generators make.

    Raises:
        ConfigError: no family is called `category`, and it is not the "package.module:function" of one.
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
    """The same source with faults added to the mesh of every part."""
    return replace(source, parts=tuple(replace(part, mesh=broken(part.mesh, rng, config)) for part in source.parts))
