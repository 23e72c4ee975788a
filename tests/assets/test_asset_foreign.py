"""What a file states is in its asset, or in the fidelity table; what data teams bring is built."""

import json
import re
from dataclasses import replace

import foreign_cases
import mujoco
import numpy as np
import pytest
import trimesh
from PIL import Image

from embodichain.assets.chain import batch, fidelity, foreign_stages, optimize, posture, publish, settings
from embodichain.assets.chain import referee as referee_room
from embodichain.assets.chain.referee import Agreement, referee
from embodichain.assets.families.parts import Preservation, Stated
from embodichain.assets.geometry.collision import convex_hull, measure, reduce_hull
from embodichain.assets.geometry.primitives import recognised
from embodichain.assets.geometry.repair import repair
from embodichain.assets.geometry.shapes import drawn
from embodichain.assets.pictures.preview import view_of
from embodichain.assets.pictures.textured import painted, psnr
from embodichain.assets.reading import folder, placing
from embodichain.assets.reading.files import FileFacts, FileJob, from_file
from embodichain.assets.reading.mesh_files import read_mesh
from embodichain.assets.reading.urdf import read_urdf
from embodichain.assets.usd import files as usd
from embodichain.assets.usd.foreign import resolve
from embodichain.cli import main
from embodichain.errors import AssetError, ConfigError
from embodichain.types import JointKind, Mesh, Pose, Shape, ShapeKind

FREE = FileFacts(licence="CC0-1.0")


ASKED = (
    "handle", "grip", "spin", "odd", "round", "tilted", "skinned", "two_pot", "two_cover", "things_thing_0", "lock", "explicit",
    "rubbing", "engine_block", "glide", "socket",
)  # fmt: skip
"""Kinds that a law of their own asks for; the others are built by the slow tests."""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Kinds of files, built: (case, outcome, report, asset) by the asset's name."""
    return all_built(tmp_path_factory.mktemp("foreign"), lambda name: name in ASKED)


def all_built(root, wanted):
    """The kinds whose asset's name is wanted."""
    cases = foreign_cases.write_all(root / "in", np.random.default_rng(3))
    pairs = [(case, FileJob(path=case.path, item=case.item, facts=FREE)) for case in cases]
    pairs = [(case, job) for case, job in pairs if wanted(job.name)]
    outcomes = batch.run([job for _, job in pairs], root / "out", batch.BatchConfig(jobs=2))
    found = {}
    for (case, job), outcome in zip(pairs, outcomes, strict=True):
        assert outcome.state == "built", f"{case.name}: {outcome.reason}"
        report = json.loads(outcome.file.with_suffix(".json").read_text())
        found[job.name] = (case, outcome, report, usd.read(outcome.file))
    return found


@pytest.mark.slow
def test_every_other_kind_is_kept_and_explained_too(tmp_path):
    others = all_built(tmp_path, lambda name: name not in ASKED)
    assert len(others) >= 10
    test_what_every_kind_states_is_kept(others)
    test_nothing_is_dropped_without_an_entry(others)


def test_what_every_kind_states_is_kept(built):
    for case, outcome, report, asset in built.values():
        told = {row["what"] for row in report["fidelity"] if row["fate"] != "kept"}
        written = resolve(outcome.file).bodies[0]  # as pxr says, not as our own reader does
        if case.mass is not None:
            assert written.mass == pytest.approx(case.mass, rel=1e-4), case.name
        if case.com is not None:
            assert written.center_of_mass == pytest.approx(case.com, abs=1e-4), case.name
        if case.size is not None and "pose" not in told:
            assert report["extents"] == pytest.approx(case.size, abs=1e-4), case.name
        for name, value in case.expects.items():
            key = {"friction": "dynamic_friction"}.get(name, name)
            assert getattr(asset.bodies[0].material, key) == pytest.approx(value, rel=1e-4), case.name
        assert len(asset.joints) == case.joints, case.name


def test_nothing_is_dropped_without_an_entry(built):
    for case, _, report, _ in built.values():
        assert [row for row in report["fidelity"] if row["reason"] == fidelity.UNEXPLAINED] == [], case.name
        assert all(row["reason"] for row in report["fidelity"] if row["fate"] != "kept"), case.name


def test_the_table_sees_what_changed_without_a_word(built):
    case, _, _, asset = built["handle"]
    raw = from_file(case.path, FREE)
    assert fidelity.unexplained(fidelity.table(raw, asset, ())) == []
    heavier = replace(asset, bodies=(replace(asset.bodies[0], mass=asset.bodies[0].mass * 1.001),))
    (row,) = fidelity.unexplained(fidelity.table(raw, heavier, ()))
    assert (row.of, row.what, row.fate) == ("base", "mass", Preservation.CHANGED)


def test_a_rotated_inertia_is_the_one_that_mujoco_reads(built):
    case, _, _, asset = built["handle"]
    native = mujoco.MjModel.from_xml_path(str(case.path))
    ours = mujoco.MjModel.from_xml_path(str(asset.path.with_suffix(".xml")))

    def inertia(model):
        matrix = np.zeros(9)
        mujoco.mju_quat2Mat(matrix, model.body_iquat[1])
        turn = matrix.reshape(3, 3)
        return turn @ np.diag(model.body_inertia[1]) @ turn.T

    # A URDF's root is welded to the world in MuJoCo, which then keeps it as its body 0.
    spec = mujoco.MjSpec.from_file(str(case.path))
    spec.compiler.fusestatic = False
    native = spec.compile()
    assert inertia(ours) == pytest.approx(inertia(native), abs=1e-7)


def test_mimicry_and_endless_joints_reach_every_format(built):
    _, outcome, _, asset = built["grip"]
    right = next(joint for joint in asset.joints if joint.name == "right")
    assert (right.mimic.joint, right.mimic.multiplier, right.effort, right.velocity) == ("left", 1.0, 20.0, pytest.approx(0.2))
    model = mujoco.MjModel.from_xml_path(str(asset.path.with_suffix(".xml")))
    assert model.neq == 1
    assert model.jnt_actfrcrange[model.joint("left").id] == pytest.approx([-20.0, 20.0])
    read = next(joint for joint in resolve(outcome.file).joints if joint.path.endswith("right"))
    assert read.mimic == (f"/{asset.name}/joints/left", 1.0, 0.0)
    _, _, _, spin = built["spin"]
    assert not spin.joints[0].bounded
    model = mujoco.MjModel.from_xml_path(str(spin.path.with_suffix(".xml")))
    assert not model.jnt_limited[model.joint("spin").id]


def test_an_absurd_inertia_is_replaced_and_listed(built):
    _, _, report, asset = built["odd"]
    (row,) = [row for row in report["fidelity"] if row["what"] == "inertia"]
    assert row["fate"] == "changed"
    assert "triangle" in row["reason"] or "reach" in row["reason"]
    low, middle, high = sorted(asset.bodies[0].diagonal_inertia)
    assert low + middle >= high


def test_what_nobody_reads_of_a_urdf_is_listed(tmp_path):
    path = tmp_path / "odd.urdf"
    path.write_text(
        '<robot name="r"><link name="a"><visual><geometry><box size="0.1 0.1 0.1"/></geometry></visual><colour of="it"/></link>'
        "<gazebo><static>true</static></gazebo></robot>"
    )
    rows = {(row.of, row.what): row.fate for row in read_urdf(path).fidelity}
    assert rows == {("a", "colour"): Preservation.DROPPED, ("r", "gazebo"): Preservation.DROPPED}


@pytest.mark.parametrize("kind", list(ShapeKind))
def test_analytic_shapes_are_recognised_as_they_lie_and_others_are_not(kind):
    rng = np.random.default_rng(1)
    size = {"box": (0.1, 0.05, 0.03), "sphere": (0.05, 0.0, 0.0), "cylinder": (0.03, 0.1, 0.0), "capsule": (0.02, 0.1, 0.0)}[kind]
    turn = rng.normal(size=4)
    pose = Pose(position=(0.1, -0.2, 0.3), quaternion=tuple(turn / np.linalg.norm(turn)))
    mesh = drawn(Shape(kind=kind, size=size, pose=pose))
    found = recognised(Mesh(vertices=mesh.vertices, faces=mesh.faces))
    assert found is not None
    assert found.kind is kind
    assert sorted(found.size) == pytest.approx(sorted(size), rel=0.01)
    dented = Mesh(vertices=mesh.vertices * (1.0 + 0.08 * (mesh.vertices[:, :1] > mesh.vertices[:, :1].mean())), faces=mesh.faces)
    assert recognised(dented) is None


def test_balls_roll(built):
    asset = built["round"][3]
    model = mujoco.MjModel.from_xml_string(
        asset.path.with_suffix(".xml").read_text().replace("<worldbody>", '<worldbody><geom type="plane" size="5 5 1"/>')
    )
    data = mujoco.MjData(model)
    data.qvel[0] = 0.2
    for _ in range(1000):
        mujoco.mj_step(model, data)
    assert data.qpos[0] > 0.2
    before = data.xipos[1].copy()
    mujoco.mj_step(model, data)
    speed = np.linalg.norm(data.xipos[1] - before) / model.opt.timestep
    assert np.linalg.norm(data.qvel[3:]) == pytest.approx(speed / 0.05, rel=0.1)


def test_what_does_not_stand_is_laid_or_left_as_it_lies(built, tmp_path):
    case, _, report, _ = built["tilted"]
    (row,) = [row for row in report["fidelity"] if row["what"] == "pose"]
    assert "nearest stable side" in row["reason"]
    assert sorted(report["extents"]) == pytest.approx([0.03, 0.05, 0.12], rel=1e-3)
    job = FileJob(path=case.path, facts=FileFacts(licence="CC0-1.0", keep_pose=True))
    left = optimize.build_job(job, tmp_path, config=settings.ChainConfig())
    told = json.loads(left.path.with_suffix(".json").read_text())
    assert not [row for row in told["fidelity"] if row["what"] == "pose"]
    assert "rest" in {flag["check"] for flag in told["flags"]}


def test_an_open_surface_without_a_wall_is_refused_with_its_size(tmp_path):
    foreign_cases.container(np.random.default_rng(0)).export(tmp_path / "thing.stl")
    with pytest.raises(AssetError, match=r"open: .* by .* mm, would add \d+% .*wall_m"):
        optimize.build_job(FileJob(path=tmp_path / "thing.stl", facts=FREE), tmp_path / "out", config=settings.ChainConfig())
    assert not list((tmp_path / "out").rglob("*.usd"))


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 20))])
def test_a_marble_dropped_into_an_open_vessel_stays_inside(seed):
    from embodichain.assets.geometry.collision import decompose

    vessel = foreign_cases.container(np.random.default_rng(seed))
    mesh = Mesh(vertices=np.array(vessel.vertices), faces=np.array(vessel.faces, np.int32))
    solid, report = repair(mesh, wall=0.003)
    assert report.method == "wall"
    corners = [" ".join(map(str, hull.vertices.ravel())) for hull in decompose(solid)]
    geoms = "".join(f'<mesh name="h{i}" inertia="convex" vertex="{text}"/>' for i, text in enumerate(corners))
    bodies = "".join(f'<geom type="mesh" mesh="h{i}"/>' for i in range(geoms.count("<mesh")))
    rim = mesh.vertices[:, 2].max()
    world = mujoco.MjModel.from_xml_string(
        '<mujoco><option timestep="0.0005"/><default><geom solref="0.004 1"/></default>'
        f'<asset>{geoms}</asset><worldbody>{bodies}<body pos="0.004 0 {rim + 0.012}"><freejoint/>'
        '<geom type="sphere" size="0.008" mass="0.005"/></body></worldbody></mujoco>'
    )
    data = mujoco.MjData(world)
    for _ in range(1600):
        mujoco.mj_step(world, data)
    x, y, z = data.qpos[:3]
    assert 0.0 < z < rim
    assert np.hypot(x, y) < np.abs(mesh.vertices[:, 0]).max()


def test_looks_are_those_of_the_input(built):
    case, outcome, _, _ = built["skinned"]
    source = read_mesh(case.path).parts[0].look
    given = [piece.look for piece in resolve(outcome.file).bodies[0].pieces if piece.visible]
    pictures = []
    for looks in ([source], given):
        points = np.concatenate([look.mesh.vertices for look in looks])
        pictures.append(painted(looks, 192, view_of(np.stack([points.min(axis=0), points.max(axis=0)]))))
    assert psnr(*pictures) >= 30.0
    assert list((outcome.file.parent / "textures").glob("*.png"))
    with (
        Image.open(case.path.with_suffix(".png")) as first,
        Image.open(next((outcome.file.parent / "textures").iterdir())) as second,
    ):
        assert np.array_equal(np.asarray(first.convert("RGB")), np.asarray(second.convert("RGB")))


def test_every_material_is_a_subset_of_its_own(tmp_path):
    from pxr import UsdGeom

    from embodichain.assets.usd.values import open_stage

    (tmp_path / "two.mtl").write_text("newmtl black\nKd 0 0 0\nnewmtl white\nKd 1 1 1\n")
    lower, upper = trimesh.creation.box((0.08, 0.08, 0.04)), trimesh.creation.box((0.04, 0.04, 0.04))
    upper.apply_translation([0.0, 0.0, 0.04])
    lines, offset = ["mtllib two.mtl"], 1
    for name, mesh in (("black", lower), ("white", upper)):
        lines += [f"v {x} {y} {z}" for x, y, z in mesh.vertices] + [f"usemtl {name}"]
        lines += ["f " + " ".join(str(i + offset) for i in face) for face in mesh.faces]
        offset += len(mesh.vertices)
    (tmp_path / "two.obj").write_text("\n".join(lines))
    asset = optimize.build_job(FileJob(path=tmp_path / "two.obj", facts=FREE), tmp_path / "out", config=settings.ChainConfig())
    stage = open_stage(asset.path)
    subsets = [UsdGeom.Subset(prim) for prim in stage.Traverse() if prim.IsA(UsdGeom.Subset)]
    assert {subset.GetPrim().GetName() for subset in subsets} == {"black", "white"}
    assert sorted(len(subset.GetIndicesAttr().Get()) for subset in subsets) == [12, 12]


def test_things_of_one_file_come_apart_and_into_a_scene(built):
    for name, size in (("two_pot", (0.1, 0.1, 0.08)), ("two_cover", (0.1, 0.1, 0.01))):
        assert built[name][2]["extents"] == pytest.approx(size, abs=1e-4)
        assert built[name][2]["parameters"]["scene"] == "two.xml"
    assert set(folder.items(built["things_thing_0"][0].path)) == {"thing_0", "thing_1"}


def test_a_folder_is_taken_by_what_refers_to_what(tmp_path):
    (tmp_path / "thing.urdf").write_text('<robot name="t">' + foreign_cases.link("b", (0.05, 0.05, 0.05)) + "</robot>")
    for name in ("cup_scan", "spoon_scan"):
        trimesh.creation.box((0.05, 0.05, 0.05)).export(tmp_path / f"{name}.obj")
    (tmp_path / "used.urdf").write_text(
        '<robot name="u"><link name="b"><visual><geometry><mesh filename="part.stl"/></geometry></visual></link></robot>'
    )
    trimesh.creation.box((0.05, 0.05, 0.05)).export(tmp_path / "part.stl")
    (tmp_path / "package.xml").write_text("<package/>")
    found = folder.survey(tmp_path)
    assert {file.name for file in found.files} == {"thing.urdf", "cup_scan.obj", "spoon_scan.obj", "used.urdf"}
    assert {file.name: reason for file, reason in found.skipped.items()} == {
        "part.stl": "part of used.urdf", "package.xml": "XML of <package>, no MJCF",
    }  # fmt: skip
    job = FileJob(path=tmp_path / "used.urdf", facts=FREE)
    before, other = job.identity(), FileJob(path=tmp_path / "thing.urdf", facts=FREE).identity()
    (tmp_path / "part.stl").write_bytes((tmp_path / "part.stl").read_bytes() + b"\0")
    assert job.identity() != before
    assert FileJob(path=tmp_path / "thing.urdf", facts=FREE).identity() == other  # it does not refer to that


def test_licences_are_spdx(tmp_path):
    for good in ("MIT", "CC-BY-4.0", "Apache-2.0 OR MIT", "LicenseRef-ours", "unknown"):
        FileFacts(licence=good)
    with pytest.raises(ConfigError, match=r"did you mean .*CC-BY-4\.0"):
        FileFacts(licence="CC-BY_4.0")


def test_licences_are_expressions_and_a_wrong_one_is_the_command_lines_fault(tmp_path):
    trimesh.creation.box((0.05, 0.05, 0.05)).export(tmp_path / "box.stl")
    for wrong in ("MIT AND", "MIT MIT", "GPLv9"):
        assert main(["asset", "build", str(tmp_path / "box.stl"), "-o", str(tmp_path / "out"), "--licence", wrong]) == 2
    assert not (tmp_path / "out").exists()


def test_a_dry_run_refuses_what_the_run_would(tmp_path, capsys):
    foreign_cases.container(np.random.default_rng(0)).export(tmp_path / "thing.stl")
    trimesh.creation.box((0.05, 0.05, 0.05)).export(tmp_path / "whole.stl")
    main(["asset", "build", str(tmp_path), "-o", str(tmp_path / "out"), "--licence", "MIT", "--unit", "m", "--dry-run", "--json"])
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["assets"]}
    assert {name: row["would"] for name, row in rows.items()} == {"thing": "refuse", "whole": "build"}
    assert "give wall_m" in rows["thing"]["reason"]


def test_what_stands_on_a_round_end_is_laid_down(tmp_path):
    egg = trimesh.creation.icosphere(4, 1.0)
    egg.apply_scale([0.03, 0.03, 0.08])
    for name, mesh in (("pill", trimesh.creation.capsule(0.1, 0.03)), ("egg", egg)):
        mesh.export(tmp_path / f"{name}.stl")
        facts = FileFacts(licence="CC0-1.0", unit="m", up="z")
        raw = from_file(tmp_path / f"{name}.stl", facts)
        stood, row = posture.laid(raw)
        low, high = placing.bounds(stood.parts)
        assert row is not None and row.what == "pose", name
        assert (high - low)[2] == pytest.approx(0.06, rel=0.02), name
        left, told = posture.laid(from_file(tmp_path / f"{name}.stl", replace(facts, keep_pose=True)))
        assert told is None and np.ptp(left.parts[0].mesh.vertices[:, 2]) > 0.15, name


def test_a_centre_of_mass_outside_the_body_lays_nothing_down(tmp_path):
    moments = '<inertia ixx="1e-3" iyy="1e-3" izz="1e-3" ixy="0" ixz="0" iyz="0"/>'
    inertial = f'<inertial><origin xyz="5 0 0"/><mass value="0.5"/>{moments}</inertial>'
    (tmp_path / "odd.urdf").write_text(f'<robot name="r">{foreign_cases.link("a", (0.1, 0.1, 0.1), (0, 0, 0), inertial)}</robot>')
    assert posture.laid(from_file(tmp_path / "odd.urdf", FREE))[1] is None


def test_inertials_that_are_no_numbers_are_listed(tmp_path):
    for mass, moment, what in (("nan", "1e-3", "mass"), ("inf", "1e-3", "mass"), ("0.5", "nan", "inertia")):
        moments = f'<inertia ixx="{moment}" iyy="1e-3" izz="1e-3" ixy="0" ixz="0" iyz="0"/>'
        link = foreign_cases.link("a", (0.1, 0.1, 0.1), (0, 0, 0), f'<inertial><mass value="{mass}"/>{moments}</inertial>')
        (tmp_path / "odd.urdf").write_text(f'<robot name="r">{link}</robot>')
        (row,) = read_urdf(tmp_path / "odd.urdf").fidelity
        assert (row.of, row.what, row.fate) == ("a", what, Preservation.DROPPED)


def test_a_word_in_a_name_that_the_size_belies_decides_no_material(tmp_path):
    for size, material in (((1.6, 0.8, 0.75), "abs"), ((0.18, 0.04, 0.02), "stainless_steel")):
        trimesh.creation.box(size).export(tmp_path / "spoon.glb")
        assert [part.material for part in from_file(tmp_path / "spoon.glb", FileFacts(licence="MIT")).parts] == [material]


def test_one_hull_of_a_convex_thing_is_as_large_as_the_thing():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(1500, 3))
    points *= np.array([0.06, 0.04, 0.03]) / np.linalg.norm(points, axis=1, keepdims=True)
    solid = convex_hull(points)
    reduced = reduce_hull(solid, 64)
    assert measure(solid, (reduced,)).missing > 0.025
    grown = foreign_stages.filled(reduced, solid)
    assert measure(solid, (grown,)).missing < 0.025
    assert grown.vertices[:, 2].min() >= solid.vertices[:, 2].min()


def test_a_lemon_is_no_plastic(tmp_path):
    trimesh.creation.icosphere(3, 0.03).export(tmp_path / "lemon.stl")
    (part,) = from_file(tmp_path / "lemon.stl", FREE).parts
    assert part.material == "fruit"


def test_a_locked_joint_is_fixed_where_it_is(built, tmp_path):
    asset = built["lock"][3]
    assert [joint.kind for joint in asset.joints] == [JointKind.FIXED]
    text = built["lock"][0].path.read_text().replace('lower="0" upper="0"', 'lower="0.5" upper="0.5"')
    (tmp_path / "turned.urdf").write_text(text)
    _, child = read_urdf(tmp_path / "turned.urdf").parts
    assert 2 * np.arccos(child.pose.quaternion[0]) == pytest.approx(0.5)


def test_the_referee_finds_source_and_asset_to_agree(built):
    for name in ("handle", "explicit", "rubbing"):
        case, _, _, asset = built[name]
        verdicts = referee(case.path, asset)
        assert {verdict.what.split()[0] for verdict in verdicts} == {"mass", "centre", "inertia", "friction", "fall", "slide"}
        assert [verdict for verdict in verdicts if not verdict.agreed] == []
        told = {verdict.what for verdict in verdicts if verdict.source is not None}
        assert {"mass [kg]", "centre of mass x [m]", "inertia xx [kg m^2]", "inertia xy [kg m^2]"} <= told
    limits = [verdict for verdict in referee(built["grip"][0].path, built["grip"][3]) if verdict.what in ("lower", "upper")]
    assert [(v.source, v.usd, v.mujoco) for v in limits[:2]] == [pytest.approx((0.0,) * 3), pytest.approx((0.03,) * 3)]


def test_the_referee_asks_for_what_the_source_states_and_not_for_what_was_read(built, tmp_path, monkeypatch, capsys):
    case, _, _, asset = built["handle"]
    whole = referee_room.READERS[".urdf"]

    def forgetful(path):
        reading = whole(path)
        return replace(reading, parts=tuple(replace(part, stated=Stated(), mass=None) for part in reading.parts))

    heavier = case.path.with_name("heavier.urdf")
    heavier.write_text(re.sub(r'mass value="[\d.]+"', 'mass value="0.1"', case.path.read_text()))
    with monkeypatch.context() as patched:
        patched.setitem(referee_room.READERS, ".urdf", forgetful)
        states = {verdict.what: verdict.state for verdict in referee(heavier, asset)}
    assert states["mass [kg]"] is Agreement.DIFFERENT
    renamed = case.path.with_name("renamed.urdf")
    renamed.write_text(case.path.read_text().replace('"base"', '"elsewhere"'))
    assert Agreement.LOST in {verdict.state for verdict in referee(renamed, asset)}
    free = replace(built["grip"][3], joints=())
    assert {"lower", "upper"} <= {one.what for one in referee(built["grip"][0].path, free) if one.compared}
    limits = built["grip"][0].path.read_text().replace('"right"', '"wrong"')
    built["grip"][0].path.with_name("wrong.urdf").write_text(limits)
    found = referee(built["grip"][0].path.with_name("wrong.urdf"), built["grip"][3])
    assert {one.state for one in found if one.of == "wrong"} == {Agreement.LOST}
    trimesh.creation.box((0.05, 0.05, 0.05)).export(tmp_path / "box.glb")
    assert main(["asset", "referee", str(tmp_path / "box.glb"), "--json"]) == 1
    rows = json.loads(capsys.readouterr().out)["verdicts"]
    assert "not compared" in {row["state"] for row in rows}
    assert not any(one.compared for one in referee(tmp_path / "box.glb", asset))
    assert main(["asset", "referee", str(case.path), "--json"]) == 0


def test_the_referee_plays_the_source_itself(built):
    case, _, _, asset = built["explicit"]
    moves = {verdict.what.split()[0]: verdict for verdict in referee(case.path, asset) if verdict.moving}
    assert {verdict.law for verdict in moves.values()} == {False}
    assert moves["slide"].source == pytest.approx(moves["slide"].mujoco, rel=0.02)
    assert moves["slide"].mujoco > 0.05
    text = case.path.read_text()
    for before, after, what in (("<body ", '<body gravcomp="0.5" ', "fall"), ('friction="', 'friction="1', "slide")):
        assert before in text
        other = case.path.with_name("played.xml")
        other.write_text(text.replace(before, after, 1))
        assert what in {one.what.split()[0] for one in referee(other, asset) if one.moving and not one.agreed}
    told = [one for one in referee(built["handle"][0].path, built["handle"][3]) if one.moving]
    assert ["asset's friction" in one.what for one in told] == [False, True]
    assert {one.law for one in referee(built["rubbing"][0].path, built["rubbing"][3]) if one.moving} == {True}


def test_the_referee_sees_what_is_not_where_it_was(built):
    case, _, _, asset = built["handle"]
    text = case.path.read_text()
    for before, after, what in (
        ('rpy="0 0 0.3"', 'rpy="0 0 0.5"', "inertia"),
        ('iyy="0.003"', 'iyy="0.0031"', "inertia"),
        ('xyz="0.0', 'xyz="-0.0', "centre"),
    ):
        assert before in text
        other = case.path.with_name("other.urdf")
        other.write_text(text.replace(before, after))
        assert what in {verdict.what.split()[0] for verdict in referee(other, asset) if not verdict.agreed}


def test_the_referee_knows_what_stands_beside_a_file_as_the_build_does(tmp_path, capsys):
    size = (0.12, 0.1, 0.08)
    open_box = trimesh.creation.box(size)
    open_box.update_faces(open_box.face_normals[:, 2] < 0.9)  # a single wall, without a lid
    open_box.export(tmp_path / "tray.obj")
    (tmp_path / "tray.asset.json").write_text(json.dumps({"unit": "m", "material": "abs"}))
    assert main(["asset", "referee", str(tmp_path / "tray.obj"), "--json"]) == 1
    (refused,) = json.loads(capsys.readouterr().out)["verdicts"]
    assert "give wall_m" in refused["refused"]
    (tmp_path / "tray.asset.json").write_text(json.dumps({"unit": "m", "material": "abs", "wall_m": 0.004}))
    main(["asset", "referee", str(tmp_path / "tray.obj"), "--json"])
    verdicts = json.loads(capsys.readouterr().out)["verdicts"]
    (mass,) = (row["usd"] for row in verdicts if row["what"].startswith("mass"))
    assert 0.1 < mass < 0.3, "four millimetres of ABS"


def test_what_was_delivered_can_be_asked_for(built):
    folder_of_all = built["handle"][3].path.parents[2]
    assert {row["name"] for row in publish.query(folder_of_all, ["mass>50"])} == {"engine_block"}
    assert {row["name"] for row in publish.query(folder_of_all, ["joints>0", "bodies=4"])} == {"glide", "socket"}
    with pytest.raises(ConfigError, match="available: name"):
        publish.query(folder_of_all, ["weight<1"])
