"""Reads MJCF through MuJoCo's own compiler: bodies, the shapes of their geoms, hinges and slides with limits, damping and friction.

Bodies without a joint are part of their parent. Lengths are metres and Z is up, as the format defines.
"""

from __future__ import annotations

from pathlib import Path

import mujoco
import numpy as np

from embodichain.assets.families.parts import Part
from embodichain.assets.geometry.shapes import Solid, box, concatenate, cylinder, moved, to_mesh
from embodichain.assets.reading.mesh_files import Reading, check
from embodichain.assets.reading.urdf import parse
from embodichain.errors import AssetError
from embodichain.types import Joint, JointKind, Mesh, Pose
from embodichain.types.poses import compose

_GEOM, _JOINT = mujoco.mjtGeom, mujoco.mjtJoint
_KINDS = {_JOINT.mjJNT_HINGE: JointKind.REVOLUTE, _JOINT.mjJNT_SLIDE: JointKind.PRISMATIC}


def read_mjcf(path: Path) -> Reading:
    """The bodies and joints of an MJCF file; a body on a free joint, and all below it, is loose, any other is bolted down.

    Raises:
        AssetError: MuJoCo cannot compile it, it holds several things, or a joint has no counterpart here.
    """
    check(path, (".xml", ".mjcf"))
    root = parse(path)
    if root.tag != "mujoco":
        raise AssetError(f"read: {path} is XML but no MJCF: its root is <{root.tag}>, expected <mujoco>")
    try:
        model = mujoco.MjModel.from_xml_path(str(path))
    except (ValueError, OSError) as error:
        raise AssetError(f"read: MuJoCo cannot compile {path}: {error}") from error
    warnings: list[str] = []
    shaped = [index for index in range(1, model.nbody) if model.body_geomnum[index] or model.body_jntnum[index]]
    if not shaped:
        raise AssetError(f"read: {path} has no body with geoms; put what is to be an asset into a <body>")
    roots = {int(model.body_rootid[index]) for index in shaped}
    if len(roots) > 1:
        names = ", ".join(model.body(index).name or str(index) for index in sorted(roots))
        raise AssetError(f"read: {path} holds {len(roots)} things ({names}); an asset is one, split the file")
    if model.body_geomnum[0]:
        warnings.append("geoms of the world were left out")
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    owner = {0: 0}
    for index in range(1, model.nbody):
        parent = int(model.body_parentid[index])
        owner[index] = index if model.body_jntnum[index] or parent == 0 else owner[parent]
    parts, joints = [], []
    for index in sorted(set(owner.values()) - {0}):
        members = [body for body in range(1, model.nbody) if owner[body] == index]
        name = model.body(index).name or f"body_{index}"
        pose = _world(data.xpos[index], data.xquat[index])
        parts.append(_part(model, data, name, members, pose, warnings))
        parent = owner[int(model.body_parentid[index])]
        joints += _joints(model, index, name, (model.body(parent).name or f"body_{parent}") if parent else "")
    return Reading(parts=tuple(parts), joints=tuple(joints), unit=1.0, up="z", warnings=tuple(warnings))


def _joints(model: mujoco.MjModel, body: int, name: str, parent: str) -> list[Joint]:
    number, first = int(model.body_jntnum[body]), int(model.body_jntadr[body])
    if number == 0:
        return [Joint(name=f"{name}_mount", kind=JointKind.FIXED, parent=parent, child=name)]
    if number > 1:
        raise AssetError(f"read: body {name!r} has {number} joints; an asset's bodies have one each, put a body between them")
    joint, kind = model.joint(first), _JOINT(int(model.jnt_type[first]))
    if kind == _JOINT.mjJNT_FREE:
        return []
    if kind not in _KINDS:
        raise AssetError(
            f"read: joint {joint.name!r} is a {kind.name.removeprefix('mjJNT_').lower()} joint; available: hinge, slide"
        )
    lower, upper = (float(value) for value in model.jnt_range[first])
    if not model.jnt_limited[first]:
        if kind != _JOINT.mjJNT_HINGE:
            raise AssetError(f"read: slide {joint.name!r} has no range")
        lower, upper = -float(np.pi), float(np.pi)
    zero = float(model.qpos0[int(model.jnt_qposadr[first])])  # what the file calls its reference; ours is zero
    x, y, z = (float(value) for value in model.jnt_axis[first])
    ax, ay, az = (float(value) for value in model.jnt_pos[first])
    address = int(model.jnt_dofadr[first])
    return [
        Joint(
            name=joint.name or f"{name}_joint",
            kind=_KINDS[kind],
            parent=parent,
            child=name,
            axis=(x, y, z),
            anchor=(ax, ay, az),
            lower=lower - zero,
            upper=upper - zero,
            damping=float(model.dof_damping[address]),
            friction=float(model.dof_frictionloss[address]),
            stiffness=float(np.ravel(model.jnt_stiffness[first])[0]),
            rest=float(model.qpos_spring[int(model.jnt_qposadr[first])]) - zero,
        )
    ]


def _part(model: mujoco.MjModel, data: mujoco.MjData, name: str, members: list[int], pose: Pose, warnings: list[str]) -> Part:
    """The visual geoms of some bodies as one part; those that collide where there are no others."""
    geoms = [g for g in range(model.ngeom) if int(model.geom_bodyid[g]) in members]
    seen = [g for g in geoms if not (model.geom_contype[g] or model.geom_conaffinity[g])] or geoms
    shapes: list[tuple[Mesh, tuple[float, float, float, float]]] = []
    inverse = Pose(quaternion=_conjugate(pose), position=(0.0, 0.0, 0.0))
    for g in seen:
        mesh = _shape(model, g)
        if mesh is None:
            warnings.append(f"a {_GEOM(int(model.geom_type[g])).name.removeprefix('mjGEOM_').lower()} of {name!r} was left out")
            continue
        quaternion = np.zeros(4)
        mujoco.mju_mat2Quat(quaternion, data.geom_xmat[g])
        offset = tuple(float(value) for value in data.geom_xpos[g] - np.asarray(pose.position))
        in_body = compose(inverse, Pose(position=offset, quaternion=tuple(float(value) for value in quaternion)))  # type: ignore[arg-type]
        material = int(model.geom_matid[g])
        rgba = model.mat_rgba[material] if material >= 0 else model.geom_rgba[g]
        red, green, blue = (float(value) for value in rgba[:3])
        shapes.append((moved(mesh, in_body), (red, green, blue, 1.0)))
    if not shapes:
        raise AssetError(f"read: body {name!r} has no shape; give it a geom, or take the body away")
    largest = max(shapes, key=lambda shape: float(np.prod(np.ptp(shape[0].vertices, axis=0))))
    mass = float(sum(model.body_mass[body] for body in members))
    return Part(
        name=name, mesh=concatenate([mesh for mesh, _ in shapes]), material="", color=largest[1], pose=pose, mass=mass or None
    )


def _shape(model: mujoco.MjModel, geom: int) -> Mesh | None:
    kind, (x, y, z) = _GEOM(int(model.geom_type[geom])), (float(value) for value in model.geom_size[geom])
    if kind == _GEOM.mjGEOM_MESH:
        mesh = int(model.geom_dataid[geom])
        first, count = int(model.mesh_vertadr[mesh]), int(model.mesh_vertnum[mesh])
        start, faces = int(model.mesh_faceadr[mesh]), int(model.mesh_facenum[mesh])
        return Mesh(
            vertices=np.array(model.mesh_vert[first : first + count], np.float64),
            faces=np.array(model.mesh_face[start : start + faces], np.int32),
        )
    if kind == _GEOM.mjGEOM_BOX:
        return to_mesh(box((2 * x, 2 * y, 2 * z)))
    if kind == _GEOM.mjGEOM_SPHERE:
        return to_mesh(Solid.sphere(x, 48))
    if kind == _GEOM.mjGEOM_CYLINDER:
        return to_mesh(cylinder(x, 2 * y))
    if kind == _GEOM.mjGEOM_CAPSULE:
        ball = Solid.sphere(x, 48)
        return to_mesh((ball.translate((0, 0, y)) + ball.translate((0, 0, -y))).hull())
    if kind == _GEOM.mjGEOM_ELLIPSOID:
        return to_mesh(Solid.sphere(1.0, 48).scale((x, y, z)))
    return None


def _world(position: np.ndarray, quaternion: np.ndarray) -> Pose:
    x, y, z = (float(value) for value in position)
    a, b, c, d = (float(value) for value in quaternion)
    return Pose(position=(x, y, z), quaternion=(a, b, c, d))


def _conjugate(pose: Pose) -> tuple[float, float, float, float]:
    w, x, y, z = pose.quaternion
    return (w, -x, -y, -z)
