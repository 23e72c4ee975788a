"""`embodichain scene play`, `render` and `eval`."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embodichain.commands.pictures import mujoco, overview, prepare, progress, save, sheet
from embodichain.errors import SceneError
from embodichain.lines import strict_json
from learner.commands.kinds import check_device, trained
from learner.commands.scene_sources import scenes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from embodichain.config import WorldConfig
    from embodichain.protocols import Physics, Pilot, Task
    from embodichain.resimulation.suites import PilotFactory
    from embodichain.types import Scene


def play(options: Namespace) -> int:
    """`embodichain scene play`."""
    import numpy as np

    from embodichain import tasks
    from embodichain.episode import Episode, NoPictures
    from embodichain.errors import MotionError
    from embodichain.export.video import write_video
    from embodichain.motion.action import ActionCodec
    from embodichain.rollout import ExpertPilot, drive

    rows: list[dict[str, Any]] = []
    for name, found, world in scenes(options.source, options.count, options.robot, quiet=options.json):
        physics, goal, film = mujoco(world), tasks.make(found.task), []
        spec, grader = world.trajectory_spec, goal.grader(found)
        pilot = ExpertPilot(goal, found, physics, np.random.default_rng(found.seed))
        played = Episode(found, pilot, grader, ActionCodec(world.robot), NoPictures(), spec.allocate(), spec)
        row: dict[str, Any] = {"scene": name, "task": found.task, "instruction": found.instruction, "success": False}
        try:
            for number, _ in enumerate(drive(physics, found, played)):
                if options.out and number % 2 == 0:
                    film.append(overview(physics, 320, samples=1))
            verdict = played.finish().verdict
            row |= {"success": verdict.success, "reason": verdict.reason}
        except (MotionError, SceneError) as error:
            row["reason"] = str(error)
        if film:
            row["film"] = str(write_video(options.out / f"{Path(name).stem}.mp4", film, fps=25))
        rows.append(row)
    successes = sum(row["success"] for row in rows)
    if options.json:
        print(strict_json({"episodes": rows, "successes": successes}))
        return 0
    for row in rows:
        print(f"{row['scene']}: {'ok  ' if row['success'] else 'FAIL'} {row['instruction']}: {row['reason']}")
    print(f"{successes} of {len(rows)} succeeded")
    return 0


def render(options: Namespace) -> int:
    """`embodichain scene render`."""
    pictures: list[NDArray[np.uint8]] = []
    for _, found, world in scenes(options.source, options.count, options.robot, quiet=options.json):
        physics = mujoco(world)
        physics.reset(found)
        pictures.append(overview(physics, options.size))
    save(sheet(pictures), options.out)
    told = {"scenes": len(pictures), "picture": str(options.out)}
    print(strict_json(told) if options.json else f"{len(pictures)} scenes on {options.out}")
    return 0


def evaluate(options: Namespace) -> int:
    """`embodichain scene eval`."""
    from dataclasses import asdict, replace

    from embodichain.resimulation.suites import Rate, Suite
    from embodichain.resimulation.suites import play as played_by

    rows: list[dict[str, Any]] = []
    for path in options.suites:
        suite = Suite.read(path)
        config = suite.config
        pilot: PilotFactory = _expert
        if options.policy is not None:
            of_policy, pilot = _policy(options.policy)
            names = ("width", "height", "painter", "horizon", "chunk", "depth", "segmentation")
            config = replace(config, **{name: getattr(of_policy, name) for name in names})  # what it sees
        world = prepare(config, quiet=options.json)
        total = len(suite.scenes[: options.count])
        played = played_by(suite, world, pilot, pictures=options.policy is not None, count=options.count)
        episodes = list(progress(played, suite.name, quiet=options.json, total=total))
        rate = Rate(successes=sum(one.outcome.verdict.success for one in episodes), episodes=len(episodes))
        rows.append(
            {
                "suite": suite.name,
                "pilot": str(options.policy or "expert"),
                **asdict(rate),
                "expected_of_expert": asdict(suite.expert) if suite.expert else None,
                "failures": {one.number: one.outcome.verdict.reason for one in episodes if not one.outcome.verdict.success},
            }
        )
    if options.json:
        print(strict_json({"suites": rows}))
        return 0
    for row in rows:
        expected = row["expected_of_expert"]
        told = f"; the expert was measured at {expected['successes']} of {expected['episodes']}" if expected else ""
        print(f"{row['suite']:<32} {row['pilot']}: {row['successes']} of {row['episodes']}{told}")
        for number, reason in row["failures"].items():
            print(f"  scene {number}: {reason}")
    return 0


def _expert(goal: Task, found: Scene, physics: Physics) -> Pilot:
    import numpy as np

    from embodichain.rollout import ExpertPilot

    return ExpertPilot(goal, found, physics, np.random.default_rng(found.seed))


def _policy(path: Path) -> tuple[WorldConfig, PilotFactory]:
    """The world that a policy was trained in, and the maker of its pilots; raises RunError or LearnerError where there is none."""
    from embodichain.extras import explained

    with explained("serve"):
        from embodichain.motion.action import ActionCodec
        from learner.evaluation.episodes import PolicyPilot
        from learner.inference.background import make_policy
        from learner.inference.policy_file import load_agent
        from learner.runs.locate import find

    found = find(trained(str(path)))
    agent = load_agent(found.checkpoint, check_device(None))

    def pilot(goal: Task, shown: Scene, physics: Physics) -> Pilot:
        codec = ActionCodec(physics.robot)
        return PolicyPilot(make_policy(agent, None, seed=shown.seed & 0xFFFF, limits=codec.limits), codec)

    return found.world, pilot
