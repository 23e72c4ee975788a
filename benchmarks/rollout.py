"""How much of a worker's time is physics? Steps/s of the rollout loop against a bare MuJoCo loop on the same scenes in one run.

    python benchmarks/rollout.py [--quick] [--json] [--tasks TASK ...]

The same scenes are played twice: by the whole loop (expert, state extraction, grading, rendering, writing), and by MuJoCo alone
fed with the actions that the loop recorded. Both must end in bitwise the same state before anything is timed. Then the painters:
how many times the ray caster's processor time is the rasteriser's (`benchmarks/painters.py` has more), its share of episodes, and
how many trajectories a worker streams where it streamed one with the ray caster (`benchmarks/trajectories.py` has more).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any

import harness
import mujoco
import numpy as np
import painters
import trajectories

from embodichain.config import WorldConfig
from embodichain.errors import MotionError, SceneError
from embodichain.motion.action import ActionCodec
from embodichain.physics.mujoco import MujocoPhysics
from embodichain.prepare import prepare
from embodichain.protocols import Task
from embodichain.rollout import ExpertPilot, rollout
from embodichain.stages import SceneStage
from embodichain.tasks import TASKS
from embodichain.types import CHUNK, CONTROL_HZ, Scene, Timings

SUBSTEPS = 10


def measure(episodes: int, repeats: int, tasks: Sequence[str] = ()) -> dict[str, Any]:
    """Plays `episodes` scenes of `tasks` (by default the default tasks) `repeats` times; returns medians and ratios."""
    config = WorldConfig(tasks=tuple(tasks) or WorldConfig().tasks)
    world = prepare(config, lambda name, done, total: None)
    physics = world.make_physics()
    assert isinstance(physics, MujocoPhysics)
    codec, spec = ActionCodec(world.robot), world.trajectory_spec
    stage = SceneStage(world, physics=physics)
    scenes: list[tuple[Task, Scene]] = []

    def play(index: int, timings: Timings) -> tuple[np.ndarray, np.ndarray, bool]:
        task, scene = scenes[index]
        out = spec.allocate()
        pilot = ExpertPilot(task, scene, physics, np.random.default_rng(scene.seed))
        outcome = rollout(physics, codec, scene, pilot, task.grader(scene), out, spec)
        timings.add(outcome.timings)
        actions = out["action"][: outcome.num_chunks].reshape(-1, out["action"].shape[-1])
        return actions, physics.world.data.qpos.copy(), outcome.verdict.success

    def play_bare(index: int, commands: list[np.ndarray]) -> tuple[float, np.ndarray]:
        physics.reset(scenes[index][1])
        model, data = physics.world.model, physics.world.data
        before = time.perf_counter()
        for control in commands:
            data.ctrl[:] = control
            mujoco.mj_step(model, data, nstep=SUBSTEPS)
        return time.perf_counter() - before, data.qpos.copy()

    refused = 0
    while len(scenes) < episodes:  # content first; this also warms every cache
        try:
            scenes.append(stage.step(len(scenes) + refused))
            actions, final, _ = play(len(scenes) - 1, Timings())
        except SceneError:
            refused += 1
            continue
        except MotionError:
            scenes.pop()
            refused += 1
            continue
        _, bare_final = play_bare(len(scenes) - 1, controls(physics, codec, actions))
        assert np.array_equal(final, bare_final), f"the bare loop and the rollout disagree on scene {scenes[-1][1].seed}"

    ratios: list[float] = []
    total, bare_s, wall_s, steps, successes = Timings(), 0.0, 0.0, 0, 0
    for _ in range(repeats):
        for index in range(episodes):  # loop and bare loop take turns, so that a busy machine slows both
            timings = Timings()
            before = time.perf_counter()
            actions, _, success = play(index, timings)
            wall_s += time.perf_counter() - before
            seconds, _ = play_bare(index, controls(physics, codec, actions))
            ratios.append(seconds / timings.physics_s)
            total.add(timings)
            bare_s += seconds
            steps += len(actions)
            successes += success
    played = episodes * repeats
    accounted_s = total.physics_s + total.render_s + total.pilot_s + total.write_s
    return {
        "physics_over_bare": round(statistics.median(ratios), 3),
        "physics_over_bare_spread": [round(min(ratios), 3), round(max(ratios), 3)],
        "physics_steps_per_s": round(steps * SUBSTEPS / total.physics_s),
        "bare_steps_per_s": round(steps * SUBSTEPS / bare_s),
        "share_physics": round(total.physics_s / accounted_s, 3),
        "share_render": round(total.render_s / accounted_s, 3),
        "share_ik": round(total.pilot_s / accounted_s, 3),
        "share_write": round(total.write_s / accounted_s, 3),
        "share_unaccounted": round(1 - accounted_s / wall_s, 3),
        "trajectories_per_s_core": round(played / wall_s, 2),
        "mean_episode_s": round(steps / played / CONTROL_HZ, 2),
        "pipeline_over_physics_and_render": round((bare_s + total.render_s) / wall_s, 3),
        "scenes_refused": refused,
        "success_rate": round(successes / played, 3),
        "chunks_per_episode": round(steps / played / CHUNK, 1),
    }


def controls(physics: MujocoPhysics, codec: ActionCodec, actions: np.ndarray) -> list[np.ndarray]:
    """The control input of MuJoCo's actuators for each stored action."""
    world = physics.world
    result = []
    for action in actions:
        control = np.array(world.data.ctrl)
        control[world.actuators] = world.gains * codec.decode(action)[world.channels]
        result.append(control)
    return result


def render_fps(size: int, seconds: float, painter: str) -> float:
    """RGB images per second on one core, over all cameras of a task's scene, at size x size pixels."""
    world = prepare(WorldConfig(width=size, height=size, painter=painter), lambda name, done, total: None)
    physics = world.make_physics()
    _, scene = SceneStage(world).step(1)
    physics.reset(scene)
    rgb = np.zeros((len(world.robot.cameras), size, size, 3), np.uint8)
    physics.render(rgb)
    assert rgb.std() > 5, "the picture is empty"
    count, cpu = 0, time.process_time()
    while (spent := time.process_time() - cpu) < seconds:
        physics.render(rgb)
        count += len(rgb)
    return round(count / spent, 1)


def render_shares(tasks: Sequence[str], episodes: int) -> dict[str, float]:
    """The rasteriser's share of an episode's time, by task."""
    shares: dict[str, float] = {}
    for task in tasks:
        world = prepare(WorldConfig(tasks=(task,), painter="raster"), lambda name, done, total: None)
        physics = world.make_physics()
        stage, codec, spec = SceneStage(world, physics=physics), ActionCodec(world.robot), world.trajectory_spec
        out, total, played, number = spec.allocate(), Timings(), -1, 0  # the first episode warms every cache
        while played < episodes:
            try:
                chosen, scene = stage.step(number)
                pilot = ExpertPilot(chosen, scene, physics, np.random.default_rng(scene.seed))
                timings = rollout(physics, codec, scene, pilot, chosen.grader(scene), out, spec).timings
                if played >= 0:
                    total.add(timings)
                played += 1
            except (SceneError, MotionError):
                pass
            number += 1
        physics.close()
        shares[task] = round(total.render_s / (total.physics_s + total.render_s + total.pilot_s + total.write_s), 3)
    return shares


def main() -> None:
    """Parses the command line, measures, prints."""
    parser = harness.parser(__doc__, "fewer episodes and repeats, pictures of three tasks")
    parser.add_argument(
        "--tasks", nargs="+", choices=[name for name in TASKS.built_in if name != "counting"], help="whose episodes are played"
    )
    options = parser.parse_args()
    result = measure(4 if options.quick else 20, 3 if options.quick else 7, options.tasks or ())
    drawn = options.tasks or (painters.QUICK if options.quick else painters.ALL)
    seconds = 1.0 if options.quick else 10.0
    result["render_fps_128"] = {name: render_fps(128, seconds, name) for name in ("raycast", "raster")}
    result |= painters.measure(5 if options.quick else 41, drawn)
    result |= trajectories.measure(options.tasks or trajectories.ASKED, 2 if options.quick else 20)
    result["share_render_raster"] = render_shares(drawn, 1 if options.quick else 5)
    harness.give(result, options)


if __name__ == "__main__":
    main()
