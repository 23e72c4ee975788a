import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from asset_parts import exact_union
from PIL import Image

from embodichain.assets.chain import catalog as catalog_room
from embodichain.assets.chain import config as config_room
from embodichain.assets.chain import optimize
from embodichain.assets.chain.package import fingerprint
from embodichain.assets.families import source, tables
from embodichain.assets.geometry.corrupt import MessConfig
from embodichain.assets.geometry.shapes import to_mesh
from embodichain.assets.physical.mass import shell_properties, solid_properties
from embodichain.assets.pictures import preview
from embodichain.assets.usd import files as usd
from embodichain.errors import AssetError, ConfigError


def test_delivered_mass_properties_are_those_of_the_clean_solid(catalog):
    for asset in catalog.values():
        clean = source.procedural(asset.category, 0)
        for part, body in zip(clean.parts, asset.bodies, strict=True):
            truth = to_mesh(exact_union(part.mesh))
            density = tables.material(part.material).density
            exact = solid_properties(truth, density)
            if part.shell_thickness:
                exact = shell_properties(truth, density, part.shell_thickness)
            factor = part.mass / exact.mass if part.mass else 1.0
            assert body.mass == pytest.approx(exact.mass * factor, rel=0.01)
            size = np.ptp(truth.vertices, axis=0).max()
            assert np.linalg.norm(np.subtract(body.center_of_mass, exact.center_of_mass)) < 0.01 * size
            assert np.allclose(body.diagonal_inertia, np.multiply(exact.diagonal_inertia, factor), rtol=0.01)


def test_assets_rest_on_the_plane_over_their_origin(catalog):
    for asset in catalog.values():
        low, high = asset.bounds
        assert low[2] == pytest.approx(0.0, abs=1e-6)
        clean = np.concatenate([part.mesh.vertices for part in source.procedural(asset.category, 0).parts])
        assert np.abs(low[:2] - clean.min(axis=0)[:2]).max() < 0.002
        assert (low[:2] < 0).all()
        assert (high[:2] > 0).all()
        assert sum(len(body.visual.faces) for body in asset.bodies) <= 5000


def test_a_second_call_reads_the_finished_catalogue(catalog, catalog_dir):
    config = config_room.AssetsConfig(counts=dict.fromkeys(catalog, 1))
    seen = []
    before = {path: path.stat().st_mtime_ns for path in catalog_dir.rglob("*")}
    start = time.process_time()
    again = catalog_room.build_catalog(config, catalog_dir, lambda done, total, name: seen.append((done, total, name)))
    assert time.process_time() - start < 1.0
    assert {path: path.stat().st_mtime_ns for path in catalog_dir.rglob("*")} == before, "nothing is written anew"
    assert [asset.content_hash for asset in again] == [catalog[asset.category].content_hash for asset in again]
    assert [done for done, _, _ in seen] == list(range(1, len(again) + 1))


def test_the_same_seed_gives_the_same_content_in_another_process(catalog, tmp_path):
    # The catalogue was built by workers limited to one core each; this process uses every core.
    for category in ("switch",):
        asset = optimize.build(category, 0, tmp_path)
        assert asset.content_hash == catalog[category].content_hash
        assert asset.path != catalog[category].path


def test_another_seed_gives_other_content(catalog, tmp_path):
    assert optimize.build("pad", 1, tmp_path).content_hash != catalog["pad"].content_hash


def test_what_is_returned_was_read_from_the_file(catalog):
    for asset in catalog.values():
        assert fingerprint(asset) == fingerprint(usd.read(asset.path))


def test_every_asset_has_a_picture_of_itself(catalog):
    for asset in catalog.values():
        image = np.asarray(Image.open(preview.thumbnail_path(asset.path)))
        assert image.shape == (256, 256, 3)
        shown = (np.abs(image.astype(int) - image[0, 0]) > 12).any(axis=2)
        assert 0.02 < shown.mean() < 0.9, asset.name
        assert not shown[:2].any()
        assert not shown[:, :2].any()


def test_every_stage_reports_its_numbers(catalog):
    for asset in catalog.values():
        report = json.loads(asset.path.with_suffix(".json").read_text())
        stages = [entry["stage"] for entry in report["stages"]]
        first = ["source", *["repair"] * len(asset.bodies), "frame"]
        assert stages[: len(first)] == first
        assert {"simplify", "collision", "physical", "usd", "validate"} <= set(stages)
        assert all(entry["seconds"] >= 0 for entry in report["stages"])
        repaired = report["stages"][1]
        assert repaired["before"]["faces"] > repaired["after"]["faces_after"] * 0.5
        assert repaired["after"]["agreement"] > 0.97
        assert report["content_hash"] == asset.content_hash
        assert report["licence"] == "Apache-2.0"


def test_a_damaged_file_is_built_again(tmp_path):
    asset = optimize.build("pad", 2, tmp_path)
    data = bytearray(asset.path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    asset.path.write_bytes(data)
    assert optimize.cached("pad", 2, tmp_path) is None
    assert optimize.build("pad", 2, tmp_path).content_hash == asset.content_hash


KILLED = """
import os
from pathlib import Path
from embodichain.assets.chain import optimize
from embodichain.assets.usd import files as usd
from embodichain.assets.usd import validate
write = usd.write
usd.write = lambda *a, **k: (write(*a, **k), {at_write} and os.kill(os.getpid(), 9))
validate.check = lambda *a: os.kill(os.getpid(), 9)
optimize.build("pad", 3, Path({folder!r}))
"""


def test_killed_half_way_leaves_nothing_half_written(tmp_path):
    finished = optimize.build("pad", 4, tmp_path)
    shelf = finished.path.parent.parent
    for at_write in (True, False):
        code = KILLED.format(at_write=at_write, folder=str(tmp_path))
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
        assert [path.name for path in shelf.iterdir() if not path.name.startswith(".")] == [finished.name]
        assert optimize.cached("pad", 3, tmp_path) is None
    assert optimize.build("pad", 3, tmp_path).name == "pad_003"
    assert not [path for path in shelf.iterdir() if path.name.startswith(".")]


def test_a_refused_asset_leaves_nothing(tmp_path):
    raw = source.procedural("block", 0, MessConfig())
    part = raw.parts[0]
    nothing = type(part.mesh)(vertices=part.mesh.vertices * [1, 1, 0], faces=part.mesh.faces)
    flat = type(raw)(
        name="flat", category="block", licence="CC0-1.0", origin="test",
        parts=(type(part)(name="body", mesh=nothing, material="wood", color=part.color),),
    )  # fmt: skip
    with pytest.raises(AssetError, match="one plane"):
        optimize.optimize(flat, tmp_path, key="k")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_folder_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(AssetError, match="cannot write into"):
        optimize.build("block", 0, tmp_path / "out")


def test_a_folder_that_is_a_file_is_named(tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(AssetError, match="cannot write into"):
        optimize.build("block", 0, tmp_path / "out")


def test_a_bad_catalogue_is_refused():
    with pytest.raises(ConfigError, match=r"available: .*mug"):
        config_room.AssetsConfig(counts={"teapot": 1})
    with pytest.raises(ConfigError, match="must not be negative"):
        config_room.AssetsConfig(counts={"mug": -1})
