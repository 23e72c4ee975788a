"""Closed loop in held-out scenes: the trained policy beside a pilot that does nothing and one that moves at random."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from embodichain.errors import ConfigError, MotionError, SceneError
from embodichain.motion.action import ActionCodec
from embodichain.protocols import Physics, Pilot, Task
from embodichain.rollout import ExpertPilot, Outcome, rollout
from embodichain.stages import SceneStage, Split, World
from embodichain.types import CHUNK, Robot, Scene, Step, Verdict, WorldState, read_text


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """How the policy is judged."""

    episodes: int = 4
    """Held-out scenes for each task; every pilot meets the same ones."""
    random_step: float = 0.15
    """Standard deviation of the random pilot's joint targets around the current joints [rad]."""

    def __post_init__(self) -> None:
        if self.episodes < 0:
            raise ConfigError(f"episodes must be 0 or more, got {self.episodes}")


@dataclass(frozen=True, kw_only=True)
class Score:
    """Successes of one pilot on one task with the 95% Wilson interval; `progress` is the graders' mean in 0..1."""

    pilot: str
    task: str
    successes: int
    episodes: int
    low: float
    high: float
    progress: float


class Policy(Protocol):
    """What evaluation asks of a learned policy (`learner.policy.ClwmPolicy`) and of any other."""

    def begin(self, instruction: str) -> None:
        """Starts an episode with empty memory."""
        ...

    def act(self, rgb: NDArray[np.uint8], proprio: NDArray[np.float32]) -> NDArray[np.float32]:
        """The next 16 actions in the unified representation, shape [16, 30], for what all cameras see now."""
        ...


class PolicyPilot:
    """Drives the robot with a policy: one inference per frame, whose chunk is played open loop."""

    def __init__(self, policy: Policy, codec: ActionCodec) -> None:
        self._policy = policy
        self._codec = codec
        self._chunk: NDArray[np.float32] | None = None
        self._k = 0

    def look(self, frame: Mapping[str, NDArray]) -> None:
        """Plans the next chunk from the frame."""
        if self._chunk is None:
            self._policy.begin(read_text(frame["instruction"]))
        self._chunk = self._policy.act(frame["rgb"], frame["proprio"])
        self._k = 0

    def command(self, state: WorldState) -> Step | None:
        """The chunk's next action."""
        assert self._chunk is not None, "look() comes first"
        action = self._chunk[self._k]
        self._k += 1
        return Step(command=self._codec.decode(action))


class StillPilot:
    """Does nothing: holds the joints where the episode found them."""

    def __init__(self) -> None:
        self._hold: NDArray[np.float64] | None = None

    def look(self, frame: Mapping[str, NDArray]) -> None:
        """Looks away."""

    def command(self, state: WorldState) -> Step | None:
        """The first state's joints, for ever."""
        if self._hold is None:
            self._hold = state.measured.copy()
        return Step(command=self._hold)


class RandomPilot:
    """Moves at random: each chunk glides to joint targets drawn around the current ones, grippers anywhere in their range."""

    def __init__(self, robot: Robot, rng: np.random.Generator, step: float) -> None:
        self._rng = rng
        self._step = step
        self._grippers = np.cumsum([arm.command_size for arm in robot.arms]) - 1
        self._openings = np.array([arm.gripper_open for arm in robot.arms])
        self._start = self._target = robot.home
        self._k = CHUNK

    def look(self, frame: Mapping[str, NDArray]) -> None:
        """Looks away."""

    def command(self, state: WorldState) -> Step | None:
        """The next point of the glide."""
        if self._k == CHUNK:
            self._start, self._k = state.measured.copy(), 0
            self._target = self._start + self._rng.normal(0.0, self._step, self._start.shape)
            self._target[self._grippers] = self._rng.uniform(0.0, 1.0, len(self._grippers)) * self._openings
        self._k += 1
        return Step(command=self._start + (self._target - self._start) * (self._k / CHUNK))


PilotFactory = Callable[[Task, Scene, Physics], Pilot]
"""Makes the pilot of one episode."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Episode:
    """One judged episode as it was recorded: `trajectory` holds the fields of the world's spec."""

    pilot: str
    scene: Scene
    trajectory: Mapping[str, NDArray]
    outcome: Outcome


def baselines(config: EvaluateConfig) -> dict[str, PilotFactory]:
    """The two pilots that any policy must beat."""
    return {
        "do nothing": lambda task, scene, physics: StillPilot(),
        "random": lambda task, scene, physics: RandomPilot(physics.robot, np.random.default_rng(scene.seed), config.random_step),
    }


def expert(task: Task, scene: Scene, physics: Physics) -> Pilot:
    """The task's scripted expert: what could be reached in these scenes."""
    return ExpertPilot(task, scene, physics, np.random.default_rng(scene.seed))


def evaluate(
    world: World,
    pilots: Mapping[str, PilotFactory],
    config: EvaluateConfig,
    *,
    progress: Callable[[str, int, int], None],
    on_first: Callable[[Episode], None],
    stop: Callable[[], bool],
) -> list[Score]:
    """Plays the same held-out scenes with every pilot; `on_first` gets the first episode of each pilot and task.

    Scenes that cannot be sampled are passed over, alike for all pilots. Ends early, without scores, when `stop()`.
    """
    physics = world.make_physics()
    codec = ActionCodec(world.robot)
    spec = world.trajectory_spec
    scenes = held_out_scenes(world, config.episodes)
    total, done = len(scenes) * len(pilots), 0
    scores: list[Score] = []
    try:
        for pilot_name, factory in pilots.items():
            results: dict[str, list[tuple[bool, float]]] = {}
            for task, scene in scenes:
                if stop():
                    return []
                out = spec.allocate()
                try:
                    outcome = rollout(physics, codec, scene, factory(task, scene, physics), task.grader(scene), out, spec)
                except MotionError as error:  # only an expert plans: it found no way
                    verdict = Verdict(success=False, reason=str(error))
                    outcome = Outcome(verdict=verdict, num_chunks=0, recovered=False)
                if task.name not in results and outcome.num_chunks:
                    on_first(Episode(pilot=pilot_name, scene=scene, trajectory=out, outcome=outcome))
                results.setdefault(task.name, []).append((outcome.verdict.success, outcome.verdict.progress))
                done += 1
                progress("evaluate", done, total)
            for task_name, graded in results.items():
                successes = sum(success for success, _ in graded)
                low, high = wilson(successes, len(graded))
                mean_progress = float(np.mean([p for _, p in graded]))
                scores.append(
                    Score(
                        pilot=pilot_name,
                        task=task_name,
                        successes=successes,
                        episodes=len(graded),
                        low=low,
                        high=high,
                        progress=mean_progress,
                    )
                )
    finally:
        physics.close()
    return scores


def held_out_scenes(world: World, episodes: int) -> list[tuple[Task, Scene]]:
    """`episodes` scenes of each task from the held-out split; raises SceneError when more than half of the seeds have none."""
    stage = SceneStage(world, Split.HELD_OUT)
    num_tasks = len(world.config.tasks)
    found: dict[str, list[tuple[Task, Scene]]] = {}
    reasons: list[str] = []
    for number in range(2 * episodes * num_tasks):
        try:
            task, scene = stage.step(number)
        except SceneError as error:
            reasons.append(str(error))
            continue
        rows = found.setdefault(task.name, [])
        if len(rows) < episodes:
            rows.append((task, scene))
    if any(len(rows) < episodes for rows in found.values()) or (episodes and len(found) < num_tasks):
        raise SceneError(f"too few held-out scenes could be sampled; last reason: {reasons[-1] if reasons else 'none'}")
    return [row for rows in found.values() for row in rows]


def wilson(successes: int, episodes: int, z: float = 1.959964) -> tuple[float, float]:
    """The Wilson score interval of a proportion (Wilson 1927), 95% by default; raises ValueError when there are no episodes."""
    if episodes < 1 or not 0 <= successes <= episodes:
        raise ValueError(f"need 0 <= successes <= episodes and episodes >= 1, got {successes} of {episodes}")
    rate = successes / episodes
    denominator = 1 + z**2 / episodes
    center = (rate + z**2 / (2 * episodes)) / denominator
    half = z / denominator * math.sqrt(rate * (1 - rate) / episodes + z**2 / (4 * episodes**2))
    low = 0.0 if successes == 0 else max(0.0, center - half)  # exact at the ends, where rounding would leave 1e-17
    high = 1.0 if successes == episodes else min(1.0, center + half)
    return low, high


def as_rows(scores: list[Score]) -> list[dict[str, Any]]:
    """Scores as plain dictionaries for JSON."""
    return [{name: getattr(score, name) for name in Score.__dataclass_fields__} for score in scores]
