"""What commands that show worlds share: pictures of a scene, contact sheets, and what they are prepared with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embodichain.errors import ConfigError, unknown

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from embodichain.config import WorldConfig
    from embodichain.physics.mujoco import MujocoPhysics
    from embodichain.world import World

_OVERVIEW = {"eye": (0.68, -0.30, 0.56), "target": (-0.03, 0.0, 0.05), "fovy": 48.0}


def task(text: str) -> str:
    """A task that can be looked at; raises ConfigError that lists them."""
    from embodichain.tasks import TASKS, check
    from embodichain.tasks.benchmarks import benchmark

    if text == "counting":
        raise unknown("task", text, [name for name in TASKS if name != "counting"], "there is nothing to see in counting")
    check(text)
    if of := benchmark(text):
        raise ConfigError(
            f"scenes of {of} are its own affair: look at its episodes in the films of `embodichain eval`, or in a run"
        )
    return text


def prepare(config: WorldConfig, *, quiet: bool) -> World:
    """Prepares a world, with a bar for what takes long."""
    from embodichain.prepare import prepare
    from embodichain.progress import Board

    with Board(quiet=quiet) as board:
        return prepare(config, board.update)


def mujoco(world: World) -> MujocoPhysics:
    """The physics that pictures are taken in."""
    from embodichain.physics.mujoco import MujocoPhysics

    return MujocoPhysics(world.robot, width=world.config.width, height=world.config.height)


def progress(items: Iterable[Any], what: str, *, quiet: bool, total: int | None = None) -> Iterator[Any]:
    """The items, with a bar that shows how many of `total`, by default their number, are done."""
    from embodichain.progress import Board

    count = total if total is not None else len(items) if isinstance(items, Sized) else 0
    with Board(quiet=quiet) as board:
        for number, item in enumerate(items, 1):
            yield item
            board.update(what, number, count)


def overview(physics: MujocoPhysics, size: int, samples: int = 2) -> NDArray[np.uint8]:
    """The working area from the far side of the table, the robot behind it."""
    from embodichain.physics.render import Viewpoint

    return physics.photograph(Viewpoint(**_OVERVIEW), width=size, height=size, samples=samples)


def sheet(pictures: list[NDArray[np.uint8]], columns: int = 6) -> NDArray[np.uint8]:
    """Pictures of one size in rows, white between them."""
    import numpy as np

    height, width = pictures[0].shape[:2]
    rows = -(-len(pictures) // columns)
    gap = 4
    found = np.full((rows * (height + gap) - gap, min(columns, len(pictures)) * (width + gap) - gap, 3), 255, np.uint8)
    for index, picture in enumerate(pictures):
        row, column = divmod(index, columns)
        found[row * (height + gap) : row * (height + gap) + height, column * (width + gap) : column * (width + gap) + width] = (
            picture
        )
    return found


def save(picture: NDArray[np.uint8], path: Path) -> None:
    """Writes a picture, and the folder that it goes into."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)
