"""What do colliders of thin shells cost, and how much do they add? Every way that we know of, on the families that are shells.

    python benchmarks/assets_shells.py [--quick] [--json] [--families NAME ...] [--ways NAME ...] [--jobs N] [--keep FOLDER]

Solids are clean designs of seed 0. For each family and way: number of colliders, volume that they add and leave out, and processor
time of a physics step [us] of the thing on a plane with three balls of 12 mm dropped onto it.
`cuts` are our hulls by the share of the volume that a further one must save; `trim` are those cut back (`asset build --trim`);
`walls` decomposes each piece that the design is made of by itself; `coacd` is CoACD by its concavity threshold; `boxes` puts a box
of least volume in the place of each of our hulls; `sdf` is MuJoCo's signed distance field of the solid itself (an octree).
With `--keep`, rows are written to FOLDER at once, and a later run measures only what is missing.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import as_completed
from pathlib import Path
from typing import Any

import asset_peers
import harness
import mujoco
import numpy as np
import trimesh

from embodichain.assets.chain import jobs
from embodichain.assets.chain.part_stages import simplified
from embodichain.assets.families import source
from embodichain.assets.geometry.collision import CollisionConfig, convex_hull, decompose, measure
from embodichain.assets.geometry.shapes import to_mesh
from embodichain.assets.geometry.topology import components
from embodichain.errors import AssetError
from embodichain.types import Mesh

FAMILIES = ("basket", "spoon", "mug", "cup", "carafe", "lid", "bowl", "plate", "pan")
_STEPS, _SETTLE = 400, 100
_LIMIT_S = 300.0
"""Most processor time of CoACD [s]."""
_COACD = """
import sys
import coacd, numpy as np
data = np.load(sys.argv[1])
coacd.set_log_level("error")
pieces = coacd.run_coacd(coacd.Mesh(data["vertices"], data["faces"]), threshold=float(sys.argv[3]))
np.savez(sys.argv[2], **{f"p{i}": vertices for i, (vertices, _) in enumerate(pieces)})
"""


class Shell:
    """The solid of a family, and what cameras see of it, from which colliders are made."""

    def __init__(self, family: str) -> None:
        part = source.procedural(family, 0).parts[0]
        self.pieces, self.seams = components(part.mesh), part.seams
        self.solid = to_mesh(asset_peers.exact(part.mesh))
        self.visual = simplified(self.solid)[0]

    def cuts(self, cost: float = 0.003, *, trim: bool = False) -> list[Mesh]:
        """Our hulls."""
        return list(decompose(self.visual, CollisionConfig(hull_cost=cost, trim=trim), self.seams))

    def walls(self) -> list[Mesh]:
        """Our hulls of each piece that the design is made of."""
        return [hull for piece in self.pieces for hull in decompose(simplified(piece)[0], CollisionConfig())]

    def boxes(self) -> list[Mesh]:
        """The box of least volume around each of our hulls."""
        found = [trimesh.Trimesh(h.vertices, h.faces).bounding_box_oriented for h in self.cuts()]
        return [convex_hull(np.asarray(box.vertices, np.float64)) for box in found]

    def coacd(self, threshold: float) -> list[Mesh]:
        """CoACD's pieces; raises AssetError without any."""
        with tempfile.TemporaryDirectory() as folder:
            given, made = Path(folder) / "in.npz", Path(folder) / "out.npz"
            np.savez(given, vertices=self.visual.vertices, faces=self.visual.faces)
            command = [sys.executable, "-c", _COACD, str(given), str(made), str(threshold)]
            _, failed = asset_peers.timed(command, _LIMIT_S)
            if failed:
                raise AssetError(f"CoACD: {failed}; is it installed? pip install 'embodichain[bench]'")
            found = np.load(made)
            return [convex_hull(np.asarray(found[key], np.float64)) for key in found.files]


WAYS: dict[str, Callable[[Shell], list[Mesh]]] = {
    "cuts 0.003": Shell.cuts,
    "trim 0.003": lambda shell: shell.cuts(trim=True),
    "cuts 0.001": lambda shell: shell.cuts(0.001),
    "trim 0.006": lambda shell: shell.cuts(0.006, trim=True),
    "walls 0.003": Shell.walls,
    "boxes": Shell.boxes,
    "coacd 0.05": lambda shell: shell.coacd(0.05),
    "coacd 0.02": lambda shell: shell.coacd(0.02),
    "sdf": lambda shell: [],
}
"""How colliders may be made; the distance field has none of its own."""


def measured(family: str, way: str) -> dict[str, Any]:
    """The row of a family and a way."""
    shell = Shell(family)
    start = time.process_time()
    try:
        hulls = WAYS[way](shell)
    except AssetError as error:
        return {"refused": str(error)}
    row: dict[str, Any] = {"seconds": round(time.process_time() - start, 2)}
    if way == "sdf":
        return row | {"hulls": 1, "over": 0.0, "missing": 0.0} | _stepped(shell.solid, [], field=True)
    fit = measure(shell.solid, hulls)
    row |= {"hulls": fit.hulls, "over": round(fit.over, 4), "missing": round(fit.missing, 4)}
    return row | _stepped(shell.solid, hulls)


def _stepped(solid: Mesh, hulls: Sequence[Mesh], *, field: bool = False) -> dict[str, Any]:
    """Processor time of a step [us], contacts, and how far the thing moved while it stood [mm]."""
    spec = mujoco.MjSpec()
    spec.option.timestep, spec.option.integrator = 0.002, mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.cone, spec.option.impratio = mujoco.mjtCone.mjCONE_ELLIPTIC, 10.0
    spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_PLANE, size=[1, 1, 0.1])
    low, high = solid.vertices.min(axis=0), solid.vertices.max(axis=0)
    thing = spec.worldbody.add_body(name="thing", pos=[0, 0, -low[2]])
    thing.add_freejoint()
    thing.mass, thing.ipos, thing.inertia = 0.2, (low + high) / 2, [1e-3] * 3
    thing.explicitinertial = True
    for number, mesh in enumerate([solid] if field else hulls):
        name = f"collider_{number}"
        data: dict[str, Any] = {"uservert": mesh.vertices.ravel()}
        if field:
            spec.add_mesh(name=name, userface=mesh.faces.ravel(), needsdf=True, **data)
            thing.add_geom(type=mujoco.mjtGeom.mjGEOM_SDF, meshname=name, mass=0)
            continue
        spec.add_mesh(name=name, inertia=mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL, **data)
        thing.add_geom(type=mujoco.mjtGeom.mjGEOM_MESH, meshname=name, mass=0)
    for number, angle in enumerate((0.0, 2.1, 4.2)):
        place = (low + high) / 2 + 0.2 * (high - low) * [np.cos(angle), np.sin(angle), 0.0]
        ball = spec.worldbody.add_body(name=f"ball_{number}", pos=[*place[:2], high[2] - low[2] + 0.01])
        ball.add_freejoint()
        ball.add_geom(type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[0.006, 0, 0], density=1000)
    try:
        model = spec.compile()
    except ValueError as error:
        return {"step_us": None, "refused": str(error)}
    data = mujoco.MjData(model)
    mujoco.mj_step(model, data, _SETTLE)
    before, contacts, start = data.qpos[:3].copy(), 0, time.process_time()
    for _ in range(_STEPS):
        mujoco.mj_step(model, data)
        contacts += data.ncon
    spent = (time.process_time() - start) / _STEPS
    moved = float(np.linalg.norm(data.qpos[:3] - before)) * 1e3
    return {"step_us": round(spent * 1e6, 1), "contacts": round(contacts / _STEPS, 1), "moved_mm": round(moved, 3)}


def main() -> None:
    arguments = harness.parser(__doc__, "the mug alone, by our own ways")
    arguments.add_argument("--families", nargs="+", choices=FAMILIES, default=FAMILIES)
    arguments.add_argument("--ways", nargs="+", choices=tuple(WAYS), default=tuple(WAYS))
    arguments.add_argument("--jobs", type=int, default=1)
    arguments.add_argument("--keep", type=Path, help="folder of rows: what is there and of the same code is not measured again")
    options = arguments.parse_args()
    families = ("mug",) if options.quick else options.families
    ways = ("cuts 0.003", "trim 0.003") if options.quick else options.ways
    with tempfile.TemporaryDirectory() as place:
        folder = options.keep or Path(place)
        folder.mkdir(parents=True, exist_ok=True)
        kept = harness.Kept(folder / "shells.jsonl")
        keys = {(family, way): json.dumps([family, way, jobs.code_digest()]) for way in ways for family in families}
        missing = [case for case, key in keys.items() if key not in kept.rows]
        with harness.pool(options.jobs) as pool:
            tasks = {pool.submit(measured, *case): case for case in missing}
            for task in as_completed(tasks):
                kept.add(keys[tasks[task]], task.result())
        rows = {f"{family} · {way}": kept.rows[key] for (family, way), key in keys.items()}
    least = {
        family: min(
            (row["over"] for name, row in rows.items() if name.startswith(f"{family} ·") and "sdf" not in name and "over" in row),
            default=None,
        )
        for family in families
    }
    harness.give({"rows": rows, "least_over": least}, options, lambda: _table(rows))


def _table(rows: dict[str, dict[str, Any]]) -> None:
    print("| family · way | colliders | over | missing | step [us] | contacts | moved [mm] | made in [s] |")
    print("|---|---|---|---|---|---|---|---|")
    for name, row in rows.items():
        shown = [row.get(key, "-") for key in ("hulls", "over", "missing", "step_us", "contacts", "moved_mm", "seconds")]
        told = [f"{value:.1%}" if key in (1, 2) and value != "-" else str(value) for key, value in enumerate(shown)]
        print(f"| {name} | {' | '.join(told)} | {row.get('refused', '')}")


if __name__ == "__main__":
    main()
