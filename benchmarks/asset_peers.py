"""The plain alternatives on the same inputs: trimesh.repair and obj2mjcf on broken meshes, CoACD's defaults on repaired ones."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import trimesh

from embodichain.assets.chain.part_stages import build_body, repaired
from embodichain.assets.chain.record import Record
from embodichain.assets.chain.settings import ChainConfig
from embodichain.assets.families import parts
from embodichain.assets.geometry.collision import measure
from embodichain.assets.geometry.remesh import winding_numbers
from embodichain.assets.geometry.repair import repair
from embodichain.assets.geometry.shapes import Solid, to_mesh, to_solid
from embodichain.assets.geometry.topology import components
from embodichain.errors import AssetError
from embodichain.types import Mesh


def exact(mesh: Mesh) -> Solid:
    """The union of a mesh's clean, overlapping components, as a solid."""
    solid = Solid.compose([])
    for piece in components(mesh):
        solid = solid + to_solid(piece)
    return solid


def plain_repair(mesh: Mesh) -> Mesh:
    """The usual recipe of trimesh: merge vertices, drop bad faces, fix winding and normals, fill holes."""
    fixed = trimesh.Trimesh(mesh.vertices, mesh.faces, process=True)
    fixed.update_faces(fixed.nondegenerate_faces() & fixed.unique_faces())
    trimesh.repair.fix_normals(fixed)
    trimesh.repair.fill_holes(fixed)
    return Mesh(vertices=np.asarray(fixed.vertices), faces=np.asarray(fixed.faces, np.int32))


def sampled_overlap(mesh: Mesh, truth: Solid, samples: int = 4000) -> float:
    """Intersection over union of random points, inside by winding number; this is lenient with meshes that are not solid."""
    reference = to_mesh(truth)
    low, high = reference.vertices.min(axis=0), reference.vertices.max(axis=0)
    points = np.random.default_rng(0).uniform(low, high, (samples, 3))
    inside, known = winding_numbers(points, mesh) > 0.5, winding_numbers(points, reference) > 0.5
    return float((inside & known).sum() / max((inside | known).sum(), 1))


def trimesh_case(name: str, clean: parts.Part, messy: parts.Part) -> dict[str, Any]:
    """`trimesh.repair` and our repair on the same broken mesh, both judged by winding number."""
    truth = exact(clean.mesh)
    start = time.process_time()
    fixed = plain_repair(messy.mesh)
    row: dict[str, Any] = {"name": name, "seconds": time.process_time() - start}
    row |= {"iou": sampled_overlap(fixed, truth), "closed": not to_solid(fixed).is_empty()}
    start = time.process_time()
    try:
        mesh = repair(messy.mesh)[0]
    except AssetError as error:
        return row | {"our_iou": 0.0, "our_closed": False, "our_refused": str(error)}
    return row | {"our_seconds": time.process_time() - start, "our_iou": sampled_overlap(mesh, truth), "our_closed": True}


_COACD = """
import sys, time
import coacd, numpy as np
data = np.load(sys.argv[1])
coacd.set_log_level("error")
start = time.process_time()
pieces = coacd.run_coacd(coacd.Mesh(data["vertices"], data["faces"]))
np.savez(sys.argv[2], seconds=time.process_time() - start, **{f"p{i}": vertices for i, (vertices, _) in enumerate(pieces)})
"""


def coacd_case(name: str, messy: parts.Part, limit_s: float) -> dict[str, Any]:
    """CoACD with its defaults and our collision stage on the same repaired and simplified solid."""
    record = Record()
    part = repaired(messy, ChainConfig(), record)
    start = time.process_time()
    body, _ = build_body(part, ChainConfig(), record, resting=False)
    simplified_to_weighed_s = time.process_time() - start
    ours = next(entry for entry in record.entries if entry.stage == "collision")
    row: dict[str, Any] = {"name": name, "our_seconds": simplified_to_weighed_s}
    row |= {f"our_{key}": ours.after[key] for key in ("hulls", "over", "missing")}
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder) / "in.npz", Path(folder) / "out.npz"
        np.savez(given, vertices=body.visual.vertices, faces=body.visual.faces)
        seconds, failed = timed([sys.executable, "-c", _COACD, str(given), str(made)], limit_s)
        if failed:
            return row | {"seconds": seconds, "failed": failed}
        found = np.load(made)
        hulls = [to_mesh(Solid.hull_points(found[key])) for key in found.files if key != "seconds"]
        fit = measure(part.mesh, [hull for hull in hulls if len(hull.faces)])
    return row | {"hulls": fit.hulls, "over": fit.over, "missing": fit.missing, "seconds": round(float(found["seconds"]), 2)}


def obj2mjcf_case(name: str, clean: parts.Part, mesh: Mesh, limit_s: float) -> dict[str, Any]:
    """obj2mjcf with convex decomposition on a mesh file: hulls, fit, and whether its result states a mass."""
    program = Path(sys.executable).with_name("obj2mjcf")
    row: dict[str, Any] = {"name": name, "faces": len(mesh.faces)}
    if not program.exists():
        return row | {"failed": "obj2mjcf is not installed: pip install 'embodichain[bench]'"}
    with tempfile.TemporaryDirectory() as folder:
        stem = "thing"
        trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).export(Path(folder) / f"{stem}.obj")
        command = [str(program), "--obj-dir", folder, "--save-mjcf", "--decompose", "--overwrite"]
        row["seconds"], failed = timed(command, limit_s)
        return row | {"failed": failed} if failed else row | _judged(Path(folder) / stem, exact(clean.mesh))


def timed(command: list[str], limit_s: float) -> tuple[float, str]:
    """Processor time of a command [s] and why it failed (empty: it did not); it is killed after `limit_s` of processor time."""

    def bounded() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (int(limit_s), int(limit_s) + 1))

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=bounded)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 2)
    if done.returncode == 0:
        return seconds, ""
    late = done.returncode in (-signal.SIGXCPU, -signal.SIGKILL)
    return seconds, f"not finished after {limit_s:.0f} core seconds" if late else f"exit code {done.returncode}"


def _judged(folder: Path, truth: Solid) -> dict[str, Any]:
    """Number of hulls and fit of obj2mjcf's result, and whether its file states masses."""
    hulls = []
    for file in sorted(folder.glob("*_collision_*.obj")):
        mesh = trimesh.load(file, force="mesh")
        hulls.append(to_mesh(Solid.hull_points(np.asarray(mesh.vertices, np.float64))))
    tree = ElementTree.parse(folder / f"{folder.name}.xml")
    fit = measure(to_mesh(truth), [hull for hull in hulls if len(hull.faces)]) if hulls else None
    found = {"hulls": len(hulls), "states_mass": tree.find(".//inertial") is not None}
    return found | ({"over": fit.over, "missing": fit.missing} if fit else {})
