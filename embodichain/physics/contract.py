"""Conformance tests for batches of worlds, as experiments whose result follows from mechanics; for physics by other authors.

They do not depend on the simulator. Each law reports what it measured, which shows typical mistakes of an adapter: another order of
quaternions, degrees, a wrong step period, contacts of only the last substep, an outdated picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embodichain.errors import SceneError
from embodichain.protocols import BatchPhysics
from embodichain.types import Asset, Body, Material, Mesh, ObjectPlacement, Pose, Push, Scene, WorldState
from embodichain.types.poses import compose

GRAVITY = 9.81
"""Gravitational acceleration [m/s^2]."""
_RED, _BLUE = (0.9, 0.05, 0.05, 1.0), (0.05, 0.05, 0.9, 1.0)
_EDGE = 0.06
_MASS = 0.15
_MATERIAL = Material(name="wood", density=_MASS / _EDGE**3, static_friction=0.6, dynamic_friction=0.5, restitution=0.1)
_CORNERS = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)]) * _EDGE
_SIDES = np.array(
    [
        *([0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1]),
        *([2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]),
    ],
    np.int32,
)


@dataclass(frozen=True, slots=True)
class LawResult:
    """One law and the result of testing it."""

    law: str
    broken: str
    """The measured and the expected values; empty when the law holds."""


def examine(batch: BatchPhysics, *, height: int, width: int) -> Iterator[LawResult]:
    """Tests every law in a batch of at least two worlds with pictures of this size [pixels].

    A law that raises counts as broken, and the next one is tested nevertheless.
    """
    laws: dict[str, Callable[[BatchPhysics], Iterator[str]]] = {
        "a scene stands as it was described": _stands,
        "the robot begins at home": _home,
        "a command moves the joints that it names, by that much": _joints,
        "a step is one control period": _period,
        "contacts are those of the whole period": _impulse,
        "a push acts as a force, in its own world": _push,
        "a world that cannot go on is void alone, and until the next scene": _void,
        "loading a world leaves the others as they are": _alone,
        "a picture shows the scene that was loaded last": lambda some: _pictures(some, height, width),
    }
    for law, tried in laws.items():
        try:
            broken = "; ".join(tried(batch))
        except Exception as error:  # code by other authors may raise anything; that is the result of this test
            broken = f"{type(error).__name__}: {error}"
        yield LawResult(law, broken)


def block(color: tuple[float, float, float, float] = _RED) -> Asset:
    """A cube of 6 cm and 150 g whose frame is below its centre, at its bottom face."""
    inertia = _MASS / 6 * _EDGE**2
    mesh = Mesh(vertices=_CORNERS.copy(), faces=_SIDES.copy())
    body = Body(
        name="block",
        mass=_MASS,
        center_of_mass=(0.0, 0.0, 0.0),
        diagonal_inertia=(inertia, inertia, inertia),
        principal_axes=(1.0, 0.0, 0.0, 0.0),
        visual=mesh,
        hulls=(mesh,),
        material=_MATERIAL,
        color=color,
        body_pose=Pose(position=(0.0, 0.0, _EDGE / 2)),
    )
    return Asset(name="contract_block", category="block", bodies=(body,))


def scene(asset: Asset, *, z: float = 0.0, quaternion: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0)) -> Scene:
    """A scene with one block above or on the table, in front of the robot."""
    placement = ObjectPlacement(role="block", asset=asset, pose=Pose(position=(0.05, 0.04, z), quaternion=quaternion))
    return Scene(seed=0, task="contract", instruction="hold still", objects=(placement,))


def _load(batch: BatchPhysics, *scenes: Scene) -> None:
    batch.load(tuple(range(len(scenes))), scenes)


def _hold(
    batch: BatchPhysics, steps: int, command: NDArray[np.float64] | None = None, push: Push | None = None
) -> Iterator[list[WorldState]]:
    """Yields the states of the first two worlds after each of `steps` steps, while `push` acts in the second world."""
    commands = np.tile(batch.robot.home if command is None else command, (batch.num_worlds, 1))
    for _ in range(steps):
        tape = batch.step(commands, {1: (push,)} if push is not None else {})
        yield [tape.state(0), tape.state(1)]


def _stands(batch: BatchPhysics) -> Iterator[str]:
    turned = (0.8, 0.2, -0.4, 0.4)  # a unit quaternion that differs in any other order or with any other signs
    scenes = scene(block(), z=0.5, quaternion=turned), scene(block())
    _load(batch, *scenes)
    for world, setting in enumerate(scenes):
        placement = setting.objects[0]
        expected = compose(placement.pose, placement.asset.bodies[0].body_pose)  # a pose is that of the first body
        found = batch.look().state(world).object_poses["block"]
        where, how = np.round(found.position, 4).tolist(), np.round(found.quaternion, 3).tolist()
        if np.abs(np.subtract(found.position, expected.position)).max() > 2e-3:
            yield f"a block placed at {np.round(expected.position, 4).tolist()} is reported at {where} [m]"
        if 2 * np.arccos(min(1.0, abs(float(np.dot(found.quaternion, expected.quaternion))))) > 0.02:
            yield f"a block turned by {expected.quaternion} (w, x, y, z) is reported turned by {how}"


def _home(batch: BatchPhysics) -> Iterator[str]:
    _load(batch, scene(block()), scene(block()))
    state, home = batch.look().state(0), batch.robot.home
    off = np.abs(state.measured - home)
    if off.max() > 0.02:
        worst = int(off.argmax())
        yield f"value {worst} measures {state.measured[worst]:.4f}, at home it is {home[worst]:.4f} [rad or m]"


def _joints(batch: BatchPhysics) -> Iterator[str]:
    """Moves one joint of the first world at a time, there and back; the other world's robot must not move."""
    _load(batch, scene(block()), scene(block()))
    commands, start = np.tile(batch.robot.home, (batch.num_worlds, 1)), 0
    for arm in batch.robot.arms:
        for number, joint in enumerate(arm.joints):
            wrong = ""
            for sent in (0.08, -0.08):  # one of them may lie beyond the joint's range
                commands[0, start + number] = batch.robot.home[start + number] + sent
                moved, other = (state.measured - batch.robot.home for state in _command(batch, 40, commands))
                commands[0] = batch.robot.home
                _command(batch, 40, commands)
                most = int(np.abs(moved).argmax())
                if np.abs(other).max() > 0.02:
                    yield f"joint {joint} of world 0 was sent {sent} rad on; in world 1 a value moved by {np.abs(other).max():.3f}"
                if most == start + number and abs(moved[most] - sent) < 0.03:
                    break
                wrong = wrong or f"joint {joint} was sent {sent} rad on; value {most} moved most, by {moved[most]:.3f}"
            else:
                yield wrong
        start += arm.command_size


def _command(batch: BatchPhysics, steps: int, commands: NDArray[np.float64]) -> tuple[WorldState, WorldState]:
    """The states of the first two worlds after `steps` steps with these commands."""
    for _ in range(steps):
        tape = batch.step(commands)
    return tape.state(0), tape.state(1)


def _period(batch: BatchPhysics) -> Iterator[str]:
    _load(batch, scene(block(), z=0.5), scene(block()))
    height = batch.look().state(0).object_poses["block"].position[2]
    steps, period = 10, 1 / batch.robot.control_hz
    *_, (state, _) = _hold(batch, steps)
    if abs(state.time_s - steps * period) > 1e-6:
        yield f"after {steps} steps {state.time_s:.4f} s have passed, {steps * period:.4f} should have"
    fallen, expected = height - state.object_poses["block"].position[2], 0.5 * GRAVITY * (steps * period) ** 2
    if abs(fallen / expected - 1) > 0.05:
        yield f"a block that falls {steps * period:.2f} s falls {fallen:.4f} m, gravity says {expected:.4f}"


def _impulse(batch: BatchPhysics) -> Iterator[str]:
    """Between two states of rest, the impulse of all contacts on a body equals its weight times the duration."""
    _load(batch, scene(block(), z=0.15), scene(block()))
    period, seconds = 1 / batch.robot.control_hz, 1.0
    given = np.zeros(2)
    for states in _hold(batch, round(seconds / period)):
        for world, state in enumerate(states):
            touching = [c for c in state.contacts if {c.first, c.second} == {"table", "block/block"}]
            given[world] += sum(contact.force for contact in touching) * period
    expected = _MASS * GRAVITY * seconds
    for world, how in enumerate(("falls on", "stands on")):
        if abs(given[world] / expected - 1) > 0.08:
            yield f"a table that a block {how} gave it {given[world]:.3f} N s within a second, its weight says {expected:.3f}"


def _push(batch: BatchPhysics) -> Iterator[str]:
    _load(batch, scene(block(), z=0.3), scene(block(), z=0.3))
    steps, force = 5, 2.0
    *_, (still, pushed) = _hold(batch, steps, push=Push(body="block", force=(force, 0.0, 0.0)))
    expected = force / _MASS * steps / batch.robot.control_hz
    for name, state, speed in (("that nobody pushes", still, 0.0), (f"pushed with {force} N", pushed, expected)):
        found = float(state.object_velocities["block"][0])
        if abs(found - speed) > 0.1 * expected:
            yield f"a block {name} moves at {found:.3f} m/s after {steps} steps, {speed:.3f} expected"


def _void(batch: BatchPhysics) -> Iterator[str]:
    _load(batch, scene(block()), scene(block()))
    home = np.tile(batch.robot.home, (batch.num_worlds, 1))
    tape = batch.step(home, {0: (Push(body="nothing", force=(1.0, 0.0, 0.0)),)})
    try:
        tape.state(0)
        yield "a body that does not exist was pushed, and nothing came of it"
    except SceneError:
        pass
    tape.state(1)
    try:
        batch.step(home).state(0)
        yield "a world that was void is taken for sound one step later, with no scene loaded since"
    except SceneError:
        pass
    _load(batch, scene(block()))
    batch.step(home).state(0)


def _alone(batch: BatchPhysics) -> Iterator[str]:
    """Loading another world must not change a falling block in this one."""
    _load(batch, scene(block()), scene(block(), z=0.5))
    *_, (_, before) = _hold(batch, 5)
    _load(batch, scene(block(_BLUE)))
    after = batch.look().state(1)
    height, speed = (float(state.object_poses["block"].position[2]) for state in (before, after)), before.object_velocities["block"]
    was, is_now = height
    if abs(is_now - was) > 1e-6 or np.abs(after.object_velocities["block"] - speed).max() > 1e-4:
        yield "the fall of a block in world 1 changes while a scene is loaded into world 0"
    if after.time_s != before.time_s or np.abs(after.measured - before.measured).max() > 1e-6:
        yield f"time or robot of world 1 changes while a scene is loaded into world 0 ({before.time_s} s, {after.time_s} s)"
    *_, (_, later) = _hold(batch, 5)
    passed = 5 / batch.robot.control_hz
    expected = was + float(speed[2]) * passed - 0.5 * GRAVITY * passed**2
    lies = later.object_poses["block"].position[2]
    if abs(lies - expected) > 0.005:
        yield f"a block that falls on after a scene was loaded beside it is at {lies:.3f} m, gravity says {expected:.3f}"


def _pictures(batch: BatchPhysics, height: int, width: int) -> Iterator[str]:
    cameras = len(batch.robot.cameras)
    shown = []
    for color in (_RED, _BLUE):
        _load(batch, scene(block(color)), scene(block()))
        for steps in (0, 2):
            for _ in _hold(batch, steps):
                pass
            rgb = np.zeros((1, cameras, height, width, 3), np.uint8)
            labels = np.zeros((1, cameras, height, width), np.uint8)
            batch.render((0,), rgb, None, labels)
            seen = rgb[labels == 3].astype(float)
            if not len(seen):
                yield "no camera shows a block that stands before the robot (label 3 for the first object)"
                return
            shown.append(seen.mean(axis=0))
    for moment, red, blue in (("just loaded", shown[0], shown[2]), ("two steps on", shown[1], shown[3])):
        if not (red[0] > red[2] and blue[2] > blue[0]):
            yield f"a red and then a blue block, {moment}, are shown as {np.round(red).tolist()} and {np.round(blue).tolist()}"
