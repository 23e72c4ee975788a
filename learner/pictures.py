"""What people look at: thumbnails of assets, strips of frames, and films made by replaying recorded actions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from embodichain.export.video import mosaic, write_video
from embodichain.motion.action import ActionCodec
from embodichain.physics.mujoco import MujocoPhysics
from embodichain.physics.render import thumbnail
from embodichain.stages import World
from embodichain.types import CONTROL_HZ, Scene

_FILM_EVERY = 4


def save_thumbnails(world: World, folder: Path, size: int = 160) -> None:
    """One picture of each asset with a caption of what physics knows about it."""
    folder.mkdir(parents=True, exist_ok=True)
    for asset in world.assets:
        mass = sum(body.mass for body in asset.bodies)
        hulls = sum(len(body.hulls) for body in asset.bodies)
        joints = f", {len(asset.movable_joints)} joint" if asset.movable_joints else ""
        caption = f"{asset.name}: {mass * 1000:.0f} g, {asset.bodies[0].material.name}, {hulls} hulls{joints}"
        save_picture(folder / f"{asset.name}.png", thumbnail(asset, size), caption)


def save_strip(path: Path, trajectory: Mapping[str, NDArray], caption: str, columns: int = 6) -> None:
    """The frames of an episode as the learner sees them: time runs to the right, one row for each camera."""
    last = int(trajectory["num_chunks"])
    picks = np.linspace(0, last, min(columns, last + 1)).round().astype(int)
    rows = [mosaic(trajectory["rgb"][picks, camera], scale=2) for camera in range(trajectory["rgb"].shape[1])]
    save_picture(path, np.concatenate(rows), caption)


def save_picture(path: Path, pixels: NDArray[np.uint8], caption: str) -> None:
    """A PNG, and its caption beside it for the report."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    path.with_suffix(".txt").write_text(caption + "\n", encoding="utf-8")


def save_film(path: Path, world: World, scene: Scene, trajectory: Mapping[str, NDArray], caption: str) -> None:
    """An MP4 of the episode from the robot's first camera at 320 x 240, by replaying its recorded actions."""
    camera = world.robot.cameras[0].name
    physics = MujocoPhysics(world.robot, width=320, height=240, cameras=(camera,))
    codec = ActionCodec(world.robot)
    actions = trajectory["action"][: int(trajectory["num_chunks"])].reshape(-1, trajectory["action"].shape[-1])
    frames: list[NDArray[np.uint8]] = []
    try:
        physics.reset(scene)
        for index, action in enumerate(actions):
            if index % _FILM_EVERY == 0:
                picture = np.empty((1, 240, 320, 3), np.uint8)
                physics.render(picture)
                frames.append(picture[0])
            physics.step(codec.decode(action))
    finally:
        physics.close()
    write_video(path, frames, fps=CONTROL_HZ / _FILM_EVERY)
    path.with_suffix(".txt").write_text(caption + "\n", encoding="utf-8")
