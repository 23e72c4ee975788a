"""Staged episodes: an expert, or a cheat's hand on commands and state, played in real physics before a grader."""

from collections.abc import Callable

import numpy as np

from embodichain.physics.mujoco import MujocoPhysics
from embodichain.protocols import Grader, Task
from embodichain.types import CONTROL_HZ, Push, Scene, Segment, Verdict, WorldState

Stop = Callable[[WorldState], bool]


class Stage:
    """One episode in progress; whatever happens in it is shown to the grader."""

    def __init__(self, physics: MujocoPhysics, scene: Scene, grader: Grader) -> None:
        self.physics, self.scene, self.grader = physics, scene, grader
        self.state = physics.reset(scene)
        self.command = self.state.measured.copy()
        self.commands = [self.command]
        self.segments: list[Segment] = []
        self.mishaps: list[str] = []
        self.cheated = False
        """Whether anybody but the expert moved the robot: no label of the expert's covers that, and nobody pardons it."""

    def step(self, command: np.ndarray) -> WorldState:
        """One control step of a cheat's."""
        self.cheated = True
        return self._step(command)

    def _step(self, command: np.ndarray, pushes: tuple[Push, ...] = ()) -> WorldState:
        self.command = command.astype(np.float32).astype(np.float64)
        self.commands.append(self.command)
        self.state = self.physics.step(self.command, pushes)
        self.grader.observe(self.state)
        return self.state

    def hold(self, duration_s: float) -> WorldState:
        """The robot stays still."""
        for _ in range(round(duration_s * CONTROL_HZ)):
            self.step(self.command)
        return self.state

    def expert(self, task: Task, scene: Scene | None = None, until: Stop | None = None, seed: int = 0) -> WorldState:
        """The task's expert drives, believing in `scene`, to its end or until the state is such."""
        expert = task.expert(scene or self.scene, self.physics.robot, self.state, np.random.default_rng(seed))
        step = next(expert)
        try:
            while until is None or not until(self.state):
                if step.failed_steps:
                    self.segments[-step.failed_steps :] = [Segment.FAILURE] * step.failed_steps
                    self.mishaps.append(step.mishap)
                    if not self.cheated:
                        self.grader.pardon()
                self.segments.append(step.segment)
                step = expert.send(self._step(step.command, step.pushes))
        except StopIteration:
            pass
        return self.state

    @property
    def peaks(self) -> tuple[float, float]:
        """Largest joint speed [rad/s] and acceleration [rad/s^2] commanded so far, grippers left out."""
        grippers = np.cumsum([arm.command_size for arm in self.physics.robot.arms]) - 1
        joints = np.delete(np.array(self.commands), grippers, axis=1)
        velocity = np.diff(joints, axis=0) * CONTROL_HZ
        acceleration = np.diff(velocity, axis=0, prepend=0.0) * CONTROL_HZ
        return float(np.abs(velocity).max()), float(np.abs(acceleration).max())

    def qpos(self, role: str) -> np.ndarray:
        """A writable view of an object's position in the simulator: where a cheat reaches in."""
        index = next(index for index in self.physics.world.objects if index.role == role)
        address, size = (index.free_qpos[0], 7) if index.free_qpos else (index.joint_qpos[0], 1)
        return self.physics.world.data.qpos[address : address + size]

    def qvel(self, role: str) -> np.ndarray:
        """The same for its velocity."""
        index = next(index for index in self.physics.world.objects if index.role == role)
        address, size = (index.free_qvel[0], 6) if index.free_qvel else (index.joint_qvel[0], 1)
        return self.physics.world.data.qvel[address : address + size]

    @property
    def verdict(self) -> Verdict:
        return self.grader.verdict()
