"""How well does a broken mesh come back? Repair against the known truth, and the whole chain's figures, in one run.

    python benchmarks/assets.py [--quick] [--json] [--jobs N] [--keep FOLDER]

The truth is exact, because the broken meshes are made from clean solids. `iou_*` and `volume_error_*` measure the repair of many
broken meshes of every family; the other figures measure finished assets of every family, built from scratch. `dense` are instances
with up to 200,000 faces. Seconds are processor time of one core, so that a busy machine does not change them. `peers` are the
plain alternatives on the same inputs, each with a limit of time that is reported.

With `--keep`, the result of each case is written to FOLDER at once, and a later run measures only cases that are missing or were
measured with other code; so an interrupted run continues where it stopped.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import statistics
import tempfile
from collections.abc import Mapping
from concurrent.futures import as_completed
from pathlib import Path
from typing import Any

import asset_cases
import asset_peers
import harness
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from embodichain.assets.chain import jobs, worker
from embodichain.assets.families import source
from embodichain.assets.geometry.corrupt import MessConfig
from embodichain.assets.geometry.repair import repair
from embodichain.assets.usd import validators
from embodichain.errors import AssetError

_QUICK_MESHES, _FULL_MESHES = 12, 500
_QUICK = ("mug", "block", "switch", "bottle", "drawer_cabinet")
_DENSE = ("bottle", "mouse", "spoon", "switch", "laptop")
"""Families that are also built from dense meshes."""
_PEERS = ("block", "bottle", "mug", "spoon", "switch", "bowl", "pan", "lid")
"""Families on which the plain alternatives are measured; obj2mjcf only on the first two."""
_CASE_LIMIT_S = 1800
"""Most processor time of one case [s]; a case that takes longer counts as refused."""
_REPAIR_CODE = ("families/*.py", *(f"geometry/{name}.py" for name in ("corrupt", "remesh", "repair", "shapes", "topology")))

Case = tuple[str, str, int, int]
"""Kind of measurement, family, seed and part."""


def plan(*, quick: bool, meshes: int, seeds: int) -> list[Case]:
    """Every case of a run."""
    families = _QUICK if quick else source.categories()
    dense = ("block", "switch") if quick else _DENSE
    some = [(category, 0, 0) for category in (_PEERS[:1] if quick else _PEERS)]
    return [
        *(("repair", *which) for which in asset_cases.broken_parts(meshes)),
        *(("asset", category, seed, 0) for seed in range(seeds) for category in families),
        *(("trimesh", *which) for which in some),
        *(("coacd", *which) for which in some),
        *(("obj2mjcf_broken", *which) for which in some[:2]),
        *(("obj2mjcf_repaired", *which) for which in some[:2]),
        *(("dense", category, 0, 0) for category in dense),
    ]


def measured(case: Case, out: Path, limit_s: float) -> dict[str, Any]:
    """The row of one case."""
    kind, category, seed, part = case
    try:
        with harness.limited(_CASE_LIMIT_S, AssetError):
            return _measured(kind, category, seed, part, out, limit_s)
    except AssetError as error:
        return {"name": f"{category}_{seed}", "category": category, "iou": 0.0, "refused": str(error)}


def _measured(kind: str, category: str, seed: int, part: int, out: Path, limit_s: float) -> dict[str, Any]:
    if kind == "repair":
        return asset_cases.repaired_case(category, seed, part)
    if kind == "asset":
        return asset_cases.built_case(jobs.ProceduralJob(category=category, seed=seed), out)
    if kind == "dense":
        return asset_cases.built_case(asset_cases.DenseJob(category=category, seed=seed), out)
    name, clean, messy = asset_cases.case(category, seed, part)
    if kind == "trimesh":
        return asset_peers.trimesh_case(name, clean, messy)
    if kind == "coacd":
        return asset_peers.coacd_case(name, messy, limit_s)
    mesh = messy.mesh if kind == "obj2mjcf_broken" else repair(messy.mesh)[0]
    return asset_peers.obj2mjcf_case(name, clean, mesh, limit_s)


def code(kind: str) -> str:
    """Hash of the code on which results of a kind of case depend."""
    if kind not in ("repair", "trimesh", "obj2mjcf_broken", "obj2mjcf_repaired"):
        return jobs.code_digest()
    digest = hashlib.sha256()
    root = Path(jobs.__file__).parents[1]
    for pattern in _REPAIR_CODE:
        for file in sorted(root.glob(pattern)):
            digest.update(file.read_bytes())
    return digest.hexdigest()


def key_of(case: Case, limit_s: float) -> str:
    """Key of the row of a case."""
    bound = limit_s if case[0] in ("coacd", "obj2mjcf_broken", "obj2mjcf_repaired") else 0
    return json.dumps([*case, bound, code(case[0])])


def run(cases: list[Case], kept: harness.Kept, out: Path, limit_s: float, processes: int) -> dict[str, list[dict[str, Any]]]:
    """The rows of all cases by kind; measures those that are not stored."""
    keys = {case: key_of(case, limit_s) for case in cases}
    # Later checks read the asset's file, so a stored row counts only while its file exists.
    missing = [case for case in cases if keys[case] not in kept.rows or not Path(kept.rows[keys[case]].get("file", out)).exists()]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with (
        Progress(*columns, console=Console(stderr=True)) as bar,
        harness.pool(processes) as pool,
    ):
        line = bar.add_task("cases", total=len(cases), completed=len(cases) - len(missing))
        tasks = {pool.submit(measured, case, out, limit_s): case for case in missing}
        for task in as_completed(tasks):
            kept.add(keys[tasks[task]], task.result())
            bar.update(line, advance=1, description=" ".join(str(value) for value in tasks[task][:3]))
    rows: dict[str, list[dict[str, Any]]] = {}
    for case in cases:
        rows.setdefault(case[0], []).append(kept.rows[keys[case]])
    return rows


def by_stage(built: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Median processor time of every stage [s], separately for assets of one link and of two."""
    table: dict[str, dict[str, list[float]]] = {}
    for row in built:
        if row["bodies"] > 2:
            continue
        each: dict[str, float] = {}
        for stage, seconds in row["stages"]:
            each[stage] = each.get(stage, 0.0) + seconds
        for stage, seconds in each.items():
            lists = table.setdefault(stage, {"rigid": [], "two_link": []})
            lists["rigid" if row["bodies"] == 1 else "two_link"].append(seconds)
    return {
        stage: {links: round(statistics.median(times or [0.0]), 3) for links, times in row.items()} for stage, row in table.items()
    }


def by_family(repairs: list[dict[str, Any]], built: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The figures of each family."""
    table: dict[str, dict[str, Any]] = {}
    for category in sorted({row["category"] for row in built}):
        rows = [row for row in built if row["category"] == category]
        broken = [row for row in repairs if row["category"] == category]
        fits = [fit for row in rows for fit in row["fits"]]
        lifts = [held for row in rows for held in row["lifts"].values()]
        table[category] = {
            "meshes": len(broken),
            "iou_min": min((row["iou"] for row in broken), default=None),
            "hulls": max(sum(fit[1] for fit in row["fits"]) for row in rows),
            "over": max(fit[2] for fit in fits),
            "missing": max(fit[3] for fit in fits),
            "mass_error": max(row["mass_error"] for row in rows),
            "rest_drift_mm": max(row["rest_drift"] for row in rows) * 1e3,
            "lifts": f"{sum(lifts)}/{len(lifts)}",
            "seconds": statistics.median(row["seconds"] for row in rows),
            "passed": f"{sum(row['passed'] for row in rows)}/{len(rows)}",
        }
    return table


def summarised(rows: Mapping[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """The figures of many cases."""
    repairs, built, dense = rows["repair"], rows["asset"], rows["dense"]
    good = [row for row in repairs if "refused" not in row]
    done = [row for row in built if "refused" not in row]
    heavy = [row for row in dense if "refused" not in row]
    ious = [row["iou"] for row in repairs]
    lifts = [held for row in done for held in row["lifts"].values()]
    fits = [fit for row in done for fit in row["fits"]]
    return {
        "repaired": len(repairs),
        "refused": [f"{row['name']}: {row['refused']}" for row in [*repairs, *built, *dense] if "refused" in row],
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
        "bodies": len(fits),
        "collision_over_median": statistics.median(fit[2] for fit in fits),
        "collision_missing_median": statistics.median(fit[3] for fit in fits),
        "rest_drift_mm_max": max(row["rest_drift"] for row in done) * 1e3,
        "grasps_tried": len(lifts),
        "grasp_lift_rate": sum(lifts) / len(lifts),
        "seconds_rigid_median": statistics.median(row["seconds"] for row in done if row["bodies"] == 1),
        "seconds_rigid_max": max(row["seconds"] for row in done if row["bodies"] == 1),
        "seconds_two_link_median": statistics.median(row["seconds"] for row in done if row["bodies"] == 2),
        "seconds_two_link_max": max(row["seconds"] for row in done if row["bodies"] == 2),
        "seconds_by_stage": by_stage(done),
        "dense_built": len(heavy),
        "dense_faces": [min(row["faces"] for row in heavy), max(row["faces"] for row in heavy)],
        "dense_seconds_rigid_median": statistics.median(row["seconds"] for row in heavy if row["bodies"] == 1),
        "dense_seconds_two_link_median": statistics.median(row["seconds"] for row in heavy if row["bodies"] == 2),
        "dense_mass_error_max": max(row["mass_error"] for row in heavy),
        "dense_seconds_by_stage": by_stage(heavy),
        "own_checks_pass_rate": sum(row["passed"] for row in done) / len(done),
        "families": by_family(repairs, done),
    }


def peers(rows: Mapping[str, list[dict[str, Any]]], limit_s: float) -> dict[str, Any]:
    """The rows of the plain alternatives, and their summary."""
    sides = {
        side: {
            "iou_median": statistics.median(row[f"{prefix}iou"] for row in rows["trimesh"]),
            "iou_min": min(row[f"{prefix}iou"] for row in rows["trimesh"]),
            "closed": sum(row[f"{prefix}closed"] for row in rows["trimesh"]),
            "seconds_median": statistics.median(row.get(f"{prefix}seconds", _CASE_LIMIT_S) for row in rows["trimesh"]),
        }
        for side, prefix in (("trimesh.repair", ""), ("ours", "our_"))
    }
    return {"limit_s": limit_s, "repair": {"meshes": len(rows["trimesh"]), **sides}} | {
        kind: rows[kind] for kind in ("coacd", "obj2mjcf_broken", "obj2mjcf_repaired")
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
    parser = harness.parser(__doc__, f"{_QUICK_MESHES} meshes, {len(_QUICK)} families, 1 of each peer")
    parser.add_argument("--meshes", type=int, default=0, help=f"broken meshes (default {_FULL_MESHES}, quick {_QUICK_MESHES})")
    parser.add_argument("--seeds", type=int, default=0, help="assets of each family (default 2, quick 1 of some)")
    parser.add_argument(
        "--peer-seconds", type=float, default=0.0, help="core seconds that a peer may take for one case (default 120, quick 60)"
    )
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--keep", type=Path, help="folder of results: what is there and not stale is not measured again")
    options = parser.parse_args()
    meshes = options.meshes or (_QUICK_MESHES if options.quick else _FULL_MESHES)
    seeds = options.seeds or (1 if options.quick else 2)
    limit_s = options.peer_seconds or (60.0 if options.quick else 120.0)
    repair(source.procedural("block", 0, MessConfig()).parts[0].mesh)  # compiles into a cache that all processes share
    worker.use_one_core()  # for the processes that start now: seconds are of one core
    with tempfile.TemporaryDirectory() if options.keep is None else contextlib.nullcontext(options.keep) as folder:
        out = Path(folder)
        out.mkdir(parents=True, exist_ok=True)
        cases = plan(quick=options.quick, meshes=meshes, seeds=seeds)
        rows = run(cases, harness.Kept(out / "rows.jsonl"), out, limit_s, options.jobs)
        result = summarised(rows) | judged([*rows["asset"], *rows["dense"]])
        result["mutations_caught"], result["mutations_total"] = asset_cases.mutations(out)
        result["peers"] = peers(rows, limit_s)
    harness.give(result, options, lambda: _table(result))


def _table(result: dict[str, Any]) -> None:
    for key, value in result.items():
        if not isinstance(value, dict):
            print(f"{key:28} {value}")
            continue
        print(key)
        for name, row in value.items():
            print(f"  {name:26} {row}")


if __name__ == "__main__":
    main()
