"""Pictures for reports: thumbnails of assets, strips of frames, imagined latents, and films made by replaying recorded actions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from embodichain.episode import Replay
from embodichain.export.video import mosaic, write_video
from embodichain.motion.action import ActionCodec
from embodichain.physics import make
from embodichain.physics.render import thumbnail
from embodichain.rollout import drive
from embodichain.types import Scene
from embodichain.world import World

_FILM_EVERY = 4


def save_thumbnails(world: World, folder: Path, size: int = 160) -> None:
    """Saves one picture of each asset, with its physical properties as caption."""
    folder.mkdir(parents=True, exist_ok=True)
    for asset in world.assets:
        mass = sum(body.mass for body in asset.bodies)
        hulls = sum(len(body.hulls) for body in asset.bodies)
        joints = f", {len(asset.movable_joints)} joint" if asset.movable_joints else ""
        caption = f"{asset.name}: {mass * 1000:.0f} g, {asset.bodies[0].material.name}, {hulls} hulls{joints}"
        save_picture(folder / f"{asset.name}.png", thumbnail(asset, size), caption)


def save_strip(path: Path, trajectory: Mapping[str, NDArray], caption: str, columns: int = 6) -> None:
    """Saves the frames of an episode as the learner sees them: time runs to the right, one row for each camera."""
    last = int(trajectory["num_chunks"])
    picks = np.linspace(0, last, min(columns, last + 1)).round().astype(int)
    rows = [mosaic(trajectory["rgb"][picks, camera], scale=2) for camera in range(trajectory["rgb"].shape[1])]
    save_picture(path, np.concatenate(rows), caption)


def save_picture(path: Path, pixels: NDArray[np.uint8], caption: str) -> None:
    """Saves a PNG, and its caption in a text file beside it for the report."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    path.with_suffix(".txt").write_text(caption + "\n", encoding="utf-8")


def save_film(path: Path, world: World, scene: Scene, trajectory: Mapping[str, NDArray], caption: str) -> None:
    """Saves an MP4 of the episode from the robot's first camera at 320 x 240, by replaying its recorded actions."""
    camera = world.robot.cameras[0].name
    physics = make(world.config.physics, robot=world.robot, width=320, height=240, cameras=(camera,))
    codec = ActionCodec(world.robot)
    replay = Replay(codec, trajectory["action"][: int(trajectory["num_chunks"])])
    frames: list[NDArray[np.uint8]] = []
    try:
        for index, _ in enumerate(drive(physics, scene, replay)):
            if index % _FILM_EVERY == 0:
                picture = np.empty((1, 240, 320, 3), np.uint8)
                physics.render(picture)
                frames.append(picture[0])
    finally:
        physics.close()
    write_video(path, frames, fps=world.robot.control_hz / _FILM_EVERY)
    path.with_suffix(".txt").write_text(caption + "\n", encoding="utf-8")


def save_latents(
    path: Path,
    rgb: NDArray[np.uint8],
    seen: Sequence[NDArray[np.float32]],
    imagined: Sequence[NDArray[np.float32]],
    caption: str,
    *,
    columns: int = 8,
    side: int = 112,
) -> None:
    """Saves a comparison of imagined and real latents: for each camera frames, their latents, and the latents predicted for them.

    Colours are the first three principal components of the episode's real latents, for both rows, so that equal colours mean equal
    latents.

    Args:
        path: the PNG to write.
        rgb: frames, uint8 [T or more, cameras, h, w, 3].
        seen: T latents [N, C] of these frames, cameras in order, patches row by row.
        imagined: T latents [N, C]; imagined[t] is the prediction of seen[t + 1].
        caption: what is shown, for the report.
        columns: most frames shown, evenly spread.
        side: of one tile [pixels].

    Raises:
        ValueError: for fewer than two frames, or latents that do not tile the frames.
    """
    count, (cameras, height, width) = len(seen), rgb.shape[1:4]
    if count < 2 or len(imagined) != count or len(rgb) < count:
        raise ValueError(
            f"need as many frames and imagined latents as real ones, at least 2, got {len(rgb)}, {len(imagined)}, {count}"
        )
    rows = round((seen[0].shape[0] / cameras * height / width) ** 0.5)
    tiles = (cameras, rows, -1)
    if seen[0].shape[0] % (cameras * rows):
        raise ValueError(f"{seen[0].shape[0]} latents do not tile {cameras} pictures of {height} x {width}")
    real = np.stack(seen)
    mean, axes = _principal(real.reshape(-1, real.shape[-1]))
    coloured = (real - mean) @ axes
    low, high = np.percentile(coloured.reshape(-1, 3), (1, 99), axis=0)

    def paint(latents: NDArray[np.float32]) -> NDArray[np.uint8]:
        shades = np.clip(((latents - mean) @ axes - low) / np.maximum(high - low, 1e-9), 0, 1)
        return (255 * shades).astype(np.uint8).reshape(*tiles, 3)

    picks = np.unique(np.linspace(1, count - 1, min(columns, count - 1)).round().astype(int))
    label = 84
    sheet = Image.new("RGB", (label + len(picks) * side, 3 * cameras * side + 14), "white")
    draw = ImageDraw.Draw(sheet)
    for column, t in enumerate(picks):
        x = label + column * side
        draw.text((x + 4, 1), f"frame {t}", fill="black")
        shown = (rgb[t], paint(real[t]), paint(imagined[t - 1]))
        for camera in range(cameras):
            for row, pictures in enumerate(shown):
                tile = Image.fromarray(pictures[camera]).resize((side - 4, side - 4), Image.Resampling.NEAREST)
                sheet.paste(tile, (x, 14 + (3 * camera + row) * side))
    for camera in range(cameras):
        for row, name in enumerate((f"camera {camera}", "real latents", "imagined")):
            draw.text((4, 14 + (3 * camera + row) * side + side // 2 - 6), name, fill="black")
    save_picture(path, np.asarray(sheet), caption)


def save_found(
    path: Path, rgb: NDArray[np.uint8], found: NDArray[np.bool_], shown: NDArray[np.bool_], caption: str, *, columns: int = 8
) -> None:
    """Saves pictures [B, h, w, 3] above their segmentation, with masks [B, h, w]: object pixels that were found in green, missed in
    blue, and false ones in red.
    """
    picks = slice(min(columns, len(rgb)))
    painted = rgb[picks] // 2
    for channel, pixels in enumerate((found & ~shown, found & shown, shown & ~found)):
        painted[..., channel][pixels[picks]] = 255
    save_picture(path, np.concatenate([mosaic(rgb[picks], scale=2), mosaic(painted, scale=2)]), caption)


def _principal(rows: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean [C] and the first three principal axes [C, 3], with signs such that the largest entry of each axis is positive."""
    mean = rows.mean(axis=0)
    _, vectors = np.linalg.eigh(np.cov(rows - mean, rowvar=False))
    axes = vectors[:, -1:-4:-1]
    signs = np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    return mean, (axes * signs).astype(np.float32)
