"""The interfaces of the engine. A protocol exists only where there are two real implementations."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from embodichain.types import Fresh, Instance, Push, Robot, Scene, SceneRequest, Step, Timings, Verdict, WorldState
from embodichain.types.tapes import Tape

__all__ = [
    "AssetPool",
    "BatchPhysics",
    "Driver",
    "Expert",
    "FrameEncoder",
    "Grader",
    "Hosted",
    "Order",
    "Physics",
    "Pilot",
    "Posable",
    "Shutter",
    "Task",
]

Expert = Generator[Step, WorldState, None]
"""Yields one Step per control step and is sent the WorldState after it; returns when it has nothing left to do.

`next(expert)` starts it, so it must have been given the initial state as an argument.
"""


_NO_PUSHES: Mapping[int, tuple[Push, ...]] = {}


class Physics(Protocol):
    """A world that holds one scene at a time. Implementations: `physics.mujoco`, `physics.counting`, `physics.single`.

    Owned by one thread. Deterministic: after `reset(scene)` and the same commands, the state is bitwise the same in any process,
    whatever was simulated before.
    """

    @property
    def robot(self) -> Robot:
        """The robot that commands address."""
        ...

    def reset(self, scene: Scene) -> WorldState:
        """Builds or reuses the world of `scene` and returns its initial state; raises SceneError when it cannot be built."""
        ...

    def step(self, command: NDArray[np.float64], pushes: tuple[Push, ...] = ()) -> WorldState:
        """Holds the position targets `command` (see `Robot`) for one control period of the robot, while `pushes` act."""
        ...

    def render(
        self,
        rgb: NDArray[np.uint8],
        depth: NDArray[np.float32] | None = None,
        segmentation: NDArray[np.uint8] | None = None,
    ) -> None:
        """Draws every camera now: rgb [C, h, w, 3]; depth [C, h, w] in metres, 0 where nothing is hit.

        `segmentation` [C, h, w] labels each pixel: 0 nothing or the room, 1 the table, 2 the robot, 3 + i object i, then the
        grains.
        """
        ...

    def close(self) -> None:
        """Frees the world's resources; safe to call twice."""
        ...


@runtime_checkable
class Posable(Protocol):
    """A physics whose pictures can be drawn later, also by another instance. Implementations: as `Physics`."""

    def note(self, out: NDArray[np.float64]) -> None:
        """Writes everything that its pictures depend on now, except the scene, as numbers; the rest of `out` [N] becomes 0.

        Raises SceneError when there is no room for them.
        """
        ...

    def pose(self, note: NDArray[np.float64]) -> None:
        """Restores what its pictures depend on from a note of this scene. `render` then draws bitwise the same pictures; no other
        method but `reset` may be called before the next `reset`.
        """
        ...


@runtime_checkable
class Hosted(Protocol):
    """A physics that a foreign program computes, with its own version. Implementation: `physics.foreign`."""

    @property
    def versions(self) -> str:
        """Versions of that program and its libraries, in words, since an episode depends on them."""
        ...


class BatchPhysics(Protocol):
    """Worlds that are stepped together, each with a scene of its own. Reference: `physics.many`; also `physics.warp`.

    Owned by one thread. A world holds no scene until one is loaded into it, and no usable one after a fault (an unbuildable scene,
    an unstable simulation). Its state in every tape is then an error with the reason, until the next scene is loaded into it. No
    world affects another.
    """

    @property
    def robot(self) -> Robot:
        """The robot that commands address, in every world."""
        ...

    @property
    def num_worlds(self) -> int:
        """Number of worlds, W; they are numbered from 0."""
        ...

    def load(self, worlds: Sequence[int], scenes: Sequence[Scene]) -> None:
        """Loads `scenes[i]` into `worlds[i]`, with the robot at home, whatever these worlds held; other worlds are unaffected.

        Raises SceneError naming every world whose scene cannot be built; the other scenes are loaded nevertheless.
        """
        ...

    def step(self, command: NDArray[np.float64], pushes: Mapping[int, tuple[Push, ...]] = _NO_PUSHES) -> Tape:
        """Holds `command[w]` of float64 [W, command_size] for one control period in each world w, while `pushes[w]` act there.

        Worlds without a usable scene stand still, whatever the command.
        """
        ...

    def look(self) -> Tape:
        """The current states; after `load` the initial ones."""
        ...

    def render(
        self,
        worlds: Sequence[int],
        rgb: NDArray[np.uint8],
        depth: NDArray[np.float32] | None = None,
        segmentation: NDArray[np.uint8] | None = None,
    ) -> None:
        """Draws every camera now in `worlds` [n]: rgb [n, C, h, w, 3], the others [n, C, h, w]; see `Physics.render`.

        Raises SceneError for a world without a usable scene.
        """
        ...

    def note(self, worlds: Sequence[int], out: NDArray[np.float64]) -> None:
        """Writes a note of each of `worlds` into a row of `out` [n, N]; see `Posable.note`.

        Raises SceneError for a world without a usable scene.
        """
        ...

    def close(self) -> None:
        """Frees the worlds' resources; safe to call twice."""
        ...


class Order(NamedTuple):
    """The order for one control step: the command, float64 [command_size], and external forces."""

    command: NDArray[np.float64]
    pushes: tuple[Push, ...] = ()


class Driver(Protocol):
    """Decides every control step of one world. Implementations: `episode.Episode`, `episode.Replay`.

    The loop that steps the physics calls `begin`, then `command` and `observe` in turn until `command` returns None.
    """

    @property
    def timings(self) -> Timings:
        """How this driver's time is spent; the loop adds the time of the physics."""
        ...

    def begin(self, state: WorldState) -> None:
        """Takes in the initial state."""
        ...

    def command(self) -> Order | None:
        """The order for the next control step; None when there is nothing left to do."""
        ...

    def observe(self, state: WorldState) -> None:
        """Takes in the state after that step."""
        ...


class Shutter(Protocol):
    """Takes the frames of one episode. Implementations: `episode.Snapshots`, which draws at once; `episode.Reels`, which writes
    notes to draw from later and elsewhere, and shows a pilot no pictures; `episode.NoPictures`.
    """

    @property
    def drawn(self) -> int:
        """Number of frames drawn so far."""
        ...

    def frame(self, out: Mapping[str, NDArray], index: int) -> Mapping[str, NDArray]:
        """Takes frame `index` of the current world into the trajectory's arrays; returns what a pilot may observe of it."""
        ...

    def between(self, out: Mapping[str, NDArray], chunk: int, index: int) -> None:
        """Takes picture `index` inside `chunk`; only called for trajectories that have pictures between frames."""
        ...

    def finish(self, out: Mapping[str, NDArray], num_frames: int) -> None:
        """Called once after the last of `num_frames` frames, to clear what older episodes left behind them."""
        ...


class FrameEncoder(Protocol):
    """Turns camera frames into latents for a learner, in the worker that rendered them. Owned by one thread."""

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Rows, columns and channels of the latents of one image of `height` x `width` pixels."""
        ...

    @property
    def encodes_depth(self) -> bool:
        """Whether `encode_depth` can be called; otherwise depth is streamed as rendered."""
        ...

    def encode(self, rgb: NDArray[np.uint8]) -> NDArray[np.float16]:
        """Latents [F, C, rows, columns, channels] of frames uint8 [F, C, h, w, 3]."""
        ...

    def encode_depth(self, depth: NDArray[np.float32]) -> NDArray[np.float16]:
        """Latents of the same shape of depths [m], float32 [F, C, h, w]."""
        ...


class Grader(Protocol):
    """Judges one trajectory while it happens. It observes every control step, so that a dropped or thrown object is noticed."""

    def observe(self, state: WorldState) -> None:
        """Takes in the state after one control step."""
        ...

    def pardon(self) -> None:
        """Ends a failure that is labelled as one: what was observed so far is forgiven, but has to be made good."""
        ...

    def verdict(self) -> Verdict:
        """The judgement of everything observed so far."""
        ...


class Pilot(Protocol):
    """Drives the robot. Implementations: a scripted expert, a learned policy, the baselines."""

    def look(self, frame: Mapping[str, NDArray]) -> None:
        """Called once per chunk with views of the frame just rendered: `rgb`, `proprio`, and `instruction`."""
        ...

    def command(self, state: WorldState) -> Step | None:
        """The next control step, or None when the pilot has finished."""
        ...


class Task(Protocol):
    """A goal, an expert that reaches it, and a grader that recognises it; one file each under `tasks/`."""

    name: str

    def request(self, rng: np.random.Generator) -> SceneRequest:
        """The objects that a scene of this task must hold, and the instruction; the sampler finds assets and poses for it."""
        ...

    def expert(self, scene: Scene, robot: Robot, state: WorldState, rng: np.random.Generator) -> Expert:
        """The scripted expert for `scene`, planning from `state`; raises MotionError when it finds no solution."""
        ...

    def grader(self, scene: Scene) -> Grader:
        """A fresh grader for `scene`."""
        ...


class AssetPool(Protocol):
    """The source of assets that are made while a run goes on: `assets.chain.pool`, for code that need not know the asset chain.

    Used by one thread at a time. It is sent to other processes, each of which then reads and makes instances by itself.
    """

    def assets(self, number: int, *, held_out: bool = False) -> tuple[Fresh, ...]:
        """The assets that scene `number` draws from, made if missing; raises SceneError when an instance cannot be made."""
        ...

    def drawn(self, scene: Scene) -> tuple[Fresh, ...]:
        """The instances in a scene that was drawn just now, each once."""
        ...

    def get(self, instance: Instance) -> Fresh:
        """An instance, read if it exists, else made; raises SceneError when it cannot be made."""
        ...

    def orders(self, first: int) -> Iterator[tuple[int, Instance]]:
        """Every instance of the stream from scene `first` on, each once, with the first scene from there on that may draw it."""
        ...

    def number_of(self, instance: Instance) -> int:
        """A number for an instance of the stream; `ordered` is the inverse."""
        ...

    def ordered(self, number: int) -> Instance:
        """The instance of the stream that has this number."""
        ...
