"""How much of a core's time is physics? Steps/s of the rollout loop against a bare MuJoCo loop on the same scene in the same run.

    python benchmarks/rollout.py [--quick] [--json]

The same scenes are played twice: by the whole loop (expert, state extraction, grading, rendering, writing), and by MuJoCo alone
fed with the actions that the loop recorded. Both must end in bitwise the same state before anything is timed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Any

import mujoco
import numpy as np

from embodichain.motion.action import ActionCodec
from embodichain.physics.mujoco import MujocoPhysics
from embodichain.rollout import ExpertPilot, Timings, rollout
from embodichain.stages import SceneStage, WorldConfig, prepare
from embodichain.types import CHUNK

SUBSTEPS = 10


def measure(episodes: int, repeats: int) -> dict[str, Any]:
    """Plays `episodes` scenes `repeats` times and returns medians and ratios."""
    config = WorldConfig()
    world = prepare(config, lambda name, done, total: None)
    physics = world.make_physics()
    assert isinstance(physics, MujocoPhysics)
    codec, spec = ActionCodec(world.robot), world.trajectory_spec
    scenes, number = [], 0
    stage = SceneStage(world)
    while len(scenes) < episodes:
        scenes.append(stage.step(number))
        number += 1

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

    for index in range(episodes):  # content first; this also warms every cache
        actions, final, _ = play(index, Timings())
        _, bare_final = play_bare(index, controls(physics, codec, actions))
        assert np.array_equal(final, bare_final), f"the bare loop and the rollout disagree on scene {scenes[index][1].seed}"

    ratios, walls, rows, successes = [], [], [], 0
    for _ in range(repeats):
        timings, bare_s, steps = Timings(), 0.0, 0
        before = time.perf_counter()
        played = [play(index, timings) for index in range(episodes)]
        walls.append(time.perf_counter() - before)
        for index, (actions, _, success) in enumerate(played):
            seconds, _ = play_bare(index, controls(physics, codec, actions))
            bare_s += seconds
            steps += len(actions)
            successes += success
        ratios.append(bare_s / timings.physics_s)
        rows.append((timings, bare_s, steps))
    timings, bare_s, steps = rows[int(np.argsort(ratios)[len(ratios) // 2])]
    accounted = timings.physics_s + timings.render_s + timings.pilot_s + timings.write_s
    return {
        "physics_over_bare": round(statistics.median(ratios), 3),
        "physics_over_bare_spread": [round(min(ratios), 3), round(max(ratios), 3)],
        "physics_steps_per_s": round(steps * SUBSTEPS / timings.physics_s),
        "bare_steps_per_s": round(steps * SUBSTEPS / bare_s),
        "share_physics": round(timings.physics_s / accounted, 3),
        "share_render": round(timings.render_s / accounted, 3),
        "share_ik": round(timings.pilot_s / accounted, 3),
        "share_write": round(timings.write_s / accounted, 3),
        "share_unaccounted": round(1 - accounted / statistics.median(walls), 3),
        "trajectories_per_s_core": round(episodes / statistics.median(walls), 2),
        "mean_episode_s": round(steps / episodes / 50, 2),
        "success_rate": round(successes / (episodes * repeats), 3),
        "chunks_per_episode": round(steps / episodes / CHUNK, 1),
    }


def controls(physics: MujocoPhysics, codec: ActionCodec, actions: np.ndarray) -> list[np.ndarray]:
    """What MuJoCo's actuators receive for each stored action."""
    world = physics.world
    result = []
    for action in actions:
        control = np.array(world.data.ctrl)
        control[world.actuators] = world.gains * codec.decode(action)[world.channels]
        result.append(control)
    return result


def render_fps(size: int, seconds: float) -> float:
    """Pictures per second of one core: RGB of every camera of a task scene at size x size."""
    world = prepare(WorldConfig(width=size, height=size), lambda name, done, total: None)
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


def main() -> None:
    """Parses the command line, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer episodes and repeats; ends within 50 s")
    parser.add_argument("--json", action="store_true", help="print the JSON object alone")
    options = parser.parse_args()
    result = measure(4 if options.quick else 20, 3 if options.quick else 7)
    result["render_fps_128"] = render_fps(128, 2.0 if options.quick else 10.0)
    if not options.json:
        for name, value in result.items():
            print(f"{name:>26}  {value}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
