"""Scenes in a folder: found, read back by number, and packed with all that they refer to, so that they open anywhere."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from embodichain.assets.usd.layers import PAYLOAD
from embodichain.assets.usd.surfaces import TEXTURES
from embodichain.errors import ConfigError, SceneError
from embodichain.scenes import usd
from embodichain.scenes.values import content_hash
from embodichain.types import Asset, Robot, Scene

__all__ = ["INDEX", "SavedScenes", "pack"]

INDEX = "pack.json"
"""The list of what is in a packed folder."""
_ASSETS = "assets"


class SavedScenes:
    """The scenes of a folder in the order of their files' names, by task."""

    def __init__(self, folder: Path) -> None:
        """Raises ConfigError when the folder has no scenes, SceneError when a file in it cannot be read."""
        files = sorted(folder.glob("*.usda")) if folder.is_dir() else []
        self.folder = folder
        self.headings = {path: usd.heading(path) for path in files if usd.is_scene(path)}
        if not self.headings:
            what = f"{len(files)} USD files, and none of them is a scene" if folder.is_dir() else "no such folder"
            raise ConfigError(f"no scenes in {folder} ({what}): write some with `embodichain scene sample` or `scene pack`")
        self._by_task: dict[str, list[Path]] = {}
        for path, heading in self.headings.items():
            self._by_task.setdefault(heading["task"], []).append(path)

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files of all scenes."""
        return tuple(self.headings)

    def check(self, tasks: Iterable[str], robot: Robot) -> None:
        """Raises ConfigError when a task has no scene here, or a scene was saved with another robot."""
        for name in tasks:
            if name not in self._by_task:
                raise ConfigError(f"{self.folder} has no scenes of task {name!r}; it has {', '.join(sorted(self._by_task))}")
        for path, heading in self.headings.items():
            told = heading.get("robot")
            if told is not None and told["content_hash"] != robot.content_hash:
                raise ConfigError(
                    f"{path} was saved with robot {told['name']!r} ({told['content_hash']}), and this world has {robot.name!r} "
                    f"({robot.content_hash}): choose that robot, or sample scenes for this one"
                )

    def scene(self, task: str, turn: int) -> Scene:
        """Scene `turn` of a task; after the last comes the first again. Raises SceneError when it cannot be read."""
        files = self._by_task[task]
        return usd.read(files[turn % len(files)])

    def assets(self) -> tuple[Asset, ...]:
        """Every asset of these scenes once, as it is in its file."""
        files = {placement.asset.path for path in self.paths for placement in usd.read(path).objects}
        found = {asset.content_hash: asset for asset in (usd.asset_in(file, file.stat().st_mtime_ns) for file in sorted(files))}
        return tuple(found.values())


def pack(scenes: Iterable[tuple[str, Scene]], folder: Path, robot: Robot) -> dict[str, Any]:
    """Writes scenes, each with the name of its file, into `folder` with everything that they refer to, and only by relative paths.

    Returns what is written into its `pack.json`: robot, scenes with their hashes, and assets with their licences and sources.

    Raises SceneError when something cannot be read or written.
    """
    homes: dict[str, Path] = {}
    listed: dict[str, dict[str, Any]] = {}
    rows: list[dict[str, Any]] = []
    for name, scene in scenes:
        placements = []
        for placement in scene.objects:
            asset = placement.asset
            if asset.content_hash not in homes:
                homes[asset.content_hash] = _copied(asset, folder, [path.parent.name for path in homes.values()])
                listed[asset.content_hash] = {
                    "name": asset.name,
                    "category": asset.category,
                    "content_hash": asset.content_hash,
                    "licence": asset.licence,
                    "source": asset.source,
                    "file": homes[asset.content_hash].relative_to(folder).as_posix(),
                }
            placements.append(replace(placement, asset=replace(asset, path=homes[asset.content_hash])))
        packed = replace(scene, objects=tuple(placements))
        path = usd.write(packed, folder / name, robot)
        rows.append(
            {
                "file": path.name,
                "task": scene.task,
                "seed": scene.seed,
                "instruction": scene.instruction,
                "hash": content_hash(scene),
            }
        )
    index = {
        "robot": {"name": robot.name, "content_hash": robot.content_hash, "file": usd.robot_file(robot)},
        "scenes": rows,
        "assets": sorted(listed.values(), key=lambda row: row["name"]),
    }
    (folder / INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    return index


def _copied(asset: Asset, folder: Path, taken: Sequence[str]) -> Path:
    """Copies the file of an asset, its layers and its textures below `folder`; returns its own file there."""
    name = asset.name if asset.name not in taken else f"{asset.name}_{asset.content_hash[:8]}"
    source, target = asset.path.resolve().parent, folder / _ASSETS / name
    try:
        target.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(asset.path, target / asset.path.name)
        for part in (PAYLOAD, TEXTURES):
            if (source / part).is_dir():
                shutil.copytree(source / part, target / part, dirs_exist_ok=True)
    except OSError as error:
        raise SceneError(f"cannot pack asset {asset.name!r}: {error}") from error
    return target / asset.path.name
