"""Are files of other projects imported as assets, with every quantity that they state?

    python benchmarks/assets_foreign.py [--quick] [--json] [--packages CACHE] [--corpus FOLDER ...] [--most N] [--jobs N]
                                        [--keep FOLDER] [--seconds S] [--cases WORD]

Without a corpus: the small files of every common kind in `tests/assets/foreign_cases.py`. With folders (unpacked packages such as
pybullet's data or robosuite), also `--most` of the files in each; `--packages` downloads four such packages.
Figures: `delivered_objects` and `delivered_robots`, shares of well-formed files that became assets; `opened`, refusals of open
surfaces without a stated wall thickness, which is the user's decision and counted separately; `silent_drops`, stated quantities
that differ in the asset without a row in its fidelity table, by our own comparison and by pxr's reading of the result;
`exceptions_as_reasons`, reasons of refusal that are only the text of an exception;
`validator_faults`, of the built files, how many each public validator that is installed finds errors in;
`psnr_median` of pictures of textured inputs and outputs [dB]; `convex_missing_max`, largest share of a convex object's volume that
its colliders leave out, and `convex_missing` with the median beside it. The peer is `urdf-usd-converter` on the same URDF files, in
an environment of its own: `peer_delivered`, and `peer_drops`, stated masses and centres of mass that its stages do not hold.
With `--keep`, what is built stays in FOLDER, and a later run of the same code continues there. `--cases` takes only the small files
whose kind has WORD in its name, and neither textured nor convex ones.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import asset_packages
import harness
import numpy as np
import trimesh

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "assets"))

import foreign_cases  # pyright: ignore[reportMissingImports]  # it lies with the tests

from embodichain.assets.chain import batch, fidelity
from embodichain.assets.pictures.preview import view_of
from embodichain.assets.pictures.textured import painted, psnr
from embodichain.assets.reading import folder
from embodichain.assets.reading.files import FileFacts, FileJob
from embodichain.assets.reading.mesh_files import read_mesh
from embodichain.assets.usd import validators
from embodichain.assets.usd.foreign import resolve

_RAW = re.compile(r"Traceback|\b[A-Z]\w+(Error|Exception)\b|\.py:\d+")
"""Pattern of a reason that is only the text of an exception."""
_MALFORMED = (
    "no well-formed XML",
    "no MJCF",
    "no body with geoms",
    "no links",
    "no shape",
    "is not below",
    "truncated",
    "lie in one plane",
    "is empty",
)
"""Reasons which say that a corpus file is incomplete; such files do not count as well-formed."""
_OPEN = "the surface is open"
_MADE = ("built", "kept")
_DESCRIBED = (".urdf", ".xml", ".mjcf", ".sdf")


def main() -> None:
    arguments = harness.parser(__doc__, "a smaller number of textured files and no convex sweep")
    arguments.add_argument("--corpus", nargs="*", type=Path, default=[], help="folders of files from elsewhere")
    arguments.add_argument("--packages", type=Path, help="cache for packages with files from elsewhere, downloaded when missing")
    arguments.add_argument("--most", type=int, default=20, help="files taken from each folder, spread evenly")
    arguments.add_argument("--jobs", type=int, default=2)
    arguments.add_argument("--keep", type=Path, help="folder of results: what is there and not stale is not built again")
    arguments.add_argument("--seconds", type=float, default=120.0, help="time for an asset, less what it waits for a core")
    arguments.add_argument("--cases", default="", metavar="WORD", help="only small files of kinds with this word in their name")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() if options.keep is None else contextlib.nullcontext(options.keep) as place:
        root = Path(place)
        rng = np.random.default_rng(0)
        cases = [case for case in foreign_cases.write_all(root / "cases", rng) if options.cases in case.name]
        jobs = [FileJob(path=case.path, item=case.item, facts=FileFacts(licence="CC0-1.0")) for case in cases]
        robots = {job.name for job, case in zip(jobs, cases, strict=True) if case.robot}
        folders = asset_packages.fetched(options.packages) if options.packages else []
        count = 0 if options.cases else 3 if options.quick else 20
        drawn = _textured(root / "textured", count, rng)
        found = list(_spread(list(asset_packages.textured(options.packages)), 20)) if options.packages else []
        convex = _convex(root / "convex", 0 if options.cases else 4 if options.quick else 30, rng)
        jobs += [FileJob(path=file, facts=FileFacts(licence="CC0-1.0", unit="m")) for file in (*drawn, *convex)]
        as_it_lies = FileFacts(licence="unknown", size_m=0.2, wall_m=0.004, up="z", keep_pose=True)
        pictured = [FileJob(path=file, facts=as_it_lies) for file in found]
        jobs += pictured
        for source in (*options.corpus, *folders):
            taken = _corpus(source, options.most)
            jobs += taken
            robots |= {
                job.name
                for job in taken
                if job.path.suffix in (".urdf", ".xml", ".mjcf", ".sdf") and asset_packages.jointed(job.path)
            }
        out = root / "out"
        wanted = batch.jobs.unique(jobs)
        outcomes = batch.run(wanted, out, batch.BatchConfig(jobs=options.jobs, timeout_s=options.seconds))
        figures = _figures(outcomes, {job.name for job in wanted if job.name in robots}, {file.stem for file in convex})
        figures["silent_drops"] += _native_drops(cases, outcomes)
        figures["validator_faults"] = _faults([outcome.file for outcome in outcomes if outcome.state in _MADE])
        paths = {file.resolve() for file in drawn}
        likeness = {}
        for job, outcome in zip(wanted, outcomes, strict=True):
            inner = getattr(job, "job", job)
            flat = any(mark in outcome.reason for mark in _MALFORMED)
            if not flat and (inner in pictured or inner.path.resolve() in paths):
                likeness[outcome.name] = _psnr(inner.path, outcome)
        figures["psnr_median"] = round(float(np.median(list(likeness.values()))), 2) if likeness else None
        figures["psnr_files"] = len(likeness)
        figures["psnr_below_30"] = {name: round(value, 1) for name, value in likeness.items() if value < 30.0}
        figures |= _peer([case for case in cases if case.path.suffix == ".urdf"], root / "peer")
        refused = {outcome.name: outcome.reason for outcome in outcomes if outcome.state == "failed"}
    harness.give(figures | {"refused": refused}, options)


def _figures(outcomes: Sequence[batch.Outcome], robots: set[str], convex: set[str]) -> dict[str, Any]:
    opened = [o for o in outcomes if o.state == "failed" and _OPEN in o.reason]
    whole = [o for o in outcomes if o.state in _MADE or not any(mark in o.reason for mark in (*_MALFORMED, _OPEN))]
    sides: dict[str, list[bool]] = {"objects": [], "robots": []}
    silent, raw, missing = 0, 0, [0.0]
    for outcome in whole:
        sides["robots" if outcome.name in robots else "objects"].append(outcome.state in _MADE)
        raw += bool(_RAW.search(outcome.reason))
    rows = kept = 0
    for outcome in (o for o in outcomes if o.state in _MADE):
        report = json.loads(outcome.file.with_suffix(".json").read_text(encoding="utf-8"))
        told = report["fidelity"]
        silent += sum(row["reason"] == fidelity.UNEXPLAINED for row in told)
        rows, kept = rows + len(told), kept + sum(row["fate"] == "kept" for row in told)
        if outcome.name in convex:
            missing += [float(e["after"]["missing"]) for e in report["stages"] if e["stage"] == "collision"]
    shares = {f"delivered_{name}": round(sum(found) / len(found), 4) if found else 0.0 for name, found in sides.items()}
    return {
        **shares, "objects": len(sides["objects"]), "robots": len(sides["robots"]),
        "malformed": len(outcomes) - len(whole) - len(opened), "opened": len(opened), "silent_drops": silent, "stated": rows,
        "stated_kept": kept, "exceptions_as_reasons": raw, "convex_missing_max": round(max(missing), 4),
        "convex_missing": {"bodies": len(missing) - 1, "median": round(float(np.median(missing[1:] or [0.0])), 4)},
    }  # fmt: skip


def _faults(files: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """For each public validator that is installed: files asked, files with errors, and the checks that found them."""
    told = {}
    for name in validators.installed():
        verdicts = validators.check(name, files)
        checks = sorted({issue.check for issues in verdicts.values() for issue in issues})
        told[name] = {"files": len(files), "with_errors": sum(map(bool, verdicts.values())), "checks": checks}
    return told


def _native_drops(cases: Sequence[foreign_cases.Case], outcomes: Sequence[batch.Outcome]) -> int:
    """For files with known truth: quantities that differ in the asset, without a row in its fidelity table that says so."""
    drops = 0
    built = {o.name: o for o in outcomes if o.state in _MADE}
    for case in cases:
        outcome = built.get(FileJob(path=case.path, item=case.item).name)
        if outcome is None:
            continue
        foreign = resolve(outcome.file)
        report = json.loads(outcome.file.with_suffix(".json").read_text(encoding="utf-8"))
        told = {row["what"] for row in report["fidelity"] if row["fate"] != "kept"}
        root = foreign.bodies[0]
        if case.mass is not None and "mass" not in told:
            drops += not np.isclose(root.mass or 0.0, case.mass, rtol=1e-4)
        if case.com is not None and "centre of mass" not in told:
            drops += not np.allclose(root.center_of_mass or (9.0, 9.0, 9.0), case.com, atol=1e-4)
        if case.size is not None and "pose" not in told:
            drops += not np.allclose(report["extents"], case.size, atol=1e-4)
        drops += len(report["joints"]) != case.joints
    return drops


def _textured(place: Path, count: int, rng: np.random.Generator) -> list[Path]:
    place.mkdir(parents=True, exist_ok=True)
    return [foreign_cases.textured_cube(place, f"picture_{index}", rng) for index in range(count)]


def _psnr(file: Path, outcome: batch.Outcome) -> float:
    """Peak signal-to-noise ratio between renderings of a file and of its asset by one camera [dB]; 0 without an asset."""
    source = read_mesh(file).parts[0].look
    if outcome.state not in _MADE or source is None:
        return 0.0
    given = [piece.look for piece in resolve(outcome.file).bodies[0].pieces if piece.visible and piece.look is not None]
    pictures = []
    for looks in ([source], given):
        points = np.concatenate([look.mesh.vertices for look in looks])
        pictures.append(painted(looks, 256, view_of(np.stack([points.min(axis=0), points.max(axis=0)]))))
    return psnr(*pictures)


def _convex(place: Path, count: int, rng: np.random.Generator) -> list[Path]:
    """Files of convex objects with many and with few vertices."""
    place.mkdir(parents=True, exist_ok=True)
    files = []
    for index in range(count):
        points = rng.normal(size=(int(rng.integers(8, 400)), 3))
        points *= rng.uniform(0.02, 0.06, 3) / np.linalg.norm(points, axis=1, keepdims=True) ** float(index % 2)
        points = points / np.abs(points).max() * 0.05
        files.append(place / f"convex_{index}.stl")
        trimesh.convex.convex_hull(points).export(files[-1])
    return files


def _corpus(source: Path, most: int) -> list[FileJob]:
    found = [(file, item) for file in _spread(folder.survey(source).files, most) for item in folder.items(file)[:2]]
    return [FileJob(path=file, item=item, facts=FileFacts(licence="unknown")) for file, item in found]


def _spread(files: Sequence[Path], most: int) -> Iterator[Path]:
    step = max(len(files) // most, 1)
    yield from files[::step][:most]


def _peer(cases: Sequence[foreign_cases.Case], out: Path) -> dict[str, Any]:
    """`urdf-usd-converter` on the same URDF files: the share that it converts, and stated quantities that differ afterwards."""
    python = asset_packages.peer() if cases else None
    if python is None:
        return {"peer_delivered": None, "peer_drops": None}
    drops = delivered = 0
    for case in cases:
        stages = asset_packages.converted(python, case.path, out / case.path.stem)
        delivered += bool(stages)
        bodies = resolve(stages[0]).bodies if stages else ()
        if not bodies:
            drops += (case.mass is not None) + (case.com is not None)
            continue
        drops += case.mass is not None and not np.isclose(bodies[0].mass or 0.0, case.mass, rtol=1e-4)
        drops += case.com is not None and not np.allclose(bodies[0].center_of_mass or (9.0, 9.0, 9.0), case.com, atol=1e-4)
    return {"peer_delivered": round(delivered / len(cases), 4), "peer_drops": int(drops)}


if __name__ == "__main__":
    main()
