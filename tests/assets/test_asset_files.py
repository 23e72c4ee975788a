"""Files of every format become the sources they describe; whatever cannot is refused with a reason."""

import itertools
import json
import subprocess
import sys

import numpy as np
import pytest
import trimesh
from PIL import Image

from embodichain.assets.geometry.repair import repair
from embodichain.assets.geometry.shapes import box, signed_volume, to_mesh
from embodichain.assets.reading import files, folder, placing
from embodichain.assets.reading import mesh_files as meshfiles
from embodichain.assets.reading.files import FileFacts, from_file
from embodichain.assets.usd import files as usd
from embodichain.errors import AssetError, ConfigError
from embodichain.types import JointKind, Mesh

OPEN = FileFacts(licence="CC0-1.0", unit="m")
SIZE = (0.06, 0.05, 0.10)
CLOUD = b"ply\nformat ascii 1.0\nelement vertex 2\nproperty float x\nproperty float y\nproperty float z\nend_header\n0 0 0\n1 1 1\n"


def brick(unit=1.0):
    mesh = to_mesh(box(SIZE))
    return trimesh.Trimesh(mesh.vertices * unit + [1.0, 2.0, 3.0], mesh.faces, process=False)


@pytest.mark.parametrize("kind", ["obj", "stl", "ply", "off", "glb"])
def test_every_mesh_format_gives_the_same_solid_on_the_plane(tmp_path, kind):
    path = tmp_path / f"brick.{kind}"
    brick().export(path)
    found = from_file(path, FileFacts(licence="CC0-1.0", unit="m", up="z"))
    (part,) = found.parts
    low, high = part.mesh.vertices.min(axis=0), part.mesh.vertices.max(axis=0)
    assert low == pytest.approx([-0.03, -0.025, 0.0], abs=1e-6)
    assert high - low == pytest.approx(SIZE, abs=1e-6)
    assert signed_volume(repair(part.mesh)[0]) == pytest.approx(np.prod(SIZE), rel=1e-4)


def test_a_gltf_file_is_in_metres_with_y_up(tmp_path):
    brick().export(tmp_path / "brick.glb")
    found = from_file(tmp_path / "brick.glb", FileFacts(licence="MIT"))
    assert np.ptp(found.parts[0].mesh.vertices, axis=0) == pytest.approx([SIZE[2], SIZE[0], SIZE[1]], abs=1e-6)
    assert found.parameters["scale_source"] == "file"


def test_colours_are_kept_and_a_missing_texture_is_a_warning(tmp_path):
    (tmp_path / "a.mtl").write_text("newmtl red\nKd 0.8 0.1 0.1\nmap_Kd gone.png\n")
    shape = (
        "v 0 0 0\nv .1 0 0\nv 0 .1 0\nv 0 0 .1\nvt 0 0\nusemtl red\nf 1/1 3/1 2/1\nf 1/1 2/1 4/1\nf 2/1 3/1 4/1\nf 1/1 4/1 3/1\n"
    )
    (tmp_path / "a.obj").write_text("mtllib a.mtl\n" + shape)
    found = from_file(tmp_path / "a.obj", OPEN)
    assert found.parts[0].color[0] > 2 * found.parts[0].color[1]
    assert "gone.png" in found.parameters["warnings"]
    Image.new("RGB", (4, 4), (20, 40, 220)).save(tmp_path / "gone.png")
    assert from_file(tmp_path / "a.obj", OPEN).parts[0].color[2] > 0.7


def test_a_mesh_cannot_reach_outside_its_folder(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "secret.mtl").write_text("newmtl m\nKd 1 0 0\n")
    (tmp_path / "inner" / "a.obj").write_text(
        "mtllib ../secret.mtl\nusemtl m\nv 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 3 2\nf 1 2 4\nf 2 3 4\nf 1 4 3\n"
    )
    found = from_file(tmp_path / "inner" / "a.obj", FileFacts(licence="MIT", size_m=0.1))
    assert "secret.mtl" in found.parameters["warnings"]
    assert found.parts[0].color != (1.0, 0.0, 0.0, 1.0)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.stl", b"", "is empty"),
        ("cut.stl", b"\0" * 80 + (500).to_bytes(4, "little") + b"\0" * 100, "read: "),
        ("cut.glb", b"glTF\x02\0\0\0\xff\xff\0\0", "read: "),
        ("huge.stl", b"\0" * 80 + (4_000_000_000).to_bytes(4, "little"), "more than"),
        ("huge.ply", b"ply\nformat ascii 1.0\nelement vertex 3\nelement face 99000000\nend_header\n", "more than"),
        ("cloud.ply", CLOUD, "point cloud"),
        ("index.off", b"OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 9\n", "read: "),
        ("nan.off", b"OFF\n4 4 0\n0 0 0\nnan 0 0\n0 1 0\n0 0 1\n3 0 2 1\n3 0 1 3\n3 1 2 3\n3 0 3 2\n", "read: "),
        ("text.obj", b"this is no mesh\n", "no triangles"),
        ("noise.ply", bytes(range(256)) * 4, "read: "),
        ("thing.step", b"ISO-10303-21;", "unknown format"),
        ("bomb.urdf", b'<!DOCTYPE x [<!ENTITY a "b">]><robot/>', "entities"),
        ("wrong.urdf", b"<robot><link name='a'/><joint><parent link='a'/><child link='zz'/></joint></robot>", "available: a"),
        ("bare.urdf", b"<robot><link name='a'/></robot>", "no shape"),
        ("wrong.xml", b"<mujoco><worldbody><body><geom type='mesh' mesh='no'/></body></worldbody></mujoco>", "cannot compile"),
        ("wrong.usda", b"#usda 1.0\ndef {", "read"),
    ],
)  # fmt: skip
def test_bad_files_are_refused_with_a_reason(tmp_path, name, content, reason):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AssetError, match=reason):
        from_file(tmp_path / name, OPEN)


def test_a_file_without_a_licence_is_refused_and_an_unknown_one_flagged(tmp_path):
    brick().export(tmp_path / "brick.stl")
    with pytest.raises(AssetError, match=r"licence: none given for brick\.stl"):
        from_file(tmp_path / "brick.stl")
    found = from_file(tmp_path / "brick.stl", FileFacts(licence="unknown", unit="m"))
    assert found.licence == "unknown"
    assert "licence unknown" in found.parameters["warnings"]


def test_what_is_known_stands_beside_the_file(tmp_path):
    brick(1000.0).export(tmp_path / "brick.stl")
    beside = tmp_path / "brick.asset.json"
    beside.write_text(json.dumps({"licence": "MIT", "unit": "mm", "material": "wood", "mass_kg": 0.2, "category": "block"}))
    found = from_file(tmp_path / "brick.stl")
    assert (found.licence, found.category, found.parts[0].material, found.parts[0].mass) == ("MIT", "block", "wood", 0.2)
    beside.write_text(json.dumps({"license": "MIT"}))
    with pytest.raises(ConfigError, match=r"available: .*licence"):
        from_file(tmp_path / "brick.stl")


@pytest.mark.parametrize(
    "name", ["Tasse für Müller", "чашка", "a b;rm -rf ~$(x)'\"", "../x".replace("/", "∕"), "-", "9 lives", "x" * 200]
)
def test_any_name_becomes_one_that_every_format_can_bear(tmp_path, name):
    path = tmp_path / f"{name}.stl"
    brick().export(path)
    found = from_file(path, OPEN)
    assert found.name.isidentifier()
    assert found.name.isascii()
    assert len(found.name) <= 72


def test_different_foreign_names_stay_different():
    from pathlib import Path

    assert files.asset_name(Path("чашка.stl")) != files.asset_name(Path("кружка.stl"))


def test_paths_that_cannot_be_are_refused(tmp_path):
    for name in ("gone.stl", "x" * 5000 + ".stl", "nul\0.stl"):
        with pytest.raises(AssetError, match="read: "):
            from_file(tmp_path / name, OPEN)


def test_a_thing_that_lies_on_its_side_is_stood_up(tmp_path):
    cone = trimesh.creation.cone(0.04, 0.12)
    cone.apply_transform(trimesh.transformations.rotation_matrix(np.pi, [1, 0, 0]))  # on its tip
    cone.export(tmp_path / "cone.stl")
    found = from_file(tmp_path / "cone.stl", OPEN)
    assert "was taken as up" in found.parameters["warnings"]
    assert placing.stands(found.parts[0].mesh)


def test_a_front_turns_to_x(tmp_path):
    brick().export(tmp_path / "brick.stl")
    found = from_file(tmp_path / "brick.stl", FileFacts(licence="MIT", unit="m", up="z", front="-y"))
    assert np.ptp(found.parts[0].mesh.vertices, axis=0) == pytest.approx([SIZE[1], SIZE[0], SIZE[2]], abs=1e-6)


DOOR = """<robot name="door">
  <material name="blue"><color rgba="0.1 0.2 0.9 1"/></material>
  <link name="base"><inertial><mass value="2"/></inertial><visual><origin xyz="0 0 0.1"/><geometry><box size="0.02 0.2 0.2"/></geometry></visual></link>
  <link name="leaf"><inertial><mass value="0.5"/></inertial>
    <visual><origin xyz="0 -0.09 0"/><geometry><mesh filename="package://door/meshes/leaf.stl" scale="0.001 0.001 0.001"/></geometry><material name="blue"/></visual></link>
  <link name="knob"><visual><geometry><sphere radius="0.01"/></geometry></visual></link>
  <joint name="hinge" type="revolute"><parent link="base"/><child link="leaf"/><origin xyz="0.02 0.1 0.1" rpy="0 0 0"/>
    <axis xyz="0 0 2"/><limit lower="0" upper="1.5" effort="1" velocity="1"/><dynamics damping="0.1" friction="0.2"/></joint>
  <joint name="held" type="fixed"><parent link="leaf"/><child link="knob"/><origin xyz="0.02 -0.17 0"/></joint>
</robot>"""  # noqa: E501


@pytest.fixture
def door(tmp_path):
    folder = tmp_path / "door"
    (folder / "urdf").mkdir(parents=True)
    (folder / "meshes").mkdir()
    leaf = to_mesh(box((10.0, 180.0, 190.0)))
    trimesh.Trimesh(leaf.vertices, leaf.faces).export(folder / "meshes" / "leaf.stl")
    path = folder / "urdf" / "door.urdf"
    path.write_text(DOOR)
    return path


def test_a_urdf_keeps_its_joints_masses_and_colours(door):
    found = from_file(door, FileFacts(licence="MIT", bolted=True))
    base, leaf = found.parts
    assert (base.mass, leaf.mass) == (2.0, 0.5)
    assert leaf.color == (0.1, 0.2, 0.9, 1.0)
    mount, hinge = found.joints
    assert (mount.kind, mount.parent, mount.child) == (JointKind.FIXED, "", "base")
    assert (hinge.axis, hinge.lower, hinge.upper, hinge.damping, hinge.friction) == ((0.0, 0.0, 1.0), 0.0, 1.5, 0.1, 0.2)
    assert base.mesh.vertices[:, 2].min() == pytest.approx(0.0, abs=1e-9)
    assert leaf.pose.position[2] == pytest.approx(0.1, rel=1e-6)
    assert np.ptp(leaf.mesh.vertices, axis=0)[2] == pytest.approx(0.19, rel=1e-6)


def test_a_mujoco_model_says_the_same_as_the_description_it_was_written_from(catalog, tmp_path):
    """Our own MJCF sidecar read back: same bodies, same joint."""
    for category in ("switch", "mouse"):
        asset = catalog[category]
        sidecar = asset.path.with_suffix(".xml")
        found = from_file(sidecar, FileFacts(licence="Apache-2.0", category=category))
        for part, body in zip(found.parts, asset.bodies, strict=True):
            assert part.mass == pytest.approx(body.mass, rel=1e-6)
            assert np.ptp(part.mesh.vertices, axis=0) == pytest.approx(np.ptp(body.visual.vertices, axis=0), abs=1e-5)
        movable = [joint for joint in found.joints if joint.kind is not JointKind.FIXED]
        for joint, known in zip(movable, asset.movable_joints, strict=True):
            assert (joint.lower, joint.upper) == pytest.approx((known.lower, known.upper))
            assert joint.friction == pytest.approx(known.friction)
            assert joint.axis == pytest.approx(known.axis, abs=1e-6)


def test_a_usd_file_gives_back_bodies_and_joints(catalog):
    for category in ("switch", "mouse"):
        asset = catalog[category]
        found = from_file(asset.path, FileFacts(licence="Apache-2.0", category=category))
        assert found.parameters["scale"] == 1.0
        for part, body in zip(found.parts, asset.bodies, strict=True):
            assert part.mass == pytest.approx(body.mass, rel=1e-5)
            assert np.ptp(part.mesh.vertices, axis=0) == pytest.approx(np.ptp(body.visual.vertices, axis=0), abs=1e-5)
        movable = [joint for joint in found.joints if joint.kind is not JointKind.FIXED]
        for joint, known in zip(movable, usd.read(asset.path).movable_joints, strict=True):
            assert (joint.lower, joint.upper) == pytest.approx((known.lower, known.upper), abs=1e-5)
            assert joint.axis == pytest.approx(known.axis, abs=1e-5)


def test_a_folder_gives_its_files_and_the_parts_of_a_description_are_none(door, tmp_path):
    brick().export(tmp_path / "brick.stl")
    (tmp_path / "notes.txt").write_text("no mesh")
    assert folder.survey(tmp_path).files == (tmp_path / "brick.stl", door)
    (tmp_path / "bare").mkdir()
    with pytest.raises(AssetError, match="no readable file"):
        folder.survey(tmp_path / "bare")


def test_a_fine_mesh_is_thinned_to_the_same_solid():
    ball = trimesh.creation.icosphere(5, 0.05)
    thin = meshfiles.thinned(Mesh(vertices=ball.vertices, faces=ball.faces.astype(np.int32)), 6000)
    assert len(thin.faces) <= 6000
    assert signed_volume(thin) == pytest.approx(ball.volume, rel=0.01)


def test_a_job_is_known_by_what_its_file_and_the_meshes_below_it_hold(door):
    job = files.FileJob(path=door, facts=FileFacts(licence="MIT"))
    before = job.identity()
    assert (job.name, job.category) == ("door", "object")
    leaf = door.parent.parent / "meshes" / "leaf.stl"
    leaf.write_bytes(leaf.read_bytes() + b"\0")
    assert job.identity() != before


READ = """
import resource, sys
from pathlib import Path
from embodichain.assets.reading.files import FileFacts, from_file
found = from_file(Path(sys.argv[1]), FileFacts(licence="MIT", unit="m"))
print(len(found.parts[0].mesh.faces), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_five_million_faces_are_read_in_bounded_memory_and_thinned(tmp_path):
    path, count = tmp_path / "torus.stl", 1600
    angles = np.arange(count + 1) * (2 * np.pi / count)
    with path.open("wb") as file:
        file.write(b"\0" * 80 + (2 * count * count).to_bytes(4, "little"))
        for u, following in itertools.pairwise(angles):
            ring = [
                np.stack(
                    [np.cos(a) * (0.05 + 0.02 * np.cos(angles)), np.sin(a) * (0.05 + 0.02 * np.cos(angles)), 0.02 * np.sin(angles)],
                    1,
                )
                for a in (u, following)
            ]
            rows = np.zeros(2 * count, np.dtype([("n", "<f4", 3), ("v", "<f4", (3, 3)), ("a", "<u2")]))
            rows["v"][:count] = np.stack([ring[0][:-1], ring[1][:-1], ring[1][1:]], axis=1)
            rows["v"][count:] = np.stack([ring[0][:-1], ring[1][1:], ring[0][1:]], axis=1)
            file.write(rows.tobytes())
    done = subprocess.run([sys.executable, "-c", READ, str(path)], capture_output=True, text=True, check=True)
    faces, peak_kib = (int(word) for word in done.stdout.split())
    assert 100_000 < faces <= meshfiles.THIN_ABOVE
    assert peak_kib < 3.5 * 2**20
