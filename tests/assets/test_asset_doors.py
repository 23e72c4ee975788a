"""What is thrown at the readers: bombs, names that are taken twice, odd notes beside files, and what was dropped in silence."""

import json
import os
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import trimesh
from in_process import embodichain
from PIL import Image

from embodichain.assets.chain.jobs import unique
from embodichain.assets.families.parts import Preservation
from embodichain.assets.reading import mesh_files
from embodichain.assets.reading.files import FileFacts, FileJob, facts_of, from_file
from embodichain.assets.reading.folder import survey
from embodichain.assets.reading.looks import plain, stretched
from embodichain.assets.reading.mesh_files import read_mesh, read_objects
from embodichain.assets.reading.references import references
from embodichain.assets.reading.sdf import read_sdf
from embodichain.assets.reading.urdf import read_urdf
from embodichain.errors import AssetError, ConfigError
from embodichain.types import Mesh

BOX = trimesh.creation.box((0.1, 0.1, 0.1))


def dropped(reading, what: str) -> list[str]:
    return [row.reason for row in reading.fidelity if row.what == what and row.fate is Preservation.DROPPED]


# -------------------------------------------------------------------------------------------------------------- bombs


def test_an_archive_is_refused_by_what_it_unpacks_to(tmp_path):
    path = tmp_path / "bomb.3mf"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("3D/3dmodel.model", "<model/>")
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, data.rindex(b"PK\x01\x02") + 24, 2**31)
    path.write_bytes(data)
    with pytest.raises(AssetError, match="unpacks to 2048 MiB"):
        read_objects(path)


def test_a_small_file_that_places_one_mesh_very_often_is_refused(tmp_path, monkeypatch):
    scene = trimesh.Scene()
    for number in range(50):
        scene.add_geometry(BOX, geom_name="box", transform=trimesh.transformations.translation_matrix((number, 0, 0)))
    scene.export(tmp_path / "many.glb")
    monkeypatch.setattr(mesh_files, "MAX_FACES", 599)
    with pytest.raises(AssetError, match=r"places 600 faces in 50 meshes, more than 599"):
        read_objects(tmp_path / "many.glb")


def gltf(path: Path, change) -> Path:
    """A box as a glTF file of text, whose content `change` has changed."""
    for name, data in trimesh.exchange.gltf.export_gltf(trimesh.Scene([BOX])).items():
        (path.parent / name).write_bytes(data)
    content = json.loads((path.parent / "model.gltf").read_text())
    change(content)
    (path.parent / "model.gltf").unlink()
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda c: c["accessors"].append({"count": 10**12, "type": "VEC3", "componentType": 5126}),
            "a list of 1000000000000 points",
        ),
        (lambda c: c.update(extensionsRequired=["KHR_draco_mesh_compression"]), "are compressed"),
    ],
)
def test_a_gltf_file_is_refused_by_its_head(tmp_path, change, said):
    with pytest.raises(AssetError, match=said):
        read_objects(gltf(tmp_path / "head.gltf", change))


# ------------------------------------------------------------------------------------------------- dropped in silence


def test_further_scenes_and_lines_of_a_file_have_a_row(tmp_path):
    reading = read_objects(gltf(tmp_path / "two.gltf", lambda content: content["scenes"].append({"nodes": []})))
    assert dropped(reading, "scenes") == ["an asset is what the file's main scene shows"]
    scene = trimesh.Scene([BOX, trimesh.PointCloud(np.eye(3))])
    scene.export(tmp_path / "mixed.glb")
    assert dropped(read_objects(tmp_path / "mixed.glb"), "points or lines")


@pytest.mark.parametrize("cut", [10, 200])
def test_a_picture_that_nobody_can_decode_has_a_row_and_costs_no_colour(tmp_path, cut):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32, 3)).astype(np.uint8)).save(tmp_path / "whole.png")
    data = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(data[: len(data) - len(data) // 3] if cut > 100 else data[:cut])
    (tmp_path / "box.mtl").write_text("newmtl red\nKd 0.9 0.1 0.1\nmap_Kd cut.png\n")
    corners = "".join(f"v {x} {y} {z}\n" for x, y, z in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)))
    faces = "".join(f"f {a}/1 {b}/1 {c}/1\n" for a, b, c in ((1, 3, 2), (1, 2, 4), (2, 3, 4), (3, 1, 4)))
    (tmp_path / "box.obj").write_text(f"mtllib box.mtl\n{corners}vt 0 0\nusemtl red\n{faces}")
    reading = read_mesh(tmp_path / "box.obj")
    assert dropped(reading, "picture")[0].startswith("it cannot be decoded")
    look = reading.parts[0].look
    assert look is not None and not look.finishes[0].images and look.uv is not None
    whole = (tmp_path / "box.mtl").read_text().replace("cut", "whole")
    (tmp_path / "box.mtl").write_text(whole)
    reading = read_mesh(tmp_path / "box.obj")
    assert not dropped(reading, "picture") and reading.parts[0].look is not None and reading.parts[0].look.finishes[0].images


@pytest.mark.parametrize(("unit", "metres"), [("millimeter", 0.001), ("inch", 0.0254), ("foot", 0.3048), ("micron", 1e-6)])
def test_a_3mf_file_says_its_unit_in_the_singular(tmp_path, unit, metres):
    BOX.export(tmp_path / "plain.3mf")
    with zipfile.ZipFile(tmp_path / "plain.3mf") as source, zipfile.ZipFile(tmp_path / "box.3mf", "w") as target:
        for name in source.namelist():
            target.writestr(name, source.read(name).replace(b'unit="millimeter"', f'unit="{unit}"'.encode()))
    assert read_objects(tmp_path / "box.3mf").unit == metres


def test_links_to_folders_and_what_is_no_file_are_listed_with_the_reason(tmp_path):
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    BOX.export(tmp_path / "here" / "box.stl")
    BOX.export(tmp_path / "there" / "other.stl")
    (tmp_path / "here" / "linked").symlink_to(tmp_path / "there")
    (tmp_path / "here" / "lost.stl").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "here" / "pipe.stl")
    found = survey(tmp_path / "here")
    assert [file.name for file in found.files] == ["box.stl"]
    assert {file.name: reason.partition(",")[0] for file, reason in found.skipped.items()} == {
        "linked": "a link to a folder",
        "lost.stl": "a link that leads nowhere",
        "pipe.stl": "no file but a device or a pipe",
    }


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_cannot_be_read_is_listed(tmp_path):
    BOX.export(tmp_path / "box.stl")
    (tmp_path / "closed").mkdir(mode=0)
    assert "cannot be read" in survey(tmp_path).skipped[tmp_path / "closed"]


def test_a_file_that_another_names_outside_its_folder_stays_a_thing_of_its_own(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    BOX.export(tmp_path / "b" / "other.glb")
    file = gltf(tmp_path / "a" / "box.gltf", lambda content: content["buffers"].append({"uri": "../b/other.glb", "byteLength": 1}))
    assert all(other.parent == tmp_path / "a" for other in references(file))
    assert tmp_path / "b" / "other.glb" in survey(tmp_path).files


# ----------------------------------------------------------------------------------------------------------- geometry


@pytest.mark.parametrize("scale", [(-1, -1, -1), (-2, -2, -2), (-1, 1, 1), (1, -2, 3), (2, 2, 2)])
def test_normals_stay_on_the_side_of_their_faces_whatever_is_mirrored(scale):
    from dataclasses import replace

    mesh = Mesh(vertices=np.asarray(BOX.vertices), faces=np.asarray(BOX.faces, np.int32))
    look = stretched(replace(plain(mesh, (1, 1, 1, 1)), normals=np.asarray(BOX.vertex_normals)), np.array(scale, float))
    assert look.normals is not None
    corners = look.mesh.vertices[look.mesh.faces]
    outward = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert (np.einsum("fk,fvk->fv", outward, look.normals[look.mesh.faces]) > 0).all()


def test_a_flat_sheet_may_be_given_a_mass(tmp_path):
    trimesh.Trimesh(vertices=[(0, 0, 0), (0.1, 0, 0), (0.1, 0.1, 0), (0, 0.1, 0)], faces=[(0, 1, 2), (0, 2, 3)]).export(
        tmp_path / "sheet.stl"
    )
    source = from_file(tmp_path / "sheet.stl", FileFacts(licence="MIT", mass_kg=0.2, wall_m=0.001, size_m=0.1))
    assert [part.mass for part in source.parts] == [0.2]


# -------------------------------------------------------------------------------------------------------------- names


LINK = '<link name="{}"><visual name="v"><geometry><box><size>0.1 0.1 0.1</size></box></geometry></visual></link>'
HINGE = '<joint name="{}" type="revolute"><parent>{}</parent><child>{}</child><axis><xyz>0 0 1</xyz></axis></joint>'


@pytest.mark.parametrize(
    "within",
    [
        LINK.format("a") + LINK.format("a"),
        LINK.format("a") + LINK.format("b") + LINK.format("c") + HINGE.format("j", "a", "b") + HINGE.format("j", "b", "c"),
    ],
)
def test_two_of_one_name_in_an_sdf_file_are_refused_and_none_is_lost(tmp_path, within):
    (tmp_path / "two.sdf").write_text(f'<sdf version="1.9"><model name="m">{within}</model></sdf>')
    with pytest.raises(AssetError, match=r"two links or two joints of two.sdf are called 'm::[aj]'"):
        read_sdf(tmp_path / "two.sdf")


def test_two_joints_of_one_name_in_a_urdf_file_are_refused(tmp_path):
    links = "".join(f'<link name="{name}"><visual><geometry><sphere radius="0.1"/></geometry></visual></link>' for name in "abc")
    joint = '<joint name="j" type="continuous"><parent link="{}"/><child link="{}"/></joint>'
    (tmp_path / "two.urdf").write_text(f'<robot name="r">{links}{joint.format("a", "b")}{joint.format("b", "c")}</robot>')
    with pytest.raises(AssetError, match=r"two joints of two.urdf are called 'j'"):
        read_urdf(tmp_path / "two.urdf")


def test_a_joint_that_is_made_of_another_takes_no_name_that_the_file_has(tmp_path):
    links = "".join(f'<link name="{name}"><visual><geometry><sphere radius="0.1"/></geometry></visual></link>' for name in "abc")
    ball = '<joint name="j" type="spherical"><parent link="a"/><child link="b"/></joint>'
    other = '<joint name="j_x" type="continuous"><parent link="b"/><child link="c"/></joint>'
    (tmp_path / "ball.urdf").write_text(f'<robot name="r">{links}{ball}{other}</robot>')
    with pytest.raises(AssetError, match="several joints are called 'j_x'"):
        from_file(tmp_path / "ball.urdf", FileFacts(licence="MIT"))


def test_a_file_may_have_the_sign_of_things_in_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    BOX.export("mug#2.stl")
    code, out, err = embodichain("asset", "build", "mug#2.stl", "-o", "out", "--licence", "MIT", "--dry-run", "--json")
    assert code == 0, err
    assert [row["would"] for row in json.loads(out)["assets"]] == ["build"]


def test_jobs_of_one_name_are_numbered_and_the_same_job_is_refused(tmp_path):
    jobs = [FileJob(path=tmp_path / folder / "é.stl") for folder in ("a", "b", "c")] + [FileJob(path=tmp_path / "e_2.stl")]
    assert [job.name for job in unique(jobs)] == ["e", "e_2", "e_3", "e_2_2"]
    with pytest.raises(ConfigError, match="asked for twice"):
        unique([*jobs, jobs[1]])


# -------------------------------------------------------------------------------------------- what stands beside a file


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"licence": 5}, "licence is 5, expected a word"),
        ({"licence": None}, "licence is None, expected a word"),
        ({"bolted": "no"}, "bolted is 'no', expected true or false"),
        ({"size_m": "0.1"}, "size_m is '0.1', expected a number"),
        ({"mass_kg": True}, "mass_kg is True, expected a number"),
        ({"mass_kg": float("inf")}, "mass_kg must be a finite number"),
        ({"labels": "mug"}, "labels is 'mug', expected a list of words"),
        ({"materials": ["steel"]}, "materials is ['steel'], expected words by part"),
        ({"up": ["z"]}, "up is ['z'], expected a word"),
    ],
)
def test_a_value_of_another_kind_beside_a_file_is_told_and_costs_that_file_alone(tmp_path, monkeypatch, value, said):
    monkeypatch.chdir(tmp_path)
    for name in ("good", "odd"):
        BOX.export(f"{name}.stl")
    Path("good.asset.json").write_text('\ufeff{"licence": "MIT", "size_m": 0.1}', encoding="utf-8")  # as some editors begin a file
    Path("odd.asset.json").write_text(json.dumps(value))
    assert facts_of(Path("good.stl")) == FileFacts(licence="MIT", size_m=0.1)
    with pytest.raises(ConfigError) as error:
        facts_of(Path("odd.stl"))
    assert said in str(error.value)
    code, out, err = embodichain("asset", "build", ".", "-o", "out", "--dry-run", "--json")
    assert code == 0, err
    rows = {row["name"]: row for row in json.loads(out)["assets"]}
    assert rows["good"]["would"] == "build" and rows["odd"]["would"] == "refuse" and said in rows["odd"]["reason"]


def test_a_report_that_is_none_of_ours_is_named(tmp_path):
    (tmp_path / "theirs.usd").touch()
    (tmp_path / "theirs.json").write_text("[1]")
    code, _, err = embodichain("asset", "query", str(tmp_path))
    assert code == 2 and "theirs.json is no report of a delivered asset" in err and len(err.splitlines()) == 1
