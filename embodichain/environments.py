"""Every task as a gymnasium environment: `gymnasium.make("EmbodiChain/turn_switch-v0")` after this module is imported.

The scenes are those of the stream, the physics is the engine's, and the reward comes from the task's grader. An action is one
command to the robot, with each of its numbers scaled to -1..1 between the limits of the joint or of the gripper's opening.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Generator
from typing import Any, ClassVar

import gymnasium
import numpy as np
from numpy.typing import NDArray

from embodichain import tasks
from embodichain.config import WorldConfig
from embodichain.episode import check_start
from embodichain.errors import ConfigError, SceneError
from embodichain.expand.physical import PhysicalConfig
from embodichain.expand.visual import VisualConfig
from embodichain.motion.action import ActionCodec
from embodichain.prepare import prepare
from embodichain.stages import SceneStage
from embodichain.types import Pose, Push, Scene, WorldState
from embodichain.types.mishaps import pushes_at
from embodichain.world import Split

__all__ = ["NAMESPACE", "TaskEnv", "register_all"]

NAMESPACE = "EmbodiChain"
_NAME = re.compile(r"[\w:.-]+")
"""Names that gymnasium takes."""
Observation = dict[str, Any]
_TRIES = 100
"""Number of scenes that a reset tries before it gives up; one in some hundreds has no valid layout."""
_MARGIN = 0.5
"""How far a measured joint or opening may lie beyond its limits [rad, m], because the limits are soft."""


class TaskEnv(gymnasium.Env[Observation, NDArray[np.float32]]):
    """One task, with a new scene at every reset.

    Observations are a dictionary: `state` float32 [command_size], the measured joints [rad] and gripper opening [m] of each arm in
    turn, and `pixels`, a uint8 picture [height, width, 3] of every camera by name (left out with `pixels=False`).

    An episode terminates when the grader finds success. The reward of a step is its increase of the grader's progress, so a
    successful episode sums up to 1. `info` has the grader's `success`, `progress` and `reason`, the `instruction`, the `number` of
    the scene, and the true `poses` (x, y, z [m], qw, qx, qy, qz) and `joints` ([rad] or [m]) of all objects by their roles.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 50}

    def __init__(
        self,
        task: str = "turn_switch",
        *,
        render_mode: str | None = None,
        pixels: bool = True,
        width: int = 64,
        height: int = 64,
        robot: str = "dual_piper",
        painter: str = "raster",
        hold: int = 1,
        limit_s: float = 20.48,
        visual: bool = False,
        physical: bool = False,
        held_out: bool = False,
        seed: int = 0,
        world: WorldConfig | None = None,
    ) -> None:
        """Builds or loads what the task's scenes need, which takes minutes the first time on a machine.

        Args:
            task: A name from `embodichain list`, or "package.module:Name".
            render_mode: "rgb_array" for `render`, or None.
            pixels: Whether observations hold pictures; without them a step takes a tenth of the time.
            width: Width of every picture [pixels].
            height: Height of every picture [pixels].
            robot: A name, or the path of an MJCF or YAML file.
            painter: What draws the pictures, "raster" or "raycast".
            hold: Number of control steps for which each action is held.
            limit_s: Duration of an episode after which it is truncated [s]; by default that of 64 chunks at 50 Hz, as in a run.
            visual: Whether looks are drawn anew for every scene.
            physical: Whether sizes and physics are drawn anew for every scene.
            held_out: Whether to show scenes that no training stream shows.
            seed: Seed of the family of scenes; the seed given to `reset` decides which of them it shows.
            world: A whole configuration in place of the arguments above.

        Raises ConfigError for names that do not exist and values that do not fit.
        """
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise ConfigError(f"unknown render_mode {render_mode!r}; available: rgb_array, or None")
        if hold < 1:
            raise ConfigError(f"hold is for how many control steps an action is held, at least 1, got {hold}")
        if not 0.0 < limit_s < math.inf:
            raise ConfigError(f"limit_s is the longest duration of an episode, above 0 s and finite, got {limit_s}")
        self.render_mode, self._pixels, self._hold = render_mode, pixels, hold
        config = world or WorldConfig(
            tasks=(task,),
            robot=robot,
            painter=painter,
            width=width,
            height=height,
            seed=seed,
            visual=VisualConfig(enabled=visual),
            physical=PhysicalConfig(enabled=physical),
        )
        self._world = prepare(config)
        self._physics = self._world.make_physics()
        self._stage = SceneStage(self._world, Split.HELD_OUT if held_out else Split.STREAM, self._physics)
        self._codec = ActionCodec(self._world.robot)
        body = self._world.robot
        limits = self._codec.limits
        self._low, self._high = (self._codec.decode(bound).astype(np.float64) for bound in (limits.low, limits.high))
        self.metadata = {**self.metadata, "render_fps": body.control_hz}
        self._most_steps = max(1, round(limit_s * body.control_hz))
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (body.command_size,), np.float32)
        low, high = (self._low - _MARGIN).astype(np.float32), (self._high + _MARGIN).astype(np.float32)
        spaces: dict[str, gymnasium.Space[Any]] = {"state": gymnasium.spaces.Box(low, high, dtype=np.float32)}
        self._shape = (len(body.cameras), config.height, config.width, 3)
        if pixels:
            picture = gymnasium.spaces.Box(0, 255, self._shape[1:], np.uint8)
            spaces["pixels"] = gymnasium.spaces.Dict({camera.name: picture for camera in body.cameras})
        self.observation_space = gymnasium.spaces.Dict(spaces)
        self._scene: Scene | None = None
        self._state: WorldState | None = None
        self._number, self._steps, self._progress = 0, 0, 0.0
        self._shoved: tuple[Push, ...] = ()
        """External forces by which the expert provokes a failure, during the next control step."""

    # ------------------------------------------------------------------------------------------------------------ gymnasium

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, dict[str, Any]]:
        """Shows a new scene: number `options["number"]`, or a random one.

        Raises SceneError when that number has no valid scene; a random number without one is replaced.
        """
        super().reset(seed=seed)
        if unknown := set(options or ()) - {"number"}:
            raise ConfigError(f"unknown options {sorted(unknown)} for a reset; available: number")
        asked = (options or {}).get("number")
        if asked is not None and (not isinstance(asked, int | np.integer) or asked < 0):
            raise ConfigError(f"number is the number of a scene, 0 or more, got {asked!r}")
        self._scene = self._state = None  # a reset that fails leaves no scene, and not the one before in another's place
        for left in reversed(range(_TRIES)):
            number = int(self.np_random.integers(2**31)) if asked is None else int(asked)
            try:
                self._task, scene = self._stage.step(number)
                state = self._physics.reset(scene)
                check_start(scene, state)
                break
            except SceneError:
                if asked is not None or not left:
                    raise
        self._scene, self._state, self._shoved = scene, state, ()
        self._number, self._steps, self._progress = number, 0, 0.0
        self._grader = self._task.grader(self.scene)
        return self._observe(), self._info()

    def step(self, action: NDArray[np.float32]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Holds one command for `hold` control steps; raises ConfigError for an invalid action, SceneError before a reset."""
        command = self._codec.round(self.command(action))
        for _ in range(self._hold):
            pushes = self._shoved + pushes_at(self.scene.happening, self._steps)
            self._shoved = ()
            self._state = self._physics.step(command, pushes)
            self._grader.observe(self._state)
            self._steps += 1
        info = self._info()
        reward, self._progress = info["progress"] - self._progress, info["progress"]
        return self._observe(), float(reward), bool(info["success"]), self._steps >= self._most_steps, info

    def render(self) -> NDArray[np.uint8] | None:
        """The picture of the first camera, uint8 [height, width, 3]; None without a render mode."""
        return None if self.render_mode is None else self._pictures()[0]

    def close(self) -> None:
        """Frees the physics; safe to call twice."""
        self._physics.close()

    # ------------------------------------------------------------------------------------------------------------ commands

    @property
    def scene(self) -> Scene:
        """The scene of the current episode; raises SceneError before the first reset."""
        if self._scene is None:
            raise SceneError("there is no scene yet: call reset() first")
        return self._scene

    def command(self, action: NDArray[np.float32]) -> NDArray[np.float64]:
        """The command [rad, m] for an action; values beyond -1..1 are clipped."""
        given = np.asarray(action, np.float64)
        if given.shape != self.action_space.shape or not np.isfinite(given).all():
            raise ConfigError(f"an action is {self._world.robot.command_size} finite numbers in -1..1, got {action!r}")
        return self._low + (np.clip(given, -1.0, 1.0) + 1.0) / 2.0 * (self._high - self._low)

    def action(self, command: NDArray[np.float64]) -> NDArray[np.float32]:
        """The action for a command [rad, m]: the inverse of `command`, to float32's precision."""
        return (2.0 * (np.asarray(command) - self._low) / (self._high - self._low) - 1.0).astype(np.float32)

    def expert(self) -> Generator[NDArray[np.float32], None, None]:
        """Actions of the task's scripted expert in the current scene, one for each control step (`hold` must be 1).

        Each must be played before the next is requested, because the expert observes its result. Failures that it provokes, where
        `world` has recovery, happen here as in a run: with their external forces, and forgiven once the expert has noticed them.
        """
        if self._hold != 1 or self._state is None:
            raise ConfigError(
                f"an expert commands every control step: make the environment with hold=1, got {self._hold}, and reset it"
            )
        driving = self._task.expert(self.scene, self._world.robot, self._state, np.random.default_rng(self.scene.seed))
        step = next(driving)
        while True:
            if step.failed_steps:
                self._grader.pardon()
            self._shoved = step.pushes
            yield self.action(step.command)
            try:
                step = driving.send(self._state)
            except StopIteration:
                return

    # --------------------------------------------------------------------------------------------------------------- parts

    def _observe(self) -> Observation:
        assert self._state is not None
        seen: Observation = {"state": self._state.measured.astype(np.float32)}
        if self._pixels:
            names = (camera.name for camera in self._world.robot.cameras)
            seen["pixels"] = dict(zip(names, self._pictures(), strict=True))
        return seen

    def _pictures(self) -> NDArray[np.uint8]:
        """The pictures of all cameras, in a new array."""
        rgb = np.empty(self._shape, np.uint8)
        self._physics.render(rgb)
        return rgb

    def _info(self) -> dict[str, Any]:
        verdict, state = self._grader.verdict(), self._state
        assert state is not None
        return {
            "success": verdict.success,
            "progress": 1.0 if verdict.success else float(verdict.progress),
            "reason": verdict.reason,
            "instruction": self.scene.instruction,
            "number": self._number,
            "poses": {role: _numbers(pose) for role, pose in state.object_poses.items()},
            "joints": {role: np.array(joints, np.float64) for role, joints in state.object_joints.items()},
        }


def _numbers(pose: Pose) -> NDArray[np.float64]:
    return np.array((*pose.position, *pose.quaternion))


def register_all() -> None:
    """Registers every task with gymnasium as "EmbodiChain/<task>-v0"; safe to call twice. `TaskEnv` itself ends long episodes."""
    for name in tasks.TASKS:
        known = f"{NAMESPACE}/{name}-v0"
        if not _NAME.fullmatch(name):
            warnings.warn(f"gymnasium takes no environment called {name!r}: task {name!r} has none", stacklevel=2)
        elif name != "counting" and known not in gymnasium.registry:
            gymnasium.register(
                known,
                entry_point=f"{__name__}:{TaskEnv.__name__}",
                kwargs={"task": name},
            )


register_all()
