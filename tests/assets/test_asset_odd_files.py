"""Odd files cost only themselves, reach no others, and are known again by all that belongs to them."""

import shutil
import tempfile
import time
from pathlib import Path

import pytest
import trimesh
from PIL import Image
from pxr import Sdf, UsdUtils

from embodichain.assets.chain import batch, finished, optimize, publish, settings
from embodichain.assets.reading import folder
from embodichain.assets.reading.described import locate
from embodichain.assets.reading.files import FileFacts, FileJob, from_file
from embodichain.assets.reading.references import references
from embodichain.commands import assets as asset_commands
from embodichain.errors import AssetError, ConfigError

FREE = FileFacts(licence="CC0-1.0")


def odd_files(place):
    """Files whose readers, and those who look for references, meet what no format allows."""
    (place / "loop.stl").symlink_to(place / "loop.stl")
    (place / "deep.gltf").write_text("[" * 100_000)
    (place / "list.gltf").write_text("[]")
    (place / "images.gltf").write_text('{"asset": {"version": "2.0"}, "images": [1], "meshes": 7}')
    link = '<link name="a"><visual><geometry><mesh filename="loop.stl"/></geometry></visual></link>'
    (place / "mesh.urdf").write_text(f'<robot name="r">{link}</robot>')
    (place / "deep.xml").write_text("<mujoco><worldbody>" + "<body>" * 1200 + "</body>" * 1200 + "</worldbody></mujoco>")
    shape = "<geometry><box><size>0.1 0.1 0.1</size></box></geometry>"
    frame = f'<link name="a"><visual name="v">{shape}</visual></link><frame name="f" attached_to="nope"/>'
    joint = '<joint name="j" type="fixed"><parent>f</parent><child>a</child></joint>'
    (place / "nope.sdf").write_text(f'<sdf version="1.9"><model name="m">{frame}{joint}</model></sdf>')


def test_one_odd_file_does_not_end_a_batch(tmp_path):
    odd_files(tmp_path)
    trimesh.creation.box((0.05, 0.05, 0.05)).export(tmp_path / "box.stl")
    found = folder.survey(tmp_path)
    assert tmp_path / "box.stl" in found.files
    assert found.skipped[tmp_path / "loop.stl"] == "a link that leads nowhere"
    jobs = [
        FileJob(path=path, facts=FREE, item=item) for path in (*found.files, tmp_path / "loop.stl") for item in folder.items(path)
    ]
    states = {outcome.name: outcome.state for outcome in batch.plan(jobs, tmp_path / "out", batch.BatchConfig())}
    assert states["box"] == "waiting"
    assert states["loop"] == "failed"
    for job in jobs:
        if job.name != "box":
            with pytest.raises(AssetError, match="read: "):
                from_file(job.path, FREE)


def test_names_reach_no_file_outside_and_may_be_spelt_as_addresses():
    place = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        assert place.resolve().parents[1] == Path("/")
        (place / "a b.stl").touch()
        for name in (
            "model://etc/passwd",
            "package://etc/passwd",
            "../../etc/passwd",
            "file:///etc/passwd",
            "model://..%2f..%2fetc/passwd",
        ):
            assert locate(place / "r.urdf", name)[0] is None, name
        for name in ("a b.stl", "file://a%20b.stl", f"model://{place.name}/a%20b.stl", "package://any/a%20b.stl"):
            assert locate(place / "r.urdf", name)[0] == place.resolve() / "a b.stl", name
        assert locate(place / "r.urdf", "a%20b.stl")[0] is None, "what is no address is no other name"
        (place / "parts").mkdir()
        (place / "parts" / "ring.stl").touch()
        assert locate(place / "parts" / "r.urdf", "parts/ring.stl")[0] == place.resolve() / "parts" / "ring.stl"
    finally:
        shutil.rmtree(place)


def test_a_stage_is_known_again_by_archives_odd_names_and_tiles(tmp_path):
    inner = tmp_path / "inner.usda"
    inner.write_text('#usda 1.0\n(\n defaultPrim = "c"\n)\ndef Cube "c" {}\n')
    assert UsdUtils.CreateNewUsdzPackage(Sdf.AssetPath(str(inner)), str(tmp_path / "box.usdz"))
    shutil.copy(inner, tmp_path / "odd@name.usda")
    for tile in (1001, 1002):
        Image.new("RGB", (2, 2)).save(tmp_path / f"paint.{tile}.png")
    (tmp_path / "thing.usda").write_text(
        '#usda 1.0\ndef "a" (references = @./box.usdz[inner.usda]@</c>) {}\ndef "b" (references = @@@./odd@name.usda@@@</c>) {}\n'
        'def Shader "s" {\n asset inputs:file = @./paint.<UDIM>.png@\n}\n'
    )
    names = {path.name for path in references(tmp_path / "thing.usda")}
    assert names == {"box.usdz", "odd@name.usda", "paint.1001.png", "paint.1002.png"}


def test_a_word_that_the_size_belies_is_nowhere_its_category(tmp_path):
    trimesh.creation.box((0.3, 0.2, 0.9)).export(tmp_path / "spoon_rest.glb")
    job = FileJob(path=tmp_path / "spoon_rest.glb", facts=FREE)
    asset = optimize.build_job(job, tmp_path / "out", config=settings.ChainConfig())
    (row,) = publish.index(tmp_path / "out")
    assert (asset.category, row["category"]) == ("object", "object")
    assert asset.path == tmp_path / "out" / "spoon_rest" / "spoon_rest" / "spoon_rest.usd"
    (outcome,) = batch.plan([job], tmp_path / "out", batch.BatchConfig())
    assert outcome.state == "kept"
    trimesh.creation.box((0.18, 0.04, 0.02)).export(tmp_path / "spoon_rest.glb")
    assert from_file(tmp_path / "spoon_rest.glb", FREE).category == "spoon"


def test_an_asset_is_harmed_by_whatever_of_it_changes(tmp_path):
    for name in ("a.usd", "payload/physics.usdc", "textures/paint.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"one")
    seen = {finished.digest(tmp_path / "a.usd")}
    for name in ("a.usd", "payload/physics.usdc", "textures/paint.png"):
        (tmp_path / name).write_bytes(b"two")
        seen.add(finished.digest(tmp_path / "a.usd"))
    assert len(seen) == 4


def test_licences_are_stored_as_the_list_spells_them():
    for given, kept in (
        ("mit", "MIT"), ("apache-2.0 or cc-by-4.0", "Apache-2.0 OR CC-BY-4.0"), ("unknown ", "unknown"),
        ("DocumentRef-a:LicenseRef-b", "DocumentRef-a:LicenseRef-b"),
        ("mit OR DocumentRef-spdx.2:LicenseRef-Ours", "MIT OR DocumentRef-spdx.2:LicenseRef-Ours"),
    ):  # fmt: skip
        assert FileFacts(licence=given).licence == kept
    for wrong in ("DocumentRef-a", "DocumentRef-a:MIT", "DocumentRef-a:LicenseRef-b MIT"):
        with pytest.raises(ConfigError, match="licence"):
            FileFacts(licence=wrong)


def test_layers_are_left_out_of_a_check_only_below_their_interface(tmp_path, catalog, capsys):
    shutil.copytree(catalog["pad"].path.parent, tmp_path / "payload")
    shutil.copytree(tmp_path / "payload", tmp_path / "other")
    assert asset_commands.main(["validate", str(tmp_path / "payload"), str(tmp_path / "other"), "--own"]) == 0
    assert "2 of 2 assets pass" in capsys.readouterr().out


def test_no_line_of_a_file_costs_more_than_its_length(tmp_path):
    """Files on which a pattern that can match in several ways, or anew from every place, would work for minutes or hours."""
    blank, many = " " * 400_000, 200_000
    hostile = {
        "spaces.mtl": f"newmtl a\nmap_Kd {blank}x{blank}\n map_Kd{blank}\nbump -s {'1 ' * many}\nmap_Kd {'-1 ' * many}\n",
        "spaces.obj": f"mtllib {blank}x{blank}\nmtllib{blank}\nv 0 0 0\n",
        "spaces.dae": f"<COLLADA><init_from>{blank}<ref>{blank}x{blank}</ref></init_from>{'<init_from>' * many}</COLLADA>",
        "heads.xml": " " + "<?xml" * many,
    }
    for name, text in hostile.items():
        (tmp_path / name).write_text(text)
        started = time.process_time()
        assert references(tmp_path / name) == []
        assert time.process_time() - started < 2.0, name


def test_a_picture_is_found_behind_its_options_and_in_any_case(tmp_path):
    (tmp_path / "odd name.png").touch()
    for line in (
        "map_Kd odd name.png",
        "MAP_KD\todd name.png  ",
        "map_Kd -s 2 2 1 -clamp on odd name.png",
        " bump -bm 0.5 odd name.png",
    ):
        (tmp_path / "a.mtl").write_text(f"newmtl a\n{line}\nnewmtl b\n")
        assert references(tmp_path / "a.mtl") == [(tmp_path / "odd name.png").resolve()], line
    (tmp_path / "a.mtl").write_text("newmtl a\nmap_Kd\nodd name.png\n")
    assert references(tmp_path / "a.mtl") == [], "a name stands in its own line"
