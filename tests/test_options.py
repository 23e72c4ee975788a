"""A saved configuration reads back as the same configuration."""

import dataclasses
import math

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from embodichain.command_line import Parser
from embodichain.errors import ConfigError, UsageError
from embodichain.types.plain import as_plain
from learner.commands.run import parse
from learner.models.clwm.family import CLWM
from learner.runs import catalog, recipes
from learner.runs.options import check_numbers, override, restore


@pytest.mark.parametrize("name", sorted(catalog.RECIPES))
def test_a_saved_configuration_restores_itself(name):
    config, other = catalog.make(name), catalog.make("tiny_cpu")
    agent = dataclasses.replace(other.learner.agent, model=type(config.learner.agent.model)())  # values, not families, are restored
    other = dataclasses.replace(other, learner=dataclasses.replace(other.learner, agent=agent))
    saved = yaml.safe_load(yaml.safe_dump(as_plain(config)))
    assert restore(other, saved) == config


@settings(max_examples=10, deadline=None)
@given(reads=st.integers(1, 16_383), depth=st.booleans(), probability=st.floats(0, 1))
def test_changed_values_survive_the_file(reads, depth, probability):
    base = recipes.tiny_cpu()
    world = dataclasses.replace(base.world, depth=depth, recovery=dataclasses.replace(base.world.recovery, probability=probability))
    config = dataclasses.replace(base, ring=dataclasses.replace(base.ring, max_reads=reads), world=world)
    saved = yaml.safe_load(yaml.safe_dump(as_plain(config)))
    assert restore(recipes.tiny_cpu(), saved) == config


def test_a_size_sets_the_whole_model_and_can_be_overridden():
    model = parse(["tiny_cpu", "--size", "small", "--learner.agent.model.layers", "4"]).config.learner.agent.model
    assert model == dataclasses.replace(CLWM.size("small"), layers=4)
    with pytest.raises(ConfigError, match="unknown model size 'vast'"):
        parse(["tiny_cpu", "--size", "vast"])


def test_every_setting_of_the_training_survives_the_file():
    base = recipes.tiny_cpu()
    arguments = ["--learner.loggers", "csv", "wandb", "--learner.parallel", "fsdp", "--learner.precision", "bf16-mixed"]
    arguments += ["--learner.recompute.scan-steps", "16", "--learner.recompute.truncate", "True", "--learner.compile", "True"]
    arguments += ["--learner.optimizer.schedule", "constant", "--learner.average.decay", "0.5", "--learner.backbone", "folder"]
    config = override(base, arguments)
    assert config != base and config.learner.loggers == ("csv", "wandb")
    assert restore(recipes.tiny_cpu(), yaml.safe_load(yaml.safe_dump(as_plain(config)))) == config


def with_value(config, path: list[str], value):
    """`config` with another value at a path of fields."""
    name, *rest = path
    return dataclasses.replace(config, **{name: with_value(getattr(config, name), rest, value) if rest else value})


def numbers(config, path: tuple[str, ...] = ()):
    """The path of every field that holds a float."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from numbers(value, (*path, field.name))
        elif isinstance(value, float):
            yield [*path, field.name]


@pytest.mark.parametrize("name", ["tiny_cpu", "turn_fresh_switch_cpu", "lingbot_va_cpu", "x_wam_cpu", "cowvla_cpu"])
def test_no_setting_takes_what_is_no_finite_number(name):
    config, tried = catalog.make(name), 0
    for path in numbers(config):
        for value in (math.nan, -math.inf, *([math.inf] if path[:2] != ["world", "bounds"] else [])):
            with pytest.raises((ConfigError, ValueError, OverflowError)):
                check_numbers(with_value(config, path, value))
            tried += 1
    assert tried > 100


def test_infinity_turns_a_limit_of_conduct_off():
    assert override(recipes.tiny_cpu(), ["--world.bounds.grip-force", "inf"]).world.bounds.grip_force == math.inf


def test_a_command_line_refuses_what_is_no_finite_number_and_names_it():
    with pytest.raises(ConfigError, match=r"train\.clip must be a finite number, got nan"):
        override(recipes.tiny_cpu(), ["--train.clip", "nan"])
    parser = Parser("some")
    parser.add_argument("--minutes", type=float)
    for text in ("inf", "nan", "-inf", "many"):
        with pytest.raises(UsageError, match=f"'{text}' is n"):
            parser.parse(["--minutes=" + text])
    assert parser.parse(["--minutes", "1e3"]).minutes == 1000.0
