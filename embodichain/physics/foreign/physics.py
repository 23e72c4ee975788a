"""A benchmark of others as a physics: its scenes are decided by seeds, its commands and measurements are its own."""

from __future__ import annotations

import json

import numpy as np
from numpy.typing import NDArray

from embodichain.errors import ConfigError, SceneError
from embodichain.physics.foreign.hosts.embodichain_host import HEAD, unpack
from embodichain.physics.foreign.likeness import Likeness
from embodichain.physics.foreign.state import EnvironmentState
from embodichain.physics.foreign.wire import Benchmark, Host, HostLost
from embodichain.physics.painter import Painter
from embodichain.physics.painters import PAINTERS, RAYCAST
from embodichain.types import Push, Robot, Scene

_NOTHING: dict[str, NDArray[np.float64]] = {}


class ForeignPhysics:
    """Holds one episode of a benchmark at a time; implements `protocols.Physics` and `protocols.Hosted`.

    The benchmark simulates in a process of its own, which the first `reset` starts; pictures are drawn here, by our painters.
    """

    benchmark: Benchmark

    def __init__(
        self, robot: Robot, *, width: int, height: int, cameras: tuple[str, ...] | None = None, painter: str = RAYCAST
    ) -> None:
        """Raises ConfigError for a robot of another benchmark, and for an unknown camera or painter."""
        if robot.name != self.benchmark.name:
            raise ConfigError(f"{self.benchmark.name} brings its own robot, got {robot.name!r}: leave --robot out")
        names = tuple(camera.name for camera in robot.cameras)
        for name in cameras or ():
            if name not in names:
                raise ConfigError(f"robot {robot.name!r} has no camera {name!r}; available: {', '.join(names)}")
        PAINTERS.check(painter)
        self._robot, self._size, self._painter_name = robot, (width, height), painter
        self._cameras = names if cameras is None else cameras
        self._host: Host | None = None
        self._likeness: tuple[str, Likeness, Painter] | None = None
        self._facts: dict = {}
        self._fields = _NOTHING
        self._steps = 0

    @property
    def robot(self) -> Robot:
        """What the benchmark's commands address."""
        return self._robot

    @property
    def versions(self) -> str:
        """Of the benchmark and what it simulates with; starts it when it does not run."""
        return self._running().versions

    def reset(self, scene: Scene) -> EnvironmentState:
        """Begins the episode that the scene's seed decides.

        Raises SceneError for a scene of another benchmark, MissingExtra when this one is not installed.
        """
        name, _, task = scene.task.partition(":")
        if name != self.benchmark.name or scene.objects:
            raise SceneError(f"a scene of {scene.task!r} cannot be played in {self.benchmark.name}")
        request = b"R" + json.dumps({"task": task, "seed": scene.seed}).encode()
        self._steps, self._facts = 0, {}
        try:
            reply = self._running().ask(request)
        except HostLost:  # between two episodes: a fresh one plays the same
            self._host = None
            reply = self._running().ask(request)
        self._facts, self._fields = unpack(reply)
        sizes = self._facts["sizes"]
        self._parts = dict(zip(sizes, np.split(np.arange(sum(sizes.values())), np.cumsum(list(sizes.values()))[:-1]), strict=True))
        self._slices = {name: slice(int(rows[0]), int(rows[-1]) + 1) for name, rows in self._parts.items() if len(rows)}
        return self._state(self._fields["reading"])

    def step(self, command: NDArray[np.float64], pushes: tuple[Push, ...] = ()) -> EnvironmentState:
        """One control step; raises SceneError for pushes, which nobody can pass on, and with whatever the benchmark raises."""
        if pushes:
            raise SceneError(f"nothing can be pushed in {self.benchmark.name}: what happens there is its own affair")
        host = self._playing()
        self._steps += 1
        reply = host.ask(b"S" + np.asarray(command, np.float64).tobytes())
        return self._state(np.frombuffer(reply, np.float64))

    def render(
        self,
        rgb: NDArray[np.uint8],
        depth: NDArray[np.float32] | None = None,
        segmentation: NDArray[np.uint8] | None = None,
    ) -> None:
        """Writes what every camera sees now; `depth` in metres. Raises SceneError for `segmentation`: roles are unknown there."""
        if segmentation is not None:
            raise SceneError(f"{self.benchmark.name} has no roles to segment: leave segmentation off")
        _, arrays = unpack(self._playing().ask(b"P"))
        likeness, painter = self._drawn()
        likeness.begin({name: values for name, values in self._fields.items() if name != "reading"})
        likeness.pose(arrays)
        painter.draw(likeness.data, rgb, depth)

    def close(self) -> None:
        """Ends the benchmark's process; safe to call twice."""
        if self._host is not None:
            self._host.close()
        self._host, self._facts = None, {}

    @classmethod
    def warm_up(cls) -> None:
        """Starts the benchmark once; raises MissingExtra, which says what to install, where it is missing."""
        Host(cls.benchmark).close()

    def _running(self) -> Host:
        if self._host is None:
            self._host = Host(self.benchmark)
        return self._host

    def _playing(self) -> Host:
        if not self._facts or self._host is None:
            raise SceneError("this physics holds no scene yet: call reset(scene) first")
        return self._host

    def _state(self, reading: NDArray[np.float64]) -> EnvironmentState:
        rest, known = reading[HEAD:], self._slices
        return EnvironmentState(
            time_s=self._steps / self._robot.control_hz,
            measured=rest[known["measured"]],
            object_poses={},
            object_velocities={},
            object_joints={},
            contacts=(),
            control_hz=self._robot.control_hz,
            success=reading[0] > 0.0,
            reward=float(reading[1]),
            progress=float(reading[2]),
            expert=rest[known["expert"]] if "expert" in known else rest[:0],
            observation={name: rest[place] for name, place in known.items() if name not in ("measured", "expert")},
        )

    def _drawn(self) -> tuple[Likeness, Painter]:
        path, xml = str(self._facts.get("path", "")), str(self._facts.get("xml", ""))
        key = path + xml
        if self._likeness is None or self._likeness[0] != key:
            likeness = Likeness(path=path, xml=xml, hidden=self._facts["hidden"], site_rgba=self._fields["site_rgba"])
            width, height = self._size
            make = PAINTERS.get(self._painter_name)
            painter = make(likeness.model, width=width, height=height, cameras=self._cameras, shadows=True, samples=1)
            self._likeness = (key, likeness, painter)
        return self._likeness[1:]


class MetaWorldPhysics(ForeignPhysics):
    """Meta-World 3: one Sawyer arm, moved by its hand, at 80 Hz."""

    benchmark = Benchmark(name="metaworld", host="metaworld_host.py", requirement="metaworld==3.1.1")


class RobosuitePhysics(ForeignPhysics):
    """robosuite: one Panda arm, moved by robosuite's operational-space controller, at 20 Hz."""

    benchmark = Benchmark(name="robosuite", host="robosuite_host.py", requirement="robosuite==1.5.2")
