"""Is the experience good to learn from? Experts, recovery, cheats, replay and limits of every task, for each stage of expansion.

    python benchmarks/experience.py [--quick] [--json] [--episodes N] [--provoked N] [--tasks TASK ...] [--jobs J] [--keep ROWS]
        [--out REPORT.md]

Each task is played `--episodes` times for each stage: placement alone; with visual, with physical expansion and provoked failures;
with reachability-aware diversity as well. A scene that the sampler refuses is no episode (counted apart); one for which the expert
finds no way is a failure. `--provoked` plays so many episodes more of each task for each kind of disturbance, every one of them
disturbed in that way, and says how many of the failures that followed ended in success. Limits are checked on every control step,
replays and cheats on the first episodes of each task. With turn_switch among them, 200 of its scenes are sampled from a pool of
assets that are made meanwhile: `assets_in_200_scenes` different switches. The first time that takes minutes; they are kept.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import harness
import numpy as np
from experience_assets import fresh_assets
from experience_cheats import CHEATS, Played, cheat
from experience_coverage import coverage
from experience_executed import KINDS, perform
from experience_report import table

from embodichain.config import WorldConfig
from embodichain.episode import NoPictures
from embodichain.errors import EmbodiChainError, MotionError, SceneError
from embodichain.expand.diversity import DiversityConfig
from embodichain.expand.physical import PhysicalConfig
from embodichain.expand.visual import VisualConfig
from embodichain.motion.action import ActionCodec
from embodichain.motion.plan import Limits
from embodichain.physics.mujoco import MujocoPhysics
from embodichain.prepare import prepare
from embodichain.protocols import Grader, Task
from embodichain.recovery.config import Kinds, RecoveryConfig
from embodichain.rollout import ExpertPilot, replay, rollout
from embodichain.stages import SceneStage
from embodichain.tasks import TASKS
from embodichain.types import Mishap, Robot, Scene, Segment, Verdict, WorldState
from embodichain.world import World

DEPTH_M, SUSTAINED_STEPS = 0.002, 5
"""Penetration counts as sustained when it exceeds DEPTH_M for SUSTAINED_STEPS control steps (0.1 s) in a row."""
COUNT = 200
"""Scenes of each task on which coverage is measured."""
SPEED_MARGIN, RANGE_MARGIN = 1.02, 0.005
BLOCK = 25
"""Scenes that one process plays in a row: the most work that an interrupted run has to repeat."""
STAGES = ("spatial", "visual", "physical", "diverse")
PROVOKED = {f"provoked: {entry.name}": Mishap(entry.name) for entry in fields(Kinds)}
"""Extra stages for provoked failures: placement only, with every episode disturbed in one way."""


@dataclass(slots=True)
class Watch:
    """Wraps a grader and also records penetration and other quantities that have limits in any trajectory."""

    grader: Grader
    ranges: np.ndarray
    states: list[WorldState] = field(default_factory=list)
    longest: int = 0
    deepest: float = 0.0
    out_of_range: float = 0.0
    _since: Counter[tuple[str, str]] = field(default_factory=Counter)

    def observe(self, state: WorldState) -> None:
        """Observes the state after one control step."""
        self.grader.observe(state)
        self.states.append(state)
        deep = {(c.first, c.second) for c in state.contacts if c.penetration > DEPTH_M}
        self._since = Counter({pair: self._since[pair] + 1 for pair in deep})
        self.longest = max([self.longest, *self._since.values()])
        self.deepest = max(self.deepest, state.deepest())
        beyond = np.maximum(self.ranges[:, 0] - state.measured, state.measured - self.ranges[:, 1])
        self.out_of_range = max(self.out_of_range, float(beyond.max()))

    def pardon(self) -> None:
        """Calls the method of the wrapped grader."""
        self.grader.pardon()

    def verdict(self) -> Verdict:
        """Returns the verdict of the wrapped grader."""
        return self.grader.verdict()


_EXECUTED = 2
"""Episodes of each task on which every kind of cheat is tried."""
_QUICK_TASKS = ("turn_switch", "place_mouse_pad")
"""A task that pushes, one that carries one object, and one that carries several."""


def config(task: str, stage: str) -> WorldConfig:
    """The world of one task under one stage of expansion; each stage includes the stages before it."""
    level = STAGES.index(stage) if stage in STAGES else 0
    recovery = RecoveryConfig(probability=0.5 if level >= 2 else 0.0)
    if stage in PROVOKED:
        recovery = RecoveryConfig(probability=1.0, kinds=Kinds.only(PROVOKED[stage]))
    return WorldConfig(
        tasks=(task,),
        width=16,
        height=16,
        horizon=96,
        recovery=recovery,
        visual=VisualConfig(enabled=level >= 1),
        physical=PhysicalConfig(enabled=level >= 2),
        # Each process plays one block alone; series=1 keeps it from sampling the scenes of the other blocks too.
        diversity=DiversityConfig(enabled=level >= 3, block=BLOCK, series=1),
    )


def joint_ranges(robot: Robot) -> np.ndarray:
    """Lower and upper limit of every measured joint and gripper, [command_size, 2]."""
    codec = ActionCodec(robot)
    rows: list[tuple[float, float]] = []
    for arm, chain in zip(robot.arms, codec.chains, strict=True):
        rows += list(zip(chain.lower.tolist(), chain.upper.tolist(), strict=True))
        rows.append((-RANGE_MARGIN, arm.gripper_open + RANGE_MARGIN))
    return np.array(rows) + np.array((-RANGE_MARGIN, RANGE_MARGIN))


# ------------------------------------------------------------------------------------------------------------ episodes


def play(
    task: Task, scene: Scene, physics: MujocoPhysics, codec: ActionCodec, world: World, out: dict
) -> tuple[Watch, Any, np.ndarray]:
    """Plays one expert episode; returns the watching grader, the outcome and the stored actions."""
    watch = Watch(task.grader(scene), joint_ranges(world.robot))
    pilot = ExpertPilot(task, scene, physics, np.random.default_rng(scene.seed))
    outcome = rollout(physics, codec, scene, pilot, watch, out, world.trajectory_spec, shutter=NoPictures())
    return watch, outcome, out["action"][: outcome.num_chunks].copy()


def fastest(codec: ActionCodec, actions: np.ndarray) -> float:
    """Largest joint speed commanded [rad/s], grippers left out."""
    commands = np.stack([codec.decode(action) for action in actions.reshape(-1, actions.shape[-1])])
    grippers = np.cumsum([arm.command_size for arm in codec.robot.arms]) - 1
    return float(np.abs(np.diff(np.delete(commands, grippers, axis=1), axis=0)).max(initial=0.0) * 50)


def quickest(states: Sequence[WorldState]) -> float:
    """Largest joint speed measured [rad/s], from one control step to the next, grippers left out."""
    joints = np.array([np.concatenate([state.measured[arm.joints] for arm in state.arms]) for state in states])
    return float(np.abs(np.diff(joints, axis=0)).max(initial=0.0) * states[0].control_hz)


def episodes(name: str, stage: str, count: int, checks: int, first: int = 0) -> dict[str, Any]:
    """Plays scenes `first` to `first + count - 1` of one task under one stage; runs in a process of its own."""
    world = prepare(config(name, stage), lambda what, done, total: None)
    physics, codec = MujocoPhysics(world.robot, width=16, height=16), ActionCodec(world.robot)
    scenes = SceneStage(world, physics=physics)
    out = world.trajectory_spec.allocate()
    result: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    starts: list[np.ndarray] = []
    deepest, sampling_s, before = [0.0], 0.0, time.perf_counter()
    played_rows: list[Played] = []
    mishaps: dict[str, list[int]] = {}
    for number in range(first, first + count):
        started = time.process_time()
        try:
            task, scene = scenes.step(number)
        except SceneError as error:
            result["refused"] += 1
            reasons[f"refused: {error}"[:160]] += 1
            continue
        finally:
            sampling_s += time.process_time() - started if number > first else 0.0  # the first one compiles
        result["episodes"] += 1
        try:
            watch, outcome, actions = play(task, scene, physics, codec, world, out)
        except (MotionError, SceneError) as error:
            reasons[f"no way: {error}"[:160]] += 1
            continue
        final = physics.world.data.qpos.copy()
        success, labels = outcome.verdict.success, out["segment"][: outcome.num_chunks]
        result["success"] += success
        result["failed_attempts"] += bool((labels == Segment.FAILURE).any())
        result["recovered"] += bool((labels == Segment.FAILURE).any()) and success
        for attempt in outcome.failed[:1]:
            kind = f"{attempt.mishap}{'' if attempt.provoked else ', not provoked'}"
            mishaps.setdefault(kind, [0, 0])
            mishaps[kind] = [mishaps[kind][0] + 1, mishaps[kind][1] + success]
        if not success:
            reasons[outcome.verdict.reason[:160]] += 1
            continue  # failed episodes are never published, so limits do not apply to them
        deepest.append(watch.deepest)
        result["penetrations"] += watch.longest >= SUSTAINED_STEPS
        result["range_violations"] += watch.out_of_range > 0.0
        result["speed_violations"] += fastest(codec, actions) > Limits().joint_speed * SPEED_MARGIN
        result["measured_speed_over_limit"] += quickest(watch.states) > scene.bounds.joint_speed
        starts.append(watch.states[0].measured)
        if len(played_rows) < checks:
            grader = task.grader(scene)
            replay(physics, codec, scene, actions, grader, failed=outcome.failed, pushed=outcome.pushed)
            result["replays"] += 1
            result["replay_mismatches"] += not np.array_equal(final, physics.world.data.qpos)
            result["label_mismatches"] += grader.verdict() != outcome.verdict
            played_rows.append(Played(scene=scene, actions=actions, states=watch.states))
    passed = {}
    if stage == "spatial":
        passed = {which: sum(cheat(which, task, row, physics, codec) for row in played_rows) for which in CHEATS}
        result["cheats"] += len(CHEATS) * len(played_rows)
        for row in played_rows[:_EXECUTED]:
            done = [what for kind in KINDS if (what := perform(kind, task, row, physics, codec)) is not None]
            result["executed_cheats"] += len(done)
            result["executed_cheats_passed"] += sum(success for success, _ in done)
    return {
        "task": name,
        "stage": stage,
        "first": first,
        **result,
        "reasons": dict(reasons),
        "mishaps": mishaps,
        "deepest_mm": round(1e3 * max(deepest), 2),
        "cheats_passed": passed,
        "start_spread_rad": float(np.ptp(starts, axis=0)[: world.robot.arms[0].command_size - 1].max()) if starts else 0.0,
        "scenes": count,
        "sampling_s": sampling_s,
        "wall_s": time.perf_counter() - before,
    }


def merged(blocks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Merges blocks of the same task and stage into one row; counts are summed."""
    blocks = sorted(blocks, key=lambda block: block["first"])
    total: dict[str, Any] = {"task": blocks[0]["task"], "stage": blocks[0]["stage"]}
    for block in blocks:
        for key, value in block.items():
            if key in ("deepest_mm", "start_spread_rad"):
                total[key] = max(value, total.get(key, 0.0))
            elif key == "mishaps":
                known = total.setdefault(key, {})
                known |= {
                    kind: [sum(both) for both in zip(known.get(kind, (0, 0)), found, strict=True)] for kind, found in value.items()
                }
            elif isinstance(value, dict):
                total[key] = dict(Counter(total.get(key, {})) + Counter(value))
            elif key not in ("task", "stage", "first"):
                total[key] = total.get(key, 0) + value
    total["scenes_per_s"] = (total["scenes"] - len(blocks)) / max(total["sampling_s"], 1e-9)
    total["episodes_per_s"] = total["episodes"] / total["wall_s"]
    return total


# ------------------------------------------------------------------------------------------------------------- figures


def measure(
    names: list[str],
    count: int,
    checks: int,
    jobs: int,
    kept: Path | None = None,
    stages: Sequence[str] = STAGES,
    provoked: int = 0,
) -> dict[str, Any]:
    """Measures all tasks under all stages; `kept` is a file with rows of earlier runs, to which new rows are added.

    `provoked` is how many episodes of each task are played for each kind of disturbance.
    """
    blocks: dict[tuple[str, str], dict[int, dict[str, Any]]] = {}
    if kept is not None and kept.exists():
        for line in kept.read_text().splitlines():
            row = json.loads(line)
            if row["task"] in names and "error" not in row:
                blocks.setdefault((row["task"], row["stage"]), {})[row["first"]] = row
    for name in names:
        prepare(config(name, "spatial"), lambda what, done, total: None)  # caches are filled once, before anything is timed
    # Visual expansion does not change the physics (tests/physics/test_looks.py proves it), so a few episodes suffice.
    wanted = [(name, stage, min(count, 10) if stage == "visual" else count) for stage in stages for name in names]
    provocations = [(name, stage) for number, name in enumerate(names) for stage in _kinds_for(number, all_kinds=count > 1)]
    wanted += [(name, stage, provoked) for name, stage in provocations if provoked]
    work = [
        (name, stage, min(BLOCK, whole - first), checks if first == 0 else 0, first)
        for name, stage, whole in wanted
        for first in range(0, whole, BLOCK)
        if not any(known <= first < known + row["scenes"] for known, row in blocks.get((name, stage), {}).items())
    ]
    work.sort(key=lambda entry: entry[4])  # so that an interrupted run has some blocks of every task and stage
    failed: dict[tuple[str, str], dict[str, Any]] = {}
    with harness.pool(jobs) as pool:
        for done in as_completed([pool.submit(_guarded, entry) for entry in work]):
            row = done.result()
            if "error" in row:
                failed[row["task"], row["stage"]] = row
            else:
                blocks.setdefault((row["task"], row["stage"]), {})[row["first"]] = row
            if kept is not None:
                with kept.open("a") as file:
                    file.write(json.dumps(row) + "\n")
    with harness.pool(jobs) as pool:
        wide = [
            pool.submit(coverage, name, max(2, min(count, COUNT)), 3 if count >= 100 else 2)
            for name in names
            if "diverse" in stages
        ]
        covered = {row["task"]: row for row in (done.result() for done in wide)}
    return summary({key: merged(list(found.values())) for key, found in blocks.items()} | failed, names, covered)


def _kinds_for(number: int, *, all_kinds: bool) -> list[str]:
    """The kinds of disturbance for task `number`: all of them, or in a short run one, chosen in turn."""
    stages = list(PROVOKED)
    return stages if all_kinds else [stages[number % len(stages)]]


def _guarded(work: tuple[str, str, int, int, int]) -> dict[str, Any]:
    """Plays one block and catches errors, so that a broken task does not end the measurement of the others."""
    try:
        return episodes(*work)
    except EmbodiChainError as error:
        return {"task": work[0], "stage": work[1], "error": str(error), "cheats_passed": {}, "reasons": {}}


def summary(rows: dict[tuple[str, str], dict[str, Any]], names: list[str], covered: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The figures of the report."""
    stages = [stage for stage in STAGES if any(found == stage for _, found in rows)]
    for name in names:
        for stage in stages:
            rows.setdefault((name, stage), {"task": name, "stage": stage, "cheats_passed": {}, "reasons": {}})

    def rate(name: str, stage: str) -> float | None:
        row = rows[name, stage]
        return round(row.get("success", 0) / row["episodes"], 4) if row.get("episodes") else None

    def total(key: str) -> int:
        return sum(row.get(key, 0) for row in rows.values())

    last = stages[-1]
    ratios = {name: row["coverage"] for name, row in covered.items()}
    result = {
        "expert_success": {name: rate(name, "spatial") for name in names},
        "expert_success_expanded": {name: rate(name, last) for name in names},
        "recovery_rate": round(total("recovered") / max(total("failed_attempts"), 1), 4),
        "recovery_by_kind": recovery_by_kind(rows),
        "scenes_per_s_core": round(min((rows[name, "spatial"].get("scenes_per_s", 0.0) for name in names), default=0.0), 1),
        "coverage_over_uniform": round(statistics.mean(ratios.values()), 3) if ratios else None,
        "nearer_than_uniform": round(statistics.mean(row["distance"] for row in covered.values()), 3) if covered else None,
        "coverage_by_task": ratios,
        "coverage": list(covered.values()),
        "replay_mismatches": total("replay_mismatches"),
        "label_mismatches": total("label_mismatches"),
        "replays": total("replays"),
        "grader_cheats_passed": sum(sum(row["cheats_passed"].values()) for row in rows.values()),
        "grader_cheats_tried": total("cheats"),
        "executed_cheats_passed": total("executed_cheats_passed"),
        "executed_cheats_tried": total("executed_cheats"),
        "measured_speed_over_limit": total("measured_speed_over_limit"),
        "start_spread_rad": round(max((row.get("start_spread_rad", 0.0) for row in rows.values()), default=0.0), 4),
        "penetrations": total("penetrations"),
        "range_violations": total("range_violations"),
        "speed_violations": total("speed_violations"),
        "failed_attempts": total("failed_attempts"),
        "stages": [],
    }
    for stage in stages:
        picked = [rows[name, stage] for name in names]
        attempts = sum(row.get("failed_attempts", 0) for row in picked)
        result["stages"].append(
            {
                "stage": stage,
                "success": {name: rate(name, stage) for name in names},
                "episodes": sum(row.get("episodes", 0) for row in picked),
                "episodes_by_task": {row["task"]: row.get("episodes", 0) for row in picked},
                "refused": sum(row.get("refused", 0) for row in picked),
                "recovered": round(sum(row.get("recovered", 0) for row in picked) / attempts, 3) if attempts else None,
                "scenes_per_s": {row["task"]: round(row.get("scenes_per_s", 0.0), 1) for row in picked},
                "deepest_mm": {row["task"]: row.get("deepest_mm") for row in picked},
            }
        )
    result["rows"] = list(rows.values())
    return result


def recovery_by_kind(rows: dict[tuple[str, str], dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Number of episodes and share that ended in success, by the kind of the first failed attempt."""
    found: dict[str, list[int]] = {}
    for row in rows.values():
        for kind, (failed, recovered) in row.get("mishaps", {}).items():
            before = found.get(kind, [0, 0])
            found[kind] = [before[0] + failed, before[1] + recovered]
    return {kind: {"failed": failed, "rate": round(recovered / failed, 3)} for kind, (failed, recovered) in sorted(found.items())}


def main() -> None:
    """Parses the command line, measures, prints."""
    known = [name for name in TASKS.built_in if name != "counting"]
    parser = harness.parser(__doc__, "one episode of each task and stage, and one provoked into a failure")
    parser.add_argument("--episodes", type=int, help="of each task under each stage (default 200)")
    parser.add_argument("--provoked", type=int, help="of each task for each kind of disturbance (default 0; 1 with --quick)")
    parser.add_argument("--checks", type=int, help="episodes of each task that are replayed and cheated on (default 10)")
    parser.add_argument("--tasks", nargs="+", choices=known, help=f"default all ten; with --quick {', '.join(_QUICK_TASKS)}")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="file of rows: those in it are not measured again, new ones are added")
    parser.add_argument("--out", type=Path, help="write the report there as Markdown, and the figures beside it as JSON")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    count = options.episodes or (1 if options.quick else 200)
    started = time.perf_counter()
    checks = options.checks or (1 if options.quick else 10)
    provoked = options.provoked if options.provoked is not None else 1 if options.quick else 0
    chosen: list[str] = options.tasks or list(_QUICK_TASKS if options.quick else known)
    result = measure(chosen, count, checks, options.jobs, options.keep, options.stages, provoked)
    if "turn_switch" in chosen:
        result |= fresh_assets()
    result["wall_s"] = round(time.perf_counter() - started)
    if options.out:
        options.out.write_text(table(result, count))
        options.out.with_suffix(".json").write_text(json.dumps(result, indent=1))
    figures = {key: value for key, value in result.items() if key != "rows"}
    harness.give(figures, options, lambda: print(table(result, count)))


if __name__ == "__main__":
    main()
