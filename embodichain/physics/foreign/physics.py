"""An external benchmark as a physics: seeds decide its scenes, and it defines its own commands and measurements."""

from __future__ import annotations

import json
from collections import deque

import numpy as np
from numpy.typing import NDArray

from embodichain.errors import ConfigError, SceneError
from embodichain.physics.foreign.hosts.embodichain_host import HEAD, unpack
from embodichain.physics.foreign.likeness import Likeness
from embodichain.physics.foreign.state import EnvironmentState
from embodichain.physics.foreign.wire import Benchmark, Host, HostHung, HostLost
from embodichain.physics.painter import Painter
from embodichain.physics.painters import DEFAULT, PAINTERS
from embodichain.types import Push, Robot, Scene

_NOTHING: dict = {}
_AHEAD = 16
"""Control steps that the host plays ahead with its expert's commands, once these have been used."""
_TRUSTED = 2
"""Number of consecutive commands of that expert after which the host plays ahead."""


class ForeignPhysics:
    """Holds one episode of a benchmark at a time; implements `protocols.Physics` and `protocols.Hosted`.

    The benchmark simulates in its own process, which the first `reset` starts; pictures are drawn in this process, by our painters.
    While the benchmark's expert drives, the host plays some steps ahead with its commands, because a message for each step would
    cost a quarter of Meta-World's time for it. If another command comes, the episode is replayed up to that point.
    """

    benchmark: Benchmark

    def __init__(
        self, robot: Robot, *, width: int, height: int, cameras: tuple[str, ...] | None = None, painter: str = DEFAULT
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
        self._likeness: tuple[tuple[str, str, bytes], Likeness, Painter] | None = None
        self._facts: dict = {}
        self._fields = _NOTHING
        self._now = np.empty(0)
        self._played: list[bytes] = []
        self._ahead: deque[NDArray[np.float64]] = deque()
        self._followed, self._fails_next = 0, False

    @property
    def robot(self) -> Robot:
        """The robot that the benchmark's commands move."""
        return self._robot

    @property
    def versions(self) -> str:
        """Versions of the benchmark and its simulator; starts the host if it is not running."""
        return self._running().versions

    def reset(self, scene: Scene) -> EnvironmentState:
        """Begins the episode of the scene's seed; restarts the host process if it has ended.

        Raises SceneError for a scene of another benchmark and for errors of the benchmark; its subclass HostLost when the process
        ends or hangs; MissingExtra when the benchmark is not installed.
        """
        name, _, task = scene.task.partition(":")
        if name != self.benchmark.name or scene.objects:
            raise SceneError(f"a scene of {scene.task!r} cannot be played in {self.benchmark.name}")
        self._facts, self._request = {}, b"R" + json.dumps({"task": task, "seed": scene.seed}).encode()
        known, host = self._host, self._running()
        try:
            reply = host.ask(self._request)
        except HostHung:
            raise
        except HostLost:
            if host is not known:
                raise
            self.close()  # the process ended during or after the last episode: start another one and ask it
            reply = self._running().ask(self._request)
        self._facts, arrays = unpack(reply)
        self._now = arrays.pop("reading")
        self._fields = arrays
        poses = {name: int(np.prod(shape)) for name, shape in self._facts["pose"].items()}
        sizes = self._facts["sizes"] | poses
        ends = np.cumsum([HEAD, *sizes.values()]).tolist()
        parts = {name: slice(*ends[i : i + 2]) for i, name in enumerate(sizes)}
        self._pose = {name: parts.pop(name) for name in poses}
        self._measured, self._expert = parts.pop("measured"), parts.pop("expert")
        self._observed = tuple(parts.items())
        self._played.clear()
        self._ahead.clear()
        self._followed, self._fails_next = 0, False
        return self._state()

    def step(self, command: NDArray[np.float64], pushes: tuple[Push, ...] = ()) -> EnvironmentState:
        """One control step.

        Raises SceneError for pushes, which a benchmark does not support, and for errors of the benchmark; its subclass HostLost
        when the process ends or hangs. The episode is then over.
        """
        if pushes:
            raise SceneError(f"nothing can be pushed in {self.benchmark.name}: the benchmark alone decides what happens there")
        host, sent = self._playing(), np.asarray(command, np.float64).tobytes()
        if self._followed >= 0:
            wanted = self._now[self._expert].astype(np.float32)
            if wanted.size and np.array_equal(command, wanted):
                self._followed += 1
            else:
                self._followed = -1
                self._rewind(host)
        if self._followed > _TRUSTED and not self._ahead and not self._now[0]:
            readings = np.frombuffer(host.ask(b"A" + bytes([_AHEAD])), np.float64)
            self._ahead.extend(readings.reshape(-1, len(self._now)))
            self._fails_next = len(self._ahead) < _AHEAD and not self._ahead[-1][0]
        self._now = self._ahead.popleft() if self._ahead else np.frombuffer(host.ask(b"S" + sent), np.float64)
        self._played.append(sent)
        return self._state()

    def render(
        self,
        rgb: NDArray[np.uint8],
        depth: NDArray[np.float32] | None = None,
        segmentation: NDArray[np.uint8] | None = None,
    ) -> None:
        """Writes what every camera sees now; `depth` in metres. Raises SceneError for `segmentation`: roles are unknown there."""
        if segmentation is not None:
            raise SceneError(f"{self.benchmark.name} has no roles to segment: leave segmentation off")
        self._playing()
        likeness, painter = self._drawn()
        likeness.begin(self._fields)
        shapes = self._facts["pose"]
        likeness.pose({name: self._now[place].reshape(shapes[name]) for name, place in self._pose.items()})
        painter.draw(likeness.data, rgb, depth)

    def close(self) -> None:
        """Ends the benchmark's process; safe to call twice."""
        if self._host is not None:
            self._host.close()
        self._host, self._facts = None, {}

    @classmethod
    def warm_up(cls) -> None:
        """Starts the benchmark once; raises MissingExtra, with the install command, if it is missing, HostLost if it hangs."""
        Host(cls.benchmark).close()

    def _running(self) -> Host:
        if self._host is None:
            self._host = Host(self.benchmark)
        return self._host

    def _playing(self) -> Host:
        if not self._facts or self._host is None:
            raise SceneError("this physics holds no scene yet: call reset(scene) first")
        return self._host

    def _rewind(self, host: Host) -> None:
        """Undoes steps that the host has played ahead, by replaying the episode with the same commands."""
        if self._ahead or self._fails_next:
            self._ahead.clear()
            self._fails_next = False
            for request in (self._request, *(b"S" + sent for sent in self._played)):
                host.ask(request)

    def _state(self) -> EnvironmentState:
        now = self._now
        return EnvironmentState(
            time_s=len(self._played) / self._robot.control_hz,
            measured=now[self._measured],
            object_poses=_NOTHING,
            object_velocities=_NOTHING,
            object_joints=_NOTHING,
            contacts=(),
            control_hz=self._robot.control_hz,
            success=now[0] > 0.0,
            reward=float(now[1]),
            progress=float(now[2]),
            expert=now[self._expert],
            observation={name: now[place] for name, place in self._observed},
        )

    def _drawn(self) -> tuple[Likeness, Painter]:
        path, xml = str(self._facts.get("path", "")), str(self._facts.get("xml", ""))
        site_rgba = self._fields["site_rgba"]  # part of the key, because it decides which sites are shown
        key = (path, xml, site_rgba.tobytes())
        if self._likeness is None or self._likeness[0] != key:
            likeness = Likeness(path=path, xml=xml, hidden=self._facts["hidden"], site_rgba=site_rgba)
            width, height = self._size
            make = PAINTERS.get(self._painter_name)
            painter = make(likeness.model, width=width, height=height, cameras=self._cameras, shadows=True, samples=1)
            self._likeness = (key, likeness, painter)
        return self._likeness[1:]


class MetaWorldPhysics(ForeignPhysics):
    """Meta-World 3: one Sawyer arm, controlled by hand displacements, at 80 Hz."""

    benchmark = Benchmark(name="metaworld", host="metaworld_host.py", requirement="metaworld==3.1.1")


class RobosuitePhysics(ForeignPhysics):
    """robosuite: one Panda arm with robosuite's operational-space controller, at 20 Hz."""

    benchmark = Benchmark(name="robosuite", host="robosuite_host.py", requirement="robosuite==1.5.2")
