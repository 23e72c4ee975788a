"""Reads URDF: links become bodies with their stated masses and colliders, and joints keep all their stated values.

Links connected by fixed joints become one body. Lengths are in metres and Z is up, as the format defines. The reader is our own,
because parser libraries silently drop what they do not know; see docs/decisions.md. Its XML tracks what was read, and everything
unread is listed by name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from embodichain.assets.families.parts import Finish, Kept, Look, Part, Preservation, Stated, Touch
from embodichain.assets.geometry.shapes import drawn, moved
from embodichain.assets.reading import described, mechanisms
from embodichain.assets.reading.inertials import Inertial, together
from embodichain.assets.reading.looks import GREY, Color, moved_look, plain
from embodichain.assets.reading.mesh_files import Reading, check
from embodichain.assets.reading.xml_reading import Node, parse
from embodichain.errors import AssetError
from embodichain.types import Joint, JointKind, Mesh, Mimic, Pose, Shape, ShapeKind
from embodichain.types.poses import compose

_KINDS = {
    "revolute": JointKind.REVOLUTE,
    "continuous": JointKind.REVOLUTE,
    "prismatic": JointKind.PRISMATIC,
    "fixed": JointKind.FIXED,
    "planar": JointKind.PRISMATIC,
    "spherical": JointKind.REVOLUTE,
    "floating": None,
}


def read_urdf(path: Path) -> Reading:
    """The bodies and joints of a URDF file.

    Raises:
        AssetError: the file is no URDF or no tree, refers to elements that it does not contain, or to a mesh that does not exist.
    """
    check(path, (".urdf",))
    root = Node(parse(path))
    if root.tag != "robot":
        raise AssetError(f"read: {path} is XML but no URDF: its root is <{root.tag}>, expected <robot>")
    return _Robot(root, path).reading()


def mesh_files_of(path: Path) -> set[Path]:
    """The existing mesh and texture files that a URDF refers to; raises AssetError when it is no XML."""
    found = set[Path]()
    for element in parse(path).iter():
        name = element.get("filename") if element.tag in ("mesh", "texture") else None
        file = described.locate(path, name)[0] if name else None
        if file is not None:
            found.add(file)
    return found


class _Robot:
    """Converts one file."""

    def __init__(self, robot: Node, path: Path) -> None:
        robot.get("name"), robot.get("version")
        self.root, self.path, self.rows, self.warnings = robot, path, list[Kept](), list[str]()
        self.meshes = described.Meshes(path, self.rows, self.warnings)
        self.links: dict[str, Node] = {}
        for link in robot.findall("link"):
            name = link.get("name") or ""
            if name in self.links:
                raise AssetError(f"read: two links of {path.name} are called {name!r}; joints could mean either: rename one")
            self.links[name] = link
        self.joints: dict[str, tuple[Node, str]] = {}
        for joint in robot.findall("joint"):
            parent, child = self._end(joint, "parent"), self._end(joint, "child")
            if child in self.joints:
                raise AssetError(f"read: link {child!r} of {path.name} has two parent joints; a tree needs one")
            if (name := joint.get("name") or "") and name in (other.get("name") for other, _ in self.joints.values()):
                raise AssetError(f"read: two joints of {path.name} are called {name!r}; a mimic could mean either: rename one")
            self.joints[child] = (joint, parent)
        self.colors: dict[str, Color] = {}
        for entry in robot.findall("material"):
            self._color(entry)
        if not self.links:
            raise AssetError(f"read: {path} has no links")

    def _end(self, joint: Node, which: str) -> str:
        element = joint.find(which)
        name = (element.get("link") if element is not None else None) or ""
        if name not in self.links:
            available = ", ".join(sorted(self.links))
            raise AssetError(f"read: {which} {name!r} of joint {joint.get('name')!r} is no link; available: {available}")
        return name

    def reading(self) -> Reading:
        roots = [name for name in self.links if name not in self.joints]
        if not roots:
            raise AssetError(f"read: {self.path.name} has no root link; is there a loop?")
        order = list(roots)
        for name in order:
            order += [child for child, (_, parent) in self.joints.items() if parent == name]
        if len(order) != len(self.links):
            raise AssetError(f"read: links {sorted(set(self.links) - set(order))} of {self.path.name} hang on no root")
        owner: dict[str, str] = {}  # the link that represents each link: itself, or the one to which it is fixed
        in_owner: dict[str, Pose] = {}
        in_asset: dict[str, Pose] = {}
        for name in order:
            joint, parent = self.joints.get(name, (None, ""))
            owner[name], in_owner[name], in_asset[name] = name, Pose(), Pose()
            if joint is None:
                continue
            origin = compose(self._pose(joint), self._locked_at(joint))
            in_asset[name] = compose(in_asset[parent], origin)
            if self._fixed(joint) and parent != "world":
                owner[name], in_owner[name] = owner[parent], compose(in_owner[parent], origin)
                self._fixed_row(joint, name, owner[name])
        parts, joints = [], []
        for name in order:
            if owner[name] != name or name == "world":
                continue
            members = [link for link in order if owner[link] == name]
            parts.append(self._part(name, members, in_owner, in_asset[name]))
            if name in self.joints:
                bodies, chain = self._joint(name, owner, in_asset[name])
                parts += bodies
                joints += chain
        if not any(len(part.mesh.faces) for part in parts):
            lost = "".join(f"; {row.of!r}: {row.stated}, {row.reason}" for row in self.rows if row.what in ("visual", "collision"))
            raise AssetError(f"read: {self.path.name} has no shape: give a link a visual or collision geometry{lost[:300]}")
        self.rows += self.root.unread("no counterpart in the asset")
        joints, rows = mechanisms.followed(joints)
        self.rows += rows
        return Reading(
            parts=tuple(parts), joints=tuple(joints), unit=1.0, up="z", warnings=tuple(self.warnings),
            fidelity=tuple(self.rows), files=tuple(self.meshes.files),
        )  # fmt: skip

    def _fixed(self, joint: Node) -> bool:
        kind = joint.get("type") or ""
        if kind not in _KINDS:
            raise AssetError(f"read: joint {joint.get('name')!r} is {kind!r}; available: {', '.join(_KINDS)}")
        return _KINDS[kind] is JointKind.FIXED

    def _locked_at(self, joint: Node) -> Pose:
        """The pose of the child of a joint whose limits allow a single position, relative to its pose at zero."""
        limit, axis = joint.find("limit"), joint.find("axis")
        if limit is None or joint.get("type") not in ("revolute", "prismatic"):
            return Pose()
        where = f"of joint {joint.get('name')!r}"
        lower, upper = (limit.number(end, 0.0, where) for end in ("lower", "upper"))
        if lower != upper or lower == 0.0:
            return Pose()
        along = np.array(axis.numbers("xyz", 3, (1.0, 0.0, 0.0), where) if axis is not None else (1.0, 0.0, 0.0))
        x, y, z = (float(value) for value in along / max(float(np.linalg.norm(along)), 1e-12))
        kind = _KINDS[joint.get("type") or ""] or JointKind.FIXED
        return Joint(name="", kind=kind, parent="", child="", axis=(x, y, z)).motion(lower)

    def _fixed_row(self, joint: Node, link: str, body: str) -> None:
        row = Kept(
            of=link,
            what="link",
            stated=link,
            written=body,
            fate=Preservation.CHANGED,
            reason="fixed joint: one body with its parent",
        )
        self.rows.append(row)
        for ignored in ("axis", "limit", "dynamics", "safety_controller", "calibration"):
            for entry in joint.findall(ignored):  # these have no effect on a joint that cannot move
                for name in entry.element.attrib:
                    entry.get(name)

    def _joint(self, child: str, owner: Mapping[str, str], pose: Pose) -> tuple[list[Part], list[Joint]]:
        """The joints that carry a body, and the bodies between them."""
        element, above = self.joints[child]
        kind, name = element.get("type") or "", element.get("name") or f"joint_{child}"
        parent = "" if above == "world" else owner[above]
        if kind == "floating":
            if parent:
                raise AssetError(f"read: joint {name!r} lets {child!r} float free of {parent!r}: two things; give each a file")
            return [], []
        if self._fixed(element):
            return [], [Joint(name=name, kind=JointKind.FIXED, parent=parent, child=child)]
        where = f"of joint {name!r}"
        tag = element.find("axis")
        axis = np.array(tag.numbers("xyz", 3, (1.0, 0.0, 0.0), where) if tag is not None else (1.0, 0.0, 0.0))
        length = float(np.linalg.norm(axis))
        if length < 1e-9:
            raise AssetError(f"read: axis {where} is zero")
        limit, dynamics = element.find("limit"), element.find("dynamics")
        lower, upper, effort, velocity = -math.inf, math.inf, math.inf, math.inf
        if kind in ("revolute", "prismatic"):
            if limit is None:
                raise AssetError(f"read: no limits {where}, which is {kind}")
            lower, upper = (limit.number(end, 0.0, where) for end in ("lower", "upper"))
            if lower > upper:
                reason = "the lower limit is above the upper one: unlimited, as Bullet reads it"
                row = Kept(of=name, what="limits", stated=(lower, upper), written="none", fate=Preservation.CHANGED, reason=reason)
                self.rows.append(row)
                lower, upper = -math.inf, math.inf
        if limit is not None:
            effort, velocity = (self._unbounded(limit, end, where) for end in ("effort", "velocity"))
        damping, friction = (dynamics.number(n, 0.0, where) if dynamics else 0.0 for n in ("damping", "friction"))
        x, y, z = (float(value) for value in axis / length)
        mimic = element.find("mimic")
        leader = None
        if mimic is not None:
            factor, offset = mimic.number("multiplier", 1.0, where), mimic.number("offset", 0.0, where)
            leader = Mimic(joint=mimic.get("joint") or "", multiplier=factor, offset=offset)
        joint = Joint(
            name=name, kind=_KINDS[kind] or JointKind.FIXED, parent=parent, child=child, axis=(x, y, z), lower=lower, upper=upper,
            damping=self._positive(damping, "damping", name), friction=self._positive(friction, "friction", name),
            effort=self._limit(effort, "effort", name), velocity=self._limit(velocity, "velocity", name), mimic=leader,
        )  # fmt: skip
        if kind in ("planar", "spherical"):  # the latter is Bullet's extension of URDF by ball joints
            chain = mechanisms.planar(joint, pose) if kind == "planar" else mechanisms.ball(joint, pose)
            self.rows += chain.fidelity
            return list(chain.bodies), list(chain.joints)
        if lower == upper:
            reason = "its limits leave one position: it is locked there"
            self.rows.append(
                Kept(
                    of=name,
                    what="joint",
                    stated=f"{kind} {lower}..{upper}",
                    written="fixed",
                    fate=Preservation.CHANGED,
                    reason=reason,
                )
            )
            return [], [Joint(name=name, kind=JointKind.FIXED, parent=parent, child=child)]
        return [], [joint]

    def _unbounded(self, limit: Node, what: str, where: str) -> float:
        """A limit of a drive, which may be infinite."""
        value = limit.number(what, math.inf, where, finite=False)
        return value if math.isinf(value) and value > 0.0 else limit.number(what, math.inf, where)

    def _positive(self, value: float, what: str, joint: str) -> float:
        if value < 0.0:
            self.rows.append(Kept(of=joint, what=what, stated=value, written=0.0, fate=Preservation.CHANGED, reason="negative"))
        return max(value, 0.0)

    def _limit(self, value: float, what: str, joint: str) -> float:
        """A limit of a drive; exporters write numbers that are not positive for unknown limits, so those count as none."""
        if value > 0.0:
            return value
        self.rows.append(
            Kept(of=joint, what=what, stated=value, fate=Preservation.DROPPED, reason="nothing could move it: taken as unlimited")
        )
        return math.inf

    def _part(self, name: str, members: list[str], in_owner: Mapping[str, Pose], pose: Pose) -> Part:
        looks: list[Look] = []
        colliders: list[Mesh] = []
        inertials: list[Inertial] = []
        touches: list[Touch] = []
        for member in members:
            link = self.links[member]
            link.get("type")
            place = in_owner[member]
            for entry in link.findall("visual"):
                seen = self._seen(entry, member)
                looks += [moved_look(seen, compose(place, self._pose(entry)))] if seen else []
            for entry in link.findall("collision"):
                entry.get("name")
                colliders += [moved(hull, compose(place, self._pose(entry))) for hull in self._felt(entry, member)]
            inertial = link.find("inertial")
            if inertial is not None:
                inertials += self._inertial(inertial, member, place)
            touch, fresh = self._touch(link, member), len(colliders) - len(touches)
            touches += [touch] * fresh
            if not fresh and member != name and touch != Touch():
                reason = "a link without collision geometry touches nothing"
                self.rows.append(Kept(of=member, what="surface", stated=str(touch), fate=Preservation.DROPPED, reason=reason))
        inertial = together(inertials)
        stated = Stated(
            mass=inertial.mass if inertial else None,
            center_of_mass=inertial.center_of_mass if inertial else None,
            inertia=inertial.inertia if inertial else None,
            colliders=tuple(colliders),
        ).touching(touches or [self._touch(self.links[name], name)])
        part, rows = described.body(name, pose, looks, stated)
        self.rows += rows
        return part

    def _inertial(self, entry: Node, link: str, place: Pose) -> list[Inertial]:
        where = f"of link {link!r}"
        weight, moments = entry.find("mass"), entry.find("inertia")
        if weight is None:
            return []
        mass = weight.number("value", 0.0, where, finite=False)
        if not 0.0 < mass < math.inf:
            stated = mass if math.isfinite(mass) else str(mass)
            self.rows.append(Kept(of=link, what="mass", stated=stated, fate=Preservation.DROPPED, reason="nothing weighs that"))
            for name in ("ixx", "ixy", "ixz", "iyy", "iyz", "izz") if moments else ():
                moments.get(name) if moments else None
            self._pose(entry)
            return []
        inertia = None
        if moments is not None:
            names = ("ixx", "ixy", "ixz", "iyy", "iyz", "izz")
            six = tuple(moments.number(name, 0.0, where, finite=False) for name in names)
            inertia = np.array([[six[0], six[1], six[2]], [six[1], six[3], six[4]], [six[2], six[4], six[5]]])
            if not np.isfinite(inertia).all():
                self.rows.append(
                    Kept(of=link, what="inertia", stated=str(six), fate=Preservation.DROPPED, reason="it is not finite")
                )
                inertia = None
        # Without an origin, the centre of mass is the link's origin, as the format defines; without inertia, no centre is stated.
        center = (0.0, 0.0, 0.0) if inertia is not None or entry.find("origin") is not None else None
        return [Inertial(mass=mass, center_of_mass=center, inertia=inertia).moved(compose(place, self._pose(entry)))]

    def _touch(self, link: Node, name: str) -> Touch:
        """The surface properties that Bullet's `contact` element states for a link."""
        found, contact = {}, link.find("contact")
        for what in ("lateral_friction", "restitution") if contact is not None else ():
            tag = contact.find(what) if contact is not None else None
            if tag is not None:
                found[what] = tag.number("value", None, f"of {what} of link {name!r}")
        friction = found.get("lateral_friction")
        return Touch(static_friction=friction, dynamic_friction=friction, restitution=found.get("restitution"))

    def _seen(self, entry: Node, link: str) -> Look | None:
        entry.get("name")
        color = self._color(entry.find("material"))
        shape = self._shape(entry, link)
        if shape is None:
            return None
        if isinstance(shape, Shape):
            return plain(drawn(shape), color or GREY)
        look = self.meshes.look(*shape)
        if color is None or any(finish.images for finish in look.finishes):
            return look
        finishes = tuple(Finish(name=finish.name, color=color) for finish in look.finishes[:1])
        return Look(
            mesh=look.mesh, finishes=finishes, finish=np.zeros(len(look.mesh.faces), np.int32), uv=look.uv, normals=look.normals
        )

    def _felt(self, entry: Node, link: str) -> list[Mesh]:
        """The collider of one collision geometry: an analytic shape, or a mesh that need not be convex."""
        shape = self._shape(entry, link)
        if shape is None:
            return []
        return [drawn(shape)] if isinstance(shape, Shape) else [self.meshes.look(*shape).mesh]

    def _shape(self, entry: Node, link: str) -> Shape | tuple[str, np.ndarray] | None:
        """An analytic shape, or the name and scale of a mesh; None, with a row, if it has no extent."""
        geometry = entry.find("geometry")
        shape = geometry.first() if geometry is not None else None
        if shape is None:
            self.rows.append(
                Kept(of=link, what=entry.tag, stated="no geometry", fate=Preservation.DROPPED, reason="there is nothing of it")
            )
            return None
        where = f"of link {link!r}"
        if shape.tag == "mesh":
            return shape.get("filename") or "", np.array(shape.numbers("scale", 3, (1.0, 1.0, 1.0), where))
        if shape.tag == "box":
            x, y, z = shape.numbers("size", 3, (), where)
            size = (x, y, z)
        elif shape.tag in ("cylinder", "capsule"):
            size = (shape.number("radius", None, where), shape.number("length", None, where), 0.0)
        elif shape.tag == "sphere":
            size = (shape.number("radius", None, where), 0.0, 0.0)
        else:
            raise AssetError(f"read: geometry <{shape.tag}> {where}; available: box, cylinder, sphere, capsule, mesh")
        if min(size[: {"box": 3, "sphere": 1}.get(shape.tag, 2)]) <= 0.0:
            stated = f"{shape.tag} of size {size}"
            row = Kept(
                of=link, what=entry.tag, stated=stated, fate=Preservation.DROPPED, reason="it has no extent, and touches nothing"
            )
            self.rows.append(row)
            return None
        return Shape(kind=ShapeKind(shape.tag), size=size)

    def _pose(self, element: Node) -> Pose:
        origin = element.find("origin")
        if origin is None:
            return Pose()
        where = f"of the origin of {element.tag} {element.element.get('name', '')!r}"
        x, y, z = origin.numbers("xyz", 3, (0.0, 0.0, 0.0), where)
        roll, pitch, yaw = origin.numbers("rpy", 3, (0.0, 0.0, 0.0), where)
        return Pose(position=(x, y, z), quaternion=described.from_roll_pitch_yaw(roll, pitch, yaw))

    def _color(self, entry: Node | None) -> Color | None:
        if entry is None:
            return None
        name, tag, texture = entry.get("name") or "", entry.find("color"), entry.find("texture")
        if texture is not None:
            file = texture.get("filename") or ""
            reason = "a URDF's own texture has no coordinates to lie on"
            self.rows.append(Kept(of=name, what="texture", stated=file[:200], fate=Preservation.DROPPED, reason=reason))
        if tag is not None:
            red, green, blue, alpha = (min(max(v, 0.0), 1.0) for v in tag.numbers("rgba", 4, GREY, f"of color of {name!r}"))
            if not alpha:
                reason = "nothing would be seen of it: taken as opaque"
                self.rows.append(Kept(of=name, what="alpha", stated=0.0, written=1.0, fate=Preservation.CHANGED, reason=reason))
            self.colors[name] = (red, green, blue, alpha or 1.0)
            return self.colors[name]
        return self.colors.get(name)
