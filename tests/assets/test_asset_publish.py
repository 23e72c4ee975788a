import csv
import json
import re
import shutil

import jsonschema
import numpy as np
import pytest
import yaml
from PIL import Image

from embodichain.assets.chain import compare, publish, sidecar
from embodichain.assets.chain.batch import JobOutcome
from embodichain.assets.physical import grasp
from embodichain.assets.physical.mass import solid_properties, with_mass
from embodichain.assets.pictures import gallery, turntable
from embodichain.assets.usd import files as usd
from embodichain.commands import assets as asset_commands
from embodichain.errors import AssetError, ConfigError
from embodichain.types import rotate
from embodichain.types.poses import compose


@pytest.fixture(scope="module")
def shown(catalog, tmp_path_factory):
    """A folder with a switch and a bottle, published with one failure."""
    folder = tmp_path_factory.mktemp("shown")
    for category in ("switch", "bottle"):
        shutil.copytree(catalog[category].path.parent, folder / category / catalog[category].name)
    failed = JobOutcome(name="teapot", category="x", state="failed", reason="read: <empty> file", stages=({"stage": "source"},))
    publish.publish(folder, [failed])
    return folder


def test_every_sidecar_follows_the_published_schema(catalog):
    jsonschema.Draft202012Validator.check_schema(sidecar.schema())
    for asset in catalog.values():
        jsonschema.validate(json.loads(asset.path.with_suffix(".json").read_text()), sidecar.schema())


@pytest.mark.parametrize(
    ("field", "value"), [("mass", -1.0), ("licence", ""), ("bodies", []), ("content_hash", "?"), ("surprise", 1), ("stages", None)]
)
def test_the_schema_refuses_what_is_no_sidecar(catalog, field, value):
    report = json.loads(catalog["switch"].path.with_suffix(".json").read_text())
    report[field] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(report, sidecar.schema())


def test_grasp_files_hold_every_lift_that_held_where_it_was_made(catalog):
    for asset in catalog.values():
        lifts = json.loads(asset.path.with_suffix(".json").read_text())["grasps"]
        held = {name for name, lift in lifts.items() if lift["held"]}
        file = asset.path.with_suffix(".grasps.yaml")
        assert file.exists() == bool(held)
        if held:
            content = yaml.safe_load(file.read_text())
            assert (content["format"], content["format_version"]) == ("isaac_grasp", 1.0)
            assert content["grasps"].keys() == held
            for name, entry in content["grasps"].items():
                _, pose = asset.affordances[name]
                assert entry["position"] == pytest.approx(pose.position, abs=1e-8)
                turn = (entry["orientation"]["w"], *entry["orientation"]["xyz"])
                assert turn == pytest.approx(pose.quaternion, abs=1e-8)
                assert 0 < entry["confidence"] <= 1


def test_the_usd_file_says_how_often_every_lift_held(catalog):
    for asset in catalog.values():
        lifts = json.loads(asset.path.with_suffix(".json").read_text())["grasps"]
        assert lifts.keys() == set(grasp.holds(asset))
        rates = {
            prim.path.rpartition("/")[2]: prim.values["embodichain:liftSuccessRate"]
            for prim in usd.inspect(asset.path).prims
            if "embodichain:liftSuccessRate" in prim.values
        }
        assert rates == {name: lift["success_rate"] for name, lift in lifts.items()}


def test_the_page_stands_alone_and_tells_everything(shown):
    html = (shown / publish.GALLERY).read_text()
    assert not re.findall(r"""(?:src|href)=["'](?!data:)|url\((?!data:|\$\{)|https?://|@import""", html)
    for word in ("switch_000", "bottle_000", "Apache-2.0", "Hulls", "Mass", "Grasps", "Joints", "teapot", "&lt;empty&gt;"):
        assert word in html
    assert len(html) < 2_000_000


def test_the_contact_sheet_shows_every_asset(shown):
    sheet = np.asarray(Image.open(shown / publish.SHEET)).astype(int)
    assert sheet.shape[1] > 2 * 200
    halves = np.array_split(sheet, 2, axis=1)
    assert all((half.max(axis=2) - half.min(axis=2) > 60).mean() > 0.01 for half in halves)


def test_the_licence_list_names_every_asset(shown, catalog):
    rows = list(csv.DictReader((shown / publish.LICENCES).open()))
    assert {row["name"]: row["content_hash"] for row in rows} == {
        catalog[name].name: catalog[name].content_hash for name in ("switch", "bottle")
    }
    assert {row["licence"] for row in rows} == {"Apache-2.0"}
    assert all((shown / row["file"]).exists() for row in rows)


def test_what_is_drawn_as_mass_has_that_mass_and_inertia(catalog):
    for asset in catalog.values():
        for body in asset.bodies:
            solid = solid_properties(turntable.ellipsoid(body), 1000.0)
            assert np.allclose(with_mass(solid, body.mass).diagonal_inertia, sorted(body.diagonal_inertia), rtol=0.02)


def test_pictures_turn_and_joints_move(catalog):
    views = turntable.views(catalog["switch"], {}, frames=4)
    assert set(views) == {"Look", "Hulls", "Mass", "Joints"}
    for frames in views.values():
        assert len(frames) == 4
        assert all(0.02 < frame[..., 3].mean() < 0.9 for frame in frames)
    assert np.abs(views["Look"][0] - views["Look"][1]).max() > 0.2
    assert np.abs(views["Joints"][1] - views["Joints"][3]).max() > 0.2


def test_a_drawn_gripper_stands_around_its_grasp(catalog):
    mug = catalog["mug"]
    names = grasp.grasps(mug)
    for name, (mesh, color) in zip(names, turntable.grippers(mug, dict.fromkeys(names, True)), strict=True):
        owner, pose = mug.affordances[name]
        body = next(body for body in mug.bodies if body.name == owner)
        frame = compose(body.body_pose, pose)
        assert np.linalg.norm(mesh.vertices - frame.position, axis=1).max() < 0.09
        approach = rotate(frame.quaternion, np.array([0.0, 0.0, 1.0]))
        assert ((mesh.vertices - frame.position) @ approach).mean() < 0  # it comes from where it approaches
        assert color[1] > color[0]  # held: green


def test_nothing_differs_from_itself(catalog):
    for asset in catalog.values():
        assert compare.compare(asset.path, asset.path) == []


def test_a_difference_is_named_with_its_size(catalog, tmp_path):
    asset = catalog["block"]
    (body,) = asset.bodies
    heavier = type(body)(**{name: getattr(body, name) for name in type(body).__slots__} | {"mass": body.mass * 1.1})
    changed = type(asset)(**{name: getattr(asset, name) for name in type(asset).__slots__} | {"bodies": (heavier,)})
    usd.write(changed, tmp_path / "block_000.usd")
    changes = {change.what: change for change in compare.compare(asset.path, tmp_path / "block_000.usd")}
    assert changes["body: mass [kg]"].relative == pytest.approx(0.1, rel=1e-4)
    others = {what for what in changes if not what.startswith("grasp ")}  # the copy has no sidecar
    assert others == {"body: mass [kg]"}
    assert "grasp grasp" in changes


def test_folders_are_compared_by_name(shown, tmp_path, capsys):
    shutil.copytree(shown, tmp_path / "other")
    assert asset_commands.main(["diff", str(shown), str(tmp_path / "other"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"changes": []}
    shutil.rmtree(tmp_path / "other" / "switch")
    assert asset_commands.main(["diff", str(shown), str(tmp_path / "other")]) == 1
    assert "missing" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="file with a folder"):
        compare.compare(shown, shown / "bottle" / "bottle_000" / "bottle_000.usd")
    with pytest.raises(ConfigError, match="nothing at"):
        compare.compare(shown, tmp_path / "nowhere")


def test_a_gallery_of_nothing_and_into_nothing_is_refused(tmp_path, shown):
    with pytest.raises(ConfigError, match="no delivered asset"):
        asset_commands.main(["gallery", str(tmp_path)])
    (tmp_path / "file").touch()
    with pytest.raises(AssetError, match="cannot write"):
        publish.publish(tmp_path / "file")


def test_a_half_made_folder_is_no_asset(shown, tmp_path):
    shutil.copytree(shown / "bottle", tmp_path / "bottle")
    shutil.copytree(shown / "bottle" / "bottle_000", tmp_path / "bottle" / ".bottle_001.77.tmp")
    assert [file.stem for file in publish.finished(tmp_path)] == ["bottle_000"]
    assert gallery.GalleryEntry.load(publish.finished(tmp_path)[0]).report["category"] == "bottle"
