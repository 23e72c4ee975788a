"""A saved configuration reads back as the same configuration."""

import dataclasses

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from learner import recipes
from learner.options import as_plain, flatten, override


@pytest.mark.parametrize("name", sorted(recipes.RECIPES))
def test_a_saved_configuration_restores_itself(name):
    config = recipes.make(name)
    saved = yaml.safe_load(yaml.safe_dump(as_plain(config)))
    assert override(recipes.make("tiny_cpu"), list(flatten(saved))) == config


@settings(max_examples=10, deadline=None)
@given(reads=st.integers(1, 16_383), depth=st.booleans(), probability=st.floats(0, 1))
def test_changed_values_survive_the_file(reads, depth, probability):
    base = recipes.tiny_cpu()
    world = dataclasses.replace(base.world, depth=depth, recovery=dataclasses.replace(base.world.recovery, probability=probability))
    config = dataclasses.replace(base, ring=dataclasses.replace(base.ring, max_reads=reads), world=world)
    saved = yaml.safe_load(yaml.safe_dump(as_plain(config)))
    assert override(recipes.tiny_cpu(), list(flatten(saved))) == config
