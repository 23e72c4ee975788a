"""Where policies are found: files that `embodichain export` writes, and those that ship with the package."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from embodichain import cli
from embodichain.errors import RunError
from embodichain.types.bounds import UNBOUNDED, Bounds
from embodichain.types.plain import as_plain
from learner.codecs.config import EncoderConfig
from learner.inference.policy_file import Setup, load_agent, load_setup, save_agent
from learner.models.agent import Agent
from learner.models.clwm.config import ClwmConfig
from learner.models.config import AgentConfig
from learner.records.run_folder import RunFolder
from learner.runs import locate as trained
from learner.runs.recipes import seconds_cpu

SMALL = AgentConfig(
    encoder=EncoderConfig(dim=24, layers=2, heads=2),
    model=ClwmConfig(dim=32, layers=2, heads=2, ffn=64, memory_every=0, video_steps=1, action_steps=1),
)
SETUP = Setup(robot="dual_piper", width=32, height=48, tasks=("turn_switch",), horizon=21, instances={"switch": 3})


def test_an_exported_policy_is_the_same_agent_and_knows_its_world(tmp_path: Path):
    source, out = tmp_path / "one.safetensors", tmp_path / "new" / "two.safetensors"
    save_agent(Agent(SMALL), source, SETUP)
    assert cli.main(["export", str(source), "-o", str(out)]) == 0
    assert load_setup(out) == SETUP
    mine, theirs = load_agent(source).state_dict(), load_agent(out).state_dict()
    assert mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)
    world = trained.find(out).world
    assert (world.width, world.height, world.tasks, world.horizon) == (32, 48, ("turn_switch",), 21)
    assert world.assets.counts == {"switch": 3}
    assert trained.setup_of(world) == SETUP


def test_a_policy_is_judged_with_the_pictures_that_it_learned_from(tmp_path: Path):
    drawn, old = tmp_path / "drawn.safetensors", tmp_path / "old.safetensors"
    save_agent(Agent(SMALL), drawn, replace(SETUP, painter="raster"))
    assert trained.find(drawn).world.painter == "raster"
    assert trained.setup_of(trained.find(drawn).world).painter == "raster"
    with safe_open(drawn, framework="pt") as file:
        metadata = file.metadata()
    setup = json.loads(metadata["setup"])
    del setup["painter"]  # as files were written before there was a choice
    save_file(load_file(drawn), old, metadata | {"setup": json.dumps(setup)})
    assert trained.find(old).world.painter == "raycast"
    run = seconds_cpu()
    plain = as_plain(replace(run, world=replace(run.world, painter="raster")))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(plain))
    assert trained.run_config(RunFolder(path=tmp_path)).world.painter == "raster"
    del plain["world"]["painter"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(plain))
    assert trained.run_config(RunFolder(path=tmp_path)).world.painter == "raycast"


def test_a_policy_has_one_ending_and_names_that_do_not_ship_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    source = tmp_path / "one.safetensors"
    save_agent(Agent(SMALL), source, SETUP)
    assert cli.main(["export", str(source), "-o", str(tmp_path / "two.pt")]) == 2
    assert "one .safetensors file" in capsys.readouterr().err
    with pytest.raises(RunError, match="no policy 'nobody' ships with this package; available: "):
        trained.find(Path("builtin:nobody"))


def test_a_run_is_found_with_the_catalogue_that_it_had_and_no_more(tmp_path: Path):
    run = seconds_cpu()
    world = replace(run.world, tasks=("turn_switch",), width=48, assets=replace(run.world.assets, counts={"switch": 3}))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(as_plain(replace(run, world=world))))
    found = trained.run_config(RunFolder(path=tmp_path))
    assert found.world == world, "a table replaces the recipe's: categories that the run had not are not built"


def test_what_was_judged_without_bounds_is_judged_so_still_and_what_has_bounds_keeps_them(tmp_path: Path):
    assert trained.find(Path("builtin:turn_switch")).world.bounds == UNBOUNDED
    run, strict = seconds_cpu(), Bounds(joint_speed=1.5)
    save_agent(Agent(SMALL), tmp_path / "policy.safetensors", trained.setup_of(replace(run.world, bounds=strict)))
    assert trained.find(tmp_path / "policy.safetensors").world.bounds == strict
    assert run.world.bounds == Bounds() != UNBOUNDED, "a new run is bounded"
    plain = as_plain(replace(run, world=replace(run.world, bounds=strict)))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(plain))
    assert trained.run_config(RunFolder(path=tmp_path)).world.bounds == strict
    del plain["world"]["bounds"]  # as runs were saved before conduct was judged
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(plain))
    assert trained.run_config(RunFolder(path=tmp_path)).world.bounds == UNBOUNDED
