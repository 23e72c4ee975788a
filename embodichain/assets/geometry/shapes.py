"""Clean closed solids for building families: solids of revolution, sweeps, chamfered boxes, and conversion to manifold3d."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import manifold3d
import numpy as np
from numpy.typing import NDArray

from embodichain.types import Mesh, Pose, Shape, ShapeKind, Vec3, rotate
from embodichain.types.poses import compose

Solid = manifold3d.Manifold


def to_mesh(solid: Solid) -> Mesh:
    """The triangles of a solid."""
    mesh = solid.to_mesh64()
    return Mesh(vertices=np.array(mesh.vert_properties[:, :3], np.float64), faces=np.array(mesh.tri_verts, np.int32))


def to_solid(mesh: Mesh) -> Solid:
    """The solid inside a closed, consistently oriented mesh; `status()` of the result states the fault of any other mesh."""
    return Solid(
        manifold3d.Mesh64(
            vert_properties=np.ascontiguousarray(mesh.vertices), tri_verts=np.ascontiguousarray(mesh.faces, np.uint64)
        )
    )


def concatenate(meshes: Sequence[Mesh]) -> Mesh:
    """All triangles in one mesh; the meshes stay separate components."""
    offsets = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes[:-1]])
    return Mesh(
        vertices=np.concatenate([mesh.vertices for mesh in meshes]),
        faces=np.concatenate([mesh.faces + offset for mesh, offset in zip(meshes, offsets, strict=True)]).astype(np.int32),
    )


def moved(mesh: Mesh, pose: Pose) -> Mesh:
    """The mesh in the frame into which `pose` maps its own frame."""
    shape = replace(mesh.shape, pose=compose(pose, mesh.shape.pose)) if mesh.shape else None
    return Mesh(vertices=rotate(pose.quaternion, mesh.vertices) + pose.position, faces=mesh.faces, shape=shape)


def lathe(profile: Sequence[tuple[float, float]], segments: int = 96) -> Solid:
    """The solid of revolution of a closed polygon of (radius, height) [m] about Z, counter-clockwise in the (r, z) plane."""
    return manifold3d.CrossSection([np.array(profile, np.float64)]).revolve(segments)


def box(size: Vec3, chamfer: float = 0.0) -> Solid:
    """A box centred on the origin with edges cut at 45 degrees by `chamfer` [m]."""
    half = np.asarray(size) / 2
    if chamfer <= 0.0:
        return Solid.cube(size, True)
    corners = []
    for signs in np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).T.reshape(-1, 3):
        for axis in range(3):
            inset = np.full(3, chamfer)
            inset[axis] = 0.0
            corners.append(signs * (half - inset))
    return Solid.hull_points(np.array(corners))


def slab(size: Vec3, corner_radius: float, chamfer: float = 0.0, segments: int = 48) -> Solid:
    """A flat box standing on z = 0, with corners rounded in plan view and chamfered top and bottom edges."""
    width, depth, height = size
    core = manifold3d.CrossSection.square((width - 2 * corner_radius, depth - 2 * corner_radius), True)
    outline = np.concatenate(core.offset(corner_radius, manifold3d.JoinType.Round, circular_segments=segments).to_polygons())
    if chamfer <= 0.0:
        return manifold3d.CrossSection([outline]).extrude(height)
    inner = outline * (1 - 2 * chamfer / np.array([width, depth]))
    rings = [(inner, 0.0), (outline, chamfer), (outline, height - chamfer), (inner, height)]
    return Solid.hull_points(np.concatenate([np.column_stack([ring, np.full(len(ring), z)]) for ring, z in rings]))


def cylinder(radius: float, length: float, axis: str = "z", segments: int = 48) -> Solid:
    """A cylinder centred on the origin along the named axis."""
    upright = Solid.cylinder(length, radius, radius, segments, True)
    return {"z": upright, "y": upright.rotate((90, 0, 0)), "x": upright.rotate((0, 90, 0))}[axis]


def drawn(shape: Shape) -> Mesh:
    """The triangles of an analytic shape; the mesh keeps the shape."""
    a, b, c = shape.size
    if shape.kind is ShapeKind.BOX:
        mesh = to_mesh(box((a, b, c)))
    elif shape.kind is ShapeKind.SPHERE:
        mesh = to_mesh(Solid.sphere(a, 48))
    elif shape.kind is ShapeKind.CYLINDER:
        mesh = to_mesh(cylinder(a, b))
    else:
        ball = Solid.sphere(a, 48)
        mesh = to_mesh((ball.translate((0, 0, b / 2)) + ball.translate((0, 0, -b / 2))).hull())
    return replace(moved(mesh, shape.pose), shape=shape)


def sweep(path: NDArray[np.float64], half_width: float, half_height: float, segments: int = 20) -> Solid:
    """A tube of elliptic section along a path in the XZ plane, shape [N, 3]: `half_width` along Y, `half_height` in the plane."""
    count = len(path)
    return loft(path, np.full(count, half_width), np.full(count, half_height), segments)


def loft(
    path: NDArray[np.float64],
    half_widths: NDArray[np.float64],
    half_heights: NDArray[np.float64],
    segments: int = 20,
    exponent: float = 2.0,
) -> Solid:
    """A bar along a path in the XZ plane, shape [N, 3], whose section changes along it.

    Args:
        path: centres of the sections [m].
        half_widths: along Y [m], shape [N].
        half_heights: in the plane, across the path [m], shape [N].
        segments: points around a section.
        exponent: of the superellipse |y/a|^n + |z/b|^n = 1: 2 is an ellipse, more is boxier.
    """
    tangents = np.gradient(path, axis=0)
    tangents /= np.linalg.norm(tangents, axis=1, keepdims=True)
    side = np.array([0.0, 1.0, 0.0])
    normals = np.cross(tangents, side)
    angles = np.arange(segments) * (2 * math.pi / segments)
    cos, sin = np.cos(angles), np.sin(angles)
    if exponent != 2.0:
        cos, sin = (np.sign(wave) * np.abs(wave) ** (2 / exponent) for wave in (cos, sin))
    rings = (
        path[:, None]
        + half_widths[:, None, None] * cos[None, :, None] * side
        + half_heights[:, None, None] * sin[None, :, None] * normals[:, None]
    )
    count, ring = len(path), np.arange(segments)
    following = (ring + 1) % segments
    quads = [
        np.stack(
            [(i * segments + ring), (i * segments + following), ((i + 1) * segments + following), ((i + 1) * segments + ring)], 1
        )
        for i in range(count - 1)
    ]
    first, last = count * segments, count * segments + 1
    end = (count - 1) * segments
    faces = np.concatenate(
        [quad[:, [0, 1, 2]] for quad in quads]
        + [quad[:, [0, 2, 3]] for quad in quads]
        + [np.stack([np.full(segments, first), following, ring], 1)]
        + [np.stack([np.full(segments, last), end + ring, end + following], 1)]
    )
    mesh = Mesh(vertices=np.concatenate([rings.reshape(-1, 3), path[[0, -1]]]), faces=faces.astype(np.int32))
    if signed_volume(mesh) < 0:
        mesh = Mesh(vertices=mesh.vertices, faces=mesh.faces[:, ::-1].copy())
    return to_solid(mesh)


def signed_volume(mesh: Mesh) -> float:
    """Volume enclosed by a closed mesh [m^3]; negative when it is inside out."""
    a, b, c = (mesh.vertices[mesh.faces[:, i]] for i in range(3))
    return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6)


def inset(mesh: Mesh, distance: float) -> NDArray[np.float64]:
    """Vertices moved inwards so that each face moves by `distance` [m] along its normal (least squares), shape [V, 3]."""
    corners = mesh.vertices[mesh.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    areas = np.linalg.norm(normals, axis=1)
    normals /= np.maximum(areas, 1e-300)[:, None]
    outer = np.einsum("f,fi,fj->fij", areas, normals, normals)
    matrix = np.zeros((len(mesh.vertices), 3, 3))
    target = np.zeros((len(mesh.vertices), 3))
    for corner in range(3):
        np.add.at(matrix, mesh.faces[:, corner], outer)
        np.add.at(target, mesh.faces[:, corner], normals * areas[:, None])
    # In a flat neighbourhood the tangential directions are undetermined: a small multiple of the identity keeps vertices from
    # sliding.
    trace = np.trace(matrix, axis1=1, axis2=2)
    matrix += np.eye(3) * (1e-3 * trace + 1e-300)[:, None, None]
    steps = np.linalg.solve(matrix, target[..., None])[..., 0] * 1.001
    return mesh.vertices - distance * steps


def face_areas(mesh: Mesh) -> NDArray[np.float64]:
    """Area of each face [m^2], shape [F]."""
    a, b, c = (mesh.vertices[mesh.faces[:, i]] for i in range(3))
    return np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2


def diagonal(mesh: Mesh) -> float:
    """Length of the bounding box's diagonal [m]."""
    return float(np.linalg.norm(np.ptp(mesh.vertices, axis=0)))


def pieces(*solids: Solid) -> tuple[Mesh, ...]:
    """The meshes of several solids."""
    return tuple(to_mesh(solid) for solid in solids)
