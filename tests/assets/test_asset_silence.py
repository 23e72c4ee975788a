"""Ordinary files with something in them that assets have no word for: each such thing has a row, with what was stated."""

import json
import re
import struct

import numpy as np
import pytest
import trimesh
from mujoco import MjModel
from PIL import Image

from embodichain.assets.chain import optimize, settings
from embodichain.assets.families.parts import Preservation
from embodichain.assets.geometry.bands import banded_distances
from embodichain.assets.geometry.openings import thickened
from embodichain.assets.geometry.shapes import face_areas
from embodichain.assets.physical.mjcf import to_mjcf
from embodichain.assets.reading.files import FileFacts, FileJob
from embodichain.assets.usd.validate import check
from embodichain.errors import AssetError
from embodichain.types import Mesh

TOUCHING = """<mujoco><option density="1000" viscosity="0.001"/><worldbody><body name="a" gravcomp="1"><freejoint/>
<geom type="box" size=".1 .1 .1" mass="1" condim="1" solref="0.01 1" margin="0.002" gap="0.001" contype="2" conaffinity="4"
 priority="1" friction="0.4 0.02 0.001"/></body></worldbody></mujoco>"""
HINGED = """<mujoco><worldbody><body name="arm"><geom type="box" size=".1 .1 .02"/><body name="link" pos="0 0 .05">
<joint name="link" type="hinge" axis="0 1 0" range="-40 40" margin="0.02" solreflimit="0.01 1" frictionloss="0.1"/>
<geom type="cylinder" size=".02 .1" pos="0 0 .12"/></body></body></worldbody></mujoco>"""
STAGE = """#usda 1.0
( defaultPrim = "w"
 metersPerUnit = 1
 upAxis = "Z" )
def Xform "w" {{
 def Xform "a" {{
  def Xform "link" (prepend apiSchemas = ["PhysicsRigidBodyAPI", "PhysicsMassAPI"]) {{
   float physics:mass = 1
   def Mesh "m" (prepend apiSchemas = ["PhysicsCollisionAPI", "PhysicsMeshCollisionAPI"]) {{
    {cube}
    uniform token physics:approximation = "boundingCube"
   }}
  }}
 }}
 def Xform "b" {{
  def Xform "link" (prepend apiSchemas = ["PhysicsRigidBodyAPI", "PhysicsMassAPI"]) {{
   float physics:mass = 2
   double3 xformOp:translate = (0, 0, 0.2)
   uniform token[] xformOpOrder = ["xformOp:translate"]
   def Cube "c" (prepend apiSchemas = ["PhysicsCollisionAPI"]) {{
    double size = 0.1
   }}
  }}
 }}
 def PhysicsRevoluteJoint "j" (prepend apiSchemas = ["PhysicsDriveAPI:angular"]) {{
  rel physics:body0 = </w/a/link>
  rel physics:body1 = </w/b/link>
  uniform token physics:axis = "Z"
  point3f physics:localPos0 = (0, 0, 0.1)
  point3f physics:localPos1 = (0, 0, -0.1)
  uniform token drive:angular:physics:type = "acceleration"
  float drive:angular:physics:damping = 3
 }}
}}"""
CUBE = """int[] faceVertexCounts = [4, 4, 4, 4, 4, 4]
    int[] faceVertexIndices = [0, 3, 2, 1, 4, 5, 6, 7, 0, 1, 5, 4, 1, 2, 6, 5, 2, 3, 7, 6, 3, 0, 4, 7]
    uniform token subdivisionScheme = "catmullClark"
    point3f[] points = [(-.05,-.05,0),(.05,-.05,0),(.05,.05,0),(-.05,.05,0),(-.05,-.05,.1),(.05,-.05,.1),(.05,.05,.1),(-.05,.05,.1)]
"""


def read(file):
    """The source in a file, and the rows of what it lost by (of, what)."""
    source = FileJob(path=file, facts=FileFacts(licence="CC0-1.0", unit="m" if file.suffix in (".obj", ".glb") else "")).source()
    return source, {(row.of, row.what): row for row in source.fidelity if row.fate is not Preservation.KEPT}


def saved(folder, name, text):
    """A file of some text."""
    file = folder / name
    file.write_text(text)
    return file


def test_everything_that_mjcf_says_of_touching_has_a_row(tmp_path):
    _, rows = read(saved(tmp_path, "touching.xml", TOUCHING))
    told = {what: rows[("a", what)].stated for of, what in rows if of == "a"}
    assert told["gravity compensation"] == 1.0
    assert {"contact dimensions", "contact margin", "contact gap", "contact softness", "contact groups", "contact priority"} <= {
        *told
    }
    assert told["contact groups"] == "2 and 4"
    assert (told["torsional friction"], told["rolling friction"]) == (0.02, 0.001)
    assert rows[("the file", "medium")].stated[:2] == (1000.0, 0.001)


def test_a_joint_called_as_its_body_keeps_its_name_for_show_and_its_rows(tmp_path):
    source, rows = read(saved(tmp_path, "hinged.xml", HINGED))
    (joint,) = (one for one in source.joints if one.name.startswith("link") and one.friction)
    assert {part.name for part in source.parts} == {"arm", "link"}
    assert source.titles == {joint.name: "link"}
    assert rows[(joint.name, "name")].stated == "link"
    assert {("link_2", "limit margin"), ("link_2", "limit softness")} <= {*rows}


def test_two_bodies_of_one_name_in_a_stage_keep_it_for_show(tmp_path):
    source, rows = read(saved(tmp_path, "stage.usda", STAGE.format(cube=CUBE)))
    first, second = (part.name for part in source.parts)
    assert first == "link"
    assert source.titles[second] == "link"
    assert (second, "name") in rows
    assert rows[("/w/j", "drive:angular:physics:type")].stated == "acceleration"
    assert rows[("/w/a/link/m", "approximation")].stated == "boundingCube"
    assert rows[("/w/a/link/m", "subdivisionScheme")].stated == "catmullClark"


def test_a_drive_may_be_infinitely_strong(tmp_path):
    link = '<link name="{}"><visual><geometry><box size="{} .1 .1"/></geometry></visual></link>'
    text = (
        f'<robot name="r">{link.format("a", 0.2)}{link.format("b", 0.1)}<joint name="j" type="prismatic"><parent link="a"/>'
        '<child link="b"/><origin xyz="0 0 0.2"/><limit lower="0" upper="0.1" effort="inf" velocity="1e400"/></joint></robot>'
    )
    source, rows = read(saved(tmp_path, "strong.urdf", text))
    assert (source.joints[0].effort, source.joints[0].velocity, rows) == (np.inf, np.inf, {})
    box = '<collision name="c"><geometry><box><size>{} .1 .1</size></box></geometry></collision>'
    limit = "<limit><lower>0</lower><upper>0.1</upper><effort>inf</effort><velocity>2</velocity></limit>"
    axis = f"<axis><xyz>0 0 1</xyz>{limit}</axis>"
    links = f'<link name="a">{box.format(0.2)}</link><link name="b"><pose>0 0 .2 0 0 0</pose>{box.format(0.1)}</link>'
    hinge = f'<joint name="j" type="prismatic"><parent>a</parent><child>b</child>{axis}</joint>'
    sdf = f'<sdf version="1.9"><model name="m">{links}{hinge}</model></sdf>'
    joint = read(saved(tmp_path, "strong.sdf", sdf))[0].joints[0]
    assert (joint.effort, joint.velocity) == (np.inf, 2.0)


def test_pictures_that_are_not_kept_are_told_and_the_others_found(tmp_path):
    Image.fromarray(np.full((8, 8, 3), (200, 30, 30), np.uint8)).save(tmp_path / "red.png")
    box = trimesh.creation.box((0.1, 0.1, 0.1))
    lines = [f"v {x} {y} {z}" for x, y, z in box.vertices] + ["vt 0 0", "vt 1 0", "vt 1 1", "usemtl paint"]
    lines += [f"f {a + 1}/1 {b + 1}/2 {c + 1}/3" for a, b, c in box.faces]
    saved(tmp_path, "box.mtl", "newmtl paint\nmap_Kd -s 2 2 1 -clamp on red.png\nmap_Bump -bm 0.3 red.png\n")
    source, rows = read(saved(tmp_path, "box.obj", "\n".join(["mtllib box.mtl", *lines])))
    assert "diffuse" in source.parts[0].look.finishes[0].images
    assert re.match(r"-s 2 2 1 -clamp on", rows[("paint", "map_Kd options")].stated)
    assert rows[("paint", "map_Bump")].stated == "-bm 0.3 red.png"


def test_what_a_gltf_file_has_beside_its_mesh_is_told(tmp_path):
    data = trimesh.Scene(trimesh.creation.box((0.1, 0.1, 0.1))).export(file_type="glb")
    length = struct.unpack("<I", data[12:16])[0]
    content = json.loads(data[20 : 20 + length])
    content["animations"] = [{"channels": [], "samplers": []}]
    content["extensionsUsed"] = ["KHR_materials_transmission"]
    content["materials"] = [{"name": "glass", "alphaMode": "MASK"}]
    head = json.dumps(content).encode()
    head += b" " * (-len(head) % 4)
    file = tmp_path / "glass.glb"
    whole = struct.pack("<I4s", len(head), b"JSON") + head + data[20 + length :]
    file.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(whole)) + whole)
    _, rows = read(file)
    assert {what for _, what in rows} == {"animations", "KHR_materials_transmission", "alpha mode"}


@pytest.mark.parametrize("seed", range(3))
def test_distances_close_to_a_surface_are_those_to_it(seed):
    rng = np.random.default_rng(seed)
    triangles = rng.uniform(-0.05, 0.05, (12, 3, 3)) * rng.uniform(0.05, 1.0, (12, 1, 1))  # large ones are cut, small ones not
    mesh = Mesh(vertices=triangles.reshape(-1, 3), faces=np.arange(36, dtype=np.int32).reshape(-1, 3))
    origin, cell, counts, reach = np.full(3, -0.055), 0.005, np.array([23, 23, 23]), 0.02
    found = banded_distances(mesh, origin, cell, counts, reach)
    points = origin + np.stack(np.meshgrid(*map(np.arange, counts), indexing="ij"), axis=-1).reshape(-1, 3) * cell
    feet = [trimesh.triangles.closest_point(np.broadcast_to(one, (len(points), 3, 3)), points) for one in triangles]
    nearest = np.minimum(np.linalg.norm(np.stack(feet) - points, axis=2).min(axis=0), reach)
    assert np.abs(found.ravel() - nearest).max() < 1e-9


def test_a_surface_too_rough_to_be_moved_inwards_gets_a_wall():
    sheet = trimesh.creation.icosphere(subdivisions=4, radius=0.1)
    sheet.update_faces(sheet.triangles_center[:, 2] < 0.06)
    rng = np.random.default_rng(0)
    rough = sheet.vertices * (1.0 + 0.02 * rng.standard_normal((len(sheet.vertices), 1)))  # so rough that offsets fold
    mesh = Mesh(vertices=rough, faces=np.asarray(sheet.faces, np.int32))
    wall = thickened(mesh, 0.006)
    assert 0.5 < wall.volume() / (face_areas(mesh).sum() * 0.006) < 1.2


def test_a_link_that_only_shows_an_open_surface_touches_nothing_and_is_delivered(tmp_path):
    shade = trimesh.creation.box((0.05, 0.05, 0.05))
    shade.update_faces(np.arange(len(shade.faces)) > 1)
    shade.export(tmp_path / "shade.obj")
    box = '<geometry><box size="0.1 0.1 0.02"/></geometry>'
    weight = '<inertial><mass value="{}"/><inertia ixx="1e-4" iyy="1e-4" izz="1e-4" ixy="0" ixz="0" iyz="0"/></inertial>'
    base = f'<link name="base">{weight.format(0.5)}<visual>{box}</visual><collision>{box}</collision></link>'
    seen = '<visual><geometry><mesh filename="shade.obj"/></geometry></visual>'
    turn = (
        '<joint name="turn" type="revolute"><parent link="base"/><child link="shade"/><origin xyz="0 0 0.05"/><axis xyz="0 0 1"/>'
        '<limit lower="-1" upper="1" effort="1" velocity="1"/></joint>'
    )

    def written(name, said):
        (tmp_path / name).write_text(f'<robot name="lamp">{base}<link name="shade">{said}{seen}</link>{turn}</robot>')
        return FileJob(path=tmp_path / name, facts=FileFacts(licence="CC0-1.0"))

    asset = optimize.build_job(written("lamp.urdf", weight.format(0.2)), tmp_path / "out", config=settings.ChainConfig())
    link = next(body for body in asset.bodies if body.name == "shade")
    assert (link.mass, len(link.hulls), len(link.visual.faces)) == (pytest.approx(0.2), 0, 10)
    told = json.loads(asset.path.with_suffix(".json").read_text())["fidelity"]
    assert ["surface is open" in row["reason"] for row in told if row["of"] == "shade" and row["what"] == "colliders"] == [True]
    assert check(asset.path) == []
    assert MjModel.from_xml_string(to_mjcf(asset)).body("shade").mass[0] == pytest.approx(0.2)
    with pytest.raises(AssetError, match="surface is open"):
        optimize.build_job(written("light.urdf", ""), tmp_path / "out", config=settings.ChainConfig())
