import pytest
from mutations import MUTATIONS, spoil

from embodichain.assets.usd import validate


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__)
def test_every_physical_fault_is_found_by_name(catalog, tmp_path, mutation):
    spoil(catalog["switch"].path, tmp_path / "mutant.usda", mutation)
    assert MUTATIONS[mutation] in {issue.check for issue in validate.check(tmp_path / "mutant.usda")}


def test_what_the_chain_delivers_has_no_issue(catalog):
    assert {asset.name: validate.check(asset.path) for asset in catalog.values()} == {asset.name: [] for asset in catalog.values()}


def test_an_unreadable_file_is_one_issue(tmp_path):
    (tmp_path / "bad.usd").write_bytes(b"nothing")
    assert [issue.check for issue in validate.check(tmp_path / "bad.usd")] == ["readable"]
