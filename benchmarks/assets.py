"""How well does a broken mesh come back? Repair against the known truth, and the whole chain's figures, in one run.

    python benchmarks/assets.py [--quick] [--json]

The truth is exact: the mess-maker broke clean solids. `iou_*`, `volume_error_*` are of repair over many broken meshes, beside what
`trimesh.repair` makes of the same input (judged by winding number, for it is seldom watertight); the other figures are of finished
assets, built from scratch into a temporary folder.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import trimesh

from embodichain.assets import behave, grasp, optimize, source, usd, validate
from embodichain.assets.mess import MessConfig
from embodichain.assets.physical import shell_properties, solid_properties
from embodichain.assets.remesh import winding_numbers
from embodichain.assets.repair import RepairMethod, repair
from embodichain.assets.shapes import Solid, to_mesh, to_solid
from embodichain.assets.topology import components
from embodichain.errors import AssetError
from embodichain.types import Asset, Mesh

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "assets"))


_QUICK = ("mug", "block", "switch", "bottle", "mouse")


def broken_parts(seeds: range) -> Iterator[tuple[str, source.Part, source.Part]]:
    """Every part of every family, clean and broken."""
    for category in source.categories():
        for seed in seeds:
            clean, messy = source.procedural(category, seed), source.procedural(category, seed, MessConfig())
            for before, after in zip(clean.parts, messy.parts, strict=True):
                yield f"{category}_{seed}/{before.name}", before, after


def exact(mesh: Mesh) -> Solid:
    """The solid that clean overlapping components make together."""
    solid = Solid.compose([])
    for piece in components(mesh):
        solid = solid + to_solid(piece)
    return solid


def overlap(solid: Solid, truth: Solid) -> float:
    """Intersection over union of two solids."""
    union = (solid + truth).volume()
    return (solid ^ truth).volume() / union if union > 0 else 0.0


def plain_repair(mesh: Mesh) -> Mesh:
    """The usual recipe: merge, drop, fix winding and normals, fill holes."""
    fixed = trimesh.Trimesh(mesh.vertices, mesh.faces, process=True)
    fixed.update_faces(fixed.nondegenerate_faces() & fixed.unique_faces())
    trimesh.repair.fix_normals(fixed)
    trimesh.repair.fill_holes(fixed)
    return Mesh(vertices=np.asarray(fixed.vertices), faces=np.asarray(fixed.faces, np.int32))


def sampled_overlap(mesh: Mesh, truth: Solid, samples: int = 4000) -> float:
    """Intersection over union of what is inside by winding number: kind to meshes that are no solids."""
    reference = to_mesh(truth)
    low, high = reference.vertices.min(axis=0), reference.vertices.max(axis=0)
    points = np.random.default_rng(0).uniform(low, high, (samples, 3))
    inside, known = winding_numbers(points, mesh) > 0.5, winding_numbers(points, reference) > 0.5
    return float((inside & known).sum() / max((inside | known).sum(), 1))


def measure_repair(seeds: range, with_peer: int) -> dict[str, Any]:
    """Repair over many broken parts; the peer on the first `with_peer` of them."""
    ious, errors, seconds, refused, remeshed, peers, closed = [], [], [], [], 0, [], []
    for number, (name, clean, messy) in enumerate(broken_parts(seeds)):
        truth = exact(clean.mesh)
        start = time.perf_counter()
        try:
            mesh, report = repair(messy.mesh)
        except AssetError as error:
            refused.append(f"{name}: {error}")
            ious.append(0.0)
            continue
        seconds.append(time.perf_counter() - start)
        remeshed += report.method is RepairMethod.REMESH
        solid = to_solid(mesh)
        ious.append(overlap(solid, truth))
        errors.append(abs(solid.volume() / truth.volume() - 1))
        if number < with_peer:
            peer = plain_repair(messy.mesh)
            peers.append(sampled_overlap(peer, truth))
            closed.append(not to_solid(peer).is_empty())
    return {
        "repaired": len(ious),
        "refused": refused,
        "remeshed": remeshed,
        "iou_p05": float(np.percentile(ious, 5)),
        "iou_min": min(ious),
        "volume_error_median": statistics.median(errors),
        "volume_error_max": max(errors),
        "seconds_repair_median": statistics.median(seconds),
        "trimesh_watertight_rate": sum(closed) / len(closed) if closed else None,
        "trimesh_iou_median": statistics.median(peers) if peers else None,
        "trimesh_iou_p05": float(np.percentile(peers, 5)) if peers else None,
    }


def mass_error(asset: Asset, clean: source.Source) -> float:
    """Worst relative error of mass, centre of mass (over size) and moments against the clean solid."""
    worst = 0.0
    for part, body in zip(clean.parts, asset.bodies, strict=True):
        truth = to_mesh(exact(part.mesh))
        density = source.material(part.material).density
        known = solid_properties(truth, density)
        if part.shell_thickness:
            known = shell_properties(truth, density, part.shell_thickness)
        factor = part.mass / known.mass if part.mass else 1.0
        size = float(np.ptp(truth.vertices, axis=0).max())
        moments = np.abs(np.divide(body.diagonal_inertia, np.multiply(known.diagonal_inertia, factor)) - 1).max()
        center = np.linalg.norm(np.subtract(body.center_of_mass, known.center_of_mass)) / size
        worst = max(worst, abs(body.mass / (known.mass * factor) - 1), float(center), float(moments))
    return worst


def measure_chain(categories: tuple[str, ...], seeds: range) -> dict[str, Any]:
    """Builds finished assets one after the other and measures what they are and do."""
    from mutations import MUTATIONS, spoil  # pyright: ignore[reportMissingImports]

    rigid, two_link, stages, errors, over, missing, drifts, lifts, passed = [], [], {}, [], [], [], [], [], []
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        for category in categories:
            for seed in seeds:
                asset = optimize.build(category, seed, out)
                report = json.loads(asset.path.with_suffix(".json").read_text())
                (two_link if len(asset.bodies) > 1 else rigid).append(report["seconds"])
                for entry in report["stages"]:
                    stages.setdefault(entry["stage"], []).append(entry["seconds"])
                    if entry["stage"] == "collision":
                        over.append(entry["after"]["over"])
                        missing.append(entry["after"]["missing"])
                errors.append(mass_error(asset, source.procedural(category, seed)))
                drifts.append(behave.behave(asset).rest_drift * 1e3)
                lifts += [grasp.lift(asset, name).held for name in grasp.grasps(asset)]
                passed.append(not validate.check(asset.path) and not behave.check(usd.read(asset.path)))
        switch = optimize.build("switch", seeds[0], out)
        caught = 0
        for mutation, check in MUTATIONS.items():
            spoil(switch.path, out / "mutant.usda", mutation)
            caught += check in {issue.check for issue in validate.check(out / "mutant.usda")}
    return {
        "built": len(errors),
        "mass_error_max": max(errors),
        "collision_over_median": statistics.median(over),
        "collision_missing_median": statistics.median(missing),
        "rest_drift_mm_max": max(drifts),
        "grasp_lift_rate": sum(lifts) / len(lifts),
        "seconds_rigid_median": statistics.median(rigid),
        "seconds_two_link_median": statistics.median(two_link),
        "seconds_by_stage": {name: round(statistics.median(values), 4) for name, values in stages.items()},
        "mutations_caught": caught,
        "mutations_total": len(MUTATIONS),
        "own_checks_pass_rate": sum(passed) / len(passed),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few instances, under 50 s")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options = parser.parse_args()
    repair(source.procedural("block", 0, MessConfig()).parts[0].mesh)  # compiles
    result = measure_repair(range(1) if options.quick else range(63), with_peer=8 if options.quick else 60)
    result |= measure_chain(_QUICK, range(1)) if options.quick else measure_chain(source.categories(), range(5))
    for key, value in result.items():
        print(f"{key:28} {value}")
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
