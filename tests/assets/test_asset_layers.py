"""Delivered USD: an interface that loads a payload of layers, with levels of detail, read by whoever reads USD."""

import json

import numpy as np
import pytest
import trimesh
from foreign_cases import container
from PIL import Image
from pxr import Sdf, Usd, UsdGeom, UsdPhysics, UsdShade

from embodichain.assets.chain import finished, optimize, settings
from embodichain.assets.families.parts import Finish, Look
from embodichain.assets.pictures.preview import view_of
from embodichain.assets.pictures.textured import painted, psnr
from embodichain.assets.reading.detail import reduced
from embodichain.assets.reading.files import FileFacts, FileJob
from embodichain.assets.usd import files as usd
from embodichain.types import Mesh

FREE = FileFacts(licence="CC0-1.0", unit="m")


@pytest.fixture(scope="module")
def ball(tmp_path_factory):
    """A textured ball of many faces on a plain foot, built."""
    folder = tmp_path_factory.mktemp("ball")
    rng = np.random.default_rng(0)
    picture = Image.fromarray(np.kron(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8), np.ones((16, 16, 1), np.uint8)))
    mesh = trimesh.creation.icosphere(3, 0.05)
    uv = np.stack([mesh.vertices[:, 0], mesh.vertices[:, 2]], axis=1) / 0.12 + 0.5
    mesh.visual = trimesh.visual.TextureVisuals(uv=uv, image=picture)
    foot = trimesh.creation.box((0.08, 0.02, 0.08))
    foot.visual = trimesh.visual.TextureVisuals(material=trimesh.visual.material.PBRMaterial(baseColorFactor=[200, 30, 30, 255]))
    foot.apply_translation([0.0, -0.055, 0.0])  # glTF: Y is up
    scene = trimesh.Scene({"ball": mesh, "foot": foot})
    scene.export(folder / "ball.glb")
    return optimize.build_job(FileJob(path=folder / "ball.glb", facts=FREE), folder / "out", config=settings.ChainConfig())


def test_each_layer_holds_what_is_its_own(ball):
    folder = ball.path.parent / "payload"
    layers = {name: Sdf.Layer.FindOrOpen(str(folder / f"{name}.usdc")) for name in ("geometry", "looks", "physics")}
    found = {name: set() for name in layers}
    for name, layer in layers.items():
        layer.Traverse(Sdf.Path.absoluteRootPath, lambda path, name=name: found[name].add(str(path)))
    properties = {name: {path.rpartition(".")[2] for path in paths if "." in path} for name, paths in found.items()}
    assert "points" in properties["geometry"] and "physics:mass" in properties["physics"]
    assert not {one for one in properties["geometry"] if one.startswith(("physics:", "material:binding"))}
    assert not {one for one in properties["physics"] if one in ("points", "faceVertexIndices", "material:binding")}
    assert "material:binding" in properties["looks"] and "points" not in properties["looks"]
    assert not {one for one in properties["looks"] if one.startswith("physics:")}


def test_an_interface_is_light_and_says_what_it_is_without_its_payload(ball):
    stage = Usd.Stage.Open(str(ball.path), Usd.Stage.LoadNone)
    root = stage.GetDefaultPrim()
    assert Usd.ModelAPI(root).GetKind() == "component"
    assert root.GetAttribute("embodichain:licence").Get() == "CC0-1.0"
    assert len(UsdGeom.ModelAPI(root).GetExtentsHint()) == 2
    assert not [prim for prim in stage.Traverse() if prim.IsA(UsdGeom.Mesh)]
    whole = sum(file.stat().st_size for file in (ball.path.parent / "payload").iterdir())
    assert ball.path.stat().st_size < 0.1 * whole


def test_levels_of_detail_replace_what_is_seen_and_nothing_else(ball):
    stage = Usd.Stage.Open(str(ball.path))
    root = stage.GetDefaultPrim()
    stage.SetEditTarget(stage.GetSessionLayer())  # the file's own layer is everybody's
    variants = root.GetVariantSets().GetVariantSet("lod")
    assert variants.GetVariantSelection() == "full"
    seen, mass = {}, {}
    for level in ("full", "medium", "low"):
        variants.SetVariantSelection(level)
        (visual,) = (prim for prim in stage.Traverse() if prim.GetName() == "visual")
        mesh = UsdGeom.Mesh(visual)
        count = len(mesh.GetFaceVertexCountsAttr().Get())
        indices = np.concatenate([UsdGeom.Subset(child).GetIndicesAttr().Get() for child in visual.GetChildren()])
        assert sorted(indices) == list(range(count)), "every face has one material"
        assert len(UsdGeom.PrimvarsAPI(visual).GetPrimvar("st").Get()) == len(mesh.GetPointsAttr().Get())
        corners = set(mesh.GetFaceVertexIndicesAttr().Get())
        assert corners == set(range(len(mesh.GetPointsAttr().Get()))), "no point that belongs to no face"
        for child in visual.GetChildren():
            assert UsdShade.MaterialBindingAPI(child).ComputeBoundMaterial()[0]
        seen[level] = count
        (body,) = (prim for prim in stage.Traverse() if prim.HasAPI(UsdPhysics.RigidBodyAPI))
        mass[level] = UsdPhysics.MassAPI(body).GetMassAttr().Get()
    assert 20 < seen["low"] < 0.15 * seen["full"]
    assert seen["medium"] <= 0.3 * seen["full"]
    assert len(set(mass.values())) == 1
    assert len(usd.read(ball.path).bodies[0].visual.faces) == seen["full"]


def test_a_harmed_layer_is_noticed(ball):
    report = json.loads(ball.path.with_suffix(".json").read_text())
    assert finished.unharmed(ball.path, report["key"])
    layer = ball.path.parent / "payload" / "geometry.usdc"
    whole = layer.read_bytes()
    layer.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert not finished.unharmed(ball.path, report["key"])
    layer.write_bytes(whole)


def test_coarser_looks_keep_their_texture_across_seams():
    rng = np.random.default_rng(3)
    vessel = container(rng)
    points = np.array(vessel.vertices)
    mesh = Mesh(vertices=points, faces=np.array(vessel.faces, np.int32))
    for _ in range(2):
        finer = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).subdivide()
        mesh = Mesh(vertices=np.array(finer.vertices), faces=np.array(finer.faces, np.int32))
    # Two charts that meet at a seam, where texture coordinates jump from one to the other.
    side = mesh.vertices[mesh.faces].mean(axis=1)[:, 0] > 0.0
    low, high = (np.unique(mesh.faces[side == part], return_inverse=True) for part in (False, True))
    vertices = np.concatenate([mesh.vertices[low[0]], mesh.vertices[high[0]]])
    faces = np.concatenate([low[1].reshape(-1, 3), high[1].reshape(-1, 3) + len(low[0])]).astype(np.int32)
    uv = np.stack([np.concatenate([np.full(len(low[0]), 0.25), np.full(len(high[0]), 0.75)]), np.full(len(vertices), 0.5)], axis=1)
    look = Look(mesh=Mesh(vertices=vertices, faces=faces), finishes=(Finish(),), finish=np.zeros(len(faces), np.int32), uv=uv)
    coarse = reduced(look, len(faces) // 4)
    assert 0.05 * len(faces) < len(coarse.mesh.faces) <= len(faces) // 4
    assert set(np.unique(coarse.uv[:, 0])) == {0.25, 0.75}, "no coordinate lies between two charts"
    welded = np.unique(np.round(coarse.mesh.vertices, 9), axis=0)
    assert len(welded) < len(coarse.mesh.vertices), "both sides of the seam share their places"
    view = view_of(np.stack([vertices.min(axis=0), vertices.max(axis=0)]))
    assert psnr(painted([look], 128, view), painted([coarse], 128, view)) > 20.0
