"""Five million faces are read, thinned and built within four gigabytes, whatever format they come in; fewer tell as much sooner.

That they are thinned, and read from STL, is told by test_asset_files.py.
"""

import subprocess
import sys

import numpy as np
import pytest
import trimesh
from pxr import Usd, UsdGeom, Vt

pytestmark = pytest.mark.slow
LIMIT_GIB = 4.0
BUILD = """
import sys
import resource
from pathlib import Path
from embodichain.assets.chain import optimize, settings
from embodichain.assets.reading.files import FileFacts, FileJob
job = FileJob(path=Path(sys.argv[1]), facts=FileFacts(licence="CC0-1.0", unit="m"))
asset = optimize.build_job(job, Path(sys.argv[2]), config=settings.ChainConfig())
print(asset.bodies[0].mass, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


READ = """
import sys
import resource
from pathlib import Path
import embodichain.assets.chain.optimize
from embodichain.assets.reading.files import FileFacts, FileJob
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
source = FileJob(path=Path(sys.argv[1]), facts=FileFacts(licence="CC0-1.0", unit="m")).source()
print(before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def ring(around=1600, across=1563):
    """A ring of two triangles for each of its cells."""
    u, v = np.meshgrid(*(np.linspace(0, 2 * np.pi, n, endpoint=False) for n in (around, across)), indexing="ij")
    radius = 0.03 + 0.002 * np.sin(7 * u) * np.cos(5 * v)
    reach = 0.08 + radius * np.cos(v)
    points = np.stack([reach * np.cos(u), reach * np.sin(u), radius * np.sin(v)], axis=-1).reshape(-1, 3)
    cells = np.arange(around * across).reshape(around, across)
    a, b, c, d = cells, np.roll(cells, -1, 0), np.roll(np.roll(cells, -1, 0), -1, 1), np.roll(cells, -1, 1)
    return points, np.concatenate([np.stack(corners, axis=-1).reshape(-1, 3) for corners in ((a, b, c), (a, c, d))])


def written(folder, kind, shape=None):
    points, faces = shape or ring()
    path = folder / f"ring.{kind}"
    if kind != "usdc":
        trimesh.Trimesh(points, faces, process=False).export(path)
        return path
    stage = Usd.Stage.CreateNew(str(path))
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    UsdGeom.SetStageUpAxis(stage, "Z")
    mesh = UsdGeom.Mesh.Define(stage, "/ring")
    stage.SetDefaultPrim(mesh.GetPrim())
    mesh.CreatePointsAttr(Vt.Vec3fArray.FromNumpy(points.astype(np.float32)))
    mesh.CreateFaceVertexCountsAttr(Vt.IntArray.FromNumpy(np.full(len(faces), 3, np.int32)))
    mesh.CreateFaceVertexIndicesAttr(Vt.IntArray.FromNumpy(faces.astype(np.int32).ravel()))
    stage.Save()
    return path


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", ["glb", "usdc"])
def test_five_million_faces_stay_within_four_gigabytes(kind, tmp_path):
    path = written(tmp_path, kind)
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(path), str(tmp_path / "out")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    mass, peak = (float(word) for word in done.stdout.split()[-2:])
    assert mass == pytest.approx(1050.0 * 2 * np.pi**2 * 0.08 * (0.03**2 + 0.5 * 0.002**2 / 2), rel=0.05)
    assert peak / 2**20 < LIMIT_GIB


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", ["stl", "glb", "usdc"])
def test_reading_takes_so_few_bytes_a_face_that_five_million_fit(kind, tmp_path):
    shape = ring(800, 500)
    path = written(tmp_path, kind, shape)
    done = subprocess.run([sys.executable, "-c", READ, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    before, peak = (1024 * int(word) for word in done.stdout.split()[-2:])
    each = (peak - before) / len(shape[1])
    print(f"{kind}: {each:.0f} bytes a face above {before / 2**20:.0f} MiB")
    assert before + 5_000_000 * each < LIMIT_GIB * 2**30
