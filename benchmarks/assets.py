"""How well does a broken mesh come back? Repair against the known truth, and the whole chain's figures, in one run.

    python benchmarks/assets.py [--quick] [--json] [--meshes N] [--jobs N]

The truth is exact: the mess-maker broke clean solids. `iou_*`, `volume_error_*` are of repair over many broken meshes of every
family; the other figures are of finished assets of every family, built from scratch into a temporary folder. Seconds are of one
core's own time, so that a busy machine does not change them. `peers` are the plain alternatives on the same inputs.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import asset_peers
import numpy as np

from embodichain.assets import behave, grasp, jobs, optimize, source, stages, usd, validate, validators, worker
from embodichain.assets.mess import MessConfig
from embodichain.assets.physical import shell_properties, solid_properties
from embodichain.assets.repair import RepairMethod, repair
from embodichain.assets.shapes import Solid, to_mesh, to_solid
from embodichain.errors import AssetError
from embodichain.types import Asset

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "assets"))

_QUICK_MESHES, _FULL_MESHES = 40, 500
_QUICK = ("mug", "block", "switch", "bottle", "mouse", "spoon", "drawer_cabinet")


def broken_parts(number: int) -> list[tuple[str, int, int]]:
    """(family, seed, part) of `number` parts, family by family and seed by seed."""
    cases: list[tuple[str, int, int]] = []
    seed = 0
    while len(cases) < number:
        for category in source.categories():
            cases += [(category, seed, part) for part in range(len(source.procedural(category, seed).parts))]
        seed += 1
    return cases[:number]


def case(category: str, seed: int, part: int) -> tuple[str, source.Part, source.Part]:
    """A part's name, clean and broken."""
    clean, messy = source.procedural(category, seed), source.procedural(category, seed, MessConfig())
    return f"{category}_{seed}/{clean.parts[part].name}", clean.parts[part], messy.parts[part]


def overlap(solid: Solid, truth: Solid) -> float:
    """Intersection over union of two solids."""
    union = (solid + truth).volume()
    return (solid ^ truth).volume() / union if union > 0 else 0.0


def repaired_case(given: tuple[str, int, int]) -> dict[str, Any]:
    """One broken part repaired, and compared with its truth."""
    name, clean, messy = case(*given)
    truth = asset_peers.exact(clean.mesh)
    start = time.process_time()
    try:
        mesh, report = repair(messy.mesh)
    except AssetError as error:
        return {"name": name, "refused": str(error), "iou": 0.0}
    seconds = time.process_time() - start
    solid = to_solid(mesh)
    return {
        "name": name,
        "iou": overlap(solid, truth),
        "volume_error": abs(solid.volume() / truth.volume() - 1),
        "seconds": seconds,
        "remeshed": report.method is RepairMethod.REMESH,
    }


def mass_error(asset: Asset, clean: source.Source) -> float:
    """Worst relative error of mass, centre of mass (over size) and moments against the clean solid."""
    worst = 0.0
    for part, body in zip(clean.parts, asset.bodies, strict=True):
        truth = to_mesh(asset_peers.exact(part.mesh))
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


def built_case(category: str, seed: int, out: Path) -> dict[str, Any]:
    """One finished asset: what it cost, what it is and what it does."""
    record = stages.Record()
    job = jobs.ProceduralJob(category=category, seed=seed)
    start = time.process_time()
    try:
        asset = optimize.build_job(job, out, config=stages.ChainConfig(), record=record)
    except AssetError as error:
        return {"name": job.name, "refused": str(error)}
    seconds = time.process_time() - start
    wall = sum(entry.seconds for entry in record.entries)
    asset = usd.read(asset.path)
    return {
        "name": job.name,
        "file": str(asset.path),
        "bodies": len(asset.bodies),
        "seconds": seconds,
        # Stage times are of the clock; on a busy machine they are scaled to the core's own time.
        "stages": [(entry.stage, entry.seconds * seconds / wall) for entry in record.entries],
        "fits": [(entry.after["over"], entry.after["missing"]) for entry in record.entries if entry.stage == "collision"],
        "mass_error": mass_error(asset, source.procedural(category, seed)),
        "rest_drift": behave.behave(asset).rest_drift,
        "lifts": {name: grasp.lift(asset, name).held for name in grasp.grasps(asset)},
        "passed": not validate.check(asset.path) and not behave.check(asset),
    }


def mutations(out: Path) -> tuple[int, int]:
    """How many of the spoiled copies of a switch are caught by the check that must, of how many."""
    from mutations import MUTATIONS, spoil  # pyright: ignore[reportMissingImports]

    switch = optimize.build("switch", 0, out)
    caught = 0
    for mutation, check in MUTATIONS.items():
        spoil(switch.path, out / "mutant.usda", mutation)
        caught += check in {issue.check for issue in validate.check(out / "mutant.usda")}
    return caught, len(MUTATIONS)


def summarised(repairs: list[dict[str, Any]], built: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures of many cases."""
    good = [row for row in repairs if "refused" not in row]
    done = [row for row in built if "refused" not in row]
    ious = [row["iou"] for row in repairs]
    table: dict[str, dict[str, float]] = {}
    for row in done:
        each: dict[str, float] = {}
        for stage, seconds in row["stages"]:
            each[stage] = each.get(stage, 0.0) + seconds
        for stage, seconds in each.items():
            table.setdefault(stage, {})[row["name"]] = seconds
    lifts = [held for row in done for held in row["lifts"].values()]
    fits = [fit for row in done for fit in row["fits"]]
    links = {row["name"]: row["bodies"] for row in done}
    return {
        "repaired": len(repairs),
        "refused": [f"{row['name']}: {row['refused']}" for row in [*repairs, *built] if "refused" in row],
        "remeshed": sum(row["remeshed"] for row in good),
        "iou_p05": float(np.percentile(ious, 5)),
        "iou_median": statistics.median(ious),
        "iou_min": min(ious),
        "iou_worst": sorted((round(row["iou"], 4), row["name"]) for row in repairs)[:5],
        "iou_share_097": sum(iou >= 0.97 for iou in ious) / len(ious),
        "volume_error_median": statistics.median(row["volume_error"] for row in good),
        "volume_error_max": max(row["volume_error"] for row in good),
        "seconds_repair_median": statistics.median(row["seconds"] for row in good),
        "built": len(done),
        "mass_error_max": max(row["mass_error"] for row in done),
        "mass_error_median": statistics.median(row["mass_error"] for row in done),
        "collision_over_median": statistics.median(over for over, _ in fits),
        "collision_missing_median": statistics.median(missing for _, missing in fits),
        "rest_drift_mm_max": max(row["rest_drift"] for row in done) * 1e3,
        "grasps_tried": len(lifts),
        "grasp_lift_rate": sum(lifts) / len(lifts),
        "seconds_rigid_median": statistics.median(row["seconds"] for row in done if row["bodies"] == 1),
        "seconds_two_link_median": statistics.median(row["seconds"] for row in done if row["bodies"] == 2),
        "seconds_by_stage": {
            stage: {
                "rigid": round(statistics.median([s for name, s in rows.items() if links[name] == 1] or [0.0]), 3),
                "two_link": round(statistics.median([s for name, s in rows.items() if links[name] == 2] or [0.0]), 3),
            }
            for stage, rows in table.items()
        },
        "own_checks_pass_rate": sum(row["passed"] for row in done) / len(done),
    }


def judged(built: list[dict[str, Any]]) -> dict[str, Any]:
    """The share of delivered assets that pass our checks and every public validator that is installed."""
    done = [row for row in built if "refused" not in row]
    names = validators.installed()
    verdicts = {name: validators.check(name, [Path(row["file"]) for row in done]) for name in names}
    passed = [row["passed"] and not any(verdicts[name][row["file"]] for name in names) for row in done]
    failed = [row["name"] for row, good in zip(done, passed, strict=True) if not good]
    return {"validator_pass_rate": sum(passed) / len(passed), "validators": ["own", *names], "validators_failed": failed}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="40 meshes, 7 assets, 2 of each peer; two core-minutes")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--meshes", type=int, default=0, help=f"broken meshes (default {_FULL_MESHES}, quick {_QUICK_MESHES})")
    parser.add_argument("--seeds", type=int, default=0, help="assets of each family (default 2, quick 1 of some)")
    parser.add_argument("--peers", type=int, default=-1, help="meshes for the peers (default 8, quick 2)")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    options = parser.parse_args()
    meshes = options.meshes or (_QUICK_MESHES if options.quick else _FULL_MESHES)
    seeds = options.seeds or (1 if options.quick else 2)
    families = _QUICK if options.quick else source.categories()
    number = options.peers if options.peers >= 0 else (2 if options.quick else 8)
    repair(source.procedural("block", 0, MessConfig()).parts[0].mesh)  # compiles, into a cache that all processes share
    worker.use_one_core()  # for the processes that start now: seconds are of one core
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        pool = ProcessPoolExecutor(options.jobs, mp_context=multiprocessing.get_context("spawn"))
        with pool:
            building = [pool.submit(built_case, category, seed, out) for category in families for seed in range(seeds)]
            repairing = [pool.submit(repaired_case, given) for given in broken_parts(meshes)]
            for done, _ in enumerate(as_completed([*building, *repairing]), 1):
                if done % 10 == 0:
                    print(f"{done} of {len(building) + len(repairing)}", file=sys.stderr, flush=True)
            built, repairs = [task.result() for task in building], [task.result() for task in repairing]
        result = summarised(repairs, built) | judged(built)
        result["mutations_caught"], result["mutations_total"] = mutations(out)
    if number:
        some = [case(*given) for given in [("block", 0, 0), ("mug", 0, 0), *broken_parts(60)[2:]][:number]]
        result["peers"] = {
            "trimesh": asset_peers.trimesh_row(some),
            "coacd": asset_peers.coacd_row(some, timeout_s=120.0 if options.quick else 600.0),
            "obj2mjcf": asset_peers.obj2mjcf_row(some[:2], timeout_s=60.0 if options.quick else 900.0),
        }
    for key, value in result.items():
        print(f"{key:28} {value}")
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
