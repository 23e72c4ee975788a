"""Builds the MuJoCo spec of a world from robot, table, lights and assets.

Bodies have the names that contacts report: "robot/<body>", "<role>/<body>", "table", and "world" for the floor.
"""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np

from embodichain.errors import RobotError, SceneError
from embodichain.physics.surfaces import add_surface, add_textures, coordinates
from embodichain.types import TABLE_SIZE, Body, Joint, JointKind, Mesh, ObjectPlacement, Pose, Robot, ShapeKind
from embodichain.types.assets import half_sizes
from embodichain.types.poses import compose, inverse

FLOOR_HEIGHT = -0.75
"""Height of the floor [m]; the table top is at 0."""
MAX_LIGHTS = 3
"""Number of lights in every scene; fixed, because the renderer compiles a kernel for each number of lights."""
FREE_CAMERA = "free"
"""Name of a camera in every world that belongs to no robot: the viewpoint of videos."""
TIMESTEP_S = 0.002
TORSIONAL_FRICTION = 0.005
"""Torsional friction [m] of a contact patch: friction coefficient times about half the radius of a 1 cm patch."""
ROLLING_FRICTION = 0.0001
"""Rolling friction [m] of most surfaces, MuJoCo's default; it acts only in contacts with a material in `ROLLING_ARMS`."""
ROLLING_ARMS = {"steel": 0.0005}
"""Lever arm of rolling friction [m] by material, for thin rods on which other objects hang and swing.

Engineering tables give 0.5 mm for steel on steel and more for softer materials. Without it, an object that hangs on a round branch
rolls instead of sliding, and swings for tens of seconds. Other materials have none, as it costs two more constraint rows a contact.
"""
_TABLE_FRICTION = (0.05, TORSIONAL_FRICTION, ROLLING_FRICTION)  # MuJoCo takes the larger of two frictions, so the object decides
_HULL_SOLMIX = 0.01  # so that the gripper pad decides the stiffness of a contact; averaged with a soft object, a grasp would creep
_ARENA_BYTES = 128 << 20  # address space; only the part that contacts fill is ever touched
_OFF_CENTER = 1e-6
_VISUAL_GROUP, _HULL_GROUP = 2, 3
_GEOMS = {
    ShapeKind.BOX: mujoco.mjtGeom.mjGEOM_BOX,
    ShapeKind.SPHERE: mujoco.mjtGeom.mjGEOM_SPHERE,
    ShapeKind.CYLINDER: mujoco.mjtGeom.mjGEOM_CYLINDER,
    ShapeKind.CAPSULE: mujoco.mjtGeom.mjGEOM_CAPSULE,
}
_RESERVED = ("robot", "table", "world")
_LOCKED = (0.9999, 0.9999, 0.001, 0.5, 2.0)  # impedance of joint friction: at the default 0.9 a loaded lever creeps


def substeps(robot: Robot) -> int:
    """Number of physics steps in one control period of a robot; raises RobotError when it is not an integer."""
    steps = round(1.0 / (robot.control_hz * TIMESTEP_S))
    if steps < 1 or abs(steps * robot.control_hz * TIMESTEP_S - 1.0) > 1e-9:
        fastest = round(1.0 / TIMESTEP_S)
        rates = ", ".join(str(rate) for rate in range(10, fastest + 1) if fastest % rate == 0)
        raise RobotError(
            f"robot {robot.name!r} takes {robot.control_hz} commands per second, which no whole number of physics steps of "
            f"{1e3 * TIMESTEP_S:g} ms fits into; available: {rates}"
        )
    return steps


def lit_spec() -> mujoco.MjSpec:
    """An empty world with all options, lights and the free camera."""
    spec = mujoco.MjSpec()
    spec.compiler.degree = False
    _set_options(spec)
    for index in range(MAX_LIGHTS):
        spec.worldbody.add_light(
            name=f"light{index}",
            type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
            castshadow=True,
            ambient=(0, 0, 0),
            specular=(0, 0, 0),
        )
    spec.worldbody.add_camera(name=FREE_CAMERA)
    add_textures(spec)
    return spec


def add_table(spec: mujoco.MjSpec) -> None:
    """Adds a floor, and a table unless the robot's file has one, with so little friction that the objects on it decide."""
    if spec.body("table") is None:
        _add_plain_table(spec)
    spec.geom("table").friction = _TABLE_FRICTION
    spec.geom("table").material = add_surface(spec, "table", spatial=True)


def _add_plain_table(spec: mujoco.MjSpec) -> None:
    spec.worldbody.add_geom(
        name="floor", type=mujoco.mjtGeom.mjGEOM_PLANE, size=(0, 0, 1), pos=(0, 0, FLOOR_HEIGHT), rgba=(0.36, 0.38, 0.41, 1.0)
    )
    spec.worldbody.add_body(name="table").add_geom(
        name="table",
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=[extent / 2 for extent in TABLE_SIZE],
        pos=(0, 0, -TABLE_SIZE[2] / 2),
    )


def attach_robot(spec: mujoco.MjSpec, robot: Robot) -> None:
    """Adds the robot with the prefix "robot/" for all names except the table; raises RobotError when its MJCF cannot be used."""
    try:
        child = mujoco.MjSpec.from_string(robot.mjcf)
    except ValueError as error:
        raise RobotError(f"the MJCF of robot {robot.name!r} does not parse: {error}") from error
    if robot.mesh_dir is not None:
        child.meshdir = str(robot.mesh_dir)
    _set_options(child)  # the robot's file may have other contact settings
    for element in [*child.keys, *child.lights, *child.sensors]:
        child.delete(element)
    names = [camera.name for camera in child.cameras]
    for camera in robot.cameras:
        found = child.camera(camera.name)
        if found is None:
            raise RobotError(f"robot {robot.name!r} has no camera {camera.name!r}; its MJCF has {names}")
        found.fovy = camera.fovy
    frame = spec.worldbody.add_frame(pos=robot.world_from_base.position, quat=robot.world_from_base.quaternion)
    spec.attach(child, prefix="robot/", frame=frame)
    table = spec.body("robot/table")
    if table is not None:
        if spec.geom("robot/table") is None:
            raise RobotError(f"robot {robot.name!r} has a body 'table' without a geom 'table': name the table top so")
        table.name = spec.geom("robot/table").name = "table"
    _exclude_first_links(spec)


def _exclude_first_links(spec: mujoco.MjSpec) -> None:
    """Excludes contacts of first moving links with the robot's base: MuJoCo filters parent and child, but not the world body."""
    fixed, first_links, queue = {"table"}, [], [spec.worldbody]
    while queue:
        body = queue.pop()
        fixed.add(body.name)
        for child in body.bodies:
            if child.joints:
                first_links.append(child.name)
            else:
                queue.append(child)
    for link in first_links:
        for body in sorted(fixed):
            spec.add_exclude(bodyname1=link, bodyname2=body)


def _set_options(spec: mujoco.MjSpec) -> None:
    """Sets contact options that hold a grasp without creep, and fixed model statistics, on which the renderer's kernel depends."""
    option, default = spec.option, mujoco.MjSpec().option
    for name in dir(default):
        if not name.startswith("_"):
            setattr(option, name, getattr(default, name))
    option.timestep = TIMESTEP_S
    option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    option.impratio = 10.0
    option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.memory = _ARENA_BYTES
    spec.stat.extent = 1.0
    spec.stat.center = (0.0, 0.0, 0.0)
    spec.visual.map.znear = 0.01
    spec.visual.map.zfar = 20.0
    spec.visual.headlight.active = 1
    spec.visual.headlight.ambient = (0.32, 0.32, 0.32)
    spec.visual.headlight.diffuse = (0.18, 0.18, 0.18)
    spec.visual.headlight.specular = (0.0, 0.0, 0.0)


def add_object(spec: mujoco.MjSpec, placement: ObjectPlacement) -> None:
    """Adds an asset under its role; raises SceneError when the role is taken or the asset's joints form no tree."""
    role, asset = placement.role, placement.asset
    if role in _RESERVED or "/" in role or spec.body(f"{role}/{asset.bodies[0].name}") is not None:
        raise SceneError(f"object role {role!r} cannot be used: roles are unique, without '/' and none of {_RESERVED}")
    add_surface(spec, role)
    # A bolted asset is mounted on a mocap body, whose pose is part of the state: resets then change no constant of the model.
    mount = spec.worldbody.add_body(name=role, mocap=True) if asset.fixed_base else spec.worldbody
    parents = {joint.child: joint for joint in asset.joints}
    placed: dict[str, mujoco.MjsBody] = {}
    poses = {body.name: body.body_pose for body in asset.bodies}
    waiting = list(asset.bodies)
    while waiting:
        ready = [b for b in waiting if b.name not in parents or parents[b.name].parent in ("", *placed)]
        if not ready:
            raise SceneError(f"asset {asset.name!r}: joints do not form a tree over bodies {[b.name for b in asset.bodies]}")
        for body in ready:
            waiting.remove(body)
            joint = parents.get(body.name)
            if joint is None:
                placed[body.name] = _add_body(spec, spec.worldbody, f"{role}/", body, body.body_pose)
                placed[body.name].add_freejoint(name=f"{role}/{body.name}")
                continue
            parent = placed[joint.parent] if joint.parent else mount
            pose = compose(inverse(poses[joint.parent]), body.body_pose) if joint.parent else body.body_pose
            placed[body.name] = _add_body(spec, parent, f"{role}/", body, pose)
            if joint.kind is not JointKind.FIXED:
                _add_joint(placed[body.name], f"{role}/", joint)
    for joint in asset.movable_joints:
        if joint.mimic:
            names = (f"{role}/{joint.name}", f"{role}/{joint.mimic.joint}")
            follows = spec.add_equality(name=names[0], type=mujoco.mjtEq.mjEQ_JOINT, name1=names[0], name2=names[1])
            follows.data[:5] = (joint.mimic.offset, joint.mimic.multiplier, 0.0, 0.0, 0.0)
    for first, second in asset.apart:
        spec.add_exclude(bodyname1=f"{role}/{first}", bodyname2=f"{role}/{second}")


def _add_body(spec: mujoco.MjSpec, parent: mujoco.MjsBody, prefix: str, body: Body, pose: Pose) -> mujoco.MjsBody:
    name = prefix + body.name
    made = parent.add_body(name=name, pos=pose.position, quat=pose.quaternion)
    made.explicitinertial = True
    made.mass = body.mass
    # If the centre of mass is exactly at the origin, MuJoCo compiles a shortcut that would be wrong once another centre is written.
    made.ipos = np.add(body.center_of_mass, _OFF_CENTER)
    made.iquat = body.principal_axes
    made.inertia = body.diagonal_inertia
    if len(body.visual.faces):
        _add_mesh(spec, f"{name}/visual", body.visual, mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL, textured=True)
        made.add_geom(
            name=f"{name}/visual",
            type=mujoco.mjtGeom.mjGEOM_MESH,
            meshname=f"{name}/visual",
            material=f"surface/{prefix[:-1]}",
            contype=0,
            conaffinity=0,
            group=_VISUAL_GROUP,
            mass=0.0,
        )
    for index, hull in enumerate(body.hulls):
        where: dict[str, Any] = {"type": mujoco.mjtGeom.mjGEOM_MESH, "meshname": f"{name}/hull{index}"}
        if hull.shape is None:
            _add_mesh(spec, f"{name}/hull{index}", hull, mujoco.mjtMeshInertia.mjMESH_INERTIA_CONVEX)
        else:
            pose, sizes = hull.shape.pose, half_sizes(hull.shape)
            where = {"type": _GEOMS[hull.shape.kind], "size": sizes, "pos": pose.position, "quat": pose.quaternion}
        made.add_geom(
            name=f"{name}/hull{index}",
            **where,
            condim=6 if body.material.name in ROLLING_ARMS else 4,
            solmix=_HULL_SOLMIX,
            group=_HULL_GROUP,
            mass=0.0,
        )
    return made


def _add_mesh(spec: mujoco.MjSpec, name: str, mesh: Mesh, inertia: mujoco.mjtMeshInertia, *, textured: bool = False) -> None:
    made = spec.add_mesh(
        name=name,
        uservert=np.asarray(mesh.vertices, np.float64).ravel(),
        userface=np.asarray(mesh.faces, np.int32).ravel(),
        inertia=inertia,
    )
    if textured:
        points, faces = coordinates(mesh)
        made.usertexcoord, made.userfacetexcoord = points.ravel(), faces.ravel()


def _add_joint(body: mujoco.MjsBody, prefix: str, joint: Joint) -> None:
    kinds = {JointKind.REVOLUTE: mujoco.mjtJoint.mjJNT_HINGE, JointKind.PRISMATIC: mujoco.mjtJoint.mjJNT_SLIDE}
    body.add_joint(
        name=prefix + joint.name,
        type=kinds[joint.kind],
        axis=joint.axis,
        pos=joint.anchor,
        limited=joint.bounded and joint.upper > joint.lower,
        range=(joint.lower, joint.upper) if joint.bounded else (0.0, 0.0),
        stiffness=joint.stiffness,
        springref=joint.rest,
        solimp_friction=_LOCKED,
        armature=joint.armature,
    )
