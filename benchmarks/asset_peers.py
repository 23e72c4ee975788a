"""The plain alternatives on the same inputs: trimesh.repair and obj2mjcf on broken meshes, CoACD's defaults on repaired ones."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import trimesh

from embodichain.assets.collision import measure
from embodichain.assets.remesh import winding_numbers
from embodichain.assets.repair import repair
from embodichain.assets.shapes import Solid, to_mesh, to_solid
from embodichain.assets.stages import ChainConfig, Record, build_body, repaired
from embodichain.assets.topology import components
from embodichain.errors import AssetError
from embodichain.types import Mesh


def exact(mesh: Mesh) -> Solid:
    """The solid that clean overlapping components make together."""
    solid = Solid.compose([])
    for piece in components(mesh):
        solid = solid + to_solid(piece)
    return solid


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


def trimesh_row(cases: list[tuple[str, Any, Any]]) -> dict[str, Any]:
    """`trimesh.repair` beside ours on the same broken meshes, both judged by winding number."""
    ours, theirs, closed, ours_s, theirs_s = [], [], 0, [], []
    for _, clean, messy in cases:
        truth = exact(clean.mesh)
        start = time.process_time()
        fixed = plain_repair(messy.mesh)
        theirs_s.append(time.process_time() - start)
        theirs.append(sampled_overlap(fixed, truth))
        closed += not to_solid(fixed).is_empty()
        start = time.process_time()
        try:
            mesh = repair(messy.mesh)[0]
        except AssetError:
            ours.append(0.0)
            continue
        ours_s.append(time.process_time() - start)
        ours.append(sampled_overlap(mesh, truth))
    return {
        "meshes": len(cases),
        "trimesh_iou_median": statistics.median(theirs),
        "trimesh_iou_min": min(theirs),
        "trimesh_closed_rate": closed / len(cases),
        "trimesh_seconds_median": statistics.median(theirs_s),
        "our_iou_median": statistics.median(ours),
        "our_iou_min": min(ours),
        "our_closed_rate": sum(value > 0 for value in ours) / len(cases),
        "our_seconds_median": statistics.median(ours_s),
    }


_COACD = """
import sys, time
import coacd, numpy as np
data = np.load(sys.argv[1])
coacd.set_log_level("error")
start = time.process_time()
pieces = coacd.run_coacd(coacd.Mesh(data["vertices"], data["faces"]))
np.savez(sys.argv[2], seconds=time.process_time() - start, **{f"p{i}": vertices for i, (vertices, _) in enumerate(pieces)})
"""


def coacd_row(cases: list[tuple[str, Any, Any]], timeout_s: float) -> dict[str, Any]:
    """CoACD with its defaults beside our collision stage on the same repaired solids."""
    rows: list[dict[str, Any]] = []
    for name, _, messy in cases:
        record = Record()
        part = repaired(messy, ChainConfig(), record)
        start = time.process_time()
        body, _ = build_body(part, ChainConfig(), record, resting=False)
        ours = next(entry for entry in record.entries if entry.stage == "collision")
        row = {"name": name, "our_seconds": ours.seconds, **{f"our_{key}": ours.after[key] for key in ("hulls", "over", "missing")}}
        row["our_cpu_seconds"] = round(time.process_time() - start, 2)
        with tempfile.TemporaryDirectory() as folder:
            given, made = Path(folder) / "in.npz", Path(folder) / "out.npz"
            np.savez(given, vertices=body.visual.vertices, faces=body.visual.faces)
            try:
                subprocess.run([sys.executable, "-c", _COACD, str(given), str(made)], check=True, timeout=timeout_s)
                found = np.load(made)
                hulls = [to_mesh(Solid.hull_points(found[key])) for key in found.files if key != "seconds"]
                fit = measure(part.mesh, [hull for hull in hulls if len(hull.faces)])
                row |= {"hulls": fit.hulls, "over": fit.over, "missing": fit.missing, "seconds": round(float(found["seconds"]), 2)}
            except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
                row["failed"] = type(error).__name__
        rows.append(row)
    return {"timeout_s": timeout_s, "rows": rows}


def obj2mjcf_row(cases: list[tuple[str, Any, Any]], timeout_s: float) -> dict[str, Any]:
    """obj2mjcf with decomposition on the broken meshes as files: what it makes of them, and whether MuJoCo loads it."""
    program = Path(sys.executable).with_name("obj2mjcf")
    if not program.exists():
        return {"skipped": "obj2mjcf is not installed: pip install 'embodichain[bench]'"}
    rows: list[dict[str, Any]] = []
    for name, clean, messy in cases:
        row: dict[str, Any] = {"name": name}
        with tempfile.TemporaryDirectory() as folder:
            stem = "thing"
            trimesh.Trimesh(messy.mesh.vertices, messy.mesh.faces, process=False).export(Path(folder) / f"{stem}.obj")
            start = time.monotonic()
            command = [str(program), "--obj-dir", folder, "--save-mjcf", "--decompose", "--overwrite"]
            try:
                subprocess.run(command, check=True, timeout=timeout_s, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                row["wall_seconds"] = round(time.monotonic() - start, 2)
                row |= _judged(Path(folder) / stem, exact(clean.mesh))
            except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
                row["failed"] = type(error).__name__
            shutil.rmtree(Path(folder) / stem, ignore_errors=True)
        rows.append(row)
    return {"timeout_s": timeout_s, "rows": rows}


def _judged(folder: Path, truth: Solid) -> dict[str, Any]:
    """Hulls and fit of what obj2mjcf wrote, and whether its file states masses."""
    hulls = []
    for file in sorted(folder.glob("*_collision_*.obj")):
        mesh = trimesh.load(file, force="mesh")
        hulls.append(to_mesh(Solid.hull_points(np.asarray(mesh.vertices, np.float64))))
    tree = ElementTree.parse(folder / f"{folder.name}.xml")
    fit = measure(to_mesh(truth), [hull for hull in hulls if len(hull.faces)]) if hulls else None
    found = {"hulls": len(hulls), "states_mass": tree.find(".//inertial") is not None}
    return found | ({"over": fit.over, "missing": fit.missing} if fit else {})
