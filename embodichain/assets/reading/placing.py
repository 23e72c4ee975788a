"""Converts from a file's units and axes to ours: metres, Z up, front +X, the root standing on z = 0 above the origin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from embodichain.assets.families.parts import Part, Stated
from embodichain.assets.geometry.shapes import Solid, moved, to_mesh
from embodichain.assets.reading import mechanisms
from embodichain.assets.reading.looks import moved_look
from embodichain.assets.reading.mesh_files import Reading
from embodichain.errors import AssetError, ConfigError
from embodichain.types import Joint, JointKind, Mesh, Pose, Vec3, rotate
from embodichain.types.poses import compose, matrix_of, quaternion_of

TURNS: dict[str, NDArray[np.float64]] = {
    "z": np.eye(3),
    "y": np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]),
    "x": np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]),
    "-z": np.diag([1.0, -1.0, -1.0]),
    "-y": np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]),
    "-x": np.array([[0.0, -1.0, 0.0], [0.0, 0.0, 1.0], [-1.0, 0.0, 0.0]]),
}
"""Rotation that turns the named axis up; the front of a Y-up file, which is Z by convention, becomes +X."""


def bounds(parts: Sequence[Part]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lowest and highest corner of all visible and collision geometry, with joints at zero."""
    points = []
    for part in parts:
        meshes = [Mesh(vertices=part.mesh.vertices[np.unique(part.mesh.faces)], faces=part.mesh.faces), *part.stated.colliders]
        points += [rotate(part.pose.quaternion, mesh.vertices) + part.pose.position for mesh in meshes if len(mesh.vertices)]
    if not points:
        raise AssetError("read: there is nothing to see or touch")
    return np.min([p.min(axis=0) for p in points], axis=0), np.max([p.max(axis=0) for p in points], axis=0)


def sized(reading: Reading, factor: float) -> Reading:
    """Scales all lengths by `factor`; masses do not change, so inertia grows with its square."""
    parts = tuple(
        replace(
            part,
            mesh=part.mesh.scaled(factor),
            pose=replace(part.pose, position=_longer(part.pose.position, factor)),
            look=replace(part.look, mesh=part.look.mesh.scaled(factor)) if part.look else None,
            stated=_sized(part.stated, factor),
        )
        for part in reading.parts
    )
    joints = tuple(
        replace(
            joint,
            anchor=_longer(joint.anchor, factor),
            lower=joint.lower * factor,
            upper=joint.upper * factor,
            rest=joint.rest * factor,
            velocity=joint.velocity * factor,
            mimic=replace(joint.mimic, offset=joint.mimic.offset * factor) if joint.mimic else None,
        )
        if joint.kind is JointKind.PRISMATIC
        else replace(joint, anchor=_longer(joint.anchor, factor))
        for joint in reading.joints
    )
    return replace(reading, parts=parts, joints=joints)


def _sized(stated: Stated, factor: float) -> Stated:
    return replace(
        stated,
        center_of_mass=_longer(stated.center_of_mass, factor) if stated.center_of_mass else None,
        inertia=stated.inertia * factor**2 if stated.inertia is not None else None,
        density=stated.density / factor**3 if stated.density else None,
        colliders=tuple(collider.scaled(factor) for collider in stated.colliders),
    )


def _longer(values: Vec3, factor: float) -> Vec3:
    return (values[0] * factor, values[1] * factor, values[2] * factor)


def upright(up: str, front: str, reading: Reading, warnings: list[str]) -> NDArray[np.float64]:
    """The rotation from the file's axes to ours: as the user states, as the file states, otherwise so that it stands."""
    up = up or reading.up
    if not up:
        up = "z"
        if len(reading.parts) == 1 and not stands(reading.parts[0].mesh):
            standing = [name for name, turn in TURNS.items() if stands(_turned(reading.parts[0].mesh, turn))]
            if standing:
                up = standing[0]
                warnings.append(f"it does not stand with z up: {up} was taken as up")
    if front:
        z, x = (TURNS[axis][2] for axis in (up, front))
        if abs(z @ x) > 0.5:
            raise ConfigError(f"front {front!r} lies along the axis that points up, {up!r}; name a perpendicular one")
        return np.stack([x, np.cross(z, x), z])
    return TURNS[up]


def stands(mesh: Mesh) -> bool:
    """Whether the convex hull of a mesh rests on its lowest points without tipping over."""
    hull = Solid.hull_points(mesh.vertices)
    if hull.is_empty() or hull.volume() <= 0.0:
        return True
    surface = to_mesh(hull)
    corners = surface.vertices[surface.faces]
    volumes = np.einsum("ij,ij->i", corners[:, 0], np.cross(corners[:, 1], corners[:, 2]))
    center = (volumes @ corners.sum(axis=1)) / (4 * volumes.sum())
    low, high = surface.vertices[:, 2].min(), surface.vertices[:, 2].max()
    feet = surface.vertices[surface.vertices[:, 2] < low + 0.01 * (high - low)][:, :2]
    # The centre is inside the hull of the feet exactly when the feet are not all on one side of it.
    angles = np.sort(np.arctan2(*(feet - center[:2]).T[::-1]))
    gaps = np.diff(np.concatenate([angles, angles[:1] + 2 * np.pi]))
    return len(feet) >= 3 and bool(gaps.max() < np.pi)


def _turned(mesh: Mesh, turn: NDArray[np.float64]) -> Mesh:
    return Mesh(vertices=mesh.vertices @ turn.T, faces=mesh.faces)


def roots(parts: Sequence[Part], joints: Sequence[Joint]) -> list[str]:
    """Names of the parts that no joint carries."""
    carried = {joint.child for joint in joints if joint.parent}
    return [part.name for part in parts if part.name not in carried]


def grounded(reading: Reading) -> Reading:
    """Adds a shapeless, bolted base for a body that moves relative to the world, because an asset needs a fixed root."""
    parts, joints = list(reading.parts), list(reading.joints)
    poses = {part.name: part.pose for part in parts}
    rows = list(reading.fidelity)
    for index, joint in enumerate(joints):
        if joint.parent == "" and joint.kind is not JointKind.FIXED:
            base = f"{joint.child}_base"
            carrier, _ = mechanisms.shapeless(base, poses[joint.child])
            parts.insert(0, carrier)
            joints[index] = replace(joint, parent=base)
            joints.insert(0, Joint(name=f"{base}_mount", kind=JointKind.FIXED, parent="", child=base))
            rows.append(mechanisms.based(joint))
            return grounded(replace(reading, parts=tuple(parts), joints=tuple(joints), fidelity=tuple(rows)))
    return reading


def on_the_plane(parts: tuple[Part, ...], joints: tuple[Joint, ...], turn: NDArray[np.float64]) -> tuple[tuple[Part, ...], Vec3]:
    """Rotates the parts by `turn` and puts them above the origin with the root's lowest point on z = 0 and its pose in its mesh.

    Also returns the displacement [m].
    """
    found = roots(parts, joints)
    if len(found) != 1:
        raise AssetError(f"read: {len(found)} bodies hang on nothing ({', '.join(found)}); an asset has one root")
    stood = Pose(quaternion=quaternion_of(turn))
    parts = tuple(replace(part, pose=compose(stood, part.pose)) for part in parts)
    low, high = bounds(parts)
    own = tuple(part for part in parts if part.name == found[0])
    base = bounds(own)[0] if len(own[0].mesh.faces) or own[0].stated.colliders else low
    shift = (-float(low[0] + high[0]) / 2, -float(low[1] + high[1]) / 2, -float(base[2]))
    return shifted(parts, found[0], Pose(position=shift)), shift


def shifted(parts: Sequence[Part], root: str, pose: Pose) -> tuple[Part, ...]:
    """All parts moved by `pose`; the pose of the root is applied to its meshes."""
    result = []
    for part in parts:
        placed = replace(part, pose=compose(pose, part.pose))
        result.append(baked(placed) if part.name == root else placed)
    return tuple(result)


def baked(part: Part) -> Part:
    """Applies a part's pose to its mesh, look and stated values, so that the pose becomes the identity."""
    pose, stated = part.pose, part.stated
    turn = matrix_of(pose.quaternion)
    center = stated.center_of_mass
    if center is not None:
        x, y, z = (float(value) for value in rotate(pose.quaternion, np.asarray(center)) + pose.position)
        center = (x, y, z)
    return replace(
        part,
        mesh=moved(part.mesh, pose),
        pose=Pose(),
        look=moved_look(part.look, pose) if part.look else None,
        stated=replace(
            stated,
            center_of_mass=center,
            inertia=turn @ stated.inertia @ turn.T if stated.inertia is not None else None,
            colliders=tuple(moved(collider, pose) for collider in stated.colliders),
        ),
    )
