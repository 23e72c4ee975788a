"""What a file means is read: numbers in its units, pictures as they lie, states as they are; what is not kept has a row."""

import io
import json
import math
import re
import struct
import zipfile

import numpy as np
import pytest
import trimesh
from PIL import Image

from embodichain.assets.families.parts import Preservation
from embodichain.assets.reading.files import FileFacts, from_file
from embodichain.errors import AssetError
from embodichain.types import JointKind

FREE = FileFacts(licence="CC0-1.0", keep_pose=True)
SIZE = (0.1, 0.08, 0.06)
STAGE = '#usda 1.0\n(\n defaultPrim = "obj"\n metersPerUnit = {metre}\n kilogramsPerUnit = {kilogram}\n upAxis = "Z"\n)\n'


def saved(folder, name, text):
    path = folder / name
    path.write_text(re.sub(r"\s*}\s*", "\n}\n", text) if name.endswith(".usda") else text)
    return path


def rows(source):
    return {(row.of, row.what): row for row in source.fidelity if row.fate is not Preservation.KEPT}


# ----------------------------------------------------------------------------------------------------------------- glTF


class Lists:
    """The lists of a glTF file, as they are written one after another."""

    def __init__(self):
        self.data, self.views, self.accessors = b"", [], []

    def view(self, raw):
        self.views.append({"buffer": 0, "byteOffset": len(self.data), "byteLength": len(raw)})
        self.data += raw + b"\0" * (-len(raw) % 4)
        return len(self.views) - 1

    def add(self, values, kind, component, **more):
        entry = {"bufferView": self.view(values.tobytes()), "componentType": component, "count": len(values), "type": kind}
        self.accessors.append(entry | more)
        return len(self.accessors) - 1


def packed(place, lists, primitives, material, node=None, extensions=()):
    content = {
        "asset": {"version": "2.0"}, "scene": 0, "scenes": [{"nodes": [0]}], "nodes": [{"mesh": 0, **(node or {})}],
        "meshes": [{"primitives": primitives}], "accessors": lists.accessors, "bufferViews": lists.views,
        "buffers": [{"byteLength": len(lists.data)}], "images": [{"bufferView": 0, "mimeType": "image/png"}],
        "textures": [{"source": 0}], "materials": [material], "extensionsUsed": list(extensions),
    }  # fmt: skip
    text = json.dumps({name: value for name, value in content.items() if value}).encode()
    text += b" " * (-len(text) % 4)
    whole = struct.pack("<I", len(text)) + b"JSON" + text + struct.pack("<I", len(lists.data)) + b"BIN\0" + lists.data
    place.write_bytes(b"glTF" + struct.pack("<II", 2, 12 + len(whole)) + whole)
    return place


def box():
    """A box whose triangles share no vertex: points and texture coordinates, v downwards."""
    solid = trimesh.creation.box(SIZE)
    points = solid.vertices[solid.faces.ravel()].astype(np.float32)
    return points, np.random.default_rng(3).uniform(0.1, 0.9, (len(points), 2)).astype(np.float32)


def begun():
    picture = io.BytesIO()
    Image.new("RGB", (4, 4), (200, 100, 50)).save(picture, "PNG")
    lists = Lists()
    lists.view(picture.getvalue())
    return lists


def painted(**more):
    return {"name": "paint", "pbrMetallicRoughness": {"baseColorTexture": {"index": 0, **more}}}


def read(path):
    (part,) = from_file(path, FREE).parts
    return part.look


@pytest.mark.parametrize("written", ["floats", "fractions", "sparse", "fan"])
def test_a_gltf_file_means_the_same_however_its_numbers_are_written(written, tmp_path):
    points, uv = box()
    lists = begun()
    node = None
    if written == "fractions":
        whole = np.round(points / 0.05 * 32767).astype(np.int16)
        padded = np.column_stack([whole, np.zeros(len(whole), np.int16)])
        place = lists.add(padded, "VEC3", 5122, normalized=True)
        lists.views[-1]["byteStride"], node = 8, {"scale": [0.05] * 3}
        lay = lists.add(np.round(uv * 65535).astype(np.uint16), "VEC2", 5123, normalized=True)
    elif written == "sparse":
        place = lists.add(np.zeros_like(points), "VEC3", 5126)
        where, what = lists.view(np.arange(len(points), dtype=np.uint16).tobytes()), lists.view(points.tobytes())
        sparse = {"indices": {"bufferView": where, "componentType": 5123}, "values": {"bufferView": what}}
        lists.accessors[place]["sparse"] = {"count": len(points), **sparse}
        lay = lists.add(uv, "VEC2", 5126)
    else:
        place, lay = lists.add(points, "VEC3", 5126), lists.add(uv, "VEC2", 5126)
    names = {"POSITION": place, "TEXCOORD_0": lay}
    corners = np.arange(len(points), dtype=np.uint16).reshape(-1, 3)
    if written == "fan":  # a fan of three corners is a triangle
        primitives = [
            {"attributes": names, "mode": 6, "indices": lists.add(face, "SCALAR", 5123), "material": 0} for face in corners
        ]
    else:
        primitives = [{"attributes": names, "indices": lists.add(corners.ravel(), "SCALAR", 5123), "material": 0}]
    look = read(packed(tmp_path / f"{written}.glb", lists, primitives, painted(), node))
    assert np.ptp(look.mesh.vertices, axis=0) == pytest.approx([SIZE[2], SIZE[0], SIZE[1]], rel=1e-4)
    if written != "fan":  # whose vertices come in another order
        assert look.uv == pytest.approx(uv * [1, -1] + [0, 1], abs=1e-4)
    assert len(look.mesh.faces) == 12


def test_a_picture_lies_as_its_material_says(tmp_path):
    points, uv = box()
    lists = begun()
    names = {"POSITION": lists.add(points, "VEC3", 5126), "TEXCOORD_0": lists.add(uv, "VEC2", 5126)}
    names["TEXCOORD_1"] = lists.add(uv * np.float32(0.5), "VEC2", 5126)
    move = {"offset": [0.0, 1.0], "rotation": math.pi / 2, "scale": [0.5, 0.5]}
    material = painted(extensions={"KHR_texture_transform": move})
    quarter = read(
        packed(
            tmp_path / "moved.glb", lists, [{"attributes": names, "material": 0}], material, extensions=["KHR_texture_transform"]
        )
    )
    # The example of the extension: the lower left quarter of the picture, turned clockwise by a right angle.
    assert quarter.uv == pytest.approx(np.column_stack([uv[:, 1], uv[:, 0]]) * 0.5, abs=1e-6)
    second = read(packed(tmp_path / "second.glb", lists, [{"attributes": names, "material": 0}], painted(texCoord=1)))
    assert second.uv == pytest.approx(uv * [0.5, -0.5] + [0, 1], abs=1e-6)


def test_a_list_that_is_longer_than_its_file_is_refused(tmp_path):
    points, _ = box()
    lists = begun()
    place = lists.add(np.round(points * 200).astype(np.int8), "VEC3", 5120, normalized=True)
    lists.accessors[place]["count"] = 10_000
    with pytest.raises(AssetError, match="10000 items and the file ends before"):
        read(packed(tmp_path / "short.glb", lists, [{"attributes": {"POSITION": place}}], painted()))


# ------------------------------------------------------------------------------------------------------------------ USD


def body(name, at, size, more=""):
    return f"""def Xform "{name}" (prepend apiSchemas = ["PhysicsRigidBodyAPI", "PhysicsMassAPI"]) {{
 float physics:mass = 500
 {more}
 double3 xformOp:translate = {at}
 uniform token[] xformOpOrder = ["xformOp:translate"]
 def Cube "s" (prepend apiSchemas = ["PhysicsCollisionAPI"]) {{
  double size = {size} }} }}"""


def jointed(name, kind, first, second, more, schemas=""):
    return f"""def Physics{kind}Joint "{name}" ({schemas}) {{
 rel physics:body0 = </obj/{first}>
 rel physics:body1 = </obj/{second}>
 float physics:lowerLimit = -2
 float physics:upperLimit = 2
 point3f physics:localPos0 = (0, 0, 4)
 {more} }}"""


def test_drives_are_in_the_units_of_length_and_mass_of_their_file(tmp_path):
    linear = "float drive:linear:physics:maxForce = 5e6\n float drive:linear:physics:stiffness = 2000"
    turning = f"float drive:angular:physics:maxForce = 2e7\n float drive:angular:physics:damping = {1e7 * math.pi / 180}"
    text = STAGE.format(metre=0.01, kilogram=0.001) + (
        f'def Xform "obj" {{ {body("a", (0, 0, 1), 4)} {body("b", (0, 0, 5), 3)} {body("c", (0, 0, 9), 3)}'
        + jointed("slide", "Prismatic", "a", "b", linear, 'prepend apiSchemas = ["PhysicsDriveAPI:linear"]')
        + jointed(
            "hinge",
            "Revolute",
            "b",
            "c",
            turning + "\n float physxJoint:armature = 1000",
            'prepend apiSchemas = ["PhysicsDriveAPI:angular"]',
        )
        + "}"
    )
    slide, hinge = from_file(saved(tmp_path, "gram.usda", text), FREE).joints
    assert (slide.effort, slide.stiffness) == pytest.approx((50.0, 2.0))  # g cm/s^2 in N, g/s^2 in N/m
    assert (hinge.effort, hinge.damping, hinge.armature) == pytest.approx((2.0, 1.0, 1e-4))  # g cm^2/s^2 in N m, and so on


def test_switches_of_a_stage_are_obeyed_or_told(tmp_path):
    off = "rel newton:mimicJoint = </obj/l>\n bool newton:mimicEnabled = 0"
    apart = body("a", (0, 0, 0.1), 0.1, "bool physics:kinematicEnabled = 1").replace(
        '["PhysicsCollisionAPI"]) {',
        '["PhysicsCollisionAPI", "PhysicsFilteredPairsAPI"]) {\n rel physics:filteredPairs = </obj/c/s>\n',
    )
    text = STAGE.format(metre=1, kilogram=1) + (
        f'def Xform "obj" {{ {apart} {body("b", (0.3, 0, 0.1), 0.1)} {body("c", (-0.3, 0, 0.1), 0.1)}'
        + jointed("l", "Prismatic", "a", "b", "") + jointed("r", "Prismatic", "a", "c", off) + "}"
    )  # fmt: skip
    source = from_file(saved(tmp_path, "switched.usda", text), FREE)
    joints = {joint.name: joint for joint in source.joints}
    assert joints["r"].mimic is None
    assert ("/obj/r", "newton:mimicEnabled") in rows(source)
    assert source.apart == (("a", "c"),)
    assert (joints["a_mount"].kind, joints["a_mount"].parent) == (JointKind.FIXED, "")
    assert rows(source)["a", "physics:kinematicEnabled"].written == "bolted"


VARIANTS = """def Xform "obj" (
 {chosen}
 prepend variantSets = "size"
)
{{
 variantSet "size" = {{
  "small" {{
   def Cube "c"
   {{
    double size = 0.05
    double3 xformOp:translate.timeSamples = {{
     0: (0, 0, 0),
     9: (1, 0, 0),
    }}
    uniform token[] xformOpOrder = ["xformOp:translate"]
   }}
  }}
  "large" {{
   def Cube "c"
   {{
    double size = 0.2
   }}
  }}
 }}
}}
"""


def test_what_a_stage_could_be_beside_is_told(tmp_path):
    (tmp_path / "chosen.usda").write_text(
        STAGE.format(metre=1, kilogram=1) + VARIANTS.format(chosen='variants = {\n string size = "small"\n }')
    )
    source = from_file(tmp_path / "chosen.usda", FREE)
    assert np.ptp(source.parts[0].mesh.vertices, axis=0) == pytest.approx([0.05] * 3)
    assert rows(source)["/obj", "variants of size"].stated == "large"
    assert rows(source)["/obj/c", "animation"].stated == "xformOp:translate"
    (tmp_path / "open.usda").write_text(STAGE.format(metre=1, kilogram=1) + VARIANTS.format(chosen=""))
    with pytest.raises(AssetError, match="choose its variants: /obj may be large, small"):
        from_file(tmp_path / "open.usda", FREE)


UV = np.array([[0.1, 0.1], [0.9, 0.1], [0.9, 0.9], [0.1, 0.9]] * 2)


def stage_with(surface, nodes, uv=UV, name="st", source="UsdPreviewSurface"):
    told = ", ".join(str((float(u), float(v))) for u, v in uv)
    info = f'uniform token info:id = "{source}"' if "Preview" in source else (
        f'uniform token info:implementationSource = "sourceAsset"\n uniform asset info:mdl:sourceAsset = @{source}.mdl@\n'
        f' uniform token info:mdl:sourceAsset:subIdentifier = "{source}"'
    )  # fmt: skip
    output = "outputs:surface" if "Preview" in source else "outputs:mdl:surface"
    return (
        STAGE.format(metre=1, kilogram=1)
        + f"""def Xform "obj" {{ def Mesh "m" (prepend apiSchemas = ["MaterialBindingAPI"]) {{
 int[] faceVertexCounts = [4, 4, 4, 4, 4, 4]
 int[] faceVertexIndices = [0, 3, 2, 1, 4, 5, 6, 7, 0, 1, 5, 4, 1, 2, 6, 5, 2, 3, 7, 6, 3, 0, 4, 7]
 uniform token subdivisionScheme = "none"
 point3f[] points = [(0,0,0), (.1,0,0), (.1,.08,0), (0,.08,0), (0,0,.05), (.1,0,.05), (.1,.08,.05), (0,.08,.05)]
 texCoord2f[] primvars:{name} = [{told}] (
  interpolation = "vertex"
 )
 rel material:binding = </obj/skin> }}
def Material "skin" {{
 token {output}.connect = </obj/skin/s.outputs:surface>
 def Shader "s" {{
  {info}
  {surface}
  token outputs:surface }}
 {nodes} }} }}"""
    )


def picture(name, file, st="r", more=""):
    return f"""def Shader "{name}" {{
  uniform token info:id = "UsdUVTexture"
  asset inputs:file = @{file}@
  {more}
  float2 inputs:st.connect = </obj/skin/{st}.outputs:result>
  float outputs:r
  float3 outputs:rgb }}"""


def reader(name="st"):
    return f"""def Shader "r" {{
  uniform token info:id = "UsdPrimvarReader_float2"
  string inputs:varname = "{name}"
  float2 outputs:result }}"""


COLOUR = "color3f inputs:diffuseColor.connect = </obj/skin/t.outputs:rgb>"


def grey(path, value):
    Image.new("L", (8, 8), value).save(path)


def test_a_picture_in_a_stage_lies_by_its_own_coordinates_moved(tmp_path):
    grey(tmp_path / "t.png", 90)
    turned = """def Shader "x" {
  uniform token info:id = "UsdTransform2d"
  float2 inputs:in.connect = </obj/skin/r.outputs:result>
  float2 inputs:scale = (0.5, 0.25)
  float2 inputs:translation = (0.5, 0.1)
  float inputs:rotation = 90
  float2 outputs:result }"""
    nodes = picture("t", "t.png", "x", "float4 inputs:scale = (0.5, 0.25, 1, 1)") + turned + reader("mine")
    look = read(saved(tmp_path, "moved.usda", stage_with(COLOUR, nodes, name="mine")))
    expected = {(round(0.5 - 0.25 * v, 4), round(0.1 + 0.5 * u, 4)) for u, v in UV}
    assert {(round(float(u), 4), round(float(v), 4)) for u, v in look.uv} == expected
    (finish,) = look.finishes
    assert finish.color[:3] == pytest.approx((0.5, 0.25, 1.0))


def test_a_picture_of_tiles_becomes_a_look_a_tile(tmp_path):
    for tile, value in ((1001, 40), (1012, 200)):
        grey(tmp_path / f"t.{tile}.png", value)
    uv = UV + np.repeat([[0.0, 0.0], [1.0, 1.0]], 4, axis=0)
    look = read(saved(tmp_path, "tiled.usda", stage_with(COLOUR, picture("t", "t.<UDIM>.png") + reader(), uv)))
    for faces, value in ((slice(0, 2), 40), (slice(2, 4), 200)):  # below and above; what is between spans both tiles
        (number,) = np.unique(look.finish[faces])
        with Image.open(io.BytesIO(look.finishes[number].images["diffuse"].data)) as found:
            assert found.getpixel((0, 0)) == value
        corners = np.unique(look.mesh.faces[faces])
        assert {tuple(np.round(uv, 4)) for uv in look.uv[corners]} == {tuple(np.round(uv, 4)) for uv in UV}


def test_channels_of_several_pictures_are_put_together(tmp_path):
    grey(tmp_path / "t.png", 90)
    grey(tmp_path / "rough.png", 51)
    surface = f"{COLOUR}\n float inputs:roughness.connect = </obj/skin/q.outputs:r>\n float inputs:metallic = 0.4"
    surface += "\n float inputs:clearcoat = 0.7"
    source = from_file(
        saved(tmp_path, "split.usda", stage_with(surface, picture("t", "t.png") + picture("q", "rough.png") + reader())), FREE
    )
    (finish,) = source.parts[0].look.finishes
    with Image.open(io.BytesIO(finish.images["orm"].data)) as found:
        assert found.convert("RGB").getpixel((3, 3)) == (255, 51, 102)
    assert rows(source)["/obj/skin", "clearcoat"].stated[:6] == "0.6999"


@pytest.mark.parametrize(
    ("source", "surface", "nodes", "what"),
    [
        ("UsdPreviewSurface", COLOUR, picture("t", "gone.png") + reader(), "picture of diffuseColor"),
        ("MyOwn", "color3f inputs:paint = (1, 0, 0)", "", "material"),
    ],
)
def test_a_look_that_cannot_be_kept_is_told(source, surface, nodes, what, tmp_path):
    found = from_file(saved(tmp_path, "lost.usda", stage_with(surface, nodes, source=source)), FREE)
    assert ("/obj/skin", what) in rows(found)


def test_the_materials_of_omniverse_are_read(tmp_path):
    surface = "color3f inputs:diffuse_color_constant = (0.9, 0.1, 0.2)\n float inputs:metallic_constant = 0.75"
    surface += "\n float inputs:ao_to_diffuse = 1"
    source = from_file(saved(tmp_path, "omni.usda", stage_with(surface, "", source="OmniPBR")), FREE)
    (finish,) = source.parts[0].look.finishes
    assert finish.color == pytest.approx((0.9, 0.1, 0.2, 1.0))
    assert finish.metallic == pytest.approx(0.75)
    assert ("/obj/skin", "ao_to_diffuse") in rows(source)


# --------------------------------------------------------------------------------------------------------------- others


def test_looks_of_other_formats_are_kept_or_told(tmp_path):
    solid = trimesh.creation.box(SIZE)
    solid.export(tmp_path / "box.stl")
    grey(tmp_path / "t.png", 90)
    model = saved(
        tmp_path, "box.xml",
        '<mujoco><asset><mesh name="w" file="box.stl"/><texture name="t" type="2d" file="t.png"/><material name="m" texture="t"'
        ' reflectance="0.25"/></asset><worldbody><body name="b"><freejoint/><geom type="mesh" mesh="w" material="m"/></body>'
        "</worldbody></mujoco>",
    )  # fmt: skip
    told = rows(from_file(model, FREE))
    assert told["m", "texture t"].fate is Preservation.DROPPED
    assert told["m", "reflectance"].stated == pytest.approx(0.25)
    lines = ["mtllib glass.mtl", *(f"v {x} {y} {z}" for x, y, z in solid.vertices), "usemtl glass"]
    saved(tmp_path, "box.obj", "\n".join([*lines, *("f " + " ".join(str(i + 1) for i in face) for face in solid.faces)]))
    saved(tmp_path, "glass.mtl", "newmtl glass\nKd 0.2 0.4 0.6\nTr 0.75\n")
    assert read(tmp_path / "box.obj").finishes[0].color == pytest.approx((0.2, 0.4, 0.6, 0.25), abs=3e-3)
    trimesh.creation.box((60.0, 50.0, 40.0)).export(tmp_path / "box.3mf")
    with zipfile.ZipFile(tmp_path / "box.3mf") as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(tmp_path / "red.3mf", "w") as archive:
        for name, data in files.items():
            red = b'<resources><basematerials id="9"><base name="red" displaycolor="#FF0000FF"/></basematerials>'
            archive.writestr(name, data.replace(b"<resources>", red))
    assert rows(from_file(tmp_path / "red.3mf", FREE))["red.3mf", "materials"].stated == 1.0
