"""Finds a trained agent and the world it belongs to: in a run's folder, a checkpoint beside its run, one file, or this package."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

from embodichain.assets.chain.catalog import AssetsConfig
from embodichain.errors import ConfigError, RunError
from embodichain.stages import WorldConfig
from learner.runs import recipes
from learner.runs.options import load_yaml, restore
from learner.inference.policy import Setup, load_agent, load_setup, save_agent
from learner.runs.recipes import RunConfig
from learner.records.run_folder import RunFolder
from learner.records.weight_files import SHIPPED_WEIGHTS


def main(arguments: list[str]) -> int:
    """`embodichain export RUN [-o FILE]`: the policy of a run as one file without pickles, averaged weights, no optimiser."""
    parser = argparse.ArgumentParser(prog="embodichain export", description=main.__doc__)
    parser.add_argument("run", type=Path, help="a run's folder or a checkpoint in one")
    parser.add_argument("-o", "--out", type=Path, help="the file to write, RUN/policy.safetensors if not given")
    options = parser.parse_args(arguments)
    trained = find(options.run)
    out = options.out or (options.run if options.run.is_dir() else options.run.parent) / "policy.safetensors"
    if out.suffix != ".safetensors":
        raise ConfigError(f"a policy is one .safetensors file, got {out}: give it that ending")
    save_agent(load_agent(trained.checkpoint), out, setup_of(trained.world))
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB")
    return 0


def setup_of(world: WorldConfig) -> Setup:
    """What a policy trained in `world` must be driven with."""
    return Setup(
        robot=world.robot,
        width=world.width,
        height=world.height,
        tasks=world.tasks,
        horizon=world.horizon,
        instances=dict(world.assets.counts),
        instances_seed=world.assets.seed,
    )


@dataclass(frozen=True, kw_only=True)
class Trained:
    """Where the weights are, and the world that they were trained in."""

    checkpoint: Path
    world: WorldConfig


BUILTIN = "builtin:"
"""Before the name of a policy that ships with this package."""
_POLICIES = SHIPPED_WEIGHTS / "policies"


def find(path: Path) -> Trained:
    """What is at `path`: a run folder, a checkpoint inside one, a `.safetensors` file of `save_agent`, or `builtin:NAME`.

    Raises RunError when there is none of them, LearnerError for a file that says nothing of its world.
    """
    if str(path).startswith(BUILTIN):
        path = shipped(str(path).removeprefix(BUILTIN))
    if path.is_dir():
        folder = RunFolder.open(path)
        if not folder.checkpoint.exists():
            raise RunError(f"the run {path} has no checkpoint yet (expected {folder.checkpoint}); train it first")
        return Trained(checkpoint=folder.checkpoint, world=run_config(folder).world)
    if not path.exists():
        beside = sorted(p.name for p in path.parent.iterdir()) if path.parent.is_dir() else []
        raise RunError(
            f"nothing at {path}; give a run folder, a checkpoint or a .safetensors policy. Beside it: {', '.join(beside)}"
        )
    if path.suffix == ".safetensors":
        setup = load_setup(path)
        world = WorldConfig(robot=setup.robot, width=setup.width, height=setup.height, horizon=setup.horizon)
        if setup.instances:
            world = replace(world, assets=AssetsConfig(counts=setup.instances, seed=setup.instances_seed))
        return Trained(checkpoint=path, world=replace(world, tasks=setup.tasks or world.tasks))
    for folder in (path.parent, path.parent.parent):
        if (folder / "config.yaml").exists():
            return Trained(checkpoint=path, world=run_config(RunFolder.open(folder)).world)
    raise RunError(
        f"{path} has no config.yaml beside it, so its robot and cameras are unknown; give its run folder, or a policy file"
    )


def shipped(name: str) -> Path:
    """The file of the policy `name` that ships with this package; raises RunError listing those that do."""
    known = sorted(p.stem for p in _POLICIES.glob("*.safetensors"))
    if name not in known:
        raise RunError(f"no policy {name!r} ships with this package; available: {', '.join(known) or 'none'}")
    return _POLICIES / f"{name}.safetensors"


def run_config(folder: RunFolder) -> RunConfig:
    """The resolved configuration that a run saved."""
    saved = load_yaml(folder.config)
    return restore(recipes.make(str(saved.get("recipe", "")).partition(" ")[0]), saved)
