"""Converts joints with several degrees of freedom into chains of simple joints with shapeless bodies between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from embodichain.assets.families.parts import Kept, Part, Preservation, Stated
from embodichain.assets.reading.looks import GREY
from embodichain.types import Joint, JointKind, Mesh, Pose

LEAST_MASS = 1e-3
"""Mass [kg] of a moving body that has neither a shape nor a stated mass, because simulators require one."""
LEAST_MOMENT = 1e-6
"""Principal moments of inertia of such a body [kg m^2]."""
_AXES = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}


@dataclass(frozen=True, slots=True, kw_only=True)
class JointChain:
    """A chain of joints: the bodies between them, the joints from the parent outwards, and rows for the fidelity table."""

    bodies: tuple[Part, ...]
    joints: tuple[Joint, ...]
    fidelity: tuple[Kept, ...]


def shapeless(name: str, pose: Pose, stated: Stated | None = None) -> tuple[Part, tuple[Kept, ...]]:
    """A body without shape; if its file states no mass, it gets the smallest one, with a row for the table."""
    rows: tuple[Kept, ...] = ()
    stated = stated or Stated()
    if not stated.mass:
        rows = (
            Kept(
                of=name,
                what="mass",
                stated=None,
                written=LEAST_MASS,
                fate=Preservation.CHANGED,
                reason="a moving body needs a mass",
            ),
        )
    elif stated.inertia is None:
        reason = "a moving body needs an inertia"
        rows = (Kept(of=name, what="inertia", stated=None, written=LEAST_MOMENT, fate=Preservation.CHANGED, reason=reason),)
    mesh = Mesh(vertices=np.zeros((0, 3)), faces=np.zeros((0, 3), np.int32))
    return Part(name=name, mesh=mesh, material="", color=GREY, pose=pose, mass=stated.mass or LEAST_MASS, stated=stated), rows


def chained(joints: Sequence[Joint], pose: Pose, of: str, what: str = "joints") -> JointChain:
    """Puts several joints on one body, the first next to the parent, with shapeless bodies between them in the same pose.

    `pose` is that of the body; `of` and `what` name it in the table.
    """
    bodies: list[Part] = []
    rows: list[Kept] = []
    linked: list[Joint] = []
    parent, child = joints[0].parent, joints[0].child
    for number, joint in enumerate(joints):
        last = number == len(joints) - 1
        name = child if last else f"{child}_carrier_{number}"
        if not last:
            body, _ = shapeless(name, pose)
            bodies.append(body)
        linked.append(replace(joint, parent=parent, child=name))
        parent = name
    if bodies:
        reason = f"{len(bodies)} bodies of {LEAST_MASS * 1e3:g} g stand between them, for a body has one joint"
        stated = f"{len(joints)} degrees of freedom on one body"
        names = ", ".join(joint.name for joint in linked)
        rows.append(Kept(of=of, what=what, stated=stated, written=names, fate=Preservation.CHANGED, reason=reason))
    return JointChain(bodies=tuple(bodies), joints=tuple(linked), fidelity=tuple(rows))


def hinges(joint: Joint) -> list[Joint]:
    """Three hinges about perpendicular axes through a ball joint's centre, not chained yet."""
    return [replace(joint, name=f"{joint.name}_{name}", kind=JointKind.REVOLUTE, axis=axis) for name, axis in _AXES.items()]


def ball(joint: Joint, pose: Pose) -> JointChain:
    """A ball joint as a chain of three hinges."""
    return chained(hinges(joint), pose, joint.name, "ball joint")


def planar(joint: Joint, pose: Pose) -> JointChain:
    """A planar joint, whose axis is normal to its plane, as two slides in the plane and a hinge about the normal."""
    normal = np.asarray(joint.axis)
    first = np.cross(normal, _AXES["x"] if abs(normal[0]) < 0.9 else _AXES["y"])
    first /= np.linalg.norm(first)
    second = np.cross(normal, first)
    endless = {"lower": -np.inf, "upper": np.inf}
    u, v = ((float(a[0]), float(a[1]), float(a[2])) for a in (first, second))
    parts = [
        replace(joint, name=f"{joint.name}_u", kind=JointKind.PRISMATIC, axis=u, **endless),
        replace(joint, name=f"{joint.name}_v", kind=JointKind.PRISMATIC, axis=v, **endless),
        replace(joint, name=f"{joint.name}_turn", kind=JointKind.REVOLUTE, **endless),
    ]
    return chained(parts, pose, joint.name, "planar joint")


def followed(joints: Sequence[Joint]) -> tuple[list[Joint], list[Kept]]:
    """Removes mimicry of unknown joints and in circles; returns the joints, and a row for each that lost it."""
    made, rows = list(joints), list[Kept]()
    for number, joint in enumerate(made):
        if joint.mimic is None:
            continue
        why = _astray(joint.name, joint.mimic.joint, {other.name: other for other in made})
        if why:
            reason = f"it follows {joint.mimic.joint!r}, {why}"
            rows.append(Kept(of=joint.name, what="mimic", stated=joint.mimic.joint, fate=Preservation.DROPPED, reason=reason))
            made[number] = replace(joint, mimic=None)
    return made, rows


def _astray(joint: str, follows: str, named: Mapping[str, Joint]) -> str:
    """Why a joint cannot follow the one that its file names; "" when it can."""
    leader = named.get(follows)
    if leader is None or follows == joint:
        return "which is no movable joint of the file"
    if leader.kind is JointKind.FIXED:
        return "which is locked"
    way = {joint}
    while leader is not None and leader.mimic is not None and leader.name not in way:
        way.add(leader.name)
        leader = named.get(leader.mimic.joint)
    return "which follows it in turn" if leader is not None and leader.name == joint else ""


def based(joint: Joint) -> Kept:
    """The row about a base that was added so that a joint to the world has a body to connect to."""
    reason = "an asset has a root that stays: a base without shape was bolted in its place"
    return Kept(
        of=joint.name, what="parent", stated="the world", written=f"{joint.child}_base", fate=Preservation.CHANGED, reason=reason
    )
