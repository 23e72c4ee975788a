"""Files that are made to be misread: each is built with what it states, or refused with one reason that names it."""

import json
import re
import struct

import numpy as np
import pytest
import trimesh
from foreign_cases import joint, link
from PIL import Image

from embodichain.assets.chain import optimize, settings
from embodichain.assets.families.parts import Preservation
from embodichain.assets.geometry.shapes import signed_volume
from embodichain.assets.reading.files import FileFacts, from_file
from embodichain.assets.reading.files import FileJob as Job
from embodichain.errors import AssetError

FREE = FileFacts(licence="CC0-1.0")
LIMIT = '<limit lower="-0.5" upper="0.5" effort="3" velocity="2"/>'
STAGE = '#usda 1.0\n(\n defaultPrim = "obj"\n metersPerUnit = {unit}\n upAxis = "Z"\n)\n'
WEDGE = np.array([[0, 0, 0], [0.1, 0, 0], [0, 0.06, 0], [0.1, 0.06, 0], [0, 0, 0.04], [0.04, 0, 0.04], [0, 0.06, 0.04]])


def saved(folder, name, text):
    path = folder / name
    path.write_text(re.sub(r"\s*}\s*", "\n}\n", text) if name.endswith(".usda") else text)
    return path


def robot(folder, name, *bodies):
    return saved(folder, f"{name}.urdf", f'<robot name="{name}">{"".join(bodies)}</robot>')


def rows(source, what):
    return {row.of: row for row in source.fidelity if row.what == what}


def fingers(*mimicries):
    """A palm and a finger for each text, which stands in its joint."""
    made = [link("palm", (0.2, 0.1, 0.02), (0, 0, 0.01))]
    for number, mimicry in enumerate(mimicries):
        name = f"f{number}"
        made.append(link(name, (0.02, 0.02, 0.05), (0, 0, 0.03)))
        made.append(joint(f"j{number}", "revolute", "palm", name, f"{0.06 * number - 0.06} 0 0.03", inner=LIMIT + mimicry))
    return made


@pytest.mark.parametrize(("unit", "name"), [(0.01, "tray_inches"), (1.0, "bracket_mm")])
def test_a_declared_unit_beats_one_in_the_name(unit, name, tmp_path):
    path = saved(
        tmp_path,
        f"{name}.usda",
        STAGE.format(unit=unit) + f'def Xform "obj" {{ def Cube "c" {{ double size = {0.08 / unit}\n }} }}',
    )
    (part,) = from_file(path, FREE).parts
    assert np.ptp(part.mesh.vertices, axis=0) == pytest.approx([0.08] * 3)


def test_a_chain_of_mimicry_stays_and_a_ring_is_cut_once(tmp_path):
    follow = '<mimic joint="{}" multiplier="{}" offset="{}"/>'
    chain = from_file(robot(tmp_path, "chain", *fingers("", follow.format("j0", 2, 0.1), follow.format("j1", -0.5, 0.02))), FREE)
    told = {j.name: (j.mimic.joint, j.mimic.multiplier, j.mimic.offset) for j in chain.joints if j.mimic}
    assert told == {"j1": ("j0", 2.0, 0.1), "j2": ("j1", -0.5, 0.02)}
    assert not rows(chain, "mimic")
    ring = from_file(robot(tmp_path, "ring", *fingers(*(follow.format(f"j{(n + 1) % 3}", 2, 0) for n in range(3)))), FREE)
    (row,) = rows(ring, "mimic").values()
    assert (row.of, row.fate) == ("j0", Preservation.DROPPED)
    assert "follows it in turn" in row.reason
    assert {j.name: j.mimic.joint for j in ring.joints if j.mimic} == {"j1": "j2", "j2": "j0"}


def test_a_joint_that_follows_two_or_an_inactive_one_is_told(tmp_path):
    slides = "".join(
        f'<body name="b{n}" pos="{0.1 * n} 0 .05"><joint name="s{n}" type="slide" range="0 .1"/><geom size=".02"/></body>'
        for n in range(4)
    )
    ties = '<joint name="a" joint1="s1" joint2="s0" polycoef="0 3 0 0 0"/><joint name="b" joint1="s1" joint2="s2"/>'
    ties += '<joint name="c" joint1="s3" joint2="s0" active="false"/>'
    base = f'<body name="base"><geom type="box" size=".2 .1 .01"/>{slides}</body>'
    text = f"<mujoco><worldbody>{base}</worldbody><equality>{ties}</equality></mujoco>"
    source = from_file(saved(tmp_path, "tied.xml", text), FREE)
    assert {j.name: (j.mimic.joint, j.mimic.multiplier) for j in source.joints if j.mimic} == {"s1": ("s0", 3.0)}
    told = rows(source, "equality joint")
    assert set(told) == {"b", "c"}
    assert told["c"].reason == "it is not active"


@pytest.mark.parametrize(
    ("bodies", "reason"),
    [
        ([*fingers(""), joint("again", "revolute", "palm", "f0", "0 0 1", inner=LIMIT)], "'f0' .* has two parent joints"),
        ([*fingers(""), link("f0", (0.1, 0.1, 0.1))], "two links of .* are called 'f0'"),
        ([link("a", (0.1,) * 3), link("b", (0.1,) * 3), joint("x", "fixed", "a", "b"), joint("y", "fixed", "b", "a")], "no root"),
    ],
)  # fmt: skip
def test_what_is_no_tree_is_refused_by_name(bodies, reason, tmp_path):
    with pytest.raises(AssetError, match=reason):
        from_file(robot(tmp_path, "knot", *bodies), FREE)


def test_a_mirrored_mesh_is_the_same_in_every_format(tmp_path):
    wedge = trimesh.convex.convex_hull(WEDGE)
    wedge.export(tmp_path / "wedge.stl")
    seen = '<link name="base"><visual><geometry><mesh filename="wedge.stl" scale="-1 1 1"/></geometry></visual></link>'
    urdf = robot(tmp_path, "by_urdf", seen)
    mjcf = saved(
        tmp_path, "by_mjcf.xml",
        '<mujoco><asset><mesh name="w" file="wedge.stl" scale="-1 1 1"/></asset><worldbody><body name="b"><freejoint/>'
        '<geom type="mesh" mesh="w"/></body></worldbody></mujoco>',
    )  # fmt: skip
    scene = trimesh.Scene()
    scene.add_geometry(wedge, transform=np.diag([-1.0, 1.0, 1.0, 1.0]))
    scene.export(tmp_path / "by_glb.glb")
    volume = wedge.volume
    skewed = wedge.center_mass[0] - 0.05
    for path, facts in ((urdf, FREE), (mjcf, FREE), (tmp_path / "by_glb.glb", FileFacts(licence="CC0-1.0", up="z"))):
        (part,) = from_file(path, facts).parts
        assert signed_volume(part.mesh) == pytest.approx(volume, rel=1e-5), path.name
        middle = trimesh.Trimesh(part.mesh.vertices, part.mesh.faces).center_mass[0]
        assert middle == pytest.approx(-skewed, abs=1e-5), path.name


def test_the_centre_and_inertia_of_a_mirrored_body_are_mirrored_with_it(tmp_path):
    points, faces = trimesh.convex.convex_hull(WEDGE).vertices, trimesh.convex.convex_hull(WEDGE).faces
    text = (
        STAGE.format(unit=1)
        + f"""def Xform "obj" (prepend apiSchemas = ["PhysicsRigidBodyAPI", "PhysicsMassAPI"]) {{
 float physics:mass = 0.4
 point3f physics:centerOfMass = (0.03, 0.02, 0.01)
 float3 physics:diagonalInertia = (0.0002, 0.0003, 0.0004)
 quatf physics:principalAxes = (0.9238795, 0, 0, 0.3826834)
 double3 xformOp:scale = (-2, 2, 2)
 uniform token[] xformOpOrder = ["xformOp:scale"]
 def Mesh "m" (prepend apiSchemas = ["PhysicsCollisionAPI"]) {{
  uniform token subdivisionScheme = "none"
  int[] faceVertexCounts = [{", ".join(["3"] * len(faces))}]
  int[] faceVertexIndices = [{", ".join(map(str, faces.ravel()))}]
  point3f[] points = [{", ".join(str(tuple(map(float, p))) for p in points)}] }}
}}"""
    )
    (part,) = from_file(saved(tmp_path, "mirrored.usda", text), FREE).parts
    # The stage has it at (-0.06, 0.04, 0.02) in a box from (-0.2, 0, 0) to (0, 0.12, 0.08), whose floor's middle is our origin.
    shown = part.pose.position
    assert np.add(part.stated.center_of_mass, shown) == pytest.approx([0.04, -0.02, 0.02], abs=1e-6)
    # Between X and Y, a product of inertia changes its sign.
    turned = np.array([[0.00025, -0.00005, 0.0], [-0.00005, 0.00025, 0.0], [0.0, 0.0, 0.0004]])
    mirror = np.diag([-1.0, 1.0, 1.0])
    assert part.stated.inertia == pytest.approx(mirror @ turned @ mirror, abs=1e-9)
    assert signed_volume(part.mesh) == pytest.approx(8 * trimesh.convex.convex_hull(WEDGE).volume, rel=1e-5)


def test_pictures_of_odd_names_stay_inside_the_asset(tmp_path):
    box = trimesh.creation.box((0.08, 0.06, 0.05))
    picture = Image.fromarray(np.kron(np.arange(12, dtype=np.uint8).reshape(2, 2, 3) * 20, np.ones((16, 16, 1), np.uint8)))
    skin = trimesh.visual.material.PBRMaterial(baseColorTexture=picture, name="..//skin é?")
    box.visual = trimesh.visual.TextureVisuals(uv=np.random.default_rng(0).uniform(0.1, 0.9, (8, 2)), material=skin)
    data = box.export(file_type="glb")
    length = struct.unpack("<I", data[12:16])[0]
    content = json.loads(data[20 : 20 + length])
    for image in content["images"]:
        image["name"] = "../../etc/pass wd\u00e9:*?.png"
    text = json.dumps(content).encode()
    text += b" " * (-len(text) % 4)
    rest = data[20 + length :]
    (tmp_path / "odd.glb").write_bytes(
        data[:8] + struct.pack("<I", 20 + len(text) + len(rest)) + struct.pack("<I", len(text)) + b"JSON" + text + rest
    )
    asset = optimize.build_job(Job(path=tmp_path / "odd.glb", facts=FREE), tmp_path / "out", config=settings.ChainConfig())
    (kept,) = (asset.path.parent / "textures").iterdir()
    with Image.open(kept) as found:
        assert np.array_equal(np.asarray(found.convert("RGB")), np.asarray(picture))
    assert {path.name for path in tmp_path.iterdir()} == {"odd.glb", "out"}


@pytest.mark.parametrize(("weighed", "subdivisions"), [(True, 1), (False, 2)])
def test_a_soup_is_shown_and_its_good_collider_felt(weighed, subdivisions, tmp_path):
    soup = trimesh.Trimesh(np.random.default_rng(1).uniform(-0.04, 0.04, (30, 3)), np.arange(30).reshape(-1, 3), process=False)
    soup.export(tmp_path / "soup.stl")
    good = trimesh.creation.icosphere(subdivisions, 0.04)
    good.export(tmp_path / "good.stl")
    inertial = '<inertial><mass value="0.2"/><inertia ixx="1e-4" iyy="1e-4" izz="1e-4" ixy="0" ixz="0" iyz="0"/></inertial>'
    shapes = "".join(
        f'<{tag}><geometry><mesh filename="{name}.stl"/></geometry></{tag}>'
        for tag, name in (("visual", "soup"), ("collision", "good"))
    )
    path = robot(tmp_path, "thing", f'<link name="base">{inertial * weighed}{shapes}</link>')
    facts = FileFacts(licence="CC0-1.0", keep_pose=True)
    asset = optimize.build_job(Job(path=path, facts=facts), tmp_path / "out", config=settings.ChainConfig())
    (body,) = asset.bodies
    (hull,) = body.hulls
    assert len(body.visual.faces) == 10
    told = {
        row["what"]: row["reason"]
        for row in json.loads(asset.path.with_suffix(".json").read_text())["fidelity"]
        if row["fate"] != "kept"
    }
    if subdivisions == 1:
        assert signed_volume(hull) == pytest.approx(good.volume, rel=1e-5)
        assert "collision mesh" not in told
    else:
        lost = 1 - signed_volume(hull) / good.volume
        assert f"a hull of 64 of its 162 vertices leaves out {lost:.2%}" in told["collision mesh"]
    if weighed:
        assert body.mass == pytest.approx(0.2)
    else:
        assert "solid" in told


def test_files_that_include_each_other_end(tmp_path):
    saved(
        tmp_path, "a.xml", '<mujoco><include file="b.xml"/><worldbody><body name="b"><geom size=".05"/></body></worldbody></mujoco>'
    )
    saved(tmp_path, "b.xml", '<mujoco><include file="a.xml"/></mujoco>')
    with pytest.raises(AssetError, match=r"b\.xml' already included"):
        from_file(tmp_path / "a.xml", FREE)
    shape = '<link name="l"><collision name="c"><geometry><box><size>.1 .1 .1</size></box></geometry></collision></link>'
    saved(tmp_path, "m.sdf", f'<sdf version="1.9"><model name="m"><include><uri>m.sdf</uri></include>{shape}</model></sdf>')
    with pytest.raises(AssetError, match="includes itself"):
        from_file(tmp_path / "m.sdf", FREE)


@pytest.mark.parametrize(("other", "reason"), [("one.usda", "Cycle detected"), ("gone.usda", "Could not open asset")])
def test_what_a_stage_cannot_compose_is_told(other, reason, tmp_path):
    inner = f'def Cube "c" {{ double size = 0.1\n }} def Xform "d" (references = @./{other}@) {{ }}'
    saved(tmp_path, "one.usda", STAGE.format(unit=1) + f'def Xform "obj" {{ {inner} }}')
    source = from_file(tmp_path / "one.usda", FREE)
    row = rows(source, "composition")["one.usda"]
    assert reason in row.stated
    assert row.fate is Preservation.DROPPED


def test_points_far_from_the_origin_keep_their_shape_or_are_refused(tmp_path):
    ball = trimesh.creation.icosphere(2, 0.05)
    ball.apply_translation([4e5, -3e5, 120.0])
    lines = [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in ball.vertices] + [
        "f " + " ".join(str(i + 1) for i in f) for f in ball.faces
    ]
    (part,) = from_file(saved(tmp_path, "exact.obj", "\n".join(lines)), FREE).parts
    assert np.linalg.norm(part.mesh.vertices - [0, 0, 0.05], axis=1) == pytest.approx(0.05, abs=1e-5)
    ball.export(tmp_path / "rounded.stl")
    with pytest.raises(AssetError, match=r"4e\+05 units from the origin, where its 32-bit numbers have steps of 0.031, 2\d%"):
        from_file(tmp_path / "rounded.stl", FREE)


def test_empty_geometry_is_a_row_and_not_the_end_of_a_robot(tmp_path):
    tip = '<link name="tip"><visual><geometry></geometry></visual></link>'
    arm = from_file(robot(tmp_path, "arm", *fingers(""), tip, joint("end", "revolute", "f0", "tip", "0 0 0.1", inner=LIMIT)), FREE)
    assert len(arm.joints) == 2
    assert rows(arm, "visual")["tip"].stated == "no geometry"
    with pytest.raises(AssetError, match=r"has no shape.*'base': no geometry"):
        from_file(robot(tmp_path, "void", '<link name="base"><visual><geometry/></visual></link>'), FREE)
    with pytest.raises(AssetError, match=r"has no shape.*'base': box of size"):
        from_file(
            robot(tmp_path, "flat", '<link name="base"><visual><geometry><box size="0 1 1"/></geometry></visual></link>'), FREE
        )
