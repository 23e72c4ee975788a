"""The default physics, MuJoCo C: steps one world on one thread, bitwise deterministic."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING

import mujoco
import numpy as np
from numpy.typing import NDArray

from embodichain.errors import ConfigError, SceneError
from embodichain.physics.build import FREE_CAMERA, TIMESTEP_S, substeps
from embodichain.physics.film import Film
from embodichain.physics.painter import Painter
from embodichain.physics.painters import DEFAULT, PAINTERS, RAYCAST
from embodichain.physics.world import CompiledWorld, compile_world, shape_key, write_scene
from embodichain.types import NoiseSource, Push, Robot, Scene, WorldState
from embodichain.types.poses import compose
from embodichain.types.tapes import Roster, Tape

if TYPE_CHECKING:
    from embodichain.physics.raster.shot import Shot
    from embodichain.physics.render import Viewpoint

_LOOK_EVERY = 16
"""Control steps between checks of MuJoCo's warnings."""


class MujocoPhysics:
    """Holds a scene in MuJoCo; implements `protocols.Physics`.

    Args:
        robot: The robot that commands address.
        width: Width of every picture [pixels].
        height: Height of every picture [pixels].
        cameras: Names of the robot's cameras to render, in this order; None renders all.
        shadows: Whether lights cast shadows.
        painter: Renderer of the robot's cameras, a name in `painters.PAINTERS`. `photograph` always uses the ray caster.
        cached_worlds: Number of compiled models kept for reuse, for the latest combinations of objects; 5 MB each, 13 once
        rendered.
    """

    def __init__(
        self,
        robot: Robot,
        *,
        width: int,
        height: int,
        cameras: tuple[str, ...] | None = None,
        shadows: bool = True,
        painter: str = DEFAULT,
        cached_worlds: int = 32,
    ) -> None:
        names = tuple(camera.name for camera in robot.cameras)
        for name in cameras or ():
            if name not in names:
                raise ConfigError(f"robot {robot.name!r} has no camera {name!r}; available: {', '.join(names)}")
        if cached_worlds < 1:
            raise ConfigError(f"cached_worlds must be at least 1, got {cached_worlds}")
        PAINTERS.check(painter)
        # By default MuJoCo writes a log file into the working directory at every instability; here `step` raises an error.
        mujoco.set_mju_user_warning(_ignore)
        self._robot = robot
        self._cameras = names if cameras is None else cameras
        self._size = (width, height)
        self._shadows, self._painter = shadows, painter
        self._cached_worlds = cached_worlds
        self._worlds: OrderedDict[tuple[str, ...], CompiledWorld] = OrderedDict()
        self._painters: dict[tuple, Painter] = {}
        self._key: tuple[str, ...] = ()
        self._world: CompiledWorld | None = None
        self._substeps = substeps(robot)
        self._roster: Roster
        self._scene_seed = 0
        self._steps = self._delay = 0
        self._film: Film
        self._targets: deque[NDArray[np.float64]] = deque()
        """Queue of actuator targets, oldest first, of the length of the command delay."""

    @property
    def robot(self) -> Robot:
        """The robot that commands address."""
        return self._robot

    @property
    def world(self) -> CompiledWorld:
        """The compiled world of the current scene; raises SceneError before the first reset."""
        if self._world is None:
            raise SceneError("this physics holds no scene yet: call reset(scene) first")
        return self._world

    def reset(self, scene: Scene) -> WorldState:
        """Loads `scene` and returns its initial state, robot at home.

        Raises SceneError when MuJoCo cannot build it.
        """
        furnished = scene.looks.setting is not None
        if furnished and not hasattr(PAINTERS.get(self._painter), "dress"):
            raise SceneError(
                f"scene {scene.seed} has a setting (room, environment map, finishes), which the painter {self._painter!r} does not "
                f"draw: choose {DEFAULT!r}, or turn off visual.setting"
            )
        key = shape_key(self._robot, scene.objects, scene.grains, furnished=furnished)
        world = self._worlds.pop(key, None)
        if world is None:
            world = compile_world(self._robot, scene.objects, scene.grains, furnished=furnished)
        self._worlds[key] = world
        while len(self._worlds) > self._cached_worlds:
            dropped, _ = self._worlds.popitem(last=False)
            self._painters = {kind: painter for kind, painter in self._painters.items() if kind[0] != dropped}
        self._key, self._world = key, world
        self._scene_seed = scene.seed
        self._steps = 0
        write_scene(world, scene)
        self._film = Film(world.model, scene, world.cameras, self._robot.control_hz)
        self._delay = round(scene.dynamics.delay_s / TIMESTEP_S)
        kept = self._delay // self._substeps + 2
        self._targets = deque([world.data.ctrl[world.actuators].copy()] * kept, maxlen=kept)
        world.stepper.look()
        bolted = {
            index.role: compose(placement.pose, index.root_pose)
            for index, placement in zip(world.objects, scene.objects, strict=True)
            if index.mocap >= 0
        }
        self._roster = world.readout.roster(bolted, self._robot.control_hz, world.arms)
        return self.state()

    def step(self, command: NDArray[np.float64], pushes: tuple[Push, ...] = ()) -> WorldState:
        """Holds the position targets `command` for one control period, while `pushes` act as forces at centres of mass.

        The scene may delay the command (`Dynamics.delay_s`). Contacts are those of the whole period. Raises SceneError when the
        simulation became unstable, or when a body to be pushed is unknown.
        """
        self.advance(command, pushes)
        return self.state()

    def state(self) -> WorldState:
        """The present state, with the contacts of the last control period."""
        world = self.world
        return world.readout.state(self._roster, world.stepper.contacts())

    @property
    def roster(self) -> Roster:
        """Names and sizes of the bodies and joints in the current scene."""
        return self._roster

    @property
    def num_pairs(self) -> int:
        """Number of pairs of bodies that touched in the last control period."""
        return self.world.stepper.num_pairs

    def write(self, tape: Tape, row: int) -> None:
        """Writes the content of `state` as numbers into a row of a tape."""
        world = self.world
        world.readout.write(tape, row)
        num = world.stepper.num_pairs
        for rows, found in zip((tape.pair, tape.force, tape.depth, tape.peak, tape.push), world.stepper.gathered(), strict=True):
            rows[row, :num] = found

    def advance(self, command: NDArray[np.float64], pushes: tuple[Push, ...] = ()) -> None:
        """As `step`, without reading the state."""
        world = self.world
        data = world.data
        for push in pushes:
            data.xfrc_applied[self.pushed_body(push.body), :3] += push.force
        period = self._substeps
        end = data.time + period * TIMESTEP_S
        late, older, newer = self.aim(command)
        if late:
            data.ctrl[world.actuators] = older
            world.stepper.advance(late)
        data.ctrl[world.actuators] = newer
        world.stepper.advance(period - late, resume=late > 0)
        if pushes:
            data.xfrc_applied[:] = 0.0
        # When a position, velocity or acceleration is not finite, MuJoCo resets the simulation, which shows in the clock. Its other
        # warnings stay until the next reset, so checking them at the first step, where the clock tells nothing, and at intervals is
        # enough.
        self._steps += 1
        if data.time < end - 0.5 * TIMESTEP_S or (self._steps % _LOOK_EVERY == 1 and data.warning.number.any()):
            self._raise_unstable(end)

    def aim(self, command: NDArray[np.float64]) -> tuple[int, NDArray[np.float64], NDArray[np.float64]]:
        """Accepts the command of the next control period, which the scene may delay.

        Returns the number of physics steps for which an older target still holds, that target and the one that follows it: values
        of `ctrl[world.actuators]`.
        """
        world = self.world
        newest = world.gains * command[world.channels]
        if not self._delay:
            return 0, newest, newest
        self._targets.append(newest)
        return self._delay % self._substeps, self._targets[0], self._targets[1]

    def render(
        self,
        rgb: NDArray[np.uint8],
        depth: NDArray[np.float32] | None = None,
        segmentation: NDArray[np.uint8] | None = None,
    ) -> None:
        """Renders every camera: rgb [C, h, w, 3]; depth [C, h, w] [m], 0 where nothing is hit.

        `segmentation` [C, h, w] is the class of each pixel: 0 nothing or the room, 1 the table, 2 the robot, 3 + i object i, then
        the grains.
        """
        width, height = self._size
        cameras = tuple(f"robot/{name}" for name in self._cameras)
        film, data = self._film, self.world.data
        film.pose(self.world.model, data.time)
        geoms = None if segmentation is None else np.empty(segmentation.shape, np.int32)
        painter = self._painter_of(self._painter, width, height, cameras)
        if self.world.decor is not None:
            getattr(painter, "dress")(film.looks.setting)  # noqa: B009  (only some painters have it, which `reset` made sure of)
        painter.draw(data, rgb, depth, geoms)
        if segmentation is not None and geoms is not None:
            segmentation[...] = self.world.labels[geoms]  # index -1 (no hit) selects the last entry, which is 0
        film.sense(self.world.model, data, cameras, rgb, depth, segmentation)
        film.expose(rgb, data.time)

    def note(self, out: NDArray[np.float64]) -> None:
        """Writes the time and all positions, which together with the scene determine every picture; the rest of `out` becomes 0.

        Raises SceneError when `out` is too small.
        """
        data = self.world.data
        sensor = self._film.looks.sensor
        if sensor is not None and sensor.readout_s:
            raise SceneError(
                f"scene {self._scene_seed} has a rolling shutter, for which pictures must be drawn while it is played "
                "(camera='snapshots'): a reel holds no velocities"
            )
        count = 1 + len(data.qpos)
        if count > len(out):
            raise SceneError(
                f"scene {self._scene_seed} has {count - 1} positions and its reel room for {len(out) - 1}: give it fewer objects "
                "or grains, or draw its pictures while it is played (camera='snapshots')"
            )
        out[0], out[1:count], out[count:] = data.time, data.qpos, 0.0

    def pose(self, note: NDArray[np.float64]) -> None:
        """Restores the pose that `note` wrote for this scene, for rendering only; `reset` is needed to simulate again."""
        data = self.world.data
        data.time, data.qpos[:] = note[0], note[1 : 1 + len(data.qpos)]

    def shoot(self, notes: NDArray[np.float64]) -> Shot:
        """The content of the pictures that `pose` and `render` would draw for each of `notes` [F, N], as input of a painter on a
        GPU.

        Raises ConfigError for a painter, and SceneError for noise, that a GPU does not have.
        """
        from embodichain.physics.raster.rasteriser import Rasteriser
        from embodichain.physics.raster.shot import Shooting

        self.check_card()
        world, film = self.world, self._film
        if film.looks.setting is not None or film.looks.sensor is not None:
            raise SceneError(
                f"scene {self._scene_seed} has a setting or a sensor model, which no GPU draws yet: turn off visual.setting and "
                "visual.sensor, or set stream.darkroom host"
            )
        if film.looks.noise and film.looks.noise_source is NoiseSource.NORMAL:
            raise SceneError(
                f"scene {self._scene_seed} has noise of NumPy's normal numbers, which no GPU draws: "
                "set world.visual.noise_source hash, or stream.darkroom host"
            )
        painter = self._painter_of(self._painter, *self._size, tuple(f"robot/{name}" for name in self._cameras))
        assert isinstance(painter, Rasteriser)
        taken = Shooting(painter, len(notes), world.labels)
        for note in notes:
            self.pose(note)
            film.pose(world.model, world.data.time)
            taken.take(world.data, film.exposure(world.data.time))
        return taken.finished()

    def check_card(self) -> None:
        """Raises ConfigError when a GPU cannot draw what this painter does."""
        if self._painter != DEFAULT:
            raise ConfigError(
                f"a GPU draws as the painter {DEFAULT!r} does, not {self._painter!r}: choose it, or stream.darkroom host"
            )

    def photograph(self, viewpoint: Viewpoint, *, width: int, height: int, samples: int = 1) -> NDArray[np.uint8]:
        """Renders the present scene from any viewpoint, for videos: uint8 [height, width, 3]."""
        from embodichain.physics.render import point_camera

        point_camera(self.world.model, viewpoint)
        rgb = np.empty((1, height, width, 3), np.uint8)
        self._painter_of(RAYCAST, width, height, (FREE_CAMERA,), samples, viewpoint.fovy).draw(self.world.data, rgb)
        return rgb[0]

    def _painter_of(
        self, name: str, width: int, height: int, cameras: tuple[str, ...], samples: int = 1, fovy: float = 0.0
    ) -> Painter:
        kind = (self._key, name, width, height, cameras, samples, fovy)
        if kind not in self._painters:
            make = PAINTERS.get(name)  # imported only when something is rendered: warp takes a second
            self._painters[kind] = make(
                self.world.model, width=width, height=height, cameras=cameras, shadows=self._shadows, samples=samples
            )
        return self._painters[kind]

    @staticmethod
    def warm_up() -> None:
        """Compiles the ray caster's kernels once on this machine."""
        from embodichain.physics.render import warm_up

        warm_up()

    def close(self) -> None:
        """Frees all worlds; safe to call twice."""
        self._worlds.clear()
        self._painters.clear()
        self._world = None

    def pushed_body(self, name: str) -> int:
        """Index of the root body of a loose object under a role, or of a body by its name in contacts."""
        model = self.world.model
        roots = {index.role: int(model.dof_bodyid[index.free_qvel[0]]) for index in self.world.objects if index.free_qvel}
        found = roots.get(name, -1)
        if found < 0:
            found = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, name)
        if found < 0:
            raise SceneError(f"scene {self._scene_seed} has no body {name!r} to push; loose objects: {', '.join(roots) or 'none'}")
        return found

    def _raise_unstable(self, time_s: float) -> None:
        warnings = self.world.data.warning
        names = [mujoco.mjtWarning(i).name.removeprefix("mjWARN_") for i in np.flatnonzero(warnings.number)]
        raise SceneError(
            f"scene {self._scene_seed} became unstable before {time_s:.2f} s ({', '.join(names)}): "
            "an object is penetrating, too light or too fast for the 2 ms step"
        )


def _ignore(message: str) -> None:
    """Drops a warning of MuJoCo."""
