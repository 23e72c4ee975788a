"""Files as data teams bring them: one small input of each kind, written here, with what its asset must be."""
# ruff: noqa: E501

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import trimesh
from PIL import Image

CUBE = """int[] faceVertexCounts = [4, 4, 4, 4, 4, 4]
 int[] faceVertexIndices = [0, 3, 2, 1, 4, 5, 6, 7, 0, 1, 5, 4, 1, 2, 6, 5, 2, 3, 7, 6, 3, 0, 4, 7]
 uniform token subdivisionScheme = "none"
"""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A file: `robot` when it has joints; `mass`, `com` and `size` of its root where they are known, `joints` in all."""

    name: str
    path: Path
    robot: bool = False
    mass: float | None = None
    com: tuple[float, float, float] | None = None
    size: tuple[float, float, float] | None = None
    joints: int = 0
    item: str = ""
    expects: dict[str, object] = field(default_factory=dict)


def points(size, offset=(0.0, 0.0, 0.0)):
    """USD points of a box standing on z = 0."""
    x, y, z = size
    corners = [(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (1, 1, 1), (0, 1, 1)]
    moved = [((a - 0.5) * x + offset[0], (b - 0.5) * y + offset[1], c * z + offset[2]) for a, b, c in corners]
    return "point3f[] points = [" + ", ".join(str(point) for point in moved) + "]\n"


def link(name, size, origin=(0, 0, 0), inertial="", tag="visual"):
    """A URDF link of one box."""
    box = f'<{tag}><origin xyz="{origin[0]} {origin[1]} {origin[2]}"/><geometry><box size="{size[0]} {size[1]} {size[2]}"/></geometry></{tag}>'
    return f'<link name="{name}">{inertial}{box}</link>'


def joint(name, kind, parent, child, xyz="0 0 0", axis="0 0 1", inner=""):
    """A URDF joint."""
    return (
        f'<joint name="{name}" type="{kind}"><parent link="{parent}"/><child link="{child}"/><origin xyz="{xyz}"/>'
        f'<axis xyz="{axis}"/>{inner}</joint>'
    )


def write_all(folder: Path, rng: np.random.Generator) -> list[Case]:
    """One case of each kind below a folder, its numbers drawn."""
    folder.mkdir(parents=True, exist_ok=True)
    return [
        *_urdf(folder, rng),
        *_sdf(folder, rng),
        *_mjcf(folder, rng),
        *_usd(folder, rng),
        *_meshes(folder, rng),
        *_packed(folder, rng),
    ]


def _saved(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def _urdf(folder: Path, rng: np.random.Generator) -> list[Case]:
    mass, offset = round(float(rng.uniform(0.5, 2.0)), 4), round(float(rng.uniform(0.02, 0.07)), 4)
    inertial = (
        f'<inertial><origin xyz="{offset} 0 0.02" rpy="0 0 0.3"/><mass value="{mass}"/>'
        '<inertia ixx="0.002" iyy="0.003" izz="0.004" ixy="0" ixz="0" iyz="0"/></inertial>'
    )
    limit = '<limit lower="0" upper="0.03" effort="20" velocity="0.2"/>'
    grip = (
        link("palm", (0.1, 0.04, 0.03), (0, 0, 0.015)) + link("fl", (0.01, 0.02, 0.05), (0, 0, 0.025))
        + link("fr", (0.01, 0.02, 0.05), (0, 0, 0.025)) + joint("left", "prismatic", "palm", "fl", "-0.04 0 0.032", "1 0 0", limit)
        + joint("right", "prismatic", "palm", "fr", "0.04 0 0.032", "-1 0 0", limit + '<mimic joint="left" multiplier="1" offset="0"/>')
    )  # fmt: skip
    spin = link("base", (0.1, 0.1, 0.02), (0, 0, 0.01)) + link("wheel", (0.05, 0.05, 0.02)) + joint(
        "spin", "continuous", "base", "wheel", "0 0 0.04"
    )  # fmt: skip
    swing = '<limit lower="-0.3" upper="0.3" effort="1" velocity="1"/><dynamics damping="0.02" friction="0"/>'
    dummy = '<link name="dummy"><inertial><mass value="0.001"/><inertia ixx="1e-7" iyy="1e-7" izz="1e-7" ixy="0" ixz="0" iyz="0"/></inertial></link>'
    universal = (
        link("base", (0.1, 0.1, 0.02), (0, 0, 0.01)) + dummy + link("stick", (0.01, 0.01, 0.1), (0, 0, 0.06))
        + joint("x", "revolute", "base", "dummy", "0 0 0.03", "1 0 0", swing) + joint("y", "revolute", "dummy", "stick", "0 0 0", "0 1 0", swing)
    )  # fmt: skip
    fold = link("a", (0.1, 0.1, 0.02), (0, 0, 0.01)) + link("b", (0.1, 0.1, 0.02), (0.05, 0, 0.01)) + joint(
        "hinge", "revolute", "a", "b", "0.05 0 0", "0 1 0", '<limit lower="-1.5" upper="0" effort="1" velocity="1"/>'
    )  # fmt: skip
    lock = link("a", (0.1, 0.1, 0.02), (0, 0, 0.01)) + link("b", (0.02, 0.02, 0.1), (0, 0, 0.06)) + joint(
        "locked", "revolute", "a", "b", "0 0 0.025", "0 0 1", '<limit lower="0" upper="0" effort="1" velocity="1"/>'
    )  # fmt: skip
    plane = link("a", (0.2, 0.2, 0.02), (0, 0, 0.01)) + link("puck", (0.03, 0.03, 0.02), (0, 0, 0.012)) + joint(
        "glide", "planar", "a", "puck", "0 0 0.022", "0 0 1"
    )  # fmt: skip
    engine = '<inertial><origin xyz="0 0 0.2"/><mass value="80"/><inertia ixx="2.2" iyy="2.6" izz="3.2" ixy="0" ixz="0" iyz="0"/></inertial>'
    absurd = '<inertial><mass value="0.3"/><inertia ixx="5" iyy="0.001" izz="0.001" ixy="0" ixz="0" iyz="0"/></inertial>'

    def robot(name: str, body: str) -> Path:
        return _saved(folder, f"{name}.urdf", f'<robot name="{name}"><!-- written by hand -->{body}</robot>')

    return [
        Case(name="inertial", path=robot("handle", link("base", (0.2, 0.05, 0.04), (0, 0, 0.02), inertial)), mass=mass, com=(offset, 0.0, 0.02)),
        Case(name="mimic", path=robot("grip", grip), robot=True, joints=2),
        Case(name="continuous", path=robot("spin", spin), robot=True, joints=1),
        Case(name="dummy link", path=robot("universal", universal), robot=True, joints=2),
        Case(name="touching hinge", path=robot("fold", fold), robot=True, joints=1),
        Case(name="locked", path=robot("lock", lock), robot=True, joints=1),
        Case(name="planar", path=robot("glide", plane), robot=True, joints=3),
        Case(name="units before words", path=robot("engine_block", link("base", (0.5, 0.4, 0.4), (0, 0, 0.2), engine)), mass=80.0, size=(0.5, 0.4, 0.4)),
        Case(name="absurd inertia", path=robot("odd", link("base", (0.1, 0.1, 0.1), (0, 0, 0), absurd)), mass=0.3),
    ]  # fmt: skip


def _sdf(folder: Path, rng: np.random.Generator) -> list[Case]:
    mass, friction = round(float(rng.uniform(0.5, 2.0)), 4), round(float(rng.uniform(0.1, 0.9)), 3)

    def link(name: str, size: str, pose: str, inner: str = "", surface: str = "") -> str:
        box = f"<geometry><box><size>{size}</size></box></geometry>"
        return f'<link name="{name}"><pose>{pose}</pose>{inner}<visual name="v">{box}</visual><collision name="c">{box}{surface}</collision></link>'

    def slide(name: str, child: str, axis: str, inner: str = "") -> str:
        return (
            f'<joint name="{name}" type="prismatic"><parent>palm</parent><child>{child}</child><axis><xyz>{axis}</xyz>{inner}'
            "<limit><lower>0</lower><upper>0.03</upper><effort>20</effort><velocity>0.2</velocity></limit></axis></joint>"
        )

    rubs = f"<surface><friction><ode><mu>{friction}</mu></ode></friction></surface>"
    weighs = f"<inertial><pose>0.01 0 0.004 0 0 0.3</pose><mass>{mass}</mass><inertia><ixx>0.002</ixx><iyy>0.003</iyy><izz>0.004</izz></inertia></inertial>"
    palm = link("palm", "0.1 0.04 0.03", "0 0 0.015 0 0 0", weighs, rubs)
    fingers = link("fl", "0.01 0.02 0.05", "-0.04 0 0.06 0 0 0") + link("fr", "0.01 0.02 0.05", "0.04 0 0.06 0 0 3.141592653589793")
    joints = slide("left", "fl", "1 0 0") + slide("right", "fr", "1 0 0", '<mimic joint="left"><multiplier>1</multiplier></mimic>')
    grip = _saved(folder, "clamp.sdf", f'<sdf version="1.9"><model name="clamp">{palm}{fingers}{joints}</model></sdf>')
    models = "".join(
        f'<model name="{name}"><pose>{x} 0 0.05 0 0 0</pose>{link("body", "0.1 0.1 0.1", "0 0 0 0 0 0")}</model>'
        for name, x in (("one", 0.0), ("two", 0.4))
    )
    world = _saved(folder, "world.sdf", f'<sdf version="1.7"><world name="w">{models}</world></sdf>')
    return [
        Case(
            name="sdf gripper", path=grip, robot=True, joints=2, mass=mass, com=(0.01, 0.0, 0.019), expects={"friction": friction}
        ),
        Case(name="sdf world", path=world, item="one_body", size=(0.1, 0.1, 0.1)),
        Case(name="sdf world", path=world, item="two_body", size=(0.1, 0.1, 0.1)),
    ]


def _packed(folder: Path, rng: np.random.Generator) -> list[Case]:
    """Formats that carry their unit, their axes or their pictures along."""
    from pxr import Sdf, UsdUtils

    scene = trimesh.Scene()
    scene.add_geometry(trimesh.creation.box((60.0, 40.0, 30.0)), node_name="slab")  # millimetres, as 3MF has them
    scene.export(folder / "slab.3mf")
    box = trimesh.creation.box((10.0, 20.0, 12.0))
    corners = " ".join(f"{value:g}" for value in box.vertices.ravel())
    faces = " ".join(str(index) for index in box.faces.ravel())
    crate = _saved(
        folder, "crate.dae",
        '<?xml version="1.0"?><COLLADA xmlns="http://www.collada.org/2005/11/COLLADASchema" version="1.4.1"><asset><unit meter="0.01" name="cm"/>'
        '<up_axis>Y_UP</up_axis></asset><library_geometries><geometry id="g"><mesh><source id="p"><float_array id="a" count="24">' + corners +
        '</float_array><technique_common><accessor source="#a" count="8" stride="3"><param name="X" type="float"/><param name="Y" type="float"/>'
        '<param name="Z" type="float"/></accessor></technique_common></source><vertices id="v"><input semantic="POSITION" source="#p"/></vertices>'
        f'<triangles count="12"><input semantic="VERTEX" source="#v" offset="0"/><p>{faces}</p></triangles></mesh></geometry></library_geometries>'
        '<library_visual_scenes><visual_scene id="s"><node id="n"><instance_geometry url="#g"/></node></visual_scene></library_visual_scenes>'
        '<scene><instance_visual_scene url="#s"/></scene></COLLADA>',
    )  # fmt: skip
    Image.fromarray(np.kron(rng.integers(0, 256, (2, 2, 3), dtype=np.uint8), np.ones((16, 16, 1), np.uint8))).save(
        folder / "wrap.png"
    )
    wrapped = f"""#usda 1.0
(
 defaultPrim = "obj"
 metersPerUnit = 1
 upAxis = "Z"
)
def Xform "obj" {{
 def Mesh "seen" (prepend apiSchemas = ["MaterialBindingAPI"]) {{
 {CUBE} {points((0.08, 0.06, 0.05))}
  texCoord2f[] primvars:st = [(0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.1, 0.9), (0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.1, 0.9)] (
   interpolation = "vertex"
  )
  rel material:binding = </obj/skin> }}
 def Material "skin" {{
  token outputs:surface.connect = </obj/skin/s.outputs:surface>
  def Shader "s" {{
   uniform token info:id = "UsdPreviewSurface"
   color3f inputs:diffuseColor.connect = </obj/skin/t.outputs:rgb>
   token outputs:surface }}
  def Shader "t" {{
   uniform token info:id = "UsdUVTexture"
   asset inputs:file = @wrap.png@
   float2 inputs:st.connect = </obj/skin/r.outputs:result>
   float3 outputs:rgb }}
  def Shader "r" {{
   uniform token info:id = "UsdPrimvarReader_float2"
   string inputs:varname = "st"
   float2 outputs:result }} }}
}}"""
    plain = _saved(folder, "wrapped_inside.usda", re.sub(r"\s*}\s*", "\n}\n", wrapped))
    UsdUtils.CreateNewUsdzPackage(Sdf.AssetPath(str(plain)), str(folder / "wrapped.usdz"))
    return [
        Case(name="3mf", path=folder / "slab.3mf", size=(0.06, 0.04, 0.03)),
        Case(name="dae", path=crate, size=(0.12, 0.1, 0.2)),
        Case(name="usdz", path=folder / "wrapped.usdz", size=(0.08, 0.06, 0.05)),
    ]


def _mjcf(folder: Path, rng: np.random.Generator) -> list[Case]:
    mass, friction = round(float(rng.uniform(0.2, 0.8)), 4), round(float(rng.uniform(0.1, 0.9)), 3)
    explicit = _saved(
        folder, "explicit.xml",
        f'<mujoco><worldbody><body name="b" pos="0 0 0.05"><freejoint/><inertial pos="0.03 0 0" mass="{mass}" diaginertia="0.001 0.002 0.0025"/>'
        f'<geom type="box" size="0.05 0.03 0.05" friction="{friction} 0.005 0.0001"/></body></worldbody></mujoco>',
    )  # fmt: skip
    two = _saved(
        folder, "two.xml",
        '<mujoco><worldbody><body name="pot"><freejoint/><geom type="cylinder" size="0.05 0.04"/></body>'
        '<body name="cover" pos="0 0 0.06"><freejoint/><geom type="cylinder" size="0.05 0.005"/></body></worldbody></mujoco>',
    )  # fmt: skip
    joystick = _saved(
        folder, "joystick.xml",
        '<mujoco><worldbody><body name="base"><geom type="box" size="0.05 0.05 0.01"/><body name="stick" pos="0 0 0.03">'
        '<joint name="jx" axis="1 0 0" range="-20 20" armature="0.01"/><joint name="jy" axis="0 1 0" range="-20 20"/>'
        '<geom type="capsule" size="0.006" fromto="0 0 0 0 0 0.1"/></body></body></worldbody></mujoco>',
    )  # fmt: skip
    ball = _saved(
        folder, "socket.xml",
        '<mujoco><worldbody><body name="base"><geom type="box" size="0.05 0.05 0.01"/><body name="stick" pos="0 0 0.03">'
        '<joint name="socket" type="ball"/><geom type="capsule" size="0.006" fromto="0 0 0 0 0 0.1"/></body></body></worldbody></mujoco>',
    )  # fmt: skip
    return [
        Case(name="mjcf inertial", path=explicit, mass=mass, com=(0.03, 0.0, 0.05), expects={"friction": friction}),
        Case(name="mjcf two things", path=two, item="pot", size=(0.1, 0.1, 0.08)),
        Case(name="mjcf two things", path=two, item="cover", size=(0.1, 0.1, 0.01)),
        Case(name="mjcf two hinges", path=joystick, robot=True, joints=3),
        Case(name="mjcf ball joint", path=ball, robot=True, joints=4),
    ]  # fmt: skip


def _usd(folder: Path, rng: np.random.Generator) -> list[Case]:
    mass = round(float(rng.uniform(0.2, 0.6)), 4)
    body = 'prepend apiSchemas = ["PhysicsRigidBodyAPI", "PhysicsMassAPI"]'
    gprims = f"""#usda 1.0
(
 defaultPrim = "obj"
 metersPerUnit = 1
 upAxis = "Z"
)
def Xform "obj" ({body}) {{
 float physics:mass = {mass}
 point3f physics:centerOfMass = (0.02, 0, 0)
 float3 physics:diagonalInertia = (0.001, 0.002, 0.002)
 def Cube "a" (prepend apiSchemas = ["PhysicsCollisionAPI"]) {{
  double size = 0.1
 }}
}}"""
    purpose = f"""#usda 1.0
(
 defaultPrim = "obj"
 metersPerUnit = 1
 upAxis = "Z"
)
def Xform "obj" {{
 def Mesh "seen" {{
 {CUBE} {points((0.1, 0.1, 0.1))} }}
 def Xform "coll" {{
  uniform token purpose = "guide"
  def Mesh "m" {{
 {CUBE} {points((0.4, 0.4, 0.4))} }} }}
 def Mesh "hidden" {{
 {CUBE} {points((0.1, 0.1, 0.1), (0.9, 0.9, 0.9))}
  token visibility = "invisible" }}
}}"""
    centimetres = f"""#usda 1.0
(
 defaultPrim = "obj"
 kilogramsPerUnit = 0.001
 metersPerUnit = 0.01
 upAxis = "Y"
)
def Xform "obj" ({body}) {{
 float physics:mass = 300
 def Mesh "vis" {{
 {CUBE} {points((10, 20, 10))} }} }}"""
    rubbing = f"""#usda 1.0
(
 defaultPrim = "obj"
 metersPerUnit = 1
 upAxis = "Z"
)
def Xform "obj" ({body}) {{
 float physics:mass = {mass}
 point3f physics:centerOfMass = (0.01, 0, 0.05)
 float3 physics:diagonalInertia = (0.001, 0.002, 0.0025)
 def Mesh "vis" (prepend apiSchemas = ["MaterialBindingAPI", "PhysicsCollisionAPI"]) {{
 {CUBE} {points((0.1, 0.06, 0.1))}
  rel material:binding:physics = </obj/pm> }}
 def Material "pm" (prepend apiSchemas = ["PhysicsMaterialAPI"]) {{
  float physics:dynamicFriction = 0.1
  float physics:restitution = 0.7
  float physics:staticFriction = 0.11 }}
}}"""
    files = {"gprims": gprims, "purpose": purpose, "centimetres": centimetres, "rubbing": rubbing}
    # USD wants a line for every closing brace.
    paths = {name: _saved(folder, f"{name}.usda", re.sub(r"\s*}\s*", "\n}\n", text)) for name, text in files.items()}
    return [
        Case(name="usd gprims", path=paths["gprims"], mass=mass, com=(0.02, 0.0, 0.05), size=(0.1, 0.1, 0.1)),
        Case(name="usd purpose", path=paths["purpose"], size=(0.1, 0.1, 0.1)),
        Case(name="usd units", path=paths["centimetres"], mass=0.3, size=(0.1, 0.1, 0.2)),
        Case(
            name="usd surface",
            path=paths["rubbing"],
            mass=mass,
            com=(0.01, 0.0, 0.05),
            expects={"friction": 0.1, "restitution": 0.7},
        ),
    ]


def textured_cube(folder: Path, name: str, rng: np.random.Generator) -> Path:
    """An OBJ cube with a picture on it, all coordinates its own."""
    colors = rng.integers(0, 256, (2, 2, 3), dtype=np.uint8)
    Image.fromarray(np.kron(colors, np.ones((16, 16, 1), np.uint8))).save(folder / f"{name}.png")
    (folder / f"{name}.mtl").write_text(f"newmtl skin\nKd 1 1 1\nmap_Kd {name}.png\n")
    cube = trimesh.creation.box((0.08, 0.06, 0.05))
    lines = [f"mtllib {name}.mtl", *(f"v {x} {y} {z}" for x, y, z in cube.vertices)]
    uv = (cube.vertices[:, :2] - cube.vertices[:, :2].min(axis=0)) / np.ptp(cube.vertices[:, :2], axis=0)
    uv = 0.03 + 0.94 * uv  # no corner of the picture lies where it repeats
    lines += [f"vt {u} {v}" for u, v in uv]
    lines += ["usemtl skin", *("f " + " ".join(f"{i + 1}/{i + 1}" for i in face) for face in cube.faces)]
    return _saved(folder, f"{name}.obj", "\n".join(lines))


def container(rng: np.random.Generator) -> trimesh.Trimesh:
    """An open vessel of a single wall: a turned profile with a bottom and no lid."""
    foot, mouth, height = rng.uniform(0.025, 0.04), rng.uniform(0.035, 0.06), rng.uniform(0.05, 0.12)
    turns, rings = 48, 8
    angles = np.arange(turns) * 2 * np.pi / turns
    share = np.linspace(0.0, 1.0, rings)
    radii = foot + (mouth - foot) * share ** rng.uniform(0.5, 1.5)
    vertices = [(0.0, 0.0, 0.0)]
    vertices += [(r * np.cos(a), r * np.sin(a), s * height) for r, s in zip(radii, share, strict=True) for a in angles]
    faces = [(0, 1 + (i + 1) % turns, 1 + i) for i in range(turns)]
    for ring in range(rings - 1):
        for i in range(turns):
            a, b = 1 + ring * turns + i, 1 + ring * turns + (i + 1) % turns
            faces += [(a, b, b + turns), (a, b + turns, a + turns)]
    return trimesh.Trimesh(np.array(vertices), np.array(faces), process=False)


def _meshes(folder: Path, rng: np.random.Generator) -> list[Case]:
    container(rng).export(folder / "open_cup.stl")
    trimesh.creation.icosphere(3, 0.05).export(folder / "round.stl")
    tilted = trimesh.creation.box((0.03, 0.05, 0.12))
    tilted.apply_transform(trimesh.transformations.rotation_matrix(0.35, [1.0, 0.4, 0.0]))
    tilted.export(folder / "tilted.obj")
    scene = trimesh.Scene()
    for index in range(2):
        place = trimesh.transformations.translation_matrix([0.3 * index, 0.0, 0.0])
        scene.add_geometry(
            trimesh.creation.box((0.05, 0.05, 0.08)), node_name=f"thing_{index}", geom_name=f"g{index}", transform=place
        )
    scene.export(folder / "things.glb")
    trimesh.creation.cone(0.04, 0.1, sections=64).export(folder / "cone.ply")
    return [
        Case(name="textured", path=textured_cube(folder, "skinned", rng), size=(0.08, 0.06, 0.05)),
        Case(name="open surface", path=folder / "open_cup.stl"),
        Case(name="ball", path=folder / "round.stl", size=(0.1, 0.1, 0.1)),
        Case(name="tilted", path=folder / "tilted.obj"),
        Case(name="glb of things", path=folder / "things.glb", item="thing_0"),
        Case(name="glb of things", path=folder / "things.glb", item="thing_1"),
        Case(name="cone", path=folder / "cone.ply"),
    ]
