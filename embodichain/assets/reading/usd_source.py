"""Reads USD files by other people: bodies with their stated values, visible geometry and joints, in the file's units and axes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embodichain.assets.families.parts import Kept, Look, Part, Preservation, Stated, Touch
from embodichain.assets.geometry.shapes import drawn
from embodichain.assets.reading import mechanisms
from embodichain.assets.reading.colliders import hull_of
from embodichain.assets.reading.looks import GREY, joined, plain, tint
from embodichain.assets.reading.mesh_files import Reading, bounded, check
from embodichain.assets.reading.naming import numbered
from embodichain.assets.reading.references import references
from embodichain.errors import AssetError
from embodichain.types import Joint, JointKind, Mesh, Mimic, Pose, Quaternion, Shape, ShapeKind, Vec3, rotate
from embodichain.types.poses import compose, inverse, matrix_of, quaternion_of

if TYPE_CHECKING:
    from embodichain.assets.usd.foreign import Foreign, ForeignBody, ForeignJoint, ForeignPiece

FORMATS = (".usd", ".usda", ".usdc", ".usdz")
_KINDS = {
    "FixedJoint": JointKind.FIXED,
    "RevoluteJoint": JointKind.REVOLUTE,
    "PrismaticJoint": JointKind.PRISMATIC,
    "SphericalJoint": JointKind.REVOLUTE,
}
_CONVEX = ("convexHull",)
_PLAIN = ("", "none", "convexDecomposition", "meshSimplification")
"""Collision approximations that mean the mesh itself."""


def read_usd(path: Path) -> Reading:
    """The bodies and joints of a USD file; without any physics in it, a single body of all visible geometry.

    Raises:
        AssetError: the file cannot be opened, has no geometry, or connects its bodies in a loop.
    """
    check(path, FORMATS)
    from embodichain.assets.usd import foreign as resolving  # imports pxr

    foreign = resolving.resolve(path)
    resolving.refuse_empty(foreign, path)
    return _Stage(foreign, path).reading()


class _Stage:
    """Converts one file."""

    def __init__(self, foreign: Foreign, path: Path) -> None:
        self.foreign, self.path = foreign, path
        self.rows: list[Kept] = []
        self.warnings: list[str] = []
        self.names = numbered([body.path for body in foreign.bodies])
        self.titles = _titles(self.names)

    def reading(self) -> Reading:
        foreign = self.foreign
        joints, carriers, poses = self._tree()
        joints, rows = mechanisms.followed(joints)
        self.rows += rows
        joints += self._held(joints)
        parts = [self._part(body, poses[body.path]) for body in foreign.bodies]
        if foreign.loose and foreign.bodies:
            self._drop(
                self.path.name, "geometry under no rigid body", f"{len(foreign.loose)} prims", "it would not move with anything"
            )
        if not foreign.bodies:
            parts = [self._surfaces("body", foreign.loose, np.eye(4), Pose(), Stated(), None)]
        for fault in foreign.faults:
            self._drop(self.path.name, "composition", fault, "the stage lacks what could not be composed")
        for prim, name, value, reason in foreign.left_out:
            self._drop(prim, name, value, reason)
        for prim, name, value in foreign.unread:
            self._drop(prim, name, value, "no counterpart in the asset")
        apart = []
        for body in foreign.bodies:
            apart += [(self.names[body.path], self.names[other]) for other in body.apart if other in self.names]
        return Reading(
            parts=(*parts, *carriers), joints=tuple(joints), unit=foreign.meters_per_unit, up=foreign.up_axis.lower(),
            warnings=tuple(self.warnings), fidelity=tuple(self.rows), apart=tuple(apart), files=tuple(references(self.path)),
            titles=self.titles,
        )  # fmt: skip

    def _drop(self, of: str, what: str, stated: str, reason: str) -> None:
        self.rows.append(Kept(of=of, what=what, stated=stated, fate=Preservation.DROPPED, reason=reason))

    def _held(self, joints: list[Joint]) -> list[Joint]:
        """Joints that bolt down each body that no force moves; one that hangs on a joint stays there, with a row."""
        mounts = []
        for body in self.foreign.bodies:
            if not body.kinematic:
                continue
            name = self.names[body.path]
            if any(joint.child == name for joint in joints):
                self._drop(name, "physics:kinematicEnabled", "true", "it hangs on a joint, and moves as that lets it")
                continue
            reason = "no force moves it: it is bolted down where it is"
            row = Kept(
                of=name, what="physics:kinematicEnabled", stated="true", written="bolted", fate=Preservation.CHANGED, reason=reason
            )
            self.rows.append(row)
            mounts.append(Joint(name=f"{name}_mount", kind=JointKind.FIXED, parent="", child=name))
        return mounts

    # ------------------------------------------------------------------------------------------------------------- bodies

    def _part(self, body: ForeignBody, pose: Pose) -> Part:
        name, kilogram = self.names[body.path], self.foreign.kilograms_per_unit
        authored, stretch = _rigid(body.matrix)
        if not np.allclose(stretch, 1.0, atol=1e-6):
            reason = "a body has no scale: it was taken into what hangs on it"
            stated = (float(stretch[0]), float(stretch[1]), float(stretch[2]))
            self.rows.append(Kept(of=name, what="scale", stated=stated, written=1.0, fate=Preservation.CHANGED, reason=reason))
        center = body.center_of_mass
        if center is not None:
            x, y, z = (float(value) for value in np.asarray(center) * stretch)
            center = (x, y, z)
        inertia = None
        if body.diagonal_inertia is not None:
            axes = np.sign(stretch)[:, None] * matrix_of(body.principal_axes or (1.0, 0.0, 0.0, 0.0))
            inertia = axes @ np.diag(body.diagonal_inertia) @ axes.T * kilogram
        stated = Stated(
            mass=body.mass * kilogram if body.mass else None,
            center_of_mass=center,
            inertia=inertia,
            density=body.density * kilogram if body.density else None,
        )
        world = np.eye(4)
        world[:3, :3], world[3, :3] = matrix_of(authored.quaternion).T, authored.position
        return self._surfaces(name, body.pieces, world, pose, stated, body)

    def _surfaces(
        self,
        name: str,
        found: tuple[ForeignPiece, ...],
        world: NDArray[np.float64],
        pose: Pose,
        stated: Stated,
        body: ForeignBody | None,
    ) -> Part:
        """The part made of some pieces, in the frame `world` ([4, 4], on row vectors)."""
        back = np.asarray(np.linalg.inv(world), np.float64)
        looks = {piece.path: _look(piece, piece.matrix @ back) for piece in found}
        seen = [looks[piece.path] for piece in found if piece.visible] or list(looks.values())
        if body is not None or any(piece.collides for piece in found):
            stated = replace(stated, colliders=tuple(self._felt(name, found, looks, back)))
            stated = self._rubbing(name, found, stated)
        if not seen:
            part, rows = mechanisms.shapeless(name, pose, stated)
            self.rows += rows
            return part
        look = joined(seen)
        largest = max(seen, key=lambda one: float(np.prod(np.ptp(one.mesh.vertices, axis=0))))
        color = tint(largest.finishes[0]) if largest.colors is None else GREY
        look, row = bounded(look, color, name)
        self.rows += [row] if row else []
        return Part(name=name, mesh=look.mesh, material="", color=color, pose=pose, mass=stated.mass, look=look, stated=stated)

    def _rubbing(self, name: str, found: tuple[ForeignPiece, ...], stated: Stated) -> Stated:
        """Adds the surface properties of each collider, and a single density: the first one that is stated."""
        solid = [piece for piece in found if piece.collides]
        kilogram = self.foreign.kilograms_per_unit
        densities = list(dict.fromkeys(piece.density * kilogram for piece in solid if piece.density))
        own = stated.density or (densities[0] if densities else None)
        if set(densities) - {own}:
            reason = "a body has one density: its own, else that of its first collider"
            row = Kept(of=name, what="densities", stated=tuple(densities), written=own, fate=Preservation.CHANGED, reason=reason)
            self.rows.append(row)
        touches = [
            Touch(static_friction=static, dynamic_friction=dynamic, restitution=bounce)
            for static, dynamic, bounce in (piece.friction for piece in solid)
        ]
        return replace(stated, density=own).touching(touches)

    def _felt(self, name: str, found: tuple[ForeignPiece, ...], looks: Mapping[str, Look], back: NDArray[np.float64]) -> list[Mesh]:
        hulls: list[Mesh] = []
        for piece in found:
            if not piece.collides:
                continue
            mesh = looks[piece.path].mesh
            if mesh.shape is not None:
                hulls.append(mesh)
                continue
            if piece.shape is None and piece.approximation not in _CONVEX:
                if piece.approximation not in _PLAIN:
                    reason = "it collides as the convex pieces of its mesh"
                    self._drop(piece.path, "approximation", piece.approximation, reason)
                hulls.append(mesh)
                continue
            made, row = hull_of(mesh, name)
            if piece.shape is not None:
                reason = "scaled unevenly, it is no such shape any more: a hull of its points"
                row = replace(row, what=str(piece.shape.kind), fate=Preservation.CHANGED, reason=reason)
            hulls.append(made)
            self.rows.append(row)
        return hulls

    # ------------------------------------------------------------------------------------------------------------- joints

    def _tree(self) -> tuple[list[Joint], list[Part], dict[str, Pose]]:
        """Joints from parents to children, bodies between them, and the pose of every body with its joints at zero."""
        bodies = {body.path: body for body in self.foreign.bodies}
        poses = {path: _rigid(body.matrix)[0] for path, body in bodies.items()}
        waiting = []
        for joint in self.foreign.joints:
            if not joint.enabled:
                self._drop(joint.path, "joint", joint.kind, "it is disabled")
            elif joint.child not in bodies and joint.parent not in bodies:
                raise AssetError(f"read: joint {joint.path} does not join two bodies of the file")
            else:
                waiting.append(joint)
        moved = {j.child if j.parent in bodies else "" for j in waiting}
        reached: set[str] = {path for path in bodies if path not in moved}
        joints: list[Joint] = []
        carriers: list[Part] = []
        names = numbered([joint.path for joint in waiting])
        self.titles |= _titles(names)
        while waiting:
            ready = [j for j in waiting if {j.parent, j.child} & reached or not {j.parent, j.child} <= bodies.keys()]
            if not ready:  # a loop without a root: begin at any body
                reached.add(waiting[0].parent)
                continue
            joint = ready[0]
            waiting.remove(joint)
            outside = [path for path in (joint.parent, joint.child) if path not in bodies]
            turned = (
                joint.child in reached and joint.parent in bodies and joint.parent not in reached
            ) or joint.child not in bodies
            parent, child = (joint.child, joint.parent) if turned else (joint.parent, joint.child)
            if (child in reached and not outside) or child in {found.child for found in joints}:
                self._drop(joint.path, "joint", joint.kind, "it closes a loop; assets are trees")
                continue
            (p0, q0), (p1, q1) = joint.frames[::-1] if turned else joint.frames
            held = parent if parent in bodies else ""
            if parent in bodies:
                zero = compose(compose(poses[parent], _pose(p0, q0)), inverse(_pose(p1, q1)))
                self._shifted(joint, poses[child], zero)
                poses[child] = zero
            reached.add(child)
            links = []
            for one in _freed(joint):
                named = names | {one.path: names[joint.path] + one.path.removeprefix(joint.path)}
                links.append(self._joint(one, named, held, child, p1, q1, turned))
            if joint.kind == "SphericalJoint":
                chain = self._leaning(joint, links[0], poses[child], q1)
            else:
                chain = mechanisms.chained(links, poses[child], names[joint.path], "joint without a kind")
            self.rows += chain.fidelity
            carriers += chain.bodies
            joints += chain.joints
        return joints, carriers, poses

    def _leaning(self, joint: ForeignJoint, made: Joint, pose: Pose, turn: NDArray[np.float64]) -> mechanisms.JointChain:
        """A ball joint as three hinges: unlimited about its axis, and about the others with the limits of its cone.

        Leaning from X towards Y is a rotation about Z, and so on cyclically. `turn` is the rotation of the joint's frame on the
        child.
        """
        if not any(map(math.isfinite, joint.cones)):
            return mechanisms.ball(made, pose)
        along = int(np.argmax(joint.axis))
        ends = [math.inf, math.inf, math.inf]
        ends[(along + 2) % 3], ends[(along + 1) % 3] = (math.radians(angle) for angle in joint.cones)
        first, second = (math.radians(angle) for angle in joint.cones)
        reason = "an elliptic cone: each of the two hinges across its axis has its own limit"
        written = ", ".join(f"{end:.6g}" for end in ends)
        self.rows.append(
            Kept(of=made.name, what="cone limit", stated=(first, second), written=written, fate=Preservation.CHANGED, reason=reason)
        )
        links = [
            replace(hinge, axis=_vec3(rotate(_quaternion(turn), np.asarray(hinge.axis))), lower=-end, upper=end)
            for hinge, end in zip(mechanisms.hinges(made), ends, strict=True)
        ]
        return mechanisms.chained(links, pose, made.name, "ball joint")

    def _shifted(self, joint: ForeignJoint, authored: Pose, zero: Pose) -> None:
        apart = float(np.linalg.norm(np.asarray(authored.position) - zero.position))
        angle = 2 * math.acos(min(abs(float(np.dot(authored.quaternion, zero.quaternion))), 1.0))
        if apart > 1e-4 / max(self.foreign.meters_per_unit, 1e-9) or angle > 1e-3:
            reason = "the file shows the joint moved; an asset rests with its joints at zero"
            stated = f"{apart:.5g} units and {math.degrees(angle):.4g} degrees from zero"
            self.rows.append(
                Kept(of=joint.path, what="joint position", stated=stated, written=0.0, fate=Preservation.CHANGED, reason=reason)
            )

    def _joint(
        self, joint: ForeignJoint, names: Mapping[str, str], parent: str, child: str, place: NDArray[np.float64],
        turn: NDArray[np.float64], turned: bool,
    ) -> Joint:  # fmt: skip
        """A joint in its child's frame, in which its own frame has position `place` and rotation `turn`."""
        kind, name = _KINDS.get(joint.kind), names[joint.path]
        if kind is None:
            available = ", ".join(_KINDS)
            raise AssetError(
                f"read: joint {joint.path} of {self.path.name} is a {joint.kind}, which has no counterpart; available: {available}"
            )
        owner = self.names.get(parent, "")
        if kind is not JointKind.FIXED and not owner and parent == "":
            owner = ""
        if kind is not JointKind.FIXED and joint.lower == joint.upper:
            reason = "its limits leave one position: it is locked there"
            self.rows.append(
                Kept(
                    of=name,
                    what="joint",
                    stated=f"{joint.kind} {joint.lower}",
                    written="fixed",
                    fate=Preservation.CHANGED,
                    reason=reason,
                )
            )
            kind = JointKind.FIXED
        if kind is JointKind.FIXED:
            return Joint(name=name, kind=kind, parent=owner, child=self.names[child])
        if joint.lower > joint.upper:
            raise AssetError(f"read: limits {joint.lower}..{joint.upper} of joint {joint.path} leave no range")
        scale = math.radians(1.0) if kind is JointKind.REVOLUTE else 1.0
        sign = -1.0 if turned else 1.0
        along = sign * rotate(_quaternion(turn), np.asarray(joint.axis))
        # Forces are in units of mass and length, torques of mass and length squared; drives of slides are free of lengths.
        kilogram, metre = self.foreign.kilograms_per_unit, self.foreign.meters_per_unit
        turning = kind is JointKind.REVOLUTE
        load, drive = kilogram * metre ** (2 if turning else 1), kilogram * metre ** (2 if turning else 0)
        mimic = None
        if joint.mimic is not None:
            target, factor, offset = joint.mimic
            if target in names:
                mimic = Mimic(joint=names[target], multiplier=factor, offset=offset * scale)
            else:
                self._drop(name, "mimic", target, "it follows no joint of the file")
        return Joint(
            name=name, kind=kind, parent=owner, child=self.names[child], axis=_vec3(along), anchor=_vec3(place),
            lower=joint.lower * scale, upper=joint.upper * scale, damping=joint.damping / scale * drive,
            stiffness=joint.stiffness / scale * drive, rest=joint.target * scale, effort=joint.effort * load,
            velocity=joint.velocity * scale, armature=joint.armature * drive, friction=joint.friction * load, mimic=mimic,
        )  # fmt: skip


def _freed(joint: ForeignJoint) -> list[ForeignJoint]:
    """A joint without a type as simple joints along and about its axes; fixed when all are locked; other joints unchanged."""
    if joint.kind != "Joint":
        return [joint]
    if not joint.freedoms:
        return [replace(joint, kind="FixedJoint")]
    units: dict[str, Vec3] = {"X": (1.0, 0.0, 0.0), "Y": (0.0, 1.0, 0.0), "Z": (0.0, 0.0, 1.0)}
    return [
        replace(
            joint, path=f"{joint.path}_{name}", kind="PrismaticJoint" if name.startswith("trans") else "RevoluteJoint",
            axis=units[name[-1]], lower=low, upper=high,
        )
        for name, low, high in joint.freedoms
    ]  # fmt: skip


def _titles(names: Mapping[str, str]) -> dict[str, str]:
    """Original names of prims that had to be numbered, by their new names."""
    last = {name: path.rpartition("/")[2] for path, name in names.items()}
    return {name: word for name, word in last.items() if word != name}


def _rigid(matrix: NDArray[np.float64]) -> tuple[Pose, NDArray[np.float64]]:
    """The pose of a prim without its scale, and the scale, negative along X if it mirrors; the matrix acts on row vectors."""
    axes = matrix[:3, :3]
    stretch = np.maximum(np.linalg.norm(axes, axis=1), 1e-300)
    if np.linalg.det(axes / stretch[:, None]) < 0.0:
        stretch[0] = -stretch[0]
    turn = (axes / stretch[:, None]).T
    return Pose(position=_vec3(matrix[3, :3]), quaternion=quaternion_of(turn)), stretch


def _look(piece: ForeignPiece, matrix: NDArray[np.float64]) -> Look:
    """The look of a piece in its body's frame; an analytic shape stays one if the scale allows it."""
    linear = matrix[:3, :3]
    if piece.shape is not None:
        shape = _placed(piece.shape, matrix)
        if shape is not None:
            return replace(plain(drawn(shape), piece.finish.color), finishes=(piece.finish,))
    look = piece.look or replace(plain(drawn(piece.shape), piece.finish.color), finishes=(piece.finish,))  # type: ignore[arg-type]
    faces = look.mesh.faces[:, ::-1] if np.linalg.det(linear) < 0 else look.mesh.faces
    mesh = Mesh(vertices=look.mesh.vertices @ linear + matrix[3, :3], faces=np.ascontiguousarray(faces))
    normals = look.normals
    if normals is not None:
        normals = normals @ np.linalg.inv(linear).T if abs(np.linalg.det(linear)) > 1e-300 else normals
        normals = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)
    return replace(look, mesh=mesh, normals=normals)


def _placed(shape: Shape, matrix: NDArray[np.float64]) -> Shape | None:
    """A shape after rotation, scaling and translation; None if the result is no such shape."""
    pose, stretch = _rigid(matrix)
    axes = matrix[:3, :3] / stretch[:, None]
    if not np.allclose(axes @ axes.T, np.eye(3), atol=1e-6):
        return None  # sheared
    local = np.abs(np.asarray(matrix_of(shape.pose.quaternion)).T) @ np.abs(stretch)  # scale factors along the shape's own axes
    a, b, c = shape.size
    x, y, z = (float(value) for value in local)
    even = math.isclose(x, y, rel_tol=1e-6)
    if shape.kind is ShapeKind.BOX:
        size = (a * x, b * y, c * z)
    elif even and (shape.kind is ShapeKind.CYLINDER or math.isclose(x, z, rel_tol=1e-6)):
        size = (a * x, b * z, 0.0)
    else:
        return None
    return Shape(kind=shape.kind, size=size, pose=compose(pose, shape.pose))


def _pose(position: NDArray[np.float64], quaternion: NDArray[np.float64]) -> Pose:
    return Pose(position=_vec3(position), quaternion=_quaternion(quaternion))


def _quaternion(values: NDArray[np.float64]) -> Quaternion:
    w, x, y, z = (float(value) for value in values / np.linalg.norm(values))
    return (w, x, y, z)


def _vec3(values: NDArray[np.float64]) -> Vec3:
    x, y, z = (float(value) for value in values)
    return (x, y, z)
