"""Closed-loop episodes in held-out scenes: the trained policy, a pilot that does nothing, one that moves at random, the expert."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from embodichain.episode import Outcome
from embodichain.errors import ConfigError, MotionError, SceneError
from embodichain.motion.action import ActionCodec
from embodichain.protocols import Physics, Pilot, Task
from embodichain.rollout import ExpertPilot, rollout
from embodichain.types import Robot, Scene, Step, Verdict, WorldState, read_text
from embodichain.world import World
from learner.evaluation.config import EvaluateConfig, Shift
from learner.evaluation.held_out import HeldOut, of_world, scenes


@dataclass(frozen=True, kw_only=True)
class Score:
    """Successes of one pilot on one task with the 95% Wilson interval; `progress` is the mean progress of its episodes, 0 to 1."""

    pilot: str
    task: str
    successes: int
    episodes: int
    low: float
    high: float
    progress: float


class Policy(Protocol):
    """The interface of a policy under evaluation, such as `inference.policy.Policy`."""

    @property
    def chunk(self) -> int:
        """K, actions between two frames."""
        ...

    def begin(self, instruction: str) -> None:
        """Starts an episode with empty memory and this instruction."""
        ...

    def act(
        self, rgb: NDArray[np.uint8], proprio: NDArray[np.float32], executed: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """The next K actions in the unified representation, float32 [K, 30], for the present frame.

        Args:
            rgb: uint8 [cameras, h, w, 3].
            proprio: measured state in the unified representation, [30].
            executed: the K actions executed since the last frame, [K, 30], if they differ from those returned for it.
        """
        ...

    def close(self) -> None:
        """Frees what the policy holds."""
        ...


@dataclass(slots=True)
class Trace:
    """The normalised latents [N, C] that a world model saw and predicted; `imagined[t]` is its prediction of `seen[t + 1]`."""

    seen: list[NDArray[np.float32]] = field(default_factory=list)
    imagined: list[NDArray[np.float32]] = field(default_factory=list)
    waited: list[int] = field(default_factory=list)
    """Evaluations of the model for which the robot waited, of every decision but the first, before which nothing can be begun."""
    decisions: int = 0

    def note(self, policy: Policy) -> None:
        """Appends what the policy has just seen, predicted and evaluated; leaves out what it does not tell."""
        self.decisions += 1
        last = getattr(policy, "last", None)
        if last is not None and self.decisions > 1:
            self.waited.append(sum(last.evaluations.values()))
        seen, imagined = getattr(policy, "seen", None), getattr(policy, "imagined", None)
        if seen is not None and imagined is not None:
            self.seen.append(seen.float().cpu().numpy())
            self.imagined.append(imagined.float().cpu().numpy())

    def errors(self) -> tuple[float, float] | None:
        """Mean squared error of the predicted frames, and of predicting no change; None for fewer than two frames."""
        if len(self.seen) < 2:
            return None
        seen, imagined = np.stack(self.seen), np.stack(self.imagined)
        return float(np.square(imagined[:-1] - seen[1:]).mean()), float(np.square(seen[:-1] - seen[1:]).mean())


class PolicyPilot:
    """Drives the robot with a policy: one inference per frame, whose chunk of actions is executed open loop.

    `delay` simulates the latency of inference: the chunk decided from a frame starts `delay` control steps after it. Meanwhile the
    previous chunk continues; before the first chunk the robot holds still. The policy is told which actions were executed. As the
    delay is counted in simulated time, results do not depend on the speed of the machine.
    """

    def __init__(self, policy: Policy, codec: ActionCodec, *, delay: int = 0) -> None:
        """Raises ConfigError for a delay longer than a chunk."""
        if not 0 <= delay <= policy.chunk:
            raise ConfigError(f"delay is a number of commands of a chunk, 0..{policy.chunk}, got {delay}")
        self._policy = policy
        self._codec = codec
        self._delay = delay
        self._decided: NDArray[np.float32] | None = None
        self._chunk: NDArray[np.float32] | None = None
        self._k = 0
        self.trace = Trace()
        self.jumps: list[float] = []
        """Largest step of any joint [rad] or gripper [m] command at the start of each chunk."""

    def look(self, frame: Mapping[str, NDArray]) -> None:
        """Plans the next chunk from the frame."""
        before, old = self._chunk, self._decided
        if before is None or old is None:
            self._policy.begin(read_text(frame["instruction"]))
            still = self._codec.robot.still(self._codec.decode(frame["proprio"]))
            old = np.repeat(self._codec.encode(still)[None], self._policy.chunk, axis=0)
        told = () if before is None or not self._delay else (before,)  # without a delay, exactly the returned chunk was executed
        new = self._policy.act(frame["rgb"], frame["proprio"], *told)
        late, kept = self._delay, self._policy.chunk - self._delay
        self._chunk, self._decided = np.concatenate([old[len(old) - late :], new[:kept]]), new
        if before is not None:
            seam = self._codec.decode(np.concatenate([old[-1:], new[:1]]))
            self.jumps.append(float(np.abs(seam[1] - seam[0]).max()))
        self.trace.note(self._policy)
        self._k = 0

    def command(self, state: WorldState) -> Step | None:
        """The chunk's next action."""
        assert self._chunk is not None, "look() comes first"
        action = self._chunk[self._k]
        self._k += 1
        return Step(command=self._codec.decode(action))

    def close(self) -> None:
        """Closes the policy."""
        self._policy.close()


class StillPilot:
    """Does nothing: holds the joints at their first positions, or sends no commands to a robot without known joints."""

    def __init__(self, robot: Robot) -> None:
        self._robot = robot
        self._hold: NDArray[np.float64] | None = None

    def look(self, frame: Mapping[str, NDArray]) -> None:
        """Ignores the frame."""

    def command(self, state: WorldState) -> Step | None:
        """The joint positions of the first state, at every step."""
        if self._hold is None:
            self._hold = self._robot.still(state.measured)
        return Step(command=self._hold)


_GLIDE = 16
"""Control steps from one random target to the next."""


class RandomPilot:
    """Moves at random: interpolates to joint targets drawn around the current joints, and to grippers anywhere in their range."""

    def __init__(self, robot: Robot, rng: np.random.Generator, step: float) -> None:
        self._rng = rng
        self._step = step
        self._robot = robot
        self._grippers = np.cumsum([arm.command_size for arm in robot.arms]) - 1
        self._openings = np.array([arm.gripper_open for arm in robot.arms])
        self._start = self._target = robot.home
        self._k = _GLIDE

    def look(self, frame: Mapping[str, NDArray]) -> None:
        """Ignores the frame."""

    def command(self, state: WorldState) -> Step | None:
        """The next point of the interpolation."""
        if self._k == _GLIDE:
            self._start, self._k = self._robot.still(state.measured), 0
            self._target = self._start + self._rng.normal(0.0, self._step, self._start.shape)
            self._target[self._grippers] = self._rng.uniform(0.0, 1.0, len(self._grippers)) * self._openings
        self._k += 1
        return Step(command=self._start + (self._target - self._start) * (self._k / _GLIDE))


PilotFactory = Callable[[Task, Scene, Physics], Pilot]
"""Makes the pilot of one episode."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Played:
    """One evaluated episode; `trajectory` holds the fields of the world's spec and is valid only until the next episode."""

    number: int
    """Number of the scene among those of its task."""
    pilot: str
    scene: Scene
    trajectory: Mapping[str, NDArray]
    outcome: Outcome
    trace: Trace


@dataclass(frozen=True, kw_only=True)
class Graded:
    """The record of one episode: enough to score it and to sample its scene again."""

    shift: str
    task: str
    pilot: str
    number: int
    seed: int
    success: bool
    progress: float
    reason: str
    chunks: int
    imagined_error: float | None = None
    unchanged_error: float | None = None
    """Mean squared error of predicting that no frame changes; the field above is that of the model's predictions."""
    blocking_evaluations: float | None = None
    """Evaluations of the model for which the robot waited, a decision."""

    @classmethod
    def of(cls, episode: Played, shift: Shift) -> Graded:
        """The record of an episode that was just played."""
        verdict, errors = episode.outcome.verdict, episode.trace.errors()
        return cls(
            shift=shift.value,
            task=episode.scene.task,
            pilot=episode.pilot,
            number=episode.number,
            seed=episode.scene.seed,
            success=verdict.success,
            progress=verdict.progress,
            reason=verdict.reason,
            chunks=episode.outcome.num_chunks,
            imagined_error=errors and errors[0],
            unchanged_error=errors and errors[1],
            blocking_evaluations=float(np.mean(waited)) if (waited := episode.trace.waited) else None,
        )


def baselines(config: EvaluateConfig) -> dict[str, PilotFactory]:
    """The two pilots that any policy must beat: doing nothing, and random motion."""
    return {
        "do nothing": lambda task, scene, physics: StillPilot(physics.robot),
        "random": lambda task, scene, physics: RandomPilot(physics.robot, np.random.default_rng(scene.seed), config.random_step),
    }


def expert(task: Task, scene: Scene, physics: Physics) -> Pilot:
    """The task's scripted expert, an upper reference for success in the same scenes."""
    return ExpertPilot(task, scene, physics, np.random.default_rng(scene.seed))


def episodes(
    held: HeldOut,
    pilots: Mapping[str, PilotFactory],
    count: int,
    *,
    known: Callable[[str, str, int], bool] = lambda pilot, task, number: False,
) -> Iterator[Played]:
    """Plays the same `count` scenes of each task with every pilot, except episodes that are already `known(pilot, task, number)`.

    An episode ends when its grader reports success, or at the horizon; a policy cannot end it. A pilot that finds no plan, or makes
    the simulation unstable, fails the episode.
    """
    world = held.world
    physics, codec = world.make_physics(), ActionCodec(world.robot)
    spec = replace(world.config, between=0).trajectory_spec(world.robot)  # a pilot looks once a chunk
    out = spec.allocate()
    try:
        rows = scenes(held, count)
        for name, factory in pilots.items():
            for index, (task, scene) in enumerate(rows):
                number = index % count
                if known(name, task.name, number):
                    continue
                pilot = factory(task, scene, physics)
                out["num_chunks"][()] = 0
                try:
                    outcome = rollout(physics, codec, scene, pilot, task.grader(scene), out, spec, until_success=True)
                except (MotionError, SceneError) as error:
                    verdict = Verdict(success=False, reason=str(error))
                    outcome = Outcome(verdict=verdict, num_chunks=0, recovered=False)
                trace = pilot.trace if isinstance(pilot, PolicyPilot) else Trace()
                yield Played(number=number, pilot=name, scene=scene, trajectory=out, outcome=outcome, trace=trace)
                if isinstance(pilot, PolicyPilot):
                    pilot.close()
    finally:
        physics.close()


def evaluate(
    world: World,
    pilots: Mapping[str, PilotFactory],
    config: EvaluateConfig,
    *,
    progress: Callable[[str, int, int], None],
    on_first: Callable[[Played], None],
    stop: Callable[[], bool],
) -> list[Score]:
    """Scores every pilot in held-out scenes in distribution; calls `on_first` with each pilot's first episode of each task.

    Scenes that cannot be sampled are skipped for all pilots. Returns no scores if `stop()` becomes true.
    """
    total = config.episodes * len(world.config.tasks) * len(pilots)
    graded: list[Graded] = []
    seen: set[tuple[str, str]] = set()
    for episode in episodes(of_world(world), pilots, config.episodes):
        if stop():
            return []
        kind = (episode.pilot, episode.scene.task)
        if kind not in seen and episode.outcome.num_chunks:
            seen.add(kind)
            on_first(episode)
        graded.append(Graded.of(episode, Shift.NONE))
        progress("evaluate", len(graded), total)
    return scores(graded)


def scores(graded: Iterable[Graded]) -> list[Score]:
    """The score of each pilot on each task, in order of appearance."""
    groups: dict[tuple[str, str], list[Graded]] = {}
    for row in graded:
        groups.setdefault((row.pilot, row.task), []).append(row)
    found = []
    for (pilot, task), rows in groups.items():
        successes = sum(row.success for row in rows)
        low, high = wilson(successes, len(rows))
        mean = float(np.mean([row.progress for row in rows]))
        found.append(Score(pilot=pilot, task=task, successes=successes, episodes=len(rows), low=low, high=high, progress=mean))
    return found


def wilson(successes: int, episodes: int) -> tuple[float, float]:
    """The 95% Wilson score interval of a proportion (Wilson 1927); raises ValueError when there are no episodes."""
    if episodes < 1 or not 0 <= successes <= episodes:
        raise ValueError(f"need 0 <= successes <= episodes and episodes >= 1, got {successes} of {episodes}")
    interval = binomtest(successes, episodes).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def as_rows(scores: list[Score]) -> list[dict[str, Any]]:
    """Scores as plain dictionaries for JSON."""
    return [{name: getattr(score, name) for name in Score.__dataclass_fields__} for score in scores]
