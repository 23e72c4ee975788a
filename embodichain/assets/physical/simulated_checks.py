"""How an asset behaves in simulation: at rest, dropped, pushed and lifted, and whether its joints move and hold.

Measured in MuJoCo on the asset's own MJCF, so that a delivered file is judged by its behaviour as well as by its contents.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from embodichain.assets.physical.mjcf import to_mjcf
from embodichain.assets.physical.simulation import Simulation
from embodichain.assets.usd.usd_contents import Issue
from embodichain.types import Asset, JointKind, ShapeKind

REST_DRIFT_M = 1e-3
REST_TURN_RAD = np.radians(1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """The measurements.

    `rest_drift` [m] and `rest_turn` [rad] are the movement over the watched time after settling; `settle_turn` [rad] is how far the
    asset tipped from its delivered pose; `penetration` [m] is the deepest contact at rest; `joint_creep` [rad or m] is the largest
    movement of a joint in a second without command, anywhere in its range; `joint_reach` is the share of its range that a gentle
    push covers; `joint_return` is the smallest share of its range that a joint with a spring has returned a second after it was
    pushed.

    For an asset that is not bolted down: when it is dropped slightly tilted from 30 mm, `drop_energy` is its highest total energy
    divided by the initial one, and `drop_depth` [m] its deepest contact at the end; when it is pushed at its foot for a second,
    `push_held` [m] is how far it moves under less force than friction holds, and `push_slid` [m] under more.
    """

    rest_drift: float
    rest_turn: float
    settle_turn: float
    penetration: float
    joint_creep: float
    joint_reach: float
    joint_return: float = 1.0
    drop_energy: float = 1.0
    drop_depth: float = 0.0
    push_held: float = 0.0
    push_slid: float = math.inf


def behave(asset: Asset, watch_s: float = 5.0, settle_s: float = 1.0) -> Behaviour:
    """Puts the asset on a plane, lets it settle, watches it, drops and pushes it, and moves its joints."""
    world = Simulation.of(to_mjcf(asset, floor=True, visual=False))
    data = world.data
    root = world.model.body(asset.bodies[0].name).id
    start = data.xquat[root].copy()
    world.run(settle_s)
    position, turn = data.xpos[root].copy(), data.xquat[root].copy()
    drift, spin = 0.0, 0.0
    for _ in world.seen(watch_s):
        drift = max(drift, float(np.linalg.norm(data.xpos[root] - position)))
        spin = max(spin, _angle(data.xquat[root], turn))
    depth = world.deepest()
    creep, reach, back = _work_joints(world, asset)
    loose: dict[str, float] = {}
    if not asset.fixed_base:
        loose["drop_energy"], loose["drop_depth"] = _drop(world.again(), root)
        loose["push_held"], loose["push_slid"] = (_push(world, root, share) for share in (0.5, 1.6))
    return Behaviour(
        rest_drift=drift,
        rest_turn=spin,
        settle_turn=_angle(turn, start),
        penetration=depth,
        joint_creep=creep,
        joint_reach=reach,
        joint_return=back,
        **loose,
    )


def _drop(world: Simulation, root: int, height: float = 0.03, tilt: float = 0.15, seconds: float = 2.0) -> tuple[float, float]:
    """Highest energy divided by the first, because nothing may gain energy by falling; and the deepest contact at the end [m]."""
    model, data = world.model, world.data
    address = int(model.jnt_qposadr[model.body_jntadr[root]])
    data.qpos[address + 3 : address + 7] = [math.cos(tilt / 2), math.sin(tilt / 2) * 0.8, math.sin(tilt / 2) * 0.6, 0.0]
    world.kinematics()
    data.qpos[address + 2] += height - world.lowest()
    with world.energies():
        world.forward()
        first, most = float(data.energy.sum()), 1.0
        for _ in world.seen(seconds):
            most = max(most, float(data.energy.sum()) / first)
    return most, world.deepest()


def _push(settled: Simulation, root: int, share: float) -> float:
    """Distance [m] by which a horizontal force, `share` of what friction holds, moves the settled asset at its foot in a second."""
    world = settled.again()
    model, data = world.model, world.data
    data.qpos[:] = settled.data.qpos
    world.forward()
    contacts = data.contact[: data.ncon]
    friction = max((float(contact.friction[0]) for contact in contacts), default=0.0)
    mass = float(model.body_subtreemass[root])
    force = np.array([share * friction * mass * 9.81, 0.0, 0.0])
    start = data.xpos[root].copy()
    for _ in world.steps(1.0):
        arm = np.array([0.0, 0.0, -float(data.subtree_com[root][2])])
        data.xfrc_applied[root] = 0.0
        # The force acts at floor height below the centre of mass, so that the asset slides instead of tipping.
        at = data.subtree_com[root] + arm - data.xipos[root]
        data.xfrc_applied[root, :3], data.xfrc_applied[root, 3:] = force, np.cross(at, force)
    return float(np.linalg.norm(data.xpos[root][:2] - start[:2]))


def _work_joints(world: Simulation, asset: Asset) -> tuple[float, float, float]:
    """Largest creep of a joint without command, and the smallest shares of a range that a push covers and that a spring returns."""
    creep, reach, back = 0.0, 1.0, 1.0
    for joint in (joint for joint in asset.movable_joints if joint.mimic is None):
        lower, upper = joint.span
        index = world.model.joint(joint.name)
        address, dof = int(index.qposadr[0]), int(index.dofadr[0])
        for start in np.linspace(*joint.span, 5)[1:-1] if joint.friction > 0.0 else ():
            left = world.again()
            left.data.qpos[address] = start
            left.run(1.0)
            creep = max(creep, abs(float(left.data.qpos[address]) - float(start)))
        if not joint.bounded:
            continue  # the joint turns without limit
        # A push well above friction: 5 N on a slide, or the torque of 5 N at 5 cm on a hinge.
        push = joint.friction + (0.25 if joint.kind is JointKind.REVOLUTE else 5.0)
        ends = []
        for sign in (-1.0, 1.0):
            pushed = world.again()
            pushed.data.qfrc_applied[dof] = sign * push
            pushed.run(1.0)
            ends.append(float(pushed.data.qpos[address]))
        reach = min(reach, (ends[1] - ends[0]) / (upper - lower))
        if joint.stiffness > 0.0:
            home = min(max(joint.rest, lower), upper)
            far = max(lower, upper, key=lambda end: abs(end - home))
            sprung = world.again()
            sprung.data.qpos[address] = far
            sprung.run(1.0)
            back = min(back, (float(sprung.data.qpos[address]) - far) / (home - far))
    return creep, reach, back


def check(asset: Asset) -> list[Issue]:
    """Faults in behaviour: an asset that slides, tips or sinks at rest, or has joints that creep or stick."""
    return faults(asset, behave(asset))


def rolls(asset: Asset) -> bool:
    """Whether the asset rests on a round surface: the smallest push then moves it, which is no fault."""
    return any(hull.shape is not None and hull.shape.kind is not ShapeKind.BOX for body in asset.bodies for hull in body.hulls)


def faults(asset: Asset, found: Behaviour) -> list[Issue]:
    """The measurements of a behaviour that are out of bounds."""
    issues: list[Issue] = []

    def fault(name: str, message: str) -> None:
        issues.append(Issue(check=name, prim=f"/{asset.name}", message=message))

    if not (found.rest_drift <= REST_DRIFT_M and found.rest_turn <= REST_TURN_RAD):
        fault("rest", f"moved {found.rest_drift * 1e3:.2f} mm and {np.degrees(found.rest_turn):.2f} degrees while left alone")
    if not found.settle_turn <= np.radians(3.0):
        fault("rest", f"tipped by {np.degrees(found.settle_turn):.1f} degrees from the pose it is delivered in")
    if not found.penetration <= 1e-3:
        fault("sink", f"sank {found.penetration * 1e3:.2f} mm into the ground")
    if not found.drop_energy <= 1.02:
        fault("drop", f"gained {found.drop_energy - 1:.0%} energy when dropped")
    if not found.drop_depth <= 1e-3:
        fault("drop", f"sank {found.drop_depth * 1e3:.2f} mm into the ground after a fall")
    if not found.push_held <= 1e-3 and not rolls(asset):
        fault("push", f"slid {found.push_held * 1e3:.2f} mm under half the force that its friction bears")
    if not found.push_slid >= 0.02:
        fault("push", f"moved only {found.push_slid * 1e3:.2f} mm under more force than its friction bears")
    if not found.joint_creep <= 0.02:
        fault("joint_creep", f"a joint with friction crept by {found.joint_creep:.3f} where it was left")
    if not found.joint_return >= 0.95:
        fault("joint_return", f"a spring brings a joint back through only {found.joint_return:.0%} of its range")
    if not found.joint_reach >= 0.95:
        fault("joint_reach", f"a push moves a joint through only {found.joint_reach:.0%} of its range")
    return issues


def _angle(first: np.ndarray, second: np.ndarray) -> float:
    return 2.0 * float(np.arccos(min(abs(float(first @ second)), 1.0)))
