"""Worlds in Isaac Sim, which runs in its own interpreter: starts it, queries it, watches it, and restarts it when it dies."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
import tempfile
import time
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodichain.assets.usd import files as asset_usd
from embodichain.errors import AssetError, ConfigError, SceneError
from embodichain.isaac.variation import unapplied
from embodichain.isaac.wire import ABI, MOST, SIZES, Layout, PeerError, SharedArrays, Wire, picture_layout, tape_layout
from embodichain.physics.single import Single
from embodichain.physics.world import compile_world
from embodichain.processes import end_group, exit_code
from embodichain.scenes import usd
from embodichain.types import Pose, Push, Robot, Scene
from embodichain.types.poses import compose
from embodichain.types.tapes import Roster, Tape

INTERPRETER = "EMBODICHAIN_ISAAC_PYTHON"
"""The environment variable that names Isaac Sim's Python, with arguments if needed."""
_SERVER = Path(__file__).with_name("server.py")
_LAST_WORDS = 2000
_NO_PUSHES: Mapping[int, tuple[Push, ...]] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Time limits for the simulator [s]: to start, to load scenes, for a control period or a picture, and to end.

    They must be shorter than the engine's `stream.hang_s`, after which the worker itself would be considered hung.
    """

    start_s: float = 240.0
    load_s: float = 120.0
    step_s: float = 60.0
    end_s: float = 10.0


def physics(robot: Robot, **options: Any) -> Single:
    """Isaac Sim as `physics=isaac`: one world, see `Worlds`."""
    return Single(Worlds(robot, num_worlds=1, **options))


class Worlds:
    """Many worlds in one simulator; implements `protocols.BatchPhysics`.

    A simulator that dies, hangs or answers out of turn is ended. The states of all worlds are then void, and the next scene that is
    loaded starts it again.

    Args:
        robot: The robot that commands address.
        num_worlds: Number of worlds, W.
        width: Width of every picture [pixels].
        height: Height of every picture [pixels].
        cameras: Names of the robot's cameras to render, in this order; None renders all.
        shadows: Whether lights cast shadows.
        command: The command that starts the server; the number of a socket is added to it. None means Isaac Sim's interpreter, as
            the environment names it, with the server of this package.
        patience: Time limits.

    Raises:
        ConfigError: There is no interpreter, the server does not start, or it cannot serve the request.
    """

    def __init__(
        self,
        robot: Robot,
        *,
        num_worlds: int,
        width: int,
        height: int,
        cameras: tuple[str, ...] | None = None,
        shadows: bool = True,
        command: Sequence[str] | None = None,
        patience: Patience | None = None,
    ) -> None:
        if num_worlds < 1:
            raise ConfigError(f"a batch has at least 1 world, got num_worlds={num_worlds}")
        names = tuple(camera.name for camera in robot.cameras)
        for name in cameras or ():
            if name not in names:
                raise ConfigError(f"robot {robot.name!r} has no camera {name!r}; available: {', '.join(names)}")
        self._command = list(command) if command is not None else [*_interpreter(), str(_SERVER)]
        ours = () if command is not None else ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
        self._environment = {name: value for name, value in os.environ.items() if name not in ours}  # without our packages
        self._robot, self._num_worlds = robot, num_worlds
        self._patience = patience or Patience()
        self._asked = {
            "abi": ABI,
            "robot": described(robot),
            "num_worlds": num_worlds,
            "width": width,
            "height": height,
            "cameras": list(names if cameras is None else cameras),
            "shadows": shadows,
        }
        self._arms = compile_world(robot, ()).arms
        self._folder = Path(tempfile.mkdtemp(prefix="embodichain-isaac-"))
        self._log = self._folder / "server.log"
        self._rosters: list[Roster | None] = [None] * num_worlds
        self._faults: dict[int, str] = {}
        self._number = self._written = 0
        self._applies: frozenset[str] = frozenset()
        self._closed = False
        self._process: subprocess.Popen[bytes] | None = None
        self._wire: Wire | None = None
        self._board: SharedArrays | None = None
        self.versions: dict[str, str] = {}
        """Versions of the simulator's parts, as it reports them."""
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        try:
            self._start()
        except SceneError as error:
            self.close()
            raise ConfigError(str(error)) from error
        except BaseException:
            self.close()
            raise

    @property
    def robot(self) -> Robot:
        """The robot that commands address, in every world."""
        return self._robot

    @property
    def num_worlds(self) -> int:
        """Number of worlds."""
        return self._num_worlds

    # ----------------------------------------------------------------------------------------------------------- worlds

    def load(self, worlds: Sequence[int], scenes: Sequence[Scene]) -> None:
        """Loads `scenes[i]` into `worlds[i]`; see `protocols.BatchPhysics`. Restarts the simulator if it is gone.

        Refuses a scene that varies what the simulator does not apply. Raises SceneError after `close`, too.
        """
        if len(worlds) != len(scenes) or len(set(worlds)) != len(worlds):
            raise ValueError(f"every world takes one scene: got {len(scenes)} scenes for worlds {list(worlds)}")
        self._check(worlds)
        if self._closed:
            raise SceneError("these worlds were closed: make new ones to load a scene")
        if self._wire is None:
            self._start()
        paths: dict[int, str] = {}
        failed: dict[int, str] = {}
        for world, scene in zip(worlds, scenes, strict=True):
            self._faults.pop(world, None)
            self._rosters[world] = None
            try:
                if refused := unapplied(scene, self._applies):
                    raise SceneError(refused)
                paths[world] = str(self._write(world, scene))
            except (SceneError, AssetError) as error:
                failed[world] = str(error)
        if paths:
            found = self._ask("load", self._patience.load_s, worlds=list(paths), scenes=list(paths.values()))
            for world, scene in zip(worlds, scenes, strict=True):
                if world in paths:
                    told = found.get("worlds", {}).get(world, {"error": "the simulator says nothing of it"})
                    roster = self._roster(scene, tuple(map(str, told.get("bodies", ()))))
                    if wrong := str(told.get("error", "")) or self._lacking(roster):
                        failed[world] = wrong
                    else:
                        self._rosters[world] = roster
        self._faults |= failed
        if failed:
            reasons = "; ".join(f"world {world}: {reason}" for world, reason in failed.items())
            raise SceneError(f"{len(failed)} of {len(worlds)} scenes cannot be loaded: {reasons}")

    def step(self, command: NDArray[np.float64], pushes: Mapping[int, tuple[Push, ...]] = _NO_PUSHES) -> Tape:
        """Holds `command[w]` for one control period in each world w; see `protocols.BatchPhysics`."""
        expected = (self._num_worlds, self._robot.command_size)
        if command.shape != expected:
            raise ValueError(f"{self._num_worlds} worlds of {self._robot.name!r} take commands {expected}, got {command.shape}")
        self._check(tuple(pushes))
        if self._board is not None:
            self._board.arrays["command"][...] = command
            told = {world: [(push.body, list(push.force)) for push in some] for world, some in pushes.items()}
            with suppress(SceneError):  # reported by the tape: every world is void now
                found = self._ask("step", self._patience.step_s, pushes=told)
                self._faults |= {int(world): str(reason) for world, reason in found["faults"].items()}
        return self._tape()

    def look(self) -> Tape:
        """The current states, with the contacts of the last control period."""
        return self._tape()

    def render(
        self,
        worlds: Sequence[int],
        rgb: NDArray[np.uint8],
        depth: NDArray[np.float32] | None = None,
        segmentation: NDArray[np.uint8] | None = None,
    ) -> None:
        """Draws every camera of `worlds`; see `protocols.BatchPhysics`."""
        self._check(worlds)
        for world in worlds:
            if world in self._faults or self._rosters[world] is None:
                raise SceneError(self._faults.get(world, f"world {world} holds no scene yet: load one first"))
        self._ask("render", self._patience.step_s, worlds=list(worlds))
        assert self._board is not None
        for name, out in (("rgb", rgb), ("range", depth), ("segmentation", segmentation)):
            if out is not None:
                out[...] = self._board.arrays[name][: len(worlds)]

    drawn_at_once = True
    """Pictures cannot be drawn later or by another process, as a crew needs it."""

    def note(self, worlds: Sequence[int], out: NDArray[np.float64]) -> None:
        """Raises SceneError, because its pictures cannot be drawn later or by another process."""
        raise SceneError("pictures of Isaac Sim are taken at once: set stream.camera snapshots")

    def close(self) -> None:
        """Asks the simulator to end, and kills it if it does not; safe to call twice. No scene can be loaded afterwards."""
        self._closed = True
        if self._wire is not None:
            with suppress(SceneError):
                self._ask("close", self._patience.end_s)
        self._end(self._patience.end_s)
        shutil.rmtree(self._folder, ignore_errors=True)

    # -------------------------------------------------------------------------------------------------------- simulator

    def _start(self) -> None:
        """Starts the server and sends "hello"; raises SceneError with the end of the server's output when that fails."""
        ours, theirs = socket.socketpair()
        try:
            with self._log.open("wb") as log:  # output goes to a file, not the socket
                self._process = subprocess.Popen(
                    [*self._command, str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=self._environment,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                )
        except OSError as error:
            ours.close()
            raise ConfigError(
                f"Isaac Sim's interpreter cannot be started ({error}): set {INTERPRETER} to the python.sh of its installation"
            ) from error
        finally:
            theirs.close()
        self._wire = Wire(ours)
        told = self._ask("hello", self._patience.start_s, **self._asked)
        if told.get("abi") != ABI or int(told.get("command_size", -1)) != self._robot.command_size:
            raise self._lost(f"it speaks ABI {told.get('abi')} for {told.get('command_size')} commands")
        self._applies = frozenset(map(str, told.get("applies", ())))
        self.versions = {str(name): str(value) for name, value in told.get("versions", {}).items()}

    def _ask(self, deed: str, patience_s: float, **what: Any) -> dict[str, Any]:
        """Sends a request and waits for its reply; raises SceneError when the simulator refuses it, or had to be ended."""
        if self._wire is None:
            raise SceneError("the simulator is gone: load a scene to start it anew")
        self._number += 1
        try:
            self._wire.send({**what, "do": deed, "n": self._number}, timeout_s=patience_s)
            reply, descriptor = self._wire.receive(patience_s)
            if descriptor is not None:
                self._board = SharedArrays(self._layout(reply), descriptor)
        except PeerError as error:
            raise self._lost(f"asked to {deed}: {error}") from error
        if reply.get("n") != self._number:
            raise self._lost(f"asked to {deed}, it answered request {reply.get('n')} and not {self._number}")
        if "error" in reply:
            # A fault of a single scene is reported for its world. Any other error may have left any world half done.
            raise self._lost(f"asked to {deed}, it failed: {reply['error']}")
        return reply

    def _layout(self, reply: Mapping[str, Any]) -> Layout:
        """The arrays of a board that came with a reply, computed from the reply's three sizes. Raises PeerError for bad sizes."""
        told: Any = reply.get("sizes")
        sizes: dict[str, int] = {}
        for name in SIZES:
            size = told.get(name) if isinstance(told, dict) else None
            if not isinstance(size, int) or not 0 <= size <= MOST:
                raise PeerError(f"a board came with room for {size} {name}, 0 to {MOST} are believed")
            sizes[str(name)] = size
        cameras, height, width = len(self._asked["cameras"]), self._asked["height"], self._asked["width"]
        tape = tape_layout(self._num_worlds, self._robot.command_size, sizes)
        return [*tape, *picture_layout(self._num_worlds, cameras, height, width)]

    def _lacking(self, roster: Roster) -> str:
        """Describes the part of a scene that the simulator has no room for; empty when there is room for everything."""
        assert self._board is not None
        for name, count, what in (("pose", roster.num_free, "objects"), ("joint", roster.num_joints, "joints of objects")):
            if self._board.arrays[name].shape[1] < count:
                return f"the simulator has {self._board.arrays[name].shape[1]} {what}, the scene has {count}"
        if self._board.arrays["grain"].shape[1] < roster.num_grains:
            return f"the simulator has no grains, the scene has {roster.num_grains}: choose physics mujoco for it"
        return ""

    def _lost(self, why: str) -> SceneError:
        """Ends a simulator that cannot be trusted any more, which voids every world; returns the error to raise."""
        self._end(0.0)
        words = ""
        if self._log.exists():
            with self._log.open("rb") as log:
                log.seek(max(0, self._log.stat().st_size - _LAST_WORDS))
                words = log.read().decode(errors="replace").strip()
        text = f"Isaac Sim was ended, {why}" + (f"; its last words: {words}" if words else "")
        self._rosters = [None] * self._num_worlds
        self._faults = dict.fromkeys(range(self._num_worlds), text)
        return SceneError(text)

    def _end(self, patience_s: float) -> None:
        """Closes the connection, which ends the server, and kills every process of its session that is still running."""
        if self._wire is not None:
            self._wire.close()
        process, self._process, self._wire, self._board = self._process, None, None, None
        if process is None:
            return
        deadline = time.monotonic() + patience_s
        while exit_code(process) is None and time.monotonic() < deadline:
            time.sleep(0.01)
        end_group(process)

    # ------------------------------------------------------------------------------------------------------------ states

    def _tape(self) -> Tape:
        """A copy of the states on the board; invalid rows become faults."""
        arrays = self._board.arrays if self._board is not None else {}
        rosters = tuple(roster if arrays and world not in self._faults else None for world, roster in enumerate(self._rosters))
        num_pairs = np.zeros(self._num_worlds, np.int16)
        for world, roster in enumerate(rosters):
            if roster is not None and (wrong := _nonsense(arrays, world, roster)):
                self._faults[world] = wrong
            elif roster is not None:
                num_pairs[world] = arrays["num_pairs"][world]
        rosters = tuple(None if world in self._faults else roster for world, roster in enumerate(rosters))
        tape = Tape.blank(rosters, dict(self._faults), num_measured=self._robot.command_size, num_pairs=num_pairs)
        for world, roster in enumerate(rosters):
            if roster is not None:
                tape.time_s[world] = arrays["time_s"][world]
                tape.measured[world] = arrays["measured"][world]
                for name, count in (("pose", roster.num_free), ("velocity", roster.num_free), ("joint", roster.num_joints)):
                    getattr(tape, name)[world, :count] = arrays[name][world, :count]
                tape.grain[world, : roster.num_grains] = arrays["grain"][world, : roster.num_grains]
                for name in ("pair", "force", "depth", "peak", "push"):
                    getattr(tape, name)[world, : num_pairs[world]] = arrays[name][world, : num_pairs[world]]
        return tape

    def _roster(self, scene: Scene, bodies: tuple[str, ...]) -> Roster:
        """The names of a scene's bodies and objects; only the order of its bodies comes from the simulator."""
        free = [placement.role for placement in scene.objects if not placement.asset.fixed_base]
        bolted: dict[str, Pose] = {}
        for placement in scene.objects:
            if placement.asset.fixed_base:
                root = next(joint.child for joint in placement.asset.joints if joint.parent == "")
                body = next(body for body in placement.asset.bodies if body.name == root)
                bolted[placement.role] = compose(placement.pose, body.body_pose)
        return Roster(
            bodies=bodies,
            roles=tuple((p.role, free.index(p.role) if p.role in free else -1) for p in scene.objects),
            joints=tuple((p.role, len(p.asset.movable_joints)) for p in scene.objects),
            bolted=bolted,
            num_grains=len(scene.grains.positions),
            control_hz=self._robot.control_hz,
            arms=self._arms,
        )

    def _write(self, world: int, scene: Scene) -> Path:
        """Writes the scene as a USD file; assets without a file of their own are written beside it."""
        self._written += 1
        for old in self._folder.glob(f"world{world}-*.usda"):
            old.unlink()
        placements = []
        for placement in scene.objects:
            asset = placement.asset
            if not asset.path.is_file():
                path = self._folder / f"world{world}-{self._written}-{placement.role}.usda"
                asset_usd.write(asset, path)
                placement = replace(placement, asset=replace(asset, path=path))
            placements.append(placement)
        path = self._folder / f"world{world}-{self._written}.usda"
        return usd.write(replace(scene, objects=tuple(placements)), path)

    def _check(self, worlds: Sequence[int]) -> None:
        for world in worlds:
            if not 0 <= world < self._num_worlds:
                raise ValueError(f"there is no world {world} in a batch of {self._num_worlds}: give 0 to {self._num_worlds - 1}")


def described(robot: Robot) -> dict[str, Any]:
    """A robot as plain values; raises ConfigError for a gripper that is a linkage, whose loops its USD does not hold."""
    if linked := [arm.name for arm in robot.arms if arm.finger_bodies]:
        raise ConfigError(
            f"physics isaac drives grippers that slide, and arm {' and '.join(linked)} of robot {robot.name!r} has a linkage: "
            "choose physics mujoco"
        )
    return {
        "name": robot.name,
        "mjcf": robot.mjcf,
        "arms": [asdict(arm) for arm in robot.arms],
        "cameras": [asdict(camera) for camera in robot.cameras],
        "world_from_base": {"position": list(robot.world_from_base.position), "quaternion": list(robot.world_from_base.quaternion)},
        "mesh_dir": str(robot.mesh_dir) if robot.mesh_dir is not None else None,
        "control_hz": robot.control_hz,
        "command_size": robot.command_size,
        "home": robot.home.tolist(),
    }


def _interpreter() -> list[str]:
    """The command in the environment variable; raises ConfigError, which says what to set, when it is not usable."""
    words = shlex.split(os.environ.get(INTERPRETER, ""))
    if not words:
        raise ConfigError(
            f"physics isaac needs Isaac Sim's own interpreter: set {INTERPRETER} to the python.sh of its installation, "
            "or choose physics mujoco"
        )
    if shutil.which(words[0]) is None:
        raise ConfigError(f"{INTERPRETER} names {words[0]!r}, which is no program: give the python.sh of an Isaac Sim installation")
    return words


def _nonsense(arrays: Mapping[str, NDArray[Any]], world: int, roster: Roster) -> str:
    """Describes what is wrong with a row of the board; empty when nothing is."""
    pairs = int(arrays["num_pairs"][world])
    if not 0 <= pairs <= arrays["pair"].shape[1]:
        return (
            f"world {world}: {pairs} pairs of bodies touched in a control period, and a simulator may report "
            f"{arrays['pair'].shape[1]}: give the scene fewer objects, or choose physics mujoco"
        )
    pose = arrays["pose"][world, : roster.num_free]
    counts = {"pose": roster.num_free, "velocity": roster.num_free, "joint": roster.num_joints, "grain": roster.num_grains}
    counts |= dict.fromkeys(("force", "depth", "peak", "push"), pairs)
    numbers = [arrays[name][world, :count] for name, count in counts.items()]
    if not all(np.isfinite(values).all() for values in (arrays["time_s"][world], arrays["measured"][world], *numbers)):
        return f"world {world} became unstable: its state is not finite"
    if roster.num_free and np.abs(np.linalg.norm(pose[:, 3:], axis=1) - 1.0).max() > 1e-3:
        return f"world {world}: an orientation is no unit quaternion"
    bodies = arrays["pair"][world, :pairs]
    if pairs and not (bodies.min() >= 0 and bodies.max() < len(roster.bodies)):
        return f"world {world}: a contact names body {int(bodies.max())} of {len(roster.bodies)}"
    return ""
