"""Do worlds that MuJoCo Warp steps together earn the same verdicts as those of MuJoCo C, and what does a control step take?

    python benchmarks/gpu_worlds.py [--quick] [--json] [--tasks TASK ...]

The same scenes are played by the same experts, before the same graders, in both; `warp_verdicts_equal` says whether each scene was
judged the same. Then the same held command is timed in both, content checked: each world has to bear the weight that it bears in
MuJoCo C. Times are processor time and leave out the compilation of kernels, which is reported apart.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import harness
import numpy as np

from embodichain.config import WorldConfig
from embodichain.episode import Episode, NoPictures
from embodichain.errors import SceneError
from embodichain.motion.action import ActionCodec
from embodichain.physics import make_batch
from embodichain.prepare import prepare
from embodichain.protocols import BatchPhysics, Task
from embodichain.rollout import ExpertPilot, drive_batch
from embodichain.stages import SceneStage
from embodichain.types import Scene
from embodichain.world import World

QUICK = ("turn_switch",)
ALL = ("turn_switch", "place_mouse_pad", "stack_bowls")
_SIDE = 16
"""Width and height of pictures, which nobody looks at."""
_BOTH = ("mujoco", "mujoco_warp")


def measure(quick: bool, tasks: Sequence[str] = ()) -> dict[str, Any]:
    """Figures by task and in total; a task whose verdicts differ gets no times."""
    by_task = {task: compare(task, 2 if quick else 8) for task in tasks or (QUICK if quick else ALL)}
    return {"warp_verdicts_equal": all(found["equal"] for found in by_task.values()), "warp_by_task": by_task}


def compare(name: str, count: int) -> dict[str, Any]:
    """Plays `count` scenes of one task in both, and times a control step of as many worlds."""
    world = prepare(WorldConfig(tasks=(name,), width=_SIDE, height=_SIDE))
    task, scenes = scenes_of(world, count)
    verdicts: dict[str, dict[int, str]] = {}
    figures: dict[str, Any] = {}
    for physics in _BOTH:
        batch = make_batch(physics, robot=world.robot, num_worlds=count, width=_SIDE, height=_SIDE)
        began = time.process_time()
        batch.load(range(count), scenes)
        batch.step(np.tile(world.robot.home, (count, 1)))
        figures[f"{physics}_first_step_s"] = round(time.process_time() - began, 2)
        verdicts[physics] = play(batch, world, task, scenes)
        batch.close()
    figures |= {"equal": verdicts["mujoco"] == verdicts["mujoco_warp"], "scenes": count, "verdicts": verdicts}
    if figures["equal"]:
        figures |= timed(world, scenes)
    return figures


def scenes_of(world: World, count: int) -> tuple[Task, list[Scene]]:
    """The first scenes of a world of one task."""
    stage, found, number = SceneStage(world), [], 0
    while len(found) < count:
        with suppress(SceneError):
            found.append(stage.step(number))
        number += 1
    return found[0][0], [scene for _, scene in found]


def play(batch: BatchPhysics, world: World, task: Task, scenes: Sequence[Scene]) -> dict[int, str]:
    """What became of each scene, by its seed: "success", or why not."""
    spec, codec, waiting = world.trajectory_spec, ActionCodec(world.robot), list(scenes)
    beside = world.make_beside()  # experts ask it for the robot

    def take(_: int) -> tuple[Scene, Episode] | None:
        if not waiting:
            return None
        scene = waiting.pop(0)
        pilot = ExpertPilot(task, scene, beside, np.random.default_rng(scene.seed))
        return scene, Episode(scene, pilot, task.grader(scene), codec, NoPictures(), spec.allocate(), spec)

    verdicts = {}
    for ended in drive_batch(batch, take):
        assert isinstance(ended.driver, Episode)
        verdict = None if ended.error else ended.driver.finish().verdict
        told = str(ended.error) if verdict is None else "success" if verdict.success else verdict.reason
        verdicts[ended.driver.scene.seed] = told
    beside.close()
    return verdicts


def timed(world: World, scenes: Sequence[Scene], steps: int = 15) -> dict[str, Any]:
    """Processor time of a control step of all worlds while the robot stands still [ms], and the ratio of both."""
    home = np.tile(world.robot.home, (len(scenes), 1))
    took: dict[str, float] = {}
    borne: dict[str, list[float]] = {}
    for physics in _BOTH:
        batch = make_batch(physics, robot=world.robot, num_worlds=len(scenes), width=_SIDE, height=_SIDE)
        batch.load(range(len(scenes)), scenes)
        for _ in range(5):
            tape = batch.step(home)
        times = []
        for _ in range(steps):
            began = time.process_time()
            tape = batch.step(home)
            times.append(1e3 * (time.process_time() - began))
        took[physics] = statistics.median(times)
        borne[physics] = [tape.state(row).force_between("table", "") for row in range(len(scenes))]
        batch.close()
    assert np.allclose(borne["mujoco"], borne["mujoco_warp"], rtol=0.1, atol=0.1), f"the tables bear other weights: {borne}"
    return {
        "step_ms": {name: round(value, 2) for name, value in took.items()},
        "warp_over_mujoco": round(took["mujoco_warp"] / took["mujoco"], 2),
    }


def main() -> None:
    """Parses the command line, measures, prints."""
    parser = harness.parser(__doc__, "two scenes of one task")
    parser.add_argument("--tasks", nargs="+", default=(), metavar="TASK", help=f"by default {', '.join(ALL)}")
    options = parser.parse_args()
    harness.give(measure(options.quick, options.tasks), options)


if __name__ == "__main__":
    main()
