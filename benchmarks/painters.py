"""The rasteriser against the ray caster: processor time per image of each task's scenes, after checking that the images agree.

    python benchmarks/painters.py [--quick] [--json] [--tasks TASK ...] [--sheet FILE]

Scenes have visual expansion (textures, lights, cameras), three cameras at 128 x 128, shadows and highlights on. Each round shows
another time of an arm's motion. The renderers take turns; each is timed as in a stream, where the work before a picture is a
control step of physics, not another renderer's picture.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import harness
import numpy as np
from numpy.typing import NDArray

from embodichain.config import WorldConfig
from embodichain.errors import MotionError, SceneError
from embodichain.expand.visual import VisualConfig
from embodichain.physics.mujoco import MujocoPhysics
from embodichain.physics.painter import Painter
from embodichain.physics.painters import PAINTERS
from embodichain.prepare import prepare
from embodichain.stages import SceneStage
from embodichain.tasks import TASKS
from embodichain.types import Scene

SIZE = 128
ALL = tuple(name for name in TASKS.built_in if name != "counting")
QUICK = ("turn_switch", "place_mouse_pad", "stack_bowls")
_LABELS, _DEPTH_M = 0.995, 1e-3


def staged(task: str, number: int = 1) -> tuple[MujocoPhysics, Scene]:
    """A physics with a visually expanded scene of a task, the `number`-th that can be built."""
    world = prepare(WorldConfig(tasks=(task,), width=SIZE, height=SIZE, visual=VisualConfig(enabled=True)))
    physics = world.make_physics()
    assert isinstance(physics, MujocoPhysics)
    stage = SceneStage(world, physics=physics)
    while True:
        try:
            _, scene = stage.step(number)
            physics.reset(scene)
            return physics, scene
        except (SceneError, MotionError):
            number += 1


def painters(physics: MujocoPhysics) -> tuple[Painter, Painter, Painter]:
    """The ray caster, the rasteriser, and the rasteriser with 2 x 2 samples, for all cameras of the robot."""
    model, cameras = physics.world.model, tuple(f"robot/{camera.name}" for camera in physics.robot.cameras)
    names = (("raycast", 1), ("raster", 1), ("raster", 2))
    made = [PAINTERS.get(name)(model, width=SIZE, height=SIZE, cameras=cameras, samples=count) for name, count in names]
    return made[0], made[1], made[2]


def off_edges(geoms: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Pixels whose eight neighbours show the same geom."""
    padded = np.pad(geoms, ((0, 0), (1, 1), (1, 1)), mode="edge")
    shifts = [padded[:, y : y + SIZE, x : x + SIZE] == geoms for y in range(3) for x in range(3)]
    return np.all(shifts, axis=0)


def compared(task: str, pictures: int) -> dict[str, float]:
    """Processor time per image of each renderer [s], medians over `pictures` rounds, and how far their images agree."""
    physics, _ = staged(task)
    rays, plain, fine = painters(physics)
    data, cameras = physics.world.data, len(physics.robot.cameras)
    rgb = np.zeros((3, cameras, SIZE, SIZE, 3), np.uint8)
    depth, geoms = np.zeros((3, cameras, SIZE, SIZE), np.float32), np.zeros((3, cameras, SIZE, SIZE), np.int32)
    command = physics.robot.home.copy()
    command[1] += 0.3
    seconds: list[list[float]] = []
    labels: list[float] = []
    deepest: list[float] = []
    for number in range(-2, pictures):
        row = []
        for place, painter in enumerate((rays, plain, fine)):
            painter.draw(data, rgb[place])  # the caches hold what this renderer left, and not the one before it
            physics.step(command)
            before = time.process_time()
            painter.draw(data, rgb[place])
            row.append((time.process_time() - before) / cameras)
        if number >= 0:
            seconds.append(row)
        elif number == -1:
            for place, painter in enumerate((rays, plain, fine)):
                painter.draw(data, rgb[place], depth[place], geoms[place])
            labelled = physics.world.labels[geoms]
            labels.append(float(np.mean(labelled[0] == labelled[1])))
            calm = off_edges(geoms[0]) & off_edges(geoms[1])
            deepest.append(float(np.abs(depth[0] - depth[1])[calm].max()))
            assert rgb[1].std() > 5 and labels[-1] >= _LABELS and deepest[-1] <= _DEPTH_M, f"{task}: {labels} {deepest}"
            assert np.array_equal(geoms[1], geoms[2]) and np.array_equal(depth[1], depth[2]), f"{task}: samples move labels"
    physics.close()
    raycast, raster, raster_fine = (statistics.median(column) for column in zip(*seconds, strict=True))
    return {
        "raycast_ms": round(1e3 * raycast, 3),
        "raster_ms": round(1e3 * raster, 3),
        "raster_2x2_ms": round(1e3 * raster_fine, 3),
        "over_raycaster": round(raycast / raster, 2),
        "over_raycaster_2x2": round(raycast / raster_fine, 2),
        "labels_equal": round(labels[0], 5),
        "depth_off_mm": round(1e3 * deepest[0], 3),
    }


def measure(pictures: int, tasks: Sequence[str] = ALL) -> dict[str, Any]:
    """Ratios of processor time on every task, and the smallest of them."""
    rows = {task: compared(task, pictures) for task in tasks}
    least = min(row["over_raycaster"] for row in rows.values())
    return {
        "render_over_raycaster": least,
        "render_over_raycaster_2x2": min(row["over_raycaster_2x2"] for row in rows.values()),
        "render_labels_equal": min(row["labels_equal"] for row in rows.values()),
        "render_depth_off_mm": max(row["depth_off_mm"] for row in rows.values()),
        "render_by_task": rows,
    }


def sheet(path: Path, tasks: Sequence[str], scale: int = 2) -> None:
    """Writes images of two cameras of each task: ray caster (top), rasteriser, rasteriser with 2 x 2 samples."""
    from PIL import Image

    columns = []
    for number, task in enumerate(tasks):
        physics, _ = staged(task, 3 * number + 1)
        rgb = np.zeros((len(physics.robot.cameras), SIZE, SIZE, 3), np.uint8)
        rows = []
        for painter in painters(physics):
            painter.draw(physics.world.data, rgb)
            rows.append(np.concatenate([rgb[0], rgb[1]], axis=1))
        columns.append(np.concatenate(rows))
        physics.close()
    pixels = np.concatenate(columns, axis=1).repeat(scale, axis=0).repeat(scale, axis=1)
    Image.fromarray(pixels).save(path, quality=88)


def main() -> None:
    """Parses the command line, measures, prints."""
    parser = harness.parser(__doc__, f"fewer pictures, of the tasks {', '.join(QUICK)}")
    parser.add_argument("--tasks", nargs="+", choices=ALL, help="whose scenes are drawn (default all, or those)")
    parser.add_argument("--sheet", type=Path, help="write a comparison of pictures there and measure nothing")
    options = parser.parse_args()
    tasks = options.tasks or (QUICK if options.quick else ALL)
    if options.sheet is not None:
        sheet(options.sheet, tasks)
        return
    harness.give(measure(9 if options.quick else 41, tasks), options)


if __name__ == "__main__":
    main()
