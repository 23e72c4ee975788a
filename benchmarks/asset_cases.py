"""The cases that `assets.py` measures: repairing a broken mesh, building and testing an asset, detecting spoiled files."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import asset_peers
import numpy as np

from embodichain.assets.chain import jobs, optimize, settings
from embodichain.assets.chain import record as record_room
from embodichain.assets.families import parts, source, tables
from embodichain.assets.geometry.corrupt import MessConfig
from embodichain.assets.geometry.repair import RepairMethod, repair
from embodichain.assets.geometry.shapes import Solid, to_mesh, to_solid
from embodichain.assets.physical import grasp
from embodichain.assets.physical import simulated_checks as behave
from embodichain.assets.physical.mass import shell_properties, solid_properties
from embodichain.assets.usd import files as usd
from embodichain.assets.usd import validate
from embodichain.errors import AssetError
from embodichain.types import Asset

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "assets"))

DENSE_EDGE = 0.007
"""Longest edge of a densely meshed input, as a share of its bounding box's diagonal: gives 50,000 to 200,000 faces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseJob:
    """An instance of a family with a mesh as dense as those of mesh generators, and broken."""

    category: str
    seed: int

    @property
    def name(self) -> str:
        """Name of the job, different from that of the same instance with its usual mesh."""
        return f"{self.category}_dense_{self.seed:03d}"

    def identity(self) -> Mapping[str, object]:
        """Family, seed and kind of damage."""
        return {"category": self.category, "seed": self.seed, "mess": asdict(MessConfig(edge=DENSE_EDGE))}

    def source(self) -> parts.Source:
        """The family's design, with a broken mesh."""
        return source.procedural(self.category, self.seed, MessConfig(edge=DENSE_EDGE))


def broken_parts(number: int) -> list[tuple[str, int, int]]:
    """(family, seed, part) of `number` parts, ordered by family and seed."""
    cases: list[tuple[str, int, int]] = []
    seed = 0
    while len(cases) < number:
        for category in source.categories():
            cases += [(category, seed, part) for part in range(len(source.procedural(category, seed).parts))]
        seed += 1
    return cases[:number]


def case(category: str, seed: int, part: int) -> tuple[str, parts.Part, parts.Part]:
    """The name of a part, the clean part, and the broken one."""
    clean, messy = source.procedural(category, seed), source.procedural(category, seed, MessConfig())
    return f"{category}_{seed}/{clean.parts[part].name}", clean.parts[part], messy.parts[part]


def overlap(solid: Solid, truth: Solid) -> float:
    """Intersection over union of two solids."""
    union = (solid + truth).volume()
    return (solid ^ truth).volume() / union if union > 0 else 0.0


def repaired_case(category: str, seed: int, part: int) -> dict[str, Any]:
    """Repairs one broken part and compares it with the clean one."""
    name, clean, messy = case(category, seed, part)
    truth = asset_peers.exact(clean.mesh)
    known = {"name": name, "category": category, "faces": len(messy.mesh.faces)}
    start = time.process_time()
    try:
        mesh, report = repair(messy.mesh)
    except AssetError as error:
        return known | {"refused": str(error), "iou": 0.0}
    seconds = time.process_time() - start
    solid = to_solid(mesh)
    return known | {
        "iou": overlap(solid, truth),
        "volume_error": abs(solid.volume() / truth.volume() - 1),
        "seconds": seconds,
        "remeshed": report.method is RepairMethod.REMESH,
    }


def mass_error(asset: Asset, clean: parts.Source) -> float:
    """Largest relative error of mass, centre of mass (relative to the size) and moments against the clean solid."""
    worst = 0.0
    for part, body in zip(clean.parts, asset.bodies, strict=True):
        truth = to_mesh(asset_peers.exact(part.mesh))
        density = tables.material(part.material).density
        known = solid_properties(truth, density)
        if part.shell_thickness:
            known = shell_properties(truth, density, part.shell_thickness)
        factor = part.mass / known.mass if part.mass else 1.0
        size = float(np.ptp(truth.vertices, axis=0).max())
        moments = np.abs(np.divide(body.diagonal_inertia, np.multiply(known.diagonal_inertia, factor)) - 1).max()
        center = np.linalg.norm(np.subtract(body.center_of_mass, known.center_of_mass)) / size
        worst = max(worst, abs(body.mass / (known.mass * factor) - 1), float(center), float(moments))
    return worst


def built_case(job: jobs.ProceduralJob | DenseJob, out: Path) -> dict[str, Any]:
    """Builds one asset from scratch and measures cost, properties and behaviour."""
    record = record_room.Record()
    file = jobs.file_of(job, out)
    shutil.rmtree(file.parent, ignore_errors=True)  # from an earlier run; otherwise it would only be read back
    known: dict[str, Any] = {"name": job.name, "category": job.category, "file": str(file)}
    start = time.process_time()
    try:
        asset = optimize.build_job(job, out, config=settings.ChainConfig(), record=record)
    except AssetError as error:
        return known | {"refused": str(error)}
    seconds = time.process_time() - start
    wall = sum(entry.seconds for entry in record.entries)
    asset = usd.read(asset.path)
    return known | {
        "bodies": len(asset.bodies),
        "faces": next(int(entry.after["faces"]) for entry in record.entries if entry.stage == "source"),
        "seconds": seconds,
        # Stages record wall time; scaled to processor time, as the machine may be busy.
        "stages": [(entry.stage, entry.seconds * seconds / wall) for entry in record.entries],
        "fits": [
            (entry.part, entry.after["hulls"], entry.after["over"], entry.after["missing"])
            for entry in record.entries
            if entry.stage == "collision"
        ],
        "mass_error": mass_error(asset, source.procedural(job.category, job.seed)),
        "rest_drift": behave.behave(asset).rest_drift,
        "lifts": {name: grasp.lift(asset, name).held for name in grasp.grasps(asset)},
        "passed": not validate.check(asset.path) and not behave.check(asset),
    }


def mutations(out: Path) -> tuple[int, int]:
    """How many spoiled copies of a switch the responsible check detects, and how many there are."""
    from mutations import MUTATIONS, spoil  # pyright: ignore[reportMissingImports]

    switch = optimize.build("switch", 0, out)
    caught = 0
    for mutation, check in MUTATIONS.items():
        spoil(switch.path, out / "mutant.usda", mutation)
        caught += check in {issue.check for issue in validate.check(out / "mutant.usda")}
    return caught, len(MUTATIONS)
