"""What stands under `assets/`: an index of the catalogue, and the tables that assets are made by, with sources and licences."""

import csv
import json
from pathlib import Path

from embodichain.assets.chain import optimize, publish
from embodichain.assets.families import FAMILIES
from embodichain.assets.families.listing import categories_csv, materials_csv
from embodichain.assets.families.tables import CATEGORIES_FILE, MATERIALS_FILE

SHELF = Path(__file__).parents[2] / "assets"


def test_the_tables_that_are_handed_on_are_those_that_the_engine_uses():
    assert (SHELF / publish.MATERIALS).read_text(encoding="utf-8") == materials_csv(), "make assets-index"
    assert (SHELF / publish.CATEGORIES).read_text(encoding="utf-8") == categories_csv(), "make assets-index"


def test_every_number_has_a_source_that_is_spelt_out():
    for file, text in ((MATERIALS_FILE, materials_csv()), (CATEGORIES_FILE, categories_csv())):
        short = set(json.loads(file.read_text(encoding="utf-8"))["sources"]) - {"estimate", "family"}
        for row in csv.DictReader(text.splitlines()):
            assert len(row["sources"]) > 20, row
            assert not short & {word.strip(";,()") for word in row["sources"].split()}, row


def listed():
    return {row["category"]: row for row in json.loads((SHELF / publish.INDEX).read_text(encoding="utf-8"))["assets"]}


def test_an_asset_of_the_index_is_as_it_is_built(tmp_path):
    """One of them; `make validate-assets` builds every family and compares the whole index."""
    asset = optimize.build("block", 0, tmp_path)
    (fresh,) = publish.index(tmp_path)
    assert fresh == listed()["block"] | {"file": fresh["file"]}, "make assets-index"
    assert asset.content_hash == listed()["block"]["content_hash"]


def test_every_asset_of_the_index_is_compared_with_a_fresh_build_by_a_target_that_ci_runs():
    recipe = (SHELF.parent / "Makefile").read_text().partition("\nvalidate-assets:")[2].partition("\n\n")[0]
    assert "asset build all -o build/catalogue" in recipe and "build/catalogue/$$file | diff build/listed - || exit 1" in recipe
    assert "for file in catalogue.json licences.csv materials.csv categories.csv" in recipe
    assert "make validate-assets" in (SHELF.parent / ".ci" / "run").read_text()


def test_the_index_names_an_asset_of_every_family_with_its_licence():
    rows = listed()
    assert set(rows) == set(FAMILIES.built_in), "make assets-index"
    with (SHELF / publish.LICENCES).open(encoding="utf-8", newline="") as file:
        assert {row["name"]: row["licence"] for row in csv.DictReader(file)} == {r["name"]: r["licence"] for r in rows.values()}


def test_a_folder_that_is_delivered_into_gets_its_index(tmp_path):
    optimize.build("pad", 0, tmp_path)
    written = {path.name for path in publish.publish(tmp_path, pictures=False)}
    assert {publish.INDEX, publish.MATERIALS, publish.CATEGORIES, publish.LICENCES} <= written
    (row,) = json.loads((tmp_path / publish.INDEX).read_text())["assets"]
    assert (row["category"], row["licence"], row["joints"]) == ("pad", "Apache-2.0", 0)
    assert (tmp_path / row["file"]).is_file()
    assert [one["name"] for one in publish.query(tmp_path, ["category=pad", "mass<5"])] == [row["name"]]
    assert publish.query(tmp_path, ["mass>5"]) == []
