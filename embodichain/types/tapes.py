"""Tape: the states of a batch of worlds after a control period, as arrays over all worlds; single states are built on request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embodichain.errors import SceneError
from embodichain.types.poses import Pose
from embodichain.types.robots import CONTROL_HZ, ArmParts
from embodichain.types.scenes import Contact, Touches, WorldState

Floats = NDArray[np.floating]
_REST = np.zeros(6)
_REST.flags.writeable = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Roster:
    """The names behind the numbers of a state: the bodies and objects of one world."""

    bodies: tuple[str, ...]
    """Names of bodies in contacts, by body number."""
    roles: tuple[tuple[str, int], ...]
    """Each object's role, in the order of the scene, with its row among the free objects; -1 for one that is bolted."""
    joints: tuple[tuple[str, int], ...]
    """Each object's role with its number of joints; their positions are stored in this order."""
    bolted: Mapping[str, Pose] = field(default_factory=dict)
    """Poses of the objects that cannot move as a whole."""
    num_grains: int = 0
    control_hz: int = CONTROL_HZ
    """Control steps per second."""
    arms: tuple[ArmParts, ...] = ()
    """The robot's arms."""

    @property
    def num_free(self) -> int:
        """Number of objects whose pose can change."""
        return sum(row >= 0 for _, row in self.roles)

    @property
    def num_joints(self) -> int:
        """Number of joints of all objects."""
        return sum(count for _, count in self.joints)

    def state(
        self,
        time_s: float,
        measured: NDArray[np.float64],
        pose: Floats,
        velocity: NDArray[np.float64],
        joint: Floats,
        grain_positions: NDArray[np.float64],
        grain_velocities: NDArray[np.float64],
        contacts: tuple[Contact, ...],
    ) -> WorldState:
        """The state that these numbers describe. It keeps the arrays `measured`, rows of `velocity`, and the grains'.

        Shapes: measured [A], pose [O, 7] (position, then w x y z), velocity [O, 6], joint [J], grains [N, 3] each.
        """
        poses: dict[str, Pose] = {}
        speeds: dict[str, NDArray[np.float64]] = {}
        found: list[list[float]] = pose.tolist()
        for role, row in self.roles:
            if row < 0:
                poses[role], speeds[role] = self.bolted[role], _REST
            else:
                x, y, z, w, i, j, k = found[row]
                poses[role], speeds[role] = Pose(position=(x, y, z), quaternion=(w, i, j, k)), velocity[row]
        positions: list[float] = joint.tolist()
        start = 0
        joints: dict[str, tuple[float, ...]] = {}
        for role, count in self.joints:
            joints[role] = tuple(positions[start : start + count])
            start += count
        return WorldState(
            time_s=time_s,
            measured=measured,
            object_poses=poses,
            object_velocities=speeds,
            object_joints=joints,
            contacts=contacts,
            grain_positions=grain_positions,
            grain_velocities=grain_velocities,
            control_hz=self.control_hz,
            arms=self.arms,
        )


class Tape(NamedTuple):
    """States of W worlds after one control period. Each period makes a new tape, so later steps do not change it.

    Rows are as long as the fullest world needs; `rosters` gives the used length of each. The reference physics fills float64,
    because experts plan from these values and rounding would change their trajectories; a device may fill float32.
    """

    rosters: tuple[Roster | None, ...]
    """The contents of each world; None where no scene was loaded."""
    faults: Mapping[int, str]
    """Why the states of these worlds are void. Their episodes must be abandoned."""
    time_s: NDArray[np.float64]
    """Time since the scene began [s], shape [W]."""
    measured: NDArray[np.float64]
    """Like `WorldState.measured`, shape [W, A]."""
    pose: Floats
    """Poses of the objects that are free to move: position [m], then the quaternion w x y z, shape [W, O, 7]."""
    velocity: Floats
    """Their velocities in the world frame: linear [m/s], then angular [rad/s], shape [W, O, 6]."""
    joint: Floats
    """Positions of the objects' joints [rad or m], shape [W, J]."""
    grain: Floats
    """Positions [m], then velocities [m/s], of the grains, shape [W, N, 6]."""
    pair: NDArray[np.integer]
    """Body numbers of the pairs that touched within the period, in the order of their first contact, shape [W, P, 2]."""
    force: Floats
    """Mean normal forces of these pairs over the period [N], shape [W, P]."""
    depth: Floats
    """Their deepest overlaps in the period [m], shape [W, P]."""
    peak: Floats
    """Their largest resultants of one physics step [N], shape [W, P]."""
    push: Floats
    """Mean normal forces of the first body on the second [N], in the world frame, shape [W, P, 3]."""
    num_pairs: NDArray[np.integer]
    """Number of valid pairs in each row, shape [W]."""

    @classmethod
    def blank(
        cls,
        rosters: tuple[Roster | None, ...],
        faults: Mapping[int, str],
        *,
        num_measured: int,
        num_pairs: NDArray[np.integer],
    ) -> Tape:
        """A tape of zeros, with room for the contents of every one of `rosters` and for `num_pairs` [W] contacts."""
        worlds, known = len(rosters), [roster for roster in rosters if roster is not None]
        objects, joints = (max((count(roster) for roster in known), default=0) for count in (_num_free, _num_joints))
        grains = max((roster.num_grains for roster in known), default=0)
        pairs = int(num_pairs.max(initial=0))
        return cls(
            rosters=rosters,
            faults=faults,
            time_s=np.zeros(worlds),
            measured=np.zeros((worlds, num_measured)),
            pose=np.zeros((worlds, objects, 7)),
            velocity=np.zeros((worlds, objects, 6)),
            joint=np.zeros((worlds, joints)),
            grain=np.zeros((worlds, grains, 6)),
            pair=np.zeros((worlds, pairs, 2), np.int16),
            force=np.zeros((worlds, pairs)),
            depth=np.zeros((worlds, pairs)),
            peak=np.zeros((worlds, pairs)),
            push=np.zeros((worlds, pairs, 3)),
            num_pairs=num_pairs,
        )

    def part(self, worlds: Sequence[int]) -> Tape:
        """Copies of the rows of these worlds, renumbered from 0. Its `rosters` is empty.

        The receiver of many steps knows each world's contents from the time when its scene was loaded.
        """
        rows = list(worlds)
        faults = {row: self.faults[world] for row, world in enumerate(rows) if world in self.faults}
        return Tape(
            rosters=(),
            faults=faults,
            time_s=self.time_s[rows],
            measured=self.measured[rows],
            pose=self.pose[rows],
            velocity=self.velocity[rows],
            joint=self.joint[rows],
            grain=self.grain[rows],
            pair=self.pair[rows],
            force=self.force[rows],
            depth=self.depth[rows],
            peak=self.peak[rows],
            push=self.push[rows],
            num_pairs=self.num_pairs[rows],
        )

    def state(self, world: int) -> WorldState:
        """The state of one world, built on request; it shares memory with the tape.

        Raises SceneError when the world holds no scene or its state is void, ValueError when there is no such world.
        """
        if not 0 <= world < len(self.rosters):
            raise ValueError(f"there is no world {world} on a tape of {len(self.rosters)}: give 0 to {len(self.rosters) - 1}")
        if world in self.faults:
            raise SceneError(self.faults[world])
        roster = self.rosters[world]
        if roster is None:
            raise SceneError(f"world {world} holds no scene yet: load one first")
        objects = roster.num_free
        grain = self.grain[world, : roster.num_grains]
        return roster.state(
            time_s=float(self.time_s[world]),
            measured=self.measured[world],
            pose=self.pose[world, :objects],
            velocity=np.asarray(self.velocity[world, :objects], np.float64),
            joint=self.joint[world, : roster.num_joints],
            grain_positions=np.ascontiguousarray(grain[:, :3], np.float64),
            grain_velocities=np.ascontiguousarray(grain[:, 3:], np.float64),
            contacts=self._touches(world).named(roster.bodies),
        )

    def _touches(self, world: int) -> Touches:
        """The contacts of one world."""
        row = (world, slice(int(self.num_pairs[world])))
        return Touches(pair=self.pair[row], force=self.force[row], depth=self.depth[row], peak=self.peak[row], push=self.push[row])


def _num_free(roster: Roster) -> int:
    return roster.num_free


def _num_joints(roster: Roster) -> int:
    return roster.num_joints
