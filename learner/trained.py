"""Finds a trained agent and the world it belongs to: in a run's folder, a checkpoint beside its run, or one safetensors file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from embodichain.errors import RunError
from embodichain.stages import WorldConfig
from learner import recipes
from learner.options import flatten, load_yaml, override
from learner.policy import load_setup
from learner.recipes import RunConfig
from learner.run_folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class Trained:
    """Where the weights are, and the world that they were trained in."""

    checkpoint: Path
    world: WorldConfig


def find(path: Path) -> Trained:
    """What is at `path`: a run folder, a checkpoint inside one, or a `.safetensors` file of `save_agent`.

    Raises RunError when there is neither, LearnerError for a file that says nothing of its world.
    """
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
        world = WorldConfig(robot=setup.robot, width=setup.width, height=setup.height)
        return Trained(checkpoint=path, world=replace(world, tasks=setup.tasks or world.tasks))
    for folder in (path.parent, path.parent.parent):
        if (folder / "config.yaml").exists():
            return Trained(checkpoint=path, world=run_config(RunFolder.open(folder)).world)
    raise RunError(
        f"{path} has no config.yaml beside it, so its robot and cameras are unknown; give its run folder, or a policy file"
    )


def run_config(folder: RunFolder) -> RunConfig:
    """The resolved configuration that a run saved."""
    saved = load_yaml(folder.config)
    return override(recipes.make(str(saved.get("recipe", "")).partition(" ")[0]), list(flatten(saved)))
