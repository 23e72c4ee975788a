"""Many MuJoCo worlds stepped one after the other: the reference implementation of a batch of worlds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from embodichain.errors import ConfigError, SceneError
from embodichain.physics.mujoco import MujocoPhysics
from embodichain.physics.painters import DEFAULT
from embodichain.types import Push, Robot, Scene
from embodichain.types.tapes import Tape

_NO_PUSHES: Mapping[int, tuple[Push, ...]] = {}


class Many:
    """Worlds that may hold any scenes of one robot; implements `protocols.BatchPhysics`.

    Each is a separate `MujocoPhysics`, so an episode is bitwise the same in any world, whatever the others play.

    Args:
        robot: The robot that commands address.
        num_worlds: Number of worlds, W.
        width: Width of every picture [pixels].
        height: Height of every picture [pixels].
        cameras: Names of the robot's cameras to render, in this order; None renders all.
        shadows: Whether lights cast shadows.
        painter: What draws the pictures; see `MujocoPhysics`.
        cached_worlds: Compiled models that each world keeps for reuse; see `MujocoPhysics`.
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
        painter: str = DEFAULT,
        cached_worlds: int = 32,
    ) -> None:
        if num_worlds < 1:
            raise ConfigError(f"a batch has at least 1 world, got num_worlds={num_worlds}")
        self._robot = robot
        self.worlds = tuple(
            MujocoPhysics(
                robot,
                width=width,
                height=height,
                cameras=cameras,
                shadows=shadows,
                painter=painter,
                cached_worlds=cached_worlds,
            )
            for _ in range(num_worlds)
        )
        self._live: set[int] = set()
        """Worlds that hold a scene and have not failed since it was loaded."""
        self._faults: dict[int, str] = {}

    @property
    def robot(self) -> Robot:
        """The robot that commands address, in every world."""
        return self._robot

    @property
    def num_worlds(self) -> int:
        """Number of worlds."""
        return len(self.worlds)

    def load(self, worlds: Sequence[int], scenes: Sequence[Scene]) -> None:
        """Loads `scenes[i]` into `worlds[i]`, robot at home; other worlds are not changed.

        Raises SceneError, which lists every world whose scene cannot be built; the others are loaded nevertheless. Raises
        ValueError, and loads nothing, for an unknown or repeated world, or different numbers of scenes and worlds.
        """
        if len(worlds) != len(scenes) or len(set(worlds)) != len(worlds):
            raise ValueError(f"every world takes one scene: got {len(scenes)} scenes for worlds {list(worlds)}")
        self._check(worlds)
        failed: dict[int, SceneError] = {}
        for world, scene in zip(worlds, scenes, strict=True):
            self._live.discard(world)
            self._faults.pop(world, None)
            try:
                self._reset(world, scene)
                self._live.add(world)
            except SceneError as error:
                failed[world] = error
                self._faults[world] = str(error)
        if failed:
            reasons = "; ".join(f"world {world}: {error}" for world, error in failed.items())
            raise SceneError(f"{len(failed)} of {len(worlds)} scenes cannot be loaded: {reasons}")

    def step(self, command: NDArray[np.float64], pushes: Mapping[int, tuple[Push, ...]] = _NO_PUSHES) -> Tape:
        """Holds `command[w]` for one control period in each world w, while `pushes[w]` act there.

        A world that becomes unstable, or gets a push on an unknown body, is void from then on: its state is a SceneError.
        Raises ValueError for commands of another shape and for pushes in a world that does not exist.
        """
        expected = (self.num_worlds, self._robot.command_size)
        if command.shape != expected:
            raise ValueError(f"{self.num_worlds} worlds of {self._robot.name!r} take commands {expected}, got {command.shape}")
        self._check(tuple(pushes))
        faults = self._advance(sorted(self._live), command, pushes)
        self._live.difference_update(faults)
        self._faults |= faults
        return self.look()

    def look(self) -> Tape:
        """The present states, with the contacts of the last control period."""
        live = sorted(self._live)
        num_pairs = np.zeros(self.num_worlds, np.int16)
        for world in live:
            num_pairs[world] = self._num_pairs(world)
        rosters = tuple(self.worlds[world].roster if world in self._live else None for world in range(self.num_worlds))
        tape = Tape.blank(rosters, dict(self._faults), num_measured=self._robot.command_size, num_pairs=num_pairs)
        for world in live:
            self._write(world, tape)
        return tape

    def render(
        self,
        worlds: Sequence[int],
        rgb: NDArray[np.uint8],
        depth: NDArray[np.float32] | None = None,
        segmentation: NDArray[np.uint8] | None = None,
    ) -> None:
        """Writes what every camera sees now in `worlds` [n]: rgb [n, C, h, w, 3], depth and segmentation [n, C, h, w].

        Raises SceneError for a world that holds no usable scene, ValueError for one that does not exist.
        """
        self._check_live(worlds)
        for row, world in enumerate(worlds):
            self.worlds[world].render(
                rgb[row], None if depth is None else depth[row], None if segmentation is None else segmentation[row]
            )

    def note(self, worlds: Sequence[int], out: NDArray[np.float64]) -> None:
        """Writes into each row of `out` [n, N] the state on which pictures of that world depend.

        Raises SceneError for a world that holds no usable scene, ValueError for one that does not exist.
        """
        self._check_live(worlds)
        for row, world in enumerate(worlds):
            self.worlds[world].note(out[row])

    def close(self) -> None:
        """Frees all worlds; safe to call twice."""
        self._live.clear()
        self._faults.clear()
        for world in self.worlds:
            world.close()

    def _reset(self, world: int, scene: Scene) -> None:
        """Loads one scene; raises SceneError when it cannot be built."""
        self.worlds[world].reset(scene)

    def _advance(
        self, worlds: Sequence[int], command: NDArray[np.float64], pushes: Mapping[int, tuple[Push, ...]]
    ) -> dict[int, str]:
        """Steps these worlds by one control period; returns why some of them cannot go on."""
        faults: dict[int, str] = {}
        for world in worlds:
            try:
                self.worlds[world].advance(command[world], pushes.get(world, ()))
            except SceneError as error:
                faults[world] = str(error)
        return faults

    def _num_pairs(self, world: int) -> int:
        """Number of pairs of bodies that touched in the last control period."""
        return self.worlds[world].num_pairs

    def _write(self, world: int, tape: Tape) -> None:
        """Writes the state of one world into its row of a tape."""
        self.worlds[world].write(tape, world)

    def _check_live(self, worlds: Sequence[int]) -> None:
        self._check(worlds)
        for world in worlds:
            if world not in self._live:
                raise SceneError(self._faults.get(world, f"world {world} holds no scene yet: load one first"))

    def _check(self, worlds: Sequence[int]) -> None:
        for world in worlds:
            if not 0 <= world < self.num_worlds:
                raise ValueError(f"there is no world {world} in a batch of {self.num_worlds}: give 0 to {self.num_worlds - 1}")
