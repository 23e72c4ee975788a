"""Converts links of an SDF file into bodies: visible and collision geometry, surface properties and masses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from embodichain.assets.families.parts import Finish, Kept, Look, Part, Preservation, Stated, Touch
from embodichain.assets.geometry.shapes import drawn, moved
from embodichain.assets.reading import described
from embodichain.assets.reading.inertials import Inertial, together
from embodichain.assets.reading.looks import GREY, Color, moved_look, plain
from embodichain.assets.reading.sdf_frames import Frames, pose_of
from embodichain.assets.reading.xml_reading import Node
from embodichain.errors import AssetError
from embodichain.types import Mesh, Pose, Shape, ShapeKind
from embodichain.types.poses import compose, inverse

_SURFACES = {"friction": ("friction", "ode", "mu"), "restitution": ("bounce", "restitution_coefficient")}
_MOMENTS = ("ixx", "iyy", "izz", "ixy", "ixz", "iyz")


class Links:
    """Converts links into bodies; remarks are added to `rows` and `warnings`."""

    def __init__(self, frames: Frames, rows: list[Kept], warnings: list[str]) -> None:
        self.frames, self.rows, self.warnings = frames, rows, warnings
        self._meshes: dict[Path, described.Meshes] = {}

    def name(self, scoped: str) -> str:
        """Name of a link or joint, without its model if the file has only one."""
        words = scoped.split("::")
        return "_".join(words[1:] if len(self.frames.models) == 1 else words)

    def files(self) -> Iterator[Path]:
        """The mesh files that were read, and the files that they refer to."""
        for meshes in self._meshes.values():
            yield from meshes.files

    def part(self, link: str, members: Sequence[str], places: Mapping[str, Pose]) -> Part:
        """The body of a link and of the links fixed to it, each at its place in the world frame."""
        looks: list[Look] = []
        colliders: list[Mesh] = []
        inertials: list[Inertial] = []
        touches: list[Touch] = []
        for member in members:
            found, place = self.frames.links[member], compose(inverse(places[link]), places[member])
            meshes = self._meshes.setdefault(found.path, described.Meshes(found.path, self.rows, self.warnings))
            for entry in found.node.findall("visual"):
                look = self._seen(entry, member, meshes)
                looks += [moved_look(look, compose(place, self._place(entry, member)))] if look else []
            for entry in found.node.findall("collision"):
                shape = self._shape(entry, member, meshes)
                if shape is not None:
                    mesh = drawn(shape) if isinstance(shape, Shape) else shape.mesh
                    colliders.append(moved(mesh, compose(place, self._place(entry, member))))
                    said = dict(self._surface(entry, member))
                    friction, bounce = said.get("friction"), said.get("restitution")
                    touches.append(Touch(static_friction=friction, dynamic_friction=friction, restitution=bounce))
            inertials += [inertial.moved(place) for inertial in self._inertial(found.node, member)]
        whole = together(inertials)
        stated = Stated(
            mass=whole.mass if whole else None,
            center_of_mass=whole.center_of_mass if whole else None,
            inertia=whole.inertia if whole else None,
            colliders=tuple(colliders),
        ).touching(touches)
        part, rows = described.body(self.name(link), places[link], looks, stated)
        self.rows += rows
        return part

    def _place(self, entry: Node, link: str) -> Pose:
        """The pose of an element of a link, relative to the link."""
        pose, relative = pose_of(entry)
        if not relative:
            return pose
        frame = self.frames.pose(self.frames.scoped(self.frames.links[link].scope, relative))
        return compose(inverse(self.frames.pose(link)), compose(frame, pose))

    def _surface(self, entry: Node, link: str) -> Iterator[tuple[str, float]]:
        """Friction and restitution that a collision states."""
        for what, (*above, tag) in _SURFACES.items():
            node = entry.find("surface")
            for name in above:
                node = node.find(name) if node is not None else None
            if node is not None and node.find(tag) is not None:
                yield what, node.inner(tag, 1, (), f"of link {link!r}")[0]

    def _inertial(self, node: Node, link: str) -> list[Inertial]:
        entry, where = node.find("inertial"), f"of link {link!r}"
        if entry is None or entry.find("mass") is None:
            return []
        mass, place, moments = entry.inner("mass", 1, (), where, finite=False)[0], self._place(entry, link), entry.find("inertia")
        inertia = None
        if moments is not None:
            xx, yy, zz, xy, xz, yz = (moments.inner(tag, 1, (0.0,), where, finite=False)[0] for tag in _MOMENTS)
            inertia = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
        if not 0.0 < mass < np.inf:
            stated = mass if np.isfinite(mass) else str(mass)
            self.rows.append(
                Kept(of=self.name(link), what="mass", stated=stated, fate=Preservation.DROPPED, reason="nothing weighs that")
            )
            return []
        if inertia is not None and not np.isfinite(inertia).all():
            reason = "it is not finite"
            self.rows.append(Kept(of=self.name(link), what="inertia", stated="nan", fate=Preservation.DROPPED, reason=reason))
            inertia = None
        stated = inertia is not None or entry.find("pose") is not None
        return [Inertial(mass=mass, center_of_mass=(0.0, 0.0, 0.0) if stated else None, inertia=inertia).moved(place)]

    def _seen(self, entry: Node, link: str, meshes: described.Meshes) -> Look | None:
        color = self._color(entry.find("material"), link)
        shape = self._shape(entry, link, meshes)
        if shape is None or isinstance(shape, Shape):
            return None if shape is None else plain(drawn(shape), color or GREY)
        if color is None or any(finish.images for finish in shape.finishes):
            return shape
        finishes = tuple(Finish(name=finish.name, color=color) for finish in shape.finishes[:1])
        return replace(shape, finishes=finishes, finish=np.zeros(len(shape.mesh.faces), np.int32), colors=None)

    def _shape(self, entry: Node, link: str, meshes: described.Meshes) -> Shape | Look | None:
        """An analytic shape or a mesh; None, with a row, if it is not a solid."""
        entry.get("name")
        geometry, where = entry.find("geometry"), f"of link {link!r}"
        shape = geometry.first() if geometry is not None else None
        if shape is None:
            raise AssetError(f"read: a {entry.tag} {where} has no geometry")
        if shape.tag == "mesh":
            uri = shape.find("uri")
            return meshes.look(uri.text() if uri is not None else "", np.array(shape.inner("scale", 3, (1.0, 1.0, 1.0), where)))
        if shape.tag == "box":
            x, y, z = shape.inner("size", 3, (), where)
            return self._solid(Shape(kind=ShapeKind.BOX, size=(x, y, z)), (x, y, z), entry, link)
        if shape.tag in ("cylinder", "capsule", "sphere"):
            radius, ball = shape.inner("radius", 1, (), where)[0], shape.tag == "sphere"
            length = 0.0 if ball else shape.inner("length", 1, (), where)[0]
            solid = Shape(kind=ShapeKind(shape.tag), size=(radius, length, 0.0))
            return self._solid(solid, (radius,) if ball else (radius, length), entry, link)
        what, reason = f"{entry.tag} {shape.tag}", "no solid of a loose thing"
        self.rows.append(Kept(of=self.name(link), what=what, stated=shape.tag, fate=Preservation.DROPPED, reason=reason))
        return None

    def _solid(self, shape: Shape, sizes: Sequence[float], entry: Node, link: str) -> Shape | None:
        """A shape if all its sizes are positive; otherwise None, with a row, as for URDF."""
        if min(sizes) > 0.0:
            return shape
        stated, reason = f"{shape.kind} of size {' '.join(f'{size:g}' for size in sizes)}", "no solid: a size is not above zero"
        self.rows.append(Kept(of=self.name(link), what=entry.tag, stated=stated, fate=Preservation.DROPPED, reason=reason))
        return None

    def _color(self, material: Node | None, link: str) -> Color | None:
        node = material.find("diffuse") if material is not None else None
        if material is None or node is None:
            return None
        count = 3 if len(node.text().split()) == 3 else 4
        red, green, blue, *alpha = (min(max(v, 0.0), 1.0) for v in material.inner("diffuse", count, (), f"of link {link!r}"))
        if alpha == [0.0]:
            reason = "nothing would be seen of it: taken as opaque"
            self.rows.append(
                Kept(of=self.name(link), what="alpha", stated=0.0, written=1.0, fate=Preservation.CHANGED, reason=reason)
            )
        return (red, green, blue, (alpha or [1.0])[0] or 1.0)
