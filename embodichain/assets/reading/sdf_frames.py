"""The frames of an SDF file: nested models, included files, and the poses of everything in them."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from embodichain.assets.families.parts import Kept
from embodichain.assets.reading.described import from_roll_pitch_yaw, locate
from embodichain.assets.reading.xml_reading import Node, parse
from embodichain.errors import AssetError
from embodichain.types import Pose, rotate
from embodichain.types.poses import compose

_MOST_FILES = 32
"""Largest depth of files that include each other."""
_MOST_MODELS = 10_000
"""Largest number of models in a file with everything it includes, because a few files can include each other very often."""
_AXES_OF_JOINTS = (1, 5)
"""Version of the format since which an axis is given in its joint's frame; before, it was given in the model's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A link: its element, the model and the file that contain it, and whether its model is static."""

    node: Node
    scope: str
    path: Path
    static: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """The pose of a frame, and the name in a scope of the frame that the pose is relative to."""

    pose: Pose
    scope: str
    above: str


class Frames:
    """All links, joints and frames of a file by their scoped names, such as `model::inner::link`; "" is the world."""

    def __init__(self, root: Node, path: Path) -> None:
        self.path = path
        self.links: dict[str, Link] = {}
        self.joints: dict[str, tuple[Node, str]] = {}
        """Element and scope of each joint."""
        self.models: list[str] = []
        # Names are resolved on demand, because an element may refer to a later one.
        self._places: dict[str, _Place] = {}
        self._of_joints: dict[str, _Place] = {}  # joints have a table of their own, because a joint may have the name of a link
        self._attached: dict[str, tuple[str, str]] = {}  # the link or frame that each frame moves with: scope, and name in it
        self._versions: dict[str, tuple[int, ...]] = {}  # version of the file that contains each model
        self._roots: dict[Path, Node] = {path.resolve(): root}
        self._taken = 0
        for place in (root, *root.findall("world")):
            place.get("name")
            for model in place.findall("model"):
                self._take(model, "", (path,), _version(root), static=False)
            self._include(place, "", (path,), static=False)
            self._frames(place, "")

    @property
    def files(self) -> tuple[Path, ...]:
        """The included files, each once."""
        return tuple(self._roots)[1:]

    def scoped(self, scope: str, name: str) -> str:
        """The full name of what a model calls `name`; raises AssetError when it does not exist."""
        if name == "world":
            return ""
        full = scope if name in ("", "__model__") else f"{scope}::{name}" if scope else name
        if full and full not in self._places and full not in self._of_joints:
            known = [inner.removeprefix(f"{scope}::") for inner in self._places if not scope or inner.startswith(f"{scope}::")]
            listed = ", ".join(known[:20])
            raise AssetError(f"read: {name!r} in {scope or 'the world'} of {self.path.name} is no frame; available: {listed}")
        return full

    def link_of(self, scope: str, joint: Node, end: str) -> str:
        """The link at an end of a joint, "" for the world; for a model or a frame the link that it stands for.

        Raises:
            AssetError: the frame does not exist, or is attached to itself in a circle.
        """
        element = joint.find(end)
        full, seen = self.scoped(scope, element.text() if element is not None else "?"), set[str]()
        while full and full not in self.links:
            if full in seen:
                raise AssetError(f"read: frame {full!r} of {self.path.name} is attached to itself, in a circle")
            seen.add(full)
            inner = next((link for link in self.links if link.startswith(full + "::")), "")
            full = inner or self.scoped(*self._attached[full])
        return full

    def pose(self, name: str) -> Pose:
        """The pose of a frame in the world frame; raises AssetError when poses refer to each other in a circle."""
        return self._pose(name, self._places.get(name))

    def pose_of_joint(self, name: str) -> Pose:
        """The pose of a joint, which may have the same name as a link."""
        return self._pose(name, self._of_joints[name])

    def axis(self, joint: str, axis: Node | None) -> tuple[float, float, float]:
        """The unit vector of a joint's axis in the world frame; Z when none is stated."""
        scope = self.joints[joint][1]
        tag = axis.find("xyz") if axis is not None else None
        values = np.array((0.0, 0.0, 1.0) if axis is None or tag is None else axis.inner("xyz", 3, (), f"of joint {joint!r}"))
        length = float(np.linalg.norm(values))
        if length < 1e-9:
            raise AssetError(f"read: the axis of joint {joint!r} of {self.path.name} is zero")
        other = (tag.get("expressed_in") or "") if tag is not None else ""
        old = self._versions[scope] < _AXES_OF_JOINTS or _true(axis, "use_parent_model_frame")
        frame = self.pose(self.scoped(scope, other) if other else scope) if other or old else self.pose_of_joint(joint)
        x, y, z = (float(value) for value in rotate(frame.quaternion, values / length))
        return x, y, z

    def welded(self, tied: Container[str]) -> Iterator[tuple[str, str]]:
        """For every static model, pairs of its first link without a parent and each other one, which cannot move relative to it."""
        for model in self.models:
            links = [
                name for name, link in self.links.items() if name.startswith(f"{model}::") and link.static and name not in tied
            ]
            yield from ((links[0], other) for other in links[1:])

    def unread(self) -> Iterator[Kept]:
        """One row for each element or attribute that was not read."""
        for root in self._roots.values():
            yield from root.unread("no counterpart in the asset")

    def _pose(self, name: str, place: _Place | None) -> Pose:
        pose, seen = Pose(), set[int]()
        while name:
            place = place or self._places.get(name) or self._of_joints[name]
            if id(place) in seen:
                raise AssetError(f"read: frame {name!r} of {self.path.name} is seen from itself, in a circle")
            seen.add(id(place))
            pose, name, place = compose(place.pose, pose), self.scoped(place.scope, place.above), None
        return pose

    def _take(
        self, model: Node, above: str, within: tuple[Path, ...], version: tuple[int, ...], *, static: bool, name: str = "",
        pose: tuple[Pose, str] | None = None,
    ) -> None:  # fmt: skip
        """Adds a model and everything in it; an include may give it another name and pose."""
        self._taken += 1
        if self._taken > _MOST_MODELS:
            raise AssetError(f"read: {self.path.name} holds more than {_MOST_MODELS} models, with those that it includes")
        own = name or model.get("name") or "model"
        scope = f"{above}::{own}" if above else own
        while scope in self._places:
            scope += "_"
        static = static or _true(model, "static")
        self._places[scope] = _place(pose or pose_of(model), above, "")
        self._attached[scope] = (above, "")
        self._versions[scope] = version
        if not above:
            self.models.append(scope)
        for link in model.findall("link"):
            full = self._new(f"{scope}::{link.get('name') or 'link'}", self.links)
            self.links[full] = Link(node=link, scope=scope, path=within[-1], static=static)
            self._places[full] = _place(pose_of(link), scope, "")
        self._frames(model, scope)
        for joint in model.findall("joint"):
            full, child = self._new(f"{scope}::{joint.get('name') or 'joint'}", self.joints), joint.find("child")
            held = child.text() if child is not None else "world"
            self.joints[full] = (joint, scope)
            self._of_joints[full] = _place(pose_of(joint), scope, held)
            self._attached.setdefault(full, (scope, held))
        for inner in model.findall("model"):
            self._take(inner, scope, within, version, static=static)
        self._include(model, scope, within, static=static)

    def _new(self, full: str, known: Container[str]) -> str:
        """A scoped name; raises AssetError when it is taken, for only one of the two could be kept."""
        if full in known:
            raise AssetError(f"read: two links or two joints of {self.path.name} are called {full!r}: rename one")
        return full

    def _frames(self, where: Node, scope: str) -> None:
        for frame in where.findall("frame"):
            own, base = frame.get("name") or "frame", frame.get("attached_to") or ""
            full = f"{scope}::{own}" if scope else own
            self._places[full] = _place(pose_of(frame), scope, base)
            self._attached[full] = (scope, base)

    def _include(self, where: Node, scope: str, within: tuple[Path, ...], *, static: bool) -> None:
        for entry in where.findall("include"):
            uri, name = entry.find("uri"), entry.find("name")
            text, path = uri.text() if uri is not None else "", within[-1]
            file = included(path, text)
            if file is None:
                raise AssetError(f"read: {path.name} includes {text[:200]!r}, which is not beside or below it")
            if len(within) >= _MOST_FILES or file in (one.resolve() for one in within):
                chain = " includes ".join(one.name for one in (*within, file)[-4:])
                raise AssetError(f"read: {self.path.name} includes itself or more than {_MOST_FILES} files in each other: {chain}")
            if file not in self._roots:
                self._roots[file] = Node(parse(file))
            root = self._roots[file]
            model = root.find("model")
            if model is None:
                raise AssetError(f"read: {file.name}, which {path.name} includes, holds no model")
            self._take(
                model, scope, (*within, file), _version(root), static=static or _true(entry, "static"),
                name=name.text() if name is not None else "", pose=pose_of(entry) if entry.find("pose") is not None else None,
            )  # fmt: skip


def _place(stated: tuple[Pose, str], scope: str, usual: str) -> _Place:
    """The pose of an element: relative to the frame that it names, otherwise to the one that its scope calls `usual`."""
    return _Place(pose=stated[0], scope=scope, above=stated[1] or usual)


def included(path: Path, uri: str) -> Path | None:
    """The file that a URI refers to: the file itself, or the model in the folder."""
    found = (locate(path, name)[0] for name in (uri, f"{uri.rstrip('/')}/model.sdf"))
    return next((file for file in found if file is not None), None)


def files_of(path: Path) -> set[Path]:
    """The existing meshes, textures and other descriptions that an SDF file refers to."""
    names = (e.text.strip() for e in parse(path).iter() if e.tag in ("uri", "albedo_map", "normal_map") and e.text)
    return {file for name in names if (file := included(path, name)) is not None}


def pose_of(node: Node) -> tuple[Pose, str]:
    """The stated pose of an element, and the frame that it is relative to, "" for the usual one."""
    entry = node.find("pose")
    if entry is None:
        return Pose(), ""
    relative, where = entry.get("relative_to") or entry.get("frame") or "", f"of {node.tag} {node.get('name') or ''!r}"
    if not entry.text():
        return Pose(), relative
    if entry.get("rotation_format") == "quat_xyzw":
        x, y, z, i, j, k, w = node.inner("pose", 7, (), where)
        length = float(np.linalg.norm((w, i, j, k)))
        if length < 1e-9:
            raise AssetError(f"read: the quaternion of the <pose> {where} is zero, which is no rotation")
        return Pose(position=(x, y, z), quaternion=(w / length, i / length, j / length, k / length)), relative
    x, y, z, roll, pitch, yaw = node.inner("pose", 6, (), where)
    scale = np.pi / 180.0 if (entry.get("degrees") or "").lower() in ("1", "true") else 1.0
    return Pose(position=(x, y, z), quaternion=from_roll_pitch_yaw(roll * scale, pitch * scale, yaw * scale)), relative


def _true(node: Node | None, tag: str) -> bool:
    child = node.find(tag) if node is not None else None
    return child is not None and child.text().lower() in ("1", "true")


def _version(root: Node) -> tuple[int, ...]:
    """The version of the format as integers, because 1.12 comes after 1.5."""
    text = (root.get("version") or "").strip()
    return tuple(int(word) for word in text.split(".")) if re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})*", text) else (1, 7)
