"""Files out of ordinary packages, downloaded by name: what other programs read of source and asset is the same."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))  # last, for a file there is called as the learner is

import asset_packages
import assets_referee

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """The unpacked packages."""
    return asset_packages.fetched(tmp_path_factory.mktemp("packages"))


def test_programs_agree_on_files_of_packages(packages, tmp_path):
    found = list(assets_referee.rows(packages, 3, tmp_path))
    built = [row for row in found if not row.refused]
    assert len(built) >= 0.9 * len(found), [row.refused for row in found if row.refused]
    assert sum(row.compared for row in built) > 200
    assert [(row.file, row.different) for row in built if row.different] == []
    assert [(row.file, row.lost) for row in built if row.lost] == []
    without = [row for row in built if not row.compared]
    reasons = ("MuJoCo itself cannot read", assets_referee.SILENT)
    assert all(any(reason in why for why in row.untold for reason in reasons) for row in without), without
    assert len(without) < len(built) / 2
