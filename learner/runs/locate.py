"""Finds a trained agent and the world of its training: in a run folder, a checkpoint in one, a policy file, or this package."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from embodichain.assets.chain.config import AssetsConfig
from embodichain.config import WorldConfig
from embodichain.errors import RunError
from embodichain.expand.physical import PhysicalConfig
from embodichain.expand.visual import VisualConfig
from learner.inference.policy_file import Setup, load_setup
from learner.records.run_folder import RunFolder
from learner.records.shipped import BUILTIN, shipped
from learner.runs.options import run_config


def setup_of(world: WorldConfig) -> Setup:
    """The robot, cameras and other settings that a policy trained in `world` needs."""
    return Setup(
        robot=world.robot,
        width=world.width,
        height=world.height,
        painter=world.painter,
        tasks=world.tasks,
        horizon=world.horizon,
        instances=dict(world.assets.counts),
        instances_seed=world.assets.seed,
        visual=world.visual.enabled,
        physical=world.physical.enabled,
        bounds=world.bounds,
    )


@dataclass(frozen=True, kw_only=True)
class Trained:
    """The file of the weights, and the configuration of the world that they were trained in."""

    checkpoint: Path
    world: WorldConfig


def find(path: Path) -> Trained:
    """Finds the agent at `path`: a run folder, a checkpoint inside one, a `.safetensors` file of `save_agent`, or `builtin:NAME`.

    Raises RunError if it is none of them, and LearnerError for a file without information on its world.
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
        world = WorldConfig(
            robot=setup.robot,
            width=setup.width,
            height=setup.height,
            painter=setup.painter,
            horizon=setup.horizon,
            visual=VisualConfig(enabled=setup.visual),
            physical=PhysicalConfig(enabled=setup.physical),
            bounds=setup.bounds,
        )
        if setup.instances:
            world = replace(world, assets=AssetsConfig(counts=setup.instances, seed=setup.instances_seed))
        return Trained(checkpoint=path, world=replace(world, tasks=setup.tasks or world.tasks))
    for folder in (path.parent, path.parent.parent):
        if (folder / "config.yaml").exists():
            return Trained(checkpoint=path, world=run_config(RunFolder.open(folder)).world)
    raise RunError(
        f"{path} has no config.yaml beside it, so its robot and cameras are unknown; give its run folder, or a policy file"
    )
