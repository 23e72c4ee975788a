"""What earlier versions wrote loads today: configurations of runs from before names and files moved."""

from pathlib import Path

import pytest

from learner.records.plain import load_yaml
from learner.runs import catalog
from learner.runs.old_names import VALUES, current
from learner.runs.options import restore

EARLIER = sorted((Path(__file__).parent / "earlier").glob("*.yaml"))


@pytest.mark.parametrize("file", EARLIER, ids=lambda file: file.stem)
def test_a_configuration_of_an_earlier_version_is_todays(file):
    recipe = catalog.make(file.stem)
    assert restore(recipe, load_yaml(file)) == recipe


def test_every_old_name_leads_to_something_that_exists():
    for new in VALUES.values():
        module, _, name = new.partition(":")
        assert hasattr(__import__(module, fromlist=[name]), name)


def test_only_whole_values_are_old_names():
    (old, new), *_ = VALUES.items()
    saved = {"a": [old, f"{old} "], old: {"b": old}}
    assert current(saved) == {"a": [new, f"{old} "], old: {"b": new}}
