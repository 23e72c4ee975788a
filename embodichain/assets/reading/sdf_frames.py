"""The frames of an SDF file: models within models, files that it includes, and where everything is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from embodichain.assets.families.parts import Kept
from embodichain.assets.reading.described import from_roll_pitch_yaw, locate
from embodichain.assets.reading.xml_reading import Node, parse
from embodichain.errors import AssetError
from embodichain.types import Pose, rotate
from embodichain.types.poses import compose

_MOST_FILES = 64
"""Files that may include each other: more is a circle."""
_AXES_OF_JOINTS = 1.5
"""Version of the format from which an axis is seen from its joint; before, from the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A link: its element, the file it stands in, and whether its model is static."""

    node: Node
    path: Path
    static: bool


class Frames:
    """All links, joints and frames of a file by their scoped names, such as `model::inner::link`; "" is the world."""

    def __init__(self, root: Node, path: Path) -> None:
        self.path = path
        self.links: dict[str, Link] = {}
        self.joints: dict[str, tuple[Node, str]] = {}
        """Element and scope."""
        self.models: list[str] = []
        self.files: list[Path] = []
        self._places: dict[str, tuple[Pose, str]] = {}  # the pose of each frame, and the frame that it is seen from
        self._versions: dict[str, float] = {}  # of the file that each model stands in
        self._roots: list[Node] = [root]
        for place in (root, *root.findall("world")):
            place.get("name")
            for model in place.findall("model"):
                self._take(model, "", path, _version(root), static=False)
            self._include(place, "", path, static=False)

    def scoped(self, scope: str, name: str) -> str:
        """The full name of what a model calls `name`; raises AssetError when there is none."""
        if name == "world":
            return ""
        full = scope if name in ("", "__model__") else f"{scope}::{name}" if scope else name
        if full not in self._places:
            known = [inner.removeprefix(f"{scope}::") for inner in self._places if inner.startswith(f"{scope}::")]
            listed = ", ".join(known[:20])
            raise AssetError(f"read: {name!r} in {scope or 'the world'} of {self.path.name} is no frame; available: {listed}")
        return full

    def link_of(self, scope: str, joint: Node, end: str) -> str:
        """The link that an end of a joint names, "" for the world; of a model or a frame the link that it stands for."""
        element = joint.find(end)
        full = self.scoped(scope, element.text() if element is not None else "?")
        while full and full not in self.links:
            inner = [link for link in self.links if link.startswith(full + "::")]
            full = inner[0] if inner else self._places[full][1]
        return full

    def pose(self, name: str) -> Pose:
        """Where a frame is, seen from the world; raises AssetError when frames are seen from each other in a circle."""
        pose, seen = Pose(), set[str]()
        while name:
            if name in seen:
                raise AssetError(f"read: frame {name!r} of {self.path.name} is seen from itself, in a circle")
            seen.add(name)
            local, above = self._places[name]
            pose, name = compose(local, pose), above
        return pose

    def axis(self, joint: str, axis: Node | None) -> tuple[float, float, float]:
        """The unit vector of a joint's axis, seen from the world; Z where none is stated."""
        scope = joint.rpartition("::")[0]
        tag = axis.find("xyz") if axis is not None else None
        values = np.array((0.0, 0.0, 1.0) if axis is None or tag is None else axis.inner("xyz", 3, (), f"of joint {joint!r}"))
        length = float(np.linalg.norm(values))
        if length < 1e-9:
            raise AssetError(f"read: the axis of joint {joint!r} of {self.path.name} is zero")
        other = (tag.get("expressed_in") or "") if tag is not None else ""
        old = self._versions[scope] < _AXES_OF_JOINTS or _true(axis, "use_parent_model_frame")
        frame = self.scoped(scope, other) if other else scope if old else joint
        x, y, z = (float(value) for value in rotate(self.pose(frame).quaternion, values / length))
        return x, y, z

    def welded(self) -> Iterator[tuple[str, str]]:
        """Of every static model, its first link and each other one, which cannot move against it."""
        for model in self.models:
            links = [name for name, link in self.links.items() if name.startswith(f"{model}::") and link.static]
            yield from ((links[0], other) for other in links[1:])

    def unread(self) -> Iterator[Kept]:
        """A row for everything that nobody asked for."""
        for root in self._roots:
            yield from root.unread("no counterpart in the asset")

    def _take(
        self, model: Node, above: str, path: Path, version: float, *, static: bool, name: str = "",
        pose: tuple[Pose, str] | None = None,
    ) -> None:  # fmt: skip
        """A model and all within it; an include may give it another name and pose."""
        own = name or model.get("name") or "model"
        scope = f"{above}::{own}" if above else own
        while scope in self._places:
            scope += "_"
        static = static or _true(model, "static")
        local, relative = pose or pose_of(model)
        self._places[scope] = (local, self.scoped(above, relative) if relative else above)
        self._versions[scope] = version
        if not above:
            self.models.append(scope)
        taken: list[tuple[str, Node]] = []
        for link in model.findall("link"):
            full = f"{scope}::{link.get('name') or 'link'}"
            self.links[full] = Link(node=link, path=path, static=static)
            self._places[full] = (pose_of(link)[0], scope)
            taken.append((full, link))
        for frame in model.findall("frame"):
            full, base = f"{scope}::{frame.get('name') or 'frame'}", frame.get("attached_to") or ""
            self._places[full] = (pose_of(frame)[0], f"{scope}::{base}" if base else scope)
            taken.append((full, frame))
        for joint in model.findall("joint"):
            full, child = f"{scope}::{joint.get('name') or 'joint'}", joint.find("child")
            self.joints[full] = (joint, scope)
            held = child.text() if child is not None else "world"
            self._places[full] = (pose_of(joint)[0], scope if held == "world" else f"{scope}::{held}")
            taken.append((full, joint))
        for inner in model.findall("model"):
            self._take(inner, scope, path, version, static=static)
        self._include(model, scope, path, static=static)
        for full, node in taken:  # now that all names are known
            relative = pose_of(node)[1]
            if relative:
                self._places[full] = (self._places[full][0], self.scoped(scope, relative))

    def _include(self, where: Node, scope: str, path: Path, *, static: bool) -> None:
        for entry in where.findall("include"):
            uri, name = entry.find("uri"), entry.find("name")
            text = uri.text() if uri is not None else ""
            file = included(path, text)
            if file is None:
                raise AssetError(f"read: {path.name} includes {text[:200]!r}, which is not beside or below it")
            if len(self.files) >= _MOST_FILES:
                raise AssetError(f"read: {self.path.name} includes more than {_MOST_FILES} files; is there a circle?")
            self.files.append(file)
            root = Node(parse(file))
            self._roots.append(root)
            model = root.find("model")
            if model is None:
                raise AssetError(f"read: {file.name}, which {path.name} includes, holds no model")
            self._take(
                model, scope, file, _version(root), static=static or _true(entry, "static"),
                name=name.text() if name is not None else "", pose=pose_of(entry) if entry.find("pose") is not None else None,
            )  # fmt: skip


def included(path: Path, uri: str) -> Path | None:
    """The file that a name means: itself, or the model in the folder it names."""
    found = (locate(path, name)[0] for name in (uri, f"{uri.rstrip('/')}/model.sdf"))
    return next((file for file in found if file is not None), None)


def files_of(path: Path) -> set[Path]:
    """The meshes, textures and other descriptions that an SDF file refers to and that are there."""
    names = (e.text.strip() for e in parse(path).iter() if e.tag in ("uri", "albedo_map", "normal_map") and e.text)
    return {file for name in names if (file := included(path, name)) is not None}


def pose_of(node: Node) -> tuple[Pose, str]:
    """The pose that an element states, and the frame that it names for it, "" for the usual one."""
    entry = node.find("pose")
    if entry is None:
        return Pose(), ""
    relative, where = entry.get("relative_to") or entry.get("frame") or "", f"of {node.tag} {node.get('name') or ''!r}"
    if not entry.text():
        return Pose(), relative
    if entry.get("rotation_format") == "quat_xyzw":
        x, y, z, i, j, k, w = node.inner("pose", 7, (), where)
        length = float(np.linalg.norm((w, i, j, k))) or 1.0
        return Pose(position=(x, y, z), quaternion=(w / length, i / length, j / length, k / length)), relative
    x, y, z, roll, pitch, yaw = node.inner("pose", 6, (), where)
    scale = np.pi / 180.0 if (entry.get("degrees") or "").lower() in ("1", "true") else 1.0
    return Pose(position=(x, y, z), quaternion=from_roll_pitch_yaw(roll * scale, pitch * scale, yaw * scale)), relative


def _true(node: Node | None, tag: str) -> bool:
    child = node.find(tag) if node is not None else None
    return child is not None and child.text().lower() in ("1", "true")


def _version(root: Node) -> float:
    text = (root.get("version") or "").strip()
    return float(text) if text.replace(".", "", 1).isdigit() else 1.7
