"""Reads URDF: links become bodies, joints keep their axes, limits, damping and friction; meshes are read from where the file says.

Links joined by fixed joints are one body. Lengths are metres and Z is up, as the format defines.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from embodichain.assets.families.parts import Part
from embodichain.assets.geometry.shapes import Solid, box, concatenate, cylinder, moved, to_mesh
from embodichain.assets.reading.mesh_files import FORMATS, GREY, Reading, check, read_mesh
from embodichain.errors import AssetError
from embodichain.types import Joint, JointKind, Mesh, Pose
from embodichain.types.poses import compose, quaternion_of

_KINDS = {
    "revolute": JointKind.REVOLUTE,
    "continuous": JointKind.REVOLUTE,
    "prismatic": JointKind.PRISMATIC,
    "fixed": JointKind.FIXED,
}
Color = tuple[float, float, float, float]


def read_urdf(path: Path) -> Reading:
    """The bodies and joints of a URDF file.

    Raises:
        AssetError: the file is no URDF, names what it does not hold, refers to a mesh that is not there, or moves in a way that has
            no counterpart here.
    """
    check(path, (".urdf",))
    robot = parse(path)
    if robot.tag != "robot":
        raise AssetError(f"read: {path} is XML but no URDF: its root is <{robot.tag}>, expected <robot>")
    return _Robot(robot, path).reading()


def parse(path: Path) -> ElementTree.Element:
    """The XML of a file; raises AssetError when it is malformed or declares entities, which could be bombs."""
    text = path.read_bytes()
    if b"<!DOCTYPE" in text or b"<!ENTITY" in text:
        raise AssetError(f"read: {path} declares a document type or entities; robot descriptions need none, remove them")
    try:
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise AssetError(f"read: {path} is no well-formed XML: {error}") from error


def numbers(text: str | None, count: int, default: tuple[float, ...], where: str) -> tuple[float, ...]:
    """The numbers of an attribute; raises AssetError when there are not `count` finite ones."""
    if text is None:
        return default
    try:
        values = tuple(float(word) for word in text.split())
    except ValueError:
        values = ()
    if len(values) != count or not all(math.isfinite(value) for value in values):
        raise AssetError(f"read: {where} is {text!r}, expected {count} finite number{'s' * (count > 1)}")
    return values


class _Robot:
    """One file while it is read."""

    def __init__(self, robot: ElementTree.Element, path: Path) -> None:
        self.path, self.warnings = path, list[str]()
        self.links = {link.get("name", ""): link for link in robot.findall("link")}
        self.joints: dict[str, tuple[ElementTree.Element, str]] = {}
        for joint in robot.findall("joint"):
            parent, child = self._end(joint, "parent"), self._end(joint, "child")
            if child in self.joints:
                raise AssetError(f"read: link {child!r} of {path.name} has two parent joints; a tree needs one")
            self.joints[child] = (joint, parent)
        self.colors: dict[str, Color] = {}
        for entry in robot.findall("material"):
            self._color(entry)
        if not self.links:
            raise AssetError(f"read: {path} has no links")

    def _end(self, joint: ElementTree.Element, which: str) -> str:
        element = joint.find(which)
        name = element.get("link", "") if element is not None else ""
        if name not in self.links:
            available = ", ".join(sorted(self.links))
            raise AssetError(f"read: {which} {name!r} of joint {joint.get('name')!r} is no link; available: {available}")
        return name

    def reading(self) -> Reading:
        roots = [name for name in self.links if name not in self.joints]
        if len(roots) != 1:
            raise AssetError(f"read: {self.path.name} has {len(roots)} root links, expected one; is there a loop?")
        owner: dict[str, str] = {}  # the link that a link belongs to: itself, or the one it is fixed to
        in_owner: dict[str, Pose] = {}
        in_asset: dict[str, Pose] = {roots[0]: Pose()}
        order = [roots[0]]
        for name in order:
            order += [child for child, (_, parent) in self.joints.items() if parent == name]
        if len(order) != len(self.links):
            raise AssetError(f"read: links {sorted(set(self.links) - set(order))} of {self.path.name} hang on no root")
        bolted = roots[0] == "world"
        for name in order:
            joint, parent = self.joints.get(name, (None, ""))
            if joint is None:
                owner[name], in_owner[name] = name, Pose()
                continue
            origin = self._pose(joint)
            in_asset[name] = compose(in_asset[parent], origin)
            if self._kind(joint) is JointKind.FIXED and not (parent == "world" and bolted):
                owner[name], in_owner[name] = owner[parent], compose(in_owner[parent], origin)
            else:
                owner[name], in_owner[name] = name, Pose()
        parts, joints = [], []
        for name in order:
            if owner[name] != name or (name == "world" and bolted):
                continue
            members = [link for link in order if owner[link] == name]
            parts.append(self._part(name, members, in_owner, in_asset[name]))
            if name in self.joints:
                joints.append(self._joint(name, owner))
        if not parts:
            raise AssetError(f"read: {self.path.name} has no link with a shape")
        return Reading(parts=tuple(parts), joints=tuple(joints), unit=1.0, up="z", warnings=tuple(self.warnings))

    def _kind(self, joint: ElementTree.Element) -> JointKind:
        kind = joint.get("type", "")
        if kind not in _KINDS:
            raise AssetError(f"read: joint {joint.get('name')!r} is {kind!r}; available: {', '.join(_KINDS)}")
        if joint.find("mimic") is not None:
            self.warnings.append(f"joint {joint.get('name')!r} mimics another; it moves on its own here")
        return _KINDS[kind]

    def _joint(self, child: str, owner: Mapping[str, str]) -> Joint:
        element, parent = self.joints[child]
        kind, name = self._kind(element), element.get("name") or f"joint_{child}"
        parent = "" if parent == "world" else owner[parent]
        if kind is JointKind.FIXED:
            return Joint(name=name, kind=kind, parent=parent, child=child)
        where = f"of joint {name!r}"
        tag = element.find("axis")
        axis = np.array(numbers(tag.get("xyz") if tag is not None else None, 3, (1.0, 0.0, 0.0), f"axis {where}"))
        length = float(np.linalg.norm(axis))
        if length < 1e-9:
            raise AssetError(f"read: axis {where} is zero")
        limit, dynamics = element.find("limit"), element.find("dynamics")
        lower, upper = -math.pi, math.pi
        if element.get("type") != "continuous":
            if limit is None:
                raise AssetError(f"read: no limits {where}, which is {element.get('type')}")
            (lower,) = numbers(limit.get("lower"), 1, (0.0,), f"lower limit {where}")
            (upper,) = numbers(limit.get("upper"), 1, (0.0,), f"upper limit {where}")
        if not lower < upper:
            raise AssetError(f"read: limits {lower}..{upper} {where} leave no range")
        (damping,) = numbers(dynamics.get("damping") if dynamics is not None else None, 1, (0.0,), f"damping {where}")
        (friction,) = numbers(dynamics.get("friction") if dynamics is not None else None, 1, (0.0,), f"friction {where}")
        x, y, z = (float(value) for value in axis / length)
        return Joint(
            name=name, kind=kind, parent=parent, child=child, axis=(x, y, z), lower=lower, upper=upper,
            damping=max(damping, 0.0), friction=max(friction, 0.0),
        )  # fmt: skip

    def _part(self, name: str, members: list[str], in_owner: Mapping[str, Pose], pose: Pose) -> Part:
        shapes: list[tuple[Mesh, Color]] = []
        mass = 0.0
        for member in members:
            link = self.links[member]
            found = link.findall("visual") or link.findall("collision")
            shapes += [self._shape(entry, member, in_owner[member]) for entry in found]
            weight = link.find("inertial/mass")
            if weight is not None:
                (given,) = numbers(weight.get("value"), 1, (0.0,), f"mass of link {member!r}")
                mass += max(given, 0.0)
        if not shapes:
            raise AssetError(f"read: link {name!r} of {self.path.name} has no shape; give it a visual or collision geometry")
        largest = max(shapes, key=lambda shape: float(np.prod(np.ptp(shape[0].vertices, axis=0))))
        return Part(
            name=name,
            mesh=concatenate([mesh for mesh, _ in shapes]),
            material="",
            color=largest[1],
            pose=pose,
            mass=mass or None,
        )

    def _shape(self, entry: ElementTree.Element, link: str, in_owner: Pose) -> tuple[Mesh, Color]:
        geometry = entry.find("geometry")
        shape = next(iter(geometry), None) if geometry is not None else None
        if shape is None:
            raise AssetError(f"read: a visual of link {link!r} has no geometry")
        where = f"of link {link!r}"
        color = self._color(entry.find("material"))
        if shape.tag == "box":
            x, y, z = numbers(shape.get("size"), 3, (), f"size {where}")
            mesh = to_mesh(box((x, y, z)))
        elif shape.tag == "cylinder":
            (radius,), (length,) = (numbers(shape.get(key), 1, (), f"{key} {where}") for key in ("radius", "length"))
            mesh = to_mesh(cylinder(radius, length))
        elif shape.tag == "sphere":
            (radius,) = numbers(shape.get("radius"), 1, (), f"radius {where}")
            mesh = to_mesh(Solid.sphere(radius, 48))
        elif shape.tag == "mesh":
            scale = np.array(numbers(shape.get("scale"), 3, (1.0, 1.0, 1.0), f"scale {where}"))
            mesh, own = self._mesh(shape.get("filename", ""), scale)
            color = color or own
        else:
            raise AssetError(f"read: geometry <{shape.tag}> {where}; available: box, cylinder, sphere, mesh")
        return moved(mesh, compose(in_owner, self._pose(entry))), color or GREY

    def _mesh(self, name: str, scale: np.ndarray) -> tuple[Mesh, Color]:
        part = read_mesh(self._find(name)).parts[0]
        faces = part.mesh.faces[:, ::-1] if np.prod(scale) < 0 else part.mesh.faces
        return Mesh(vertices=part.mesh.vertices * scale, faces=np.ascontiguousarray(faces)), part.color

    def _find(self, name: str) -> Path:
        """The file that a mesh's name means: beside the description, or below the folder that holds the description's folder."""
        plain = name.removeprefix("file://")
        package = plain.startswith("package://")
        relative = plain.removeprefix("package://").replace("\\", "/")
        root = self.path.resolve().parent.parent
        tries = [self.path.parent / relative]
        if package:
            tries += [
                root / relative,
                root.parent / relative,
                root / relative.partition("/")[2],
                self.path.parent / relative.partition("/")[2],
            ]
            root = root.parent
        for candidate in tries:
            try:
                resolved = candidate.resolve()
                if resolved.is_relative_to(root) and resolved.is_file():
                    return resolved
            except (OSError, ValueError):
                continue
        raise AssetError(f"read: mesh {name[:200]!r} of {self.path.name} is not below {root}; formats: {', '.join(FORMATS)}")

    def _pose(self, element: ElementTree.Element) -> Pose:
        origin = element.find("origin")
        if origin is None:
            return Pose()
        where = f"origin of {element.tag} {element.get('name', '')!r}"
        x, y, z = numbers(origin.get("xyz"), 3, (0.0, 0.0, 0.0), where)
        roll, pitch, yaw = numbers(origin.get("rpy"), 3, (0.0, 0.0, 0.0), where)
        return Pose(position=(x, y, z), quaternion=from_roll_pitch_yaw(roll, pitch, yaw))

    def _color(self, entry: ElementTree.Element | None) -> Color | None:
        if entry is None:
            return None
        name, tag, texture = entry.get("name", ""), entry.find("color"), entry.find("texture")
        if texture is not None:
            self.warnings.append(f"texture {texture.get('filename', '')[:200]!r} is not kept")
        if tag is not None:
            red, green, blue, alpha = (min(max(v, 0.0), 1.0) for v in numbers(tag.get("rgba"), 4, GREY, f"color of {name!r}"))
            self.colors[name] = (red, green, blue, alpha or 1.0)
            return self.colors[name]
        return self.colors.get(name)


def from_roll_pitch_yaw(roll: float, pitch: float, yaw: float) -> tuple[float, float, float, float]:
    """The rotation about fixed X, then Y, then Z [rad]."""
    (cr, sr), (cp, sp), (cy, sy) = ((math.cos(angle), math.sin(angle)) for angle in (roll, pitch, yaw))
    return quaternion_of(
        np.array(
            [
                [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
                [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
                [-sp, cp * sr, cp * cr],
            ]
        )
    )
