"""Physics of Isaac Sim through the tensor interface of PhysX: commands, measurements and contacts.

Part of the server; like it, this file needs no other part of EmbodiChain and has never run with Isaac Sim: see `server`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class StageAccess(NamedTuple):
    """What the views are built from."""

    physx: Any
    """The module omni.physx."""
    tensors: Any
    """The module omni.physics.tensors."""
    usd: Any
    """The module pxr."""
    stage: Any
    robot: Mapping[str, Any]
    """The robot in the form of `worlds.described`."""
    scenes: Sequence[Any]
    """The contents of each world (`server.Placed`); None for an empty one."""
    origins: Sequence[tuple[float, float, float]]
    """Position of each world on the stage [m]."""
    most_pairs: int


class Touched:
    """The pairs of bodies that touched within a control period, accumulated over its physics steps."""

    def __init__(self, report: Callable[..., int]) -> None:
        """`report` is `wire.report_pairs`."""
        self._report = report
        self.begin()

    def begin(self) -> None:
        """Starts a new period."""
        self.lost = False
        """Whether the engine had no room for some contacts."""
        self._sum: dict[tuple[int, int], list[Any]] = {}

    def add(self, first: int, second: int, force: NDArray[np.float64], normal: float, overlap: float) -> None:
        """Adds one step's force [N] of the first body on the second, the sum of normal forces, and the deepest overlap [m]."""
        kept = self._sum.setdefault((first, second), [0.0, 0.0, 0.0, np.zeros(3)])
        kept[0] += normal
        kept[1] = max(kept[1], overlap)
        kept[2] = max(kept[2], float(np.linalg.norm(force)))
        kept[3] = kept[3] + force

    def end(self, steps: int) -> None:
        """Turns sums into means over the period."""
        for kept in self._sum.values():
            kept[0] /= steps
            kept[3] = kept[3] / steps

    def write(self, tape: Mapping[str, NDArray[Any]], world: int) -> None:
        """Writes the pairs into a row of the board; their number says when there is no room for all, which voids the world."""
        pairs = list(self._sum.items())[: tape["pair"].shape[1]]
        tape["num_pairs"][world] = self._report(len(self._sum), lost=self.lost)
        for row, (pair, (force, depth, peak, push)) in enumerate(pairs):
            tape["pair"][world, row] = pair
            tape["force"][world, row], tape["depth"][world, row], tape["peak"][world, row] = force, depth, peak
            tape["push"][world, row] = push


class Delayed:
    """The commands of one world, which take effect some physics steps after they are given, as in MuJoCo."""

    def __init__(self, home: NDArray[np.float64], steps: int, period: int) -> None:
        """`steps` of delay; a command is given every `period` physics steps. Before the first one the robot holds `home`."""
        kept = steps // period + 2
        self.late = steps % period
        """Physics steps of a period for which the older of two commands still holds."""
        self._queue: deque[NDArray[np.float64]] = deque([home.copy()] * kept, maxlen=kept)

    def give(self, command: NDArray[np.float64]) -> None:
        """Accepts the command of the next period."""
        self._queue.append(command.copy())

    def at(self, step: int) -> NDArray[np.float64]:
        """The command that holds in this physics step of the period."""
        return self._queue[0] if step < self.late else self._queue[1]


class StageViews:
    """Physics of the whole stage through the tensor interface; valid until the stage changes."""

    def __init__(self, on: StageAccess, kept: Mapping[int, Any], fresh: frozenset[int]) -> None:
        self._on, self._physx = on, on.physx
        self._physx.get_physx_interface().force_load_physics_from_usd()
        self._physx.get_physx_interface().start_simulation()
        self._view = on.tensors.create_simulation_view("numpy")
        self._view.set_subspace_roots("/")
        self._arms = self._view.create_articulation_view("/world*/robot")
        self._names = list(self._arms.shared_metatype.dof_names)
        self._numbers = {name: number for number, name in enumerate(self._names)}
        self._time = 0.0
        self._drive()
        self._home(fresh)
        self._rigid: dict[int, Any] = {}
        for world, placed in enumerate(on.scenes):
            if placed is not None and placed.free:
                self._rigid[world] = self._view.create_rigid_body_view(placed.free)
        self._articulated: dict[str, Any] = {}
        for placed in on.scenes:
            if placed is None:
                continue
            for role in placed.roles:
                root = f"{placed.root}/objects/{role}"
                if any(path.startswith(f"{root}/") for path in placed.joints):
                    self._articulated[root] = self._view.create_articulation_view(root)
        self._contacts = {world: self._contact_view(world) for world, placed in enumerate(on.scenes) if placed is not None}
        for world, state in kept.items():
            if world not in fresh:
                self._restore(world, state)
        for world in fresh:
            self._begin(on.scenes[world])

    def _begin(self, placed: Any) -> None:
        """Sets the joints of objects to their initial positions in the scene."""
        if placed is None:
            return
        for role, positions in placed.begin.items():
            view = self._articulated.get(f"{placed.root}/objects/{role}")
            if view is not None and positions:
                view.set_dof_positions(np.asarray([positions], np.float32), np.zeros(1, np.int32))

    def _joint_names(self) -> list[tuple[list[str], list[tuple[str, float]]]]:
        """For each arm its joints, and its gripper's joints with the share of each in the opening."""
        return [
            (
                [leaf(name) for name in arm["joints"]],
                [(leaf(name), 1.0 / len(arm["gripper_joints"])) for name in arm["gripper_joints"]],
            )
            for arm in self._on.robot["arms"]
        ]

    def _drive(self) -> None:
        """Scales the servos of every world by the factors of its scene. What was loaded anew from USD has its nominal values."""
        rows = np.arange(len(self._on.scenes), dtype=np.int32)
        for name, get, put in (
            ("stiffness", self._arms.get_dof_stiffnesses, self._arms.set_dof_stiffnesses),
            ("servo_damping", self._arms.get_dof_dampings, self._arms.set_dof_dampings),
            ("torque", self._arms.get_dof_max_forces, self._arms.set_dof_max_forces),
        ):
            values = np.array(get())
            for world, placed in enumerate(self._on.scenes):
                if placed is not None:
                    values[world] *= placed.dynamics[name]
            put(values, rows)

    def _home(self, fresh: frozenset[int]) -> None:
        positions = self._arms.get_dof_positions()
        for world in fresh:
            positions[world] = self._targets(np.asarray(self._on.robot["home"], np.float64), positions[world])
        rows = np.array(sorted(fresh), np.int32)
        self._arms.set_dof_positions(positions, rows)
        self._arms.set_dof_velocities(np.zeros_like(positions), rows)
        self._arms.set_dof_position_targets(positions, rows)

    def _targets(self, command: NDArray[np.float64], base: NDArray[Any]) -> NDArray[Any]:
        """Joint targets in the simulator's own order. Joints that no command addresses keep their value in `base`."""
        out, start = base.copy(), 0
        for joints, fingers in self._joint_names():
            for name in joints:
                out[self._numbers[name]] = command[start]
                start += 1
            for name, share in fingers:
                sign = self._finger_sign(name)
                out[self._numbers[name]] = sign * share * command[start]
            start += 1
        return out

    def _finger_sign(self, name: str) -> float:
        """The sign of a finger's opening direction: -1 for one that slides to negative positions."""
        low, high = self._arms.get_dof_limits()[0, self._numbers[name]]
        return 1.0 if abs(high) >= abs(low) else -1.0

    def command(self, command: NDArray[np.float64]) -> None:
        """Sets position targets of every robot."""
        targets = self._arms.get_dof_position_targets()
        for world in range(len(self._on.scenes)):
            targets[world] = self._targets(command[world], targets[world])
        self._arms.set_dof_position_targets(targets, np.arange(len(self._on.scenes), dtype=np.int32))

    def push(self, world: int, pushes: Sequence[tuple[str, Sequence[float]]]) -> None:
        """Applies forces [N] at centres of mass for the next physics step, in the world frame."""
        placed = self._on.scenes[world]
        assert placed is not None
        for body, force in pushes:
            view = self._view.create_rigid_body_view([placed.path_of(body)])
            view.apply_forces(np.asarray([force], np.float32), np.zeros(1, np.int32), True)

    def simulate(self, seconds: float) -> None:
        """Performs one physics step."""
        interface = self._physx.get_physx_simulation_interface()
        interface.simulate(seconds, self._time)
        interface.fetch_results()
        self._time += seconds

    def _contact_view(self, world: int) -> Any:
        """A view of the forces between everything that moves in a world and everything else there."""
        placed = self._on.scenes[world]
        assert placed is not None
        sensors = [path for _, path in links(self._on.stage, f"/world{world}/robot", self._on.usd)]
        sensors += [f"{placed.root}/objects/{role}/{body}" for role, bodies in placed.bodies.items() for body in bodies]
        filters = [f"{placed.root}/table", *sensors]
        return self._view.create_rigid_contact_view(sensors, [filters] * len(sensors), self._on.most_pairs * 8)

    def touch(self, touched: Sequence[Touched], seconds: float) -> None:
        """Adds this physics step's contacts, each pair once."""
        for world, view in self._contacts.items():
            matrix = np.asarray(view.get_contact_force_matrix(seconds), np.float64)
            forces, _, _, separations, counts, starts = (np.asarray(part) for part in view.get_contact_data(seconds))
            touched[world].lost |= bool((starts + counts).max(initial=0) > len(forces))
            for row, column in zip(*np.nonzero(np.linalg.norm(matrix, axis=-1) > 0), strict=True):
                if column and column - 1 <= row:
                    continue  # a pair of sensors appears twice
                at = slice(int(starts[row, column]), int(starts[row, column] + counts[row, column]))
                normal, overlap = float(np.abs(forces[at]).sum()), float(max(0.0, -separations[at].min(initial=0.0)))
                first = 1 if column == 0 else 1 + int(column)
                touched[world].add(first, 2 + int(row), matrix[row, column], normal, overlap)

    def write(self, tape: Mapping[str, NDArray[Any]]) -> None:
        """Writes states into the board, relative to each world's origin, with quaternions as w x y z."""
        positions = np.asarray(self._arms.get_dof_positions(), np.float64)
        for world, placed in enumerate(self._on.scenes):
            if placed is None:
                continue
            tape["measured"][world] = self._measured(positions[world])
            if placed.free:
                poses = np.asarray(self._rigid[world].get_transforms(), np.float64)  # x y z, then x y z w
                speeds = np.asarray(self._rigid[world].get_velocities(), np.float64)
                count = len(placed.free)
                tape["pose"][world, :count, :3] = poses[:, :3] - self._on.origins[world]
                tape["pose"][world, :count, 3:] = poses[:, [6, 3, 4, 5]]
                tape["velocity"][world, :count] = speeds
            values: list[float] = []
            for role in placed.roles:
                view = self._articulated.get(f"{placed.root}/objects/{role}")
                if view is not None:
                    values += np.asarray(view.get_dof_positions(), np.float64)[0].tolist()
            tape["joint"][world, : len(values)] = values

    def _measured(self, positions: NDArray[np.float64]) -> list[float]:
        out: list[float] = []
        for joints, fingers in self._joint_names():
            out += [float(positions[self._numbers[name]]) for name in joints]
            out.append(sum(self._finger_sign(name) * float(positions[self._numbers[name]]) for name, _ in fingers))
        return out

    def snapshot(self) -> dict[int, Any]:
        """Positions and velocities of everything, by world, because a change of the stage resets physics."""
        arms = (np.array(self._arms.get_dof_positions()), np.array(self._arms.get_dof_velocities()))
        targets = np.array(self._arms.get_dof_position_targets())
        kept: dict[int, Any] = {}
        for world, placed in enumerate(self._on.scenes):
            if placed is not None:
                rigid = self._rigid.get(world)
                bodies = (np.array(rigid.get_transforms()), np.array(rigid.get_velocities())) if rigid is not None else None
                roots = [f"{placed.root}/objects/{role}" for role in placed.roles]
                joints = {
                    root: (np.array(view.get_dof_positions()), np.array(view.get_dof_velocities()))
                    for root, view in self._articulated.items()
                    if root in roots
                }
                kept[world] = (arms[0][world], arms[1][world], targets[world], bodies, joints)
        return kept

    def _restore(self, world: int, state: Any) -> None:
        positions, velocities, targets, bodies, joints = state
        rows = np.array([world], np.int32)
        for setter, values in (
            (self._arms.set_dof_positions, positions),
            (self._arms.set_dof_velocities, velocities),
            (self._arms.set_dof_position_targets, targets),
        ):
            whole = np.array(self._arms.get_dof_positions())
            whole[world] = values
            setter(whole, rows)
        if bodies is not None:
            every = np.arange(len(bodies[0]), dtype=np.int32)
            self._rigid[world].set_transforms(bodies[0], every)
            self._rigid[world].set_velocities(bodies[1], every)
        for root, (at, moving) in joints.items():
            self._articulated[root].set_dof_positions(at, np.zeros(1, np.int32))
            self._articulated[root].set_dof_velocities(moving, np.zeros(1, np.int32))

    def end(self) -> None:
        """Releases physics, so that the stage may change."""
        self._view.invalidate()
        self._physx.get_physx_interface().reset_simulation()


def links(stage: Any, root: str, usd: Any) -> list[tuple[str, str]]:
    """Names and paths of all rigid bodies below `root`, in the order of the stage."""
    return [
        (prim.GetName(), str(prim.GetPath()))
        for prim in usd.Usd.PrimRange(stage.GetPrimAtPath(root))
        if prim.HasAPI(usd.UsdPhysics.RigidBodyAPI)
    ]


def leaf(name: str) -> str:
    """The name of a prim for an MJCF name: importers turn "left/joint1" into "left_joint1"."""
    return name.replace("/", "_")
