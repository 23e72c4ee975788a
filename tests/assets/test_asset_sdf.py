"""SDF and URDF: what is described twice is read alike, and as MuJoCo reads it."""

import mujoco
import numpy as np
import pytest

from embodichain.assets.families.parts import Preservation
from embodichain.assets.reading.sdf import read_sdf
from embodichain.assets.reading.urdf import read_urdf
from embodichain.errors import AssetError
from embodichain.types import JointKind, rotate
from embodichain.types.poses import compose, matrix_of

BOX = "<geometry><box><size>0.1 0.1 0.1</size></box></geometry>"
LINK = f'<visual name="v">{BOX}</visual>'


def numbers(values):
    return " ".join(repr(float(value)) for value in values)


def drawn(seed):
    """A tree of links with everything drawn, as URDF and as SDF."""
    rng = np.random.default_rng(seed)
    urdf, sdf = "", ""
    for index in range(int(rng.integers(2, 6))):
        place, turn, size = rng.uniform(-0.3, 0.3, 3), rng.uniform(-3, 3, 3), rng.uniform(0.05, 0.2, 3)
        mass, center, tilt = rng.uniform(0.1, 3.0), rng.uniform(-0.02, 0.02, 3), rng.uniform(-3, 3, 3)
        xx, yy = rng.uniform(0.01, 0.02, 2).tolist()
        xy, xz, yz, zz = *rng.uniform(-1e-3, 1e-3, 3).tolist(), rng.uniform(0.012, 0.02)
        urdf += (
            f'<link name="l{index}"><inertial><origin xyz="{numbers(center)}" rpy="{numbers(tilt)}"/><mass value="{mass!r}"/>'
            f'<inertia ixx="{xx!r}" iyy="{yy!r}" izz="{zz!r}" ixy="{xy!r}" ixz="{xz!r}" iyz="{yz!r}"/></inertial>'
            f'<collision><geometry><box size="{numbers(size)}"/></geometry></collision></link>'
        )
        where = f'<pose relative_to="j{index}"/>' if index else ""
        sdf += (
            f'<link name="l{index}">{where}<inertial><pose>{numbers(center)} {numbers(tilt)}</pose><mass>{mass!r}</mass><inertia>'
            f"<ixx>{xx!r}</ixx><iyy>{yy!r}</iyy><izz>{zz!r}</izz><ixy>{xy!r}</ixy><ixz>{xz!r}</ixz><iyz>{yz!r}</iyz></inertia></inertial>"
            f'<collision name="c"><geometry><box><size>{numbers(size)}</size></box></geometry></collision></link>'
        )
        if index == 0:
            continue
        parent, kind = int(rng.integers(index)), str(rng.choice(["revolute", "prismatic", "continuous", "fixed"]))
        axis = rng.normal(size=3)
        lower, upper = sorted(rng.uniform(-2, 2, 2).tolist())
        effort, velocity, damping, friction = rng.uniform(0.1, 50.0, 4).tolist()
        # MuJoCo would take the ends of an endless joint for limits, against the format.
        ends = "" if kind == "continuous" else f'lower="{lower!r}" upper="{upper!r}"'
        limit = f'<limit {ends} effort="{effort!r}" velocity="{velocity!r}"/>'
        urdf += (
            f'<joint name="j{index}" type="{kind}"><parent link="l{parent}"/><child link="l{index}"/>'
            f'<origin xyz="{numbers(place)}" rpy="{numbers(turn)}"/><axis xyz="{numbers(axis)}"/>'
            f'{"" if kind == "fixed" else limit}<dynamics damping="{damping!r}" friction="{friction!r}"/></joint>'
        )
        ends = "" if kind == "continuous" else f"<lower>{lower!r}</lower><upper>{upper!r}</upper>"
        inner = (
            f"<axis><xyz>{numbers(axis)}</xyz><limit>{ends}<effort>{effort!r}</effort><velocity>{velocity!r}</velocity></limit>"
            f"<dynamics><damping>{damping!r}</damping><friction>{friction!r}</friction></dynamics></axis>"
        )
        sdf += (
            f'<joint name="j{index}" type="{kind}"><parent>l{parent}</parent><child>l{index}</child>'
            f'<pose relative_to="l{parent}">{numbers(place)} {numbers(turn)}</pose>{"" if kind == "fixed" else inner}</joint>'
        )
    return f'<robot name="r">{urdf}</robot>', f'<sdf version="1.9"><model name="r">{sdf}</model></sdf>'


@pytest.mark.parametrize("seed", range(12))
def test_what_is_described_twice_is_read_alike(seed, tmp_path):
    urdf, sdf = drawn(seed)
    (tmp_path / "r.urdf").write_text(urdf)
    (tmp_path / "r.sdf").write_text(sdf)
    one, other = read_urdf(tmp_path / "r.urdf"), read_sdf(tmp_path / "r.sdf")
    parts = {part.name: part for part in other.parts}
    assert parts.keys() == {part.name for part in one.parts}
    for part in one.parts:
        twin = parts[part.name]
        for first, second in ((part.pose.position, twin.pose.position), (part.stated.center_of_mass, twin.stated.center_of_mass)):
            assert second == pytest.approx(first, abs=1e-9)
        assert np.allclose(matrix_of(part.pose.quaternion), matrix_of(twin.pose.quaternion), atol=1e-9)
        assert twin.stated.mass == pytest.approx(part.stated.mass)
        assert np.allclose(part.stated.inertia, twin.stated.inertia, atol=1e-12)
        for first, second in zip(part.stated.colliders, twin.stated.colliders, strict=True):
            assert second.shape.size == pytest.approx(first.shape.size)
            assert second.shape.pose.position == pytest.approx(first.shape.pose.position, abs=1e-9)
    joints = {joint.name: joint for joint in other.joints}
    for joint in one.joints:
        twin = joints[joint.name]
        assert (twin.kind, twin.parent, twin.child) == (joint.kind, joint.parent, joint.child)
        assert twin.axis == pytest.approx(joint.axis, abs=1e-9)
        assert twin.anchor == pytest.approx(joint.anchor, abs=1e-9)
        for name in ("lower", "upper", "damping", "friction", "effort", "velocity"):
            assert getattr(twin, name) == pytest.approx(getattr(joint, name)), name


@pytest.mark.parametrize("seed", range(12))
def test_a_urdf_is_read_as_mujoco_reads_it(seed, tmp_path):
    urdf, _ = drawn(seed)
    (tmp_path / "r.urdf").write_text(urdf)
    reading = read_urdf(tmp_path / "r.urdf")
    spec = mujoco.MjSpec.from_file(str(tmp_path / "r.urdf"))
    for body in spec.bodies:
        if body.parent == spec.worldbody:
            body.add_freejoint()
    spec.compiler.fusestatic = True
    model = spec.compile()
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    assert {part.name for part in reading.parts} == {model.body(i).name for i in range(1, model.nbody)}
    for part in reading.parts:
        index = model.body(part.name).id
        assert part.stated.mass == pytest.approx(float(model.body_mass[index]))
        turn = np.array(matrix_of(part.pose.quaternion))
        assert turn @ part.stated.center_of_mass + part.pose.position == pytest.approx(data.xipos[index], abs=1e-9)
        axes = data.ximat[index].reshape(3, 3)
        assert np.allclose(turn @ part.stated.inertia @ turn.T, axes @ np.diag(model.body_inertia[index]) @ axes.T, atol=1e-9)
        volume = sum(float(np.prod(model.geom_size[g])) * 8 for g in range(model.ngeom) if model.geom_bodyid[g] == index)
        assert sum(float(np.prod(hull.shape.size)) for hull in part.stated.colliders) == pytest.approx(volume)
    poses = {part.name: part.pose for part in reading.parts}
    for joint in (joint for joint in reading.joints if joint.kind is not JointKind.FIXED):
        index = model.joint(joint.name).id
        assert rotate(poses[joint.child].quaternion, np.array(joint.axis)) == pytest.approx(data.xaxis[index], abs=1e-9)
        assert compose(poses[joint.child], type(poses[joint.child])(position=joint.anchor)).position == pytest.approx(
            data.xanchor[index], abs=1e-9
        )
        assert bool(model.jnt_limited[index]) == joint.bounded
        if joint.bounded:
            assert (joint.lower, joint.upper) == pytest.approx(tuple(model.jnt_range[index]))
        assert joint.damping == pytest.approx(float(np.ravel(model.dof_damping[model.jnt_dofadr[index]])[0]))
        assert joint.friction == pytest.approx(float(model.dof_frictionloss[model.jnt_dofadr[index]]))


@pytest.mark.parametrize(
    ("version", "tag", "expected"),
    [("1.4", "<xyz>1 0 0</xyz>", (1, 0, 0)),
     ("1.12", "<xyz>1 0 0</xyz>", (0, 1, 0)), ("1.6", "<xyz>1 0 0</xyz>", (0, 1, 0)), ("1.9", "<xyz>1 0 0</xyz>", (0, 1, 0)),
     ("1.6", "<xyz>1 0 0</xyz><use_parent_model_frame>1</use_parent_model_frame>", (1, 0, 0)),
     ("1.9", '<xyz expressed_in="__model__">1 0 0</xyz>', (1, 0, 0)), ("1.9", '<xyz expressed_in="a">0 1 0</xyz>', (0, 1, 0))],
)  # fmt: skip
def test_an_axis_is_seen_from_where_its_version_says(version, tag, expected, tmp_path):
    path = tmp_path / "turned.sdf"
    path.write_text(
        f'<sdf version="{version}"><model name="m"><link name="a">{LINK}</link>'
        f'<link name="b"><pose>0.3 0 0 0 0 {np.pi / 2}</pose>{LINK}</link>'
        f'<joint name="j" type="revolute"><parent>a</parent><child>b</child><axis>{tag}</axis></joint></model></sdf>'
    )
    reading = read_sdf(path)
    (joint,), poses = reading.joints, {part.name: part.pose for part in reading.parts}
    assert rotate(poses["b"].quaternion, np.array(joint.axis)) == pytest.approx(expected, abs=1e-9)


def test_included_models_bring_their_frames_and_static_ones_are_bolted(tmp_path):
    (tmp_path / "cup").mkdir()
    (tmp_path / "cup" / "model.sdf").write_text(
        f'<sdf version="1.7"><model name="cup"><link name="body"><pose>0 0 1 0 0 0</pose>{LINK}</link></model></sdf>'
    )
    (tmp_path / "world.sdf").write_text(
        '<sdf version="1.7"><world name="w"><include><uri>model://cup</uri><name>left</name><pose>1 0 0 0 0 0</pose></include>'
        "<include><uri>model://cup</uri><pose>2 0 0 0 0 0</pose><static>true</static></include>"
        '<model name="floor"><static>1</static><link name="l"><collision name="c"><geometry><plane/></geometry></collision></link>'
        "</model></world></sdf>"
    )
    reading = read_sdf(tmp_path / "world.sdf")
    assert {part.name: part.pose.position for part in reading.parts} == {"left_body": (1, 0, 1), "cup_body": (2, 0, 1)}
    assert [(joint.parent, joint.child) for joint in reading.joints] == [("", "cup_body")]
    assert (tmp_path / "cup" / "model.sdf").resolve() in reading.files
    assert {row.what for row in reading.fidelity if row.fate is Preservation.DROPPED} >= {"collision plane"}


def test_a_joint_that_is_locked_away_from_zero_holds_its_child_there(tmp_path):
    path = tmp_path / "locked.sdf"
    limit = "<limit><lower>0.5</lower><upper>0.5</upper></limit>"
    path.write_text(
        f'<sdf version="1.9"><model name="m"><link name="a">{LINK}</link><link name="b"><pose>0.3 0 0 0 0 0</pose>{LINK}</link>'
        f'<link name="c"><pose>0.6 0 0 0 0 0</pose>{LINK}</link><joint name="j" type="prismatic"><parent>a</parent><child>b</child>'
        f'<axis><xyz>0 0 1</xyz>{limit}</axis></joint><joint name="k" type="continuous"><parent>b</parent><child>c</child></joint>'
        "</model></sdf>"
    )
    reading = read_sdf(path)
    assert {part.name: part.pose.position[2] for part in reading.parts} == {"a": 0.0, "c": 0.5}
    assert [row.reason for row in reading.fidelity if row.what == "joint"] == ["its limits leave one position: it is locked there"]


@pytest.mark.parametrize(
    ("inner", "reason"),
    [("", "no links"), ('<link name="a"/>', "no shape"), (f'<link name="a"><pose relative_to="b"/>{LINK}</link>', "'b' in m"),
     (f'<link name="a">{LINK}</link><joint name="j" type="fixed"><parent>a</parent><child>z</child></joint>', "'z' in m")],
)  # fmt: skip
def test_what_is_no_model_is_refused_with_its_reason(inner, reason, tmp_path):
    (tmp_path / "m.sdf").write_text(f'<sdf version="1.9"><model name="m">{inner}</model></sdf>')
    with pytest.raises(AssetError, match=reason):
        read_sdf(tmp_path / "m.sdf")


def model(path, inner, version="1.9", around="{}"):
    path.write_text(f'<sdf version="{version}">{around.format(f"""<model name="m">{inner}</model>""")}</sdf>')
    return read_sdf(path)


def body(name, x=0.0, inner=LINK):
    return f'<link name="{name}"><pose>{x} 0 0 0 0 0</pose>{inner}</link>'


def tie(name, parent, child, kind="fixed", inner="", pose=""):
    return f'<joint name="{name}" type="{kind}">{pose}<parent>{parent}</parent><child>{child}</child>{inner}</joint>'


def test_frames_that_hang_on_each_other_are_refused_and_not_followed_for_ever(tmp_path):
    itself = '<frame name="f"><pose relative_to="f"/></frame>'
    circle = '<frame name="f" attached_to="g"/><frame name="g" attached_to="f"/>'
    for inner, reason in (
        (body("a") + body("b", 1) + circle + tie("j", "a", "f"), "circle"),
        (body("a") + tie("j", "a", "j"), "circle"),
        (body("a") + '<frame name="f" attached_to="nope"/>' + tie("j", "f", "a"), "'nope' in m"),
        (body("a") + body("b", 1) + itself + tie("j", "a", "b", "continuous", pose='<pose relative_to="f"/>'), "circle"),
    ):  # fmt: skip
        with pytest.raises(AssetError, match=reason):
            model(tmp_path / "m.sdf", inner)


def test_a_joint_may_be_called_as_a_link_is_and_names_may_hold_colons(tmp_path):
    hinge = tie("b", "a", "b", "continuous", "<axis><xyz>0 0 1</xyz></axis>", "<pose>0.1 0 0 0 0 0</pose>")
    reading = model(tmp_path / "m.sdf", body("a") + body("b", 0.3) + hinge, "1.6")
    assert {part.name: part.pose.position[0] for part in reading.parts} == {"a": 0.0, "b": 0.3}
    assert reading.joints[0].anchor == pytest.approx((0.1, 0, 0))
    flat = '<pose relative_to="x::a">0.3 0 0 0 0 0</pose>' + LINK.replace(BOX, '<pose relative_to="x::a">0 0 1 0 0 0</pose>' + BOX)
    joint = tie("x::j", "x::a", "x::b", "revolute", "<axis><xyz>0 1 0</xyz></axis>")
    reading = model(tmp_path / "m.sdf", f'{body("x::a")}<link name="x::b">{flat}</link>{joint}')
    assert [joint.name for joint in reading.joints] == ["x_j"]


def test_a_joint_whose_child_is_the_world_moves_its_link_the_other_way(tmp_path):
    axis = "<axis><xyz>0 0 1</xyz><limit><lower>-0.1</lower><upper>0.5</upper></limit></axis>"
    (joint,) = model(tmp_path / "m.sdf", body("a") + tie("j", "a", "world", "prismatic", axis)).joints
    assert (joint.parent, joint.child, joint.lower, joint.upper) == ("", "a", -0.1, 0.5)
    assert joint.axis == pytest.approx((0, 0, -1))
    locked = axis.replace("-0.1", "0.5")
    (part,) = model(tmp_path / "m.sdf", body("a") + tie("j", "a", "world", "prismatic", locked)).parts
    assert part.pose.position == pytest.approx((0, 0, -0.5))


def test_names_may_be_used_before_and_outside_the_model_that_they_stand_in(tmp_path):
    frame = '<frame name="shelf"><pose>0 0 2 0 0 0</pose></frame>'
    around = (
        '<world name="w"><model name="cup"><pose relative_to="m">0 1 0 0 0 0</pose>' + body("c") + "</model>{}" + frame + "</world>"
    )
    reading = model(tmp_path / "m.sdf", '<pose relative_to="shelf">1 0 0 0 0 0</pose>' + body("a"), around=around)
    assert {part.name: part.pose.position for part in reading.parts} == {"cup_c": (1, 1, 2), "m_a": (1, 0, 2)}
    reading = model(tmp_path / "m.sdf", "<static>1</static>" + body("a") + body("b", 1) + body("c", 2) + tie("j", "b", "a"))
    assert [part.name for part in reading.parts] == ["b"], "a hangs on b by its own joint, c by the model being static"


def test_a_model_may_be_included_often_but_not_within_itself(tmp_path):
    (tmp_path / "cup").mkdir()
    (tmp_path / "cup" / "model.sdf").write_text(f'<sdf version="1.12"><model name="cup">{body("b")}</model></sdf>')
    many = "".join(f"<include><uri>model://cup</uri><pose>{i} 0 0 0 0 0</pose></include>" for i in range(65))
    (tmp_path / "many.sdf").write_text(f'<sdf version="1.9"><world name="w">{many}</world></sdf>')
    assert len(read_sdf(tmp_path / "many.sdf").parts) == 65
    again = "<include><uri>model://cup</uri></include>"
    (tmp_path / "cup" / "model.sdf").write_text(f'<sdf version="1.9"><model name="cup">{body("b")}{again}</model></sdf>')
    with pytest.raises(AssetError, match="includes itself"):
        read_sdf(tmp_path / "many.sdf")


def test_what_is_left_out_of_a_model_or_changed_has_a_row(tmp_path):
    mass = "<inertial><mass>2</mass></inertial>"
    clear = LINK.replace("</geometry>", "</geometry><material><diffuse>1 0 0 0</diffuse></material>")
    flat = '<collision name="c"><geometry><sphere><radius>0</radius></sphere></geometry></collision>'
    minus = '<collision name="c"><geometry><box><size>0.1 -0.1 0.1</size></box></geometry></collision>'
    reading = model(tmp_path / "m.sdf", body("a", inner=clear + flat) + body("b", inner=LINK + minus) + body("c", inner=mass))
    rows = {(row.of, row.what): (row.stated, row.written) for row in reading.fidelity}
    assert rows[("c", "link")] == ("link of 2 kg", None)
    assert rows[("a", "alpha")] == (0.0, 1.0)
    assert rows[("a", "collision")][0] == "sphere of size 0"
    assert rows[("b", "collision")][0] == "box of size 0.1 -0.1 0.1"
    assert not [part.name for part in reading.parts if part.stated.colliders]
    with pytest.raises(AssetError, match="quaternion"):
        model(tmp_path / "m.sdf", f'<link name="a"><pose rotation_format="quat_xyzw">0 0 0 0 0 0 0</pose>{LINK}</link>')


def test_no_xml_reaches_a_reader_that_could_harm_it(tmp_path):
    head = '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE x [<!ENTITY a "b">]>'
    bomb = f'<sdf version="1.9"><model name="m">{body("a")}</model></sdf>'
    (tmp_path / "m.sdf").write_bytes((head + bomb).encode("utf-16"))
    with pytest.raises(AssetError, match="entities"):
        read_sdf(tmp_path / "m.sdf")
    with pytest.raises(AssetError, match="nests elements"):
        model(tmp_path / "m.sdf", body("a") + "<plugin>" * 1200 + "</plugin>" * 1200)
