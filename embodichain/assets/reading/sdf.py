"""Reads SDFormat, the description format of Gazebo: links become bodies, and joints keep all their stated values.

Gazebo's own parser is written in C++, and the package registry does not have it for every Python, so this reader is our own. Its
XML tracks what was read, and everything unread is listed. Frames follow the format's pose semantics; see `sdf_frames`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from embodichain.assets.families.parts import Kept, Part, Preservation
from embodichain.assets.reading import mechanisms
from embodichain.assets.reading.mesh_files import Reading, check
from embodichain.assets.reading.sdf_frames import Frames
from embodichain.assets.reading.sdf_links import Links
from embodichain.assets.reading.xml_reading import Node, parse
from embodichain.errors import AssetError
from embodichain.types import Joint, JointKind, Mimic, Pose, Vec3, rotate
from embodichain.types.poses import compose, inverse

_SLIDING = ("prismatic",)
_TURNING = ("revolute", "continuous", "ball", "universal", "revolute2", "screw")
_ENDLESS = 1e15
"""Limits beyond this count as none; the format's default is 1e16."""


def read_sdf(path: Path) -> Reading:
    """The bodies and joints of an SDF file. The first link of a static model is bolted down, and its other links are one with it.

    Raises:
        AssetError: the file is no SDF, refers to elements that it does not contain, or to a mesh that does not exist.
    """
    check(path, (".sdf",))
    root = Node(parse(path))
    if root.tag != "sdf":
        raise AssetError(f"read: {path} is XML but no SDF: its root is <{root.tag}>, expected <sdf>")
    return _World(Frames(root, path)).reading()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tie:
    """How a link is attached: the parent's name ("" for the world), the joint's element and name, and its resulting kind."""

    name: str
    parent: str
    child: str
    kind: str
    joint: Node | None = None
    turned: bool = False
    """Whether the file has parent and child the other way round; the joint then moves against its axis."""


class _World:
    """Converts one file."""

    def __init__(self, frames: Frames) -> None:
        self.frames, self.rows, self.warnings = frames, list[Kept](), list[str]()
        self.links = Links(frames, self.rows, self.warnings)
        self.ties: dict[str, _Tie] = {}
        if not frames.links:
            raise AssetError(f"read: {frames.path} has no links")

    def reading(self) -> Reading:
        self._tie()
        frames = self.frames
        order = [link for link in frames.links if link not in self.ties or not self.ties[link].parent]
        for link in order:
            order += [tie.child for tie in self.ties.values() if tie.parent == link]
        if len(order) != len(frames.links):
            raise AssetError(f"read: links {sorted(set(frames.links) - set(order))} of {frames.path.name} hang on no root")
        owner: dict[str, str] = {}
        shifts: dict[str, Pose] = {"": Pose()}
        places: dict[str, Pose] = {}
        for link in order:
            tie = self.ties.get(link)
            owner[link] = owner[tie.parent] if tie and tie.kind == "fixed" and tie.parent else link
            shifts[link] = compose(shifts[tie.parent], self._displaced(tie)) if tie else Pose()
            places[link] = compose(shifts[link], frames.pose(link))
            if owner[link] != link:
                self._row(self.links.name(link), "link", link, owner[link], "fixed joint: one body with its parent")
        parts: list[Part] = []
        joints: list[Joint] = []
        for link in (link for link in order if owner[link] == link):
            name, tie = self.links.name(link), self.ties.get(link)
            parts.append(self.links.part(link, [other for other in order if owner[other] == link], places))
            bodies, chain = self._joint(tie, owner, places) if tie else ([], [])
            parts += bodies
            joints += chain
            if tie is None and frames.links[link].static:
                joints.append(Joint(name=f"{name}_mount", kind=JointKind.FIXED, parent="", child=name))
        parts, joints = self._shaped(parts, joints)
        joints, rows = mechanisms.followed(joints)
        self.rows += [*frames.unread(), *rows]
        return Reading(
            parts=tuple(parts), joints=tuple(joints), unit=1.0, up="z", warnings=tuple(self.warnings),
            fidelity=tuple(self.rows), files=(*frames.files, *self.links.files()),
        )  # fmt: skip

    def _row(self, of: str, what: str, stated: float | str | tuple[float, float], written: float | str | None, reason: str) -> None:
        fate = Preservation.DROPPED if written is None else Preservation.CHANGED
        self.rows.append(Kept(of=of, what=what, stated=stated, written=written, fate=fate, reason=reason))

    def _shaped(self, parts: list[Part], joints: list[Joint]) -> tuple[list[Part], list[Joint]]:
        """Leaves out links with neither geometry nor a joint to another link, such as infinite planes; adds a row for each."""
        seen = {part.name for part in parts if len(part.mesh.faces)}
        if not seen:
            raise AssetError(f"read: {self.frames.path.name} has no shape: give a link a visual or collision geometry")
        seen |= {name for joint in joints if joint.parent for name in (joint.parent, joint.child)}
        for part in parts:
            if part.name not in seen:
                weight = "" if part.stated.mass is None else f" of {part.stated.mass:g} kg"
                self._row(part.name, "link", f"link{weight}", None, "nothing to see or touch, and no joint to another link")
        return [part for part in parts if part.name in seen], [joint for joint in joints if joint.child in seen]

    # ------------------------------------------------------------------------------------------------------------- joints

    def _tie(self) -> None:
        """Finds the parent of every link."""
        for scoped, (joint, scope) in self.frames.joints.items():
            kind, name = joint.get("type") or "", self.links.name(scoped)
            if kind not in (*_SLIDING, *_TURNING, "fixed"):
                self._row(name, "joint", kind, None, "no counterpart in the asset")
                continue
            parent, child = (self.frames.link_of(scope, joint, end) for end in ("parent", "child"))
            turned = not child  # the world cannot be a child
            if turned:
                parent, child = child, parent
            if not child or child in self.ties:
                self._row(name, "joint", kind, None, f"{child or 'the world'} hangs on something else already: a loop")
                continue
            if kind in ("revolute", "prismatic"):
                lower, upper = self._limits(joint.find("axis"), name)
                if lower == upper:
                    self._row(name, "joint", f"{kind} {lower}", "fixed", "its limits leave one position: it is locked there")
                    kind = "fixed"
            self.ties[child] = _Tie(joint=joint, name=scoped, parent=parent, child=child, kind=kind, turned=turned)
        for first, other in list(self.frames.welded(self.ties)):
            self.ties[other] = _Tie(name=f"{other}_weld", parent=first, child=other, kind="fixed")

    def _displaced(self, tie: _Tie) -> Pose:
        """The displacement of the child of a joint that is locked away from zero, in the world frame."""
        axis, kind = (tie.joint.find("axis"), tie.joint.get("type")) if tie.joint is not None else (None, "")
        if tie.kind != "fixed" or axis is None or kind not in ("revolute", "prismatic"):
            return Pose()
        slide_or_turn = JointKind.PRISMATIC if kind in _SLIDING else JointKind.REVOLUTE
        free = Joint(name="", kind=slide_or_turn, parent="", child="", axis=self._axis(tie, axis))
        about = Pose(position=self.frames.pose_of_joint(tie.name).position)
        return compose(about, compose(free.motion(self._limits(axis, tie.name)[0]), inverse(about)))

    def _axis(self, tie: _Tie, axis: Node | None) -> Vec3:
        """The axis about or along which a joint moves its child, in the world frame."""
        x, y, z = self.frames.axis(tie.name, axis)
        return (-x, -y, -z) if tie.turned else (x, y, z)

    def _limits(self, axis: Node | None, of: str) -> tuple[float, float]:
        limit = axis.find("limit") if axis is not None else None
        found = []
        for tag, endless in (("lower", -math.inf), ("upper", math.inf)):
            entry = limit.find(tag) if limit is not None else None
            stated = limit is not None and entry is not None and "inf" not in entry.text().lower()
            value = limit.inner(tag, 1, (), f"of joint {of!r}")[0] if limit is not None and stated else endless
            found.append(value if abs(value) < _ENDLESS else endless)
        return found[0], found[1]

    def _joint(self, tie: _Tie, owner: Mapping[str, str], places: Mapping[str, Pose]) -> tuple[list[Part], list[Joint]]:
        """The joints that carry a body, and the bodies between them."""
        name, child = self.links.name(tie.name), self.links.name(tie.child)
        parent = self.links.name(owner[tie.parent]) if tie.parent else ""
        if tie.kind == "fixed" or tie.joint is None:
            return [], [Joint(name=name, kind=JointKind.FIXED, parent=parent, child=child)]
        kind = JointKind.PRISMATIC if tie.kind in _SLIDING else JointKind.REVOLUTE
        anchor = compose(inverse(self.frames.pose(tie.child)), self.frames.pose_of_joint(tie.name)).position
        bare = Joint(name=name, kind=kind, parent=parent, child=child, anchor=anchor, lower=-math.inf, upper=math.inf)
        if tie.kind == "ball":
            chain = mechanisms.ball(bare, places[tie.child])
        else:
            if tie.kind == "screw":
                self._row(name, "joint", "screw", "revolute", "its thread has no counterpart: a hinge")
            axes = [tie.joint.find("axis")]
            if tie.kind in ("universal", "revolute2"):
                axes.append(tie.joint.find("axis2"))
            joints = [self._driven(replace(bare, name=f"{name}_2" if i else name), tie, axis) for i, axis in enumerate(axes)]
            chain = mechanisms.chained(joints[::-1] if tie.turned else joints, places[tie.child], name)
        self.rows += chain.fidelity
        return list(chain.bodies), list(chain.joints)

    def _driven(self, joint: Joint, tie: _Tie, axis: Node | None) -> Joint:
        """A joint about or along one axis, with its limits, drive and resistance."""
        of, where = joint.name, f"of joint {joint.name!r}"
        into_child = inverse(self.frames.pose(tie.child)).quaternion
        x, y, z = (float(value) for value in rotate(into_child, np.array(self._axis(tie, axis))))
        lower, upper = self._limits(axis, of) if tie.kind != "continuous" else (-math.inf, math.inf)
        if lower > upper:
            self._row(of, "limits", (lower, upper), "none", "the lower limit is above the upper one: unlimited")
            lower, upper = -math.inf, math.inf
        limit, dynamics, mimic = (axis.find(tag) if axis is not None else None for tag in ("limit", "dynamics", "mimic"))
        effort, velocity = (self._strongest(limit, tag, where) for tag in ("effort", "velocity"))
        damping, friction, stiffness, rest = (
            dynamics.inner(tag, 1, (0.0,), where)[0] if dynamics else 0.0
            for tag in ("damping", "friction", "spring_stiffness", "spring_reference")
        )
        leader = None
        if mimic is not None:
            factor = mimic.inner("multiplier", 1, (1.0,), where)[0]
            offset = mimic.inner("offset", 1, (0.0,), where)[0] - factor * mimic.inner("reference", 1, (0.0,), where)[0]
            second = "_2" if mimic.get("axis") == "axis2" else ""
            other = self.links.name(f"{self.frames.joints[tie.name][1]}::{mimic.get('joint') or ''}") + second
            leader = Mimic(joint=other, multiplier=factor, offset=offset)
        return replace(
            joint, axis=(x, y, z), lower=lower, upper=upper, damping=self._positive(damping, "damping", of),
            friction=self._positive(friction, "friction", of), stiffness=self._positive(stiffness, "stiffness", of),
            rest=rest if stiffness > 0.0 else 0.0, effort=self._most(effort, "effort", of),
            velocity=self._most(velocity, "velocity", of), mimic=leader,
        )  # fmt: skip

    def _strongest(self, limit: Node | None, tag: str, where: str) -> float:
        """The limit of a drive as stated; -1, which the format uses for none, when it is missing or infinite."""
        entry = limit.find(tag) if limit is not None else None
        endless = limit is None or entry is None or entry.text().strip().lower().lstrip("+") in ("inf", "infinity")
        return -1.0 if endless or limit is None else limit.inner(tag, 1, (-1.0,), where)[0]

    def _positive(self, value: float, what: str, of: str) -> float:
        if value < 0.0:
            self._row(of, what, value, 0.0, "negative")
        return max(value, 0.0)

    def _most(self, value: float, what: str, of: str) -> float:
        """The limit of a drive. By the format, a negative number means no limit; with zero the drive could move nothing."""
        if value == 0.0:
            self._row(of, what, value, None, "nothing could move it: taken as unlimited")
        return value if 0.0 < value < _ENDLESS else math.inf
