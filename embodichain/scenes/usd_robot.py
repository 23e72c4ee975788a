"""A robot as a USD file that scenes refer to: links at home with shapes and masses, joints with drives and states, cameras."""

from __future__ import annotations

import math
from collections.abc import Mapping

from embodichain.robots.posed import PosedCamera, PosedJoint, PosedLink, PosedShape, posed
from embodichain.scenes.usd_text import identifier, listed, number, placed, quoted, spelt
from embodichain.types import CameraLook, Pose, Robot, ShapeKind
from embodichain.types.poses import compose, inverse, multiply, quaternion_between, turn, turned

__all__ = ["camera_overrides", "robot_text"]

_APERTURE = 20.955
"""Height and width of a camera's film in USD's unit; only its ratio to the focal length matters."""
_AXIS = (1.0, 0.0, 0.0)
_SHAPES = {ShapeKind.BOX: "Cube", ShapeKind.SPHERE: "Sphere", ShapeKind.CYLINDER: "Cylinder", ShapeKind.CAPSULE: "Capsule"}
_BASE = "base"
"""Prim of what belongs to no link."""


def robot_text(robot: Robot) -> str:
    """The robot as USD text with the default prim "robot", its base; raises RobotError for what USD's joints cannot hold."""
    return "\n".join(_lines(robot)) + "\n"


def camera_overrides(robot: Robot, looks: Mapping[str, CameraLook], indent: str) -> list[str]:
    """The lines by which a scene changes the cameras of the robot that it refers to."""
    found, names = posed(robot), _names(robot)
    lines: list[str] = []
    for camera in found.cameras:
        look = looks.get(camera.name, CameraLook())
        if look == CameraLook():
            continue
        deeper = indent + "    "
        lines += [f'{indent}over "{names[camera.link]}"', f"{indent}{{", f'{deeper}over "{_film(camera)}"', f"{deeper}{{"]
        lines += [*_seen_from(camera, look, deeper + "    "), f"{deeper}}}", f"{indent}}}"]
    return lines


# --------------------------------------------------------------------------------------------------------------- lines


def _names(robot: Robot) -> dict[str, str]:
    """The prim of each link by the link's name."""
    taken: set[str] = {"joints", _BASE}
    return {"": _BASE} | {link.name: identifier(link.name, taken) for link in posed(robot).links if link.name}


def _lines(robot: Robot) -> list[str]:
    found, names = posed(robot), _names(robot)
    links = {link.name: link for link in found.links}
    taken: set[str] = set()
    return [
        "#usda 1.0",
        '(\n    defaultPrim = "robot"\n    metersPerUnit = 1\n    kilogramsPerUnit = 1\n    upAxis = "Z"',
        f"    doc = {quoted(f'robot {robot.name} at home, {robot.content_hash}')}\n)",
        'def Xform "robot" (\n    prepend apiSchemas = ["PhysicsArticulationRootAPI"]\n    kind = "component"\n)\n{',
        f"    custom string embodichain:robot = {quoted(robot.name)}",
        f"    custom string embodichain:contentHash = {quoted(robot.content_hash)}",
        *placed(robot.world_from_base, "    "),
        *(
            line
            for link in found.links
            for line in _link(link, names[link.name], [camera for camera in found.cameras if camera.link == link.name])
        ),
        '    def Scope "joints"\n    {',
        *(line for joint in found.joints for line in _joint(joint, links, names, taken)),
        "    }",
        "}",
    ]


def _link(link: PosedLink, name: str, cameras: list[PosedCamera]) -> list[str]:
    taken = {_film(camera) for camera in cameras}
    lines = [f'    def Xform "{name}" (']
    if link.name:
        lines += ['        prepend apiSchemas = ["PhysicsRigidBodyAPI", "PhysicsMassAPI"]']
    lines += ["    )\n    {", *placed(link.base_from_link, "        ")]
    if link.name:
        lines += [
            f"        float physics:mass = {number(link.mass)}",
            f"        point3f physics:centerOfMass = {spelt(link.center_of_mass)}",
            f"        float3 physics:diagonalInertia = {spelt(link.diagonal_inertia)}",
            f"        quatf physics:principalAxes = {spelt(link.principal_axes)}",
        ]
    for shape in link.shapes:
        lines += _shape(shape, identifier(shape.name or "shape", taken))
    for camera in cameras:
        lines += [f'        def Camera "{_film(camera)}"\n        {{', *_seen_from(camera, CameraLook(), " " * 12), "        }"]
    return [*lines, "    }"]


def _shape(shape: PosedShape, name: str) -> list[str]:
    schemas = ' (\n            prepend apiSchemas = ["PhysicsCollisionAPI"]\n        )' if shape.collides else ""
    lines = [f'        def {_SHAPES[shape.kind] if shape.kind else "Mesh"} "{name}"{schemas}\n        {{']
    a, b, c = shape.size
    indent = " " * 12
    if shape.kind is ShapeKind.BOX:
        scale = [f"double3 xformOp:scale = {spelt((a, b, c))}"]
        lines += [f"{indent}double size = 1", *placed(shape.link_from_shape, indent, more=scale, order=["xformOp:scale"])]
    else:
        lines += placed(shape.link_from_shape, indent)
    if shape.kind in (ShapeKind.SPHERE, ShapeKind.CYLINDER, ShapeKind.CAPSULE):
        lines.append(f"{indent}double radius = {number(a)}")
    if shape.kind in (ShapeKind.CYLINDER, ShapeKind.CAPSULE):
        lines += [f"{indent}double height = {number(b)}", f'{indent}uniform token axis = "Z"']
    if shape.kind is None:
        lines += [
            f"{indent}point3f[] points = {listed(map(spelt, shape.vertices.tolist()))}",
            f"{indent}int[] faceVertexCounts = {listed([3] * len(shape.faces))}",
            f"{indent}int[] faceVertexIndices = {listed(shape.faces.ravel().tolist())}",
            f'{indent}uniform token subdivisionScheme = "none"',
        ]
    lines += [
        f"{indent}color3f[] primvars:displayColor = [{spelt(shape.color[:3])}]",
        f"{indent}float[] primvars:displayOpacity = [{number(shape.color[3])}]",
    ]
    if not shape.visible:
        lines.append(f'{indent}uniform token purpose = "guide"')
    return [*lines, "        }"]


def _joint(joint: PosedJoint, links: Mapping[str, PosedLink], names: Mapping[str, str], taken: set[str]) -> list[str]:
    """A joint. USD's joints are about X of a frame in both bodies, which coincide where the joint's position is zero."""
    indent = " " * 12
    kind = "PhysicsFixedJoint"
    frame = Pose(position=joint.anchor)
    schemas: list[str] = []
    lines: list[str] = []
    child = links[joint.child].base_from_link
    if joint.axis is not None:
        kind = "PhysicsRevoluteJoint" if joint.turns else "PhysicsPrismaticJoint"
        frame = Pose(position=joint.anchor, quaternion=quaternion_between(_AXIS, joint.axis))
        child = compose(child, inverse(_motion(joint)))  # where it would be at zero
        word, scale = ("angular", math.degrees(1.0)) if joint.turns else ("linear", 1.0)
        schemas = [f"PhysicsDriveAPI:{word}", f"PhysicsJointStateAPI:{word}"]
        lines = [
            f'{indent}uniform token physics:axis = "X"',
            f"{indent}float physics:lowerLimit = {number(joint.lower * scale)}",
            f"{indent}float physics:upperLimit = {number(joint.upper * scale)}",
            f'{indent}uniform token drive:{word}:physics:type = "force"',
            f"{indent}float drive:{word}:physics:stiffness = {number(joint.stiffness / scale)}",
            f"{indent}float drive:{word}:physics:damping = {number(joint.damping / scale)}",
            f"{indent}float drive:{word}:physics:maxForce = {number(joint.effort)}",
            f"{indent}float drive:{word}:physics:targetPosition = {number(joint.position * scale)}",
            f"{indent}float state:{word}:physics:position = {number(joint.position * scale)}",
        ]
    in_parent = compose(child, frame)
    if joint.parent:
        in_parent = compose(inverse(links[joint.parent].base_from_link), in_parent)
    # Without a first body USD takes the world, and a joint's frame there would not follow the robot's base: so its prim is named.
    parent = f"</robot/{names[joint.parent]}>" if joint.parent else "</robot>"
    told = f" (\n            prepend apiSchemas = {listed(map(quoted, schemas))}\n        )" if schemas else ""
    return [
        f'        def {kind} "{identifier(joint.name, taken)}"{told}\n        {{',
        f"{indent}rel physics:body0 = {parent}",
        f"{indent}rel physics:body1 = </robot/{names[joint.child]}>",
        f"{indent}point3f physics:localPos0 = {spelt(in_parent.position)}",
        f"{indent}quatf physics:localRot0 = {spelt(in_parent.quaternion)}",
        f"{indent}point3f physics:localPos1 = {spelt(frame.position)}",
        f"{indent}quatf physics:localRot1 = {spelt(frame.quaternion)}",
        *lines,
        "        }",
    ]


def _motion(joint: PosedJoint) -> Pose:
    """The child's frame at the joint's position, in its frame at zero."""
    assert joint.axis is not None
    x, y, z = joint.axis
    if not joint.turns:
        return Pose(position=(joint.position * x, joint.position * y, joint.position * z))
    quaternion = turn(joint.axis, joint.position)
    a, b, c = turned(quaternion, joint.anchor)
    return Pose(position=(joint.anchor[0] - a, joint.anchor[1] - b, joint.anchor[2] - c), quaternion=quaternion)


def _film(camera: PosedCamera) -> str:
    return identifier(camera.name, set())


def _seen_from(camera: PosedCamera, look: CameraLook, indent: str) -> list[str]:
    """The lens and the place of a camera, as `physics.film` sets them for a scene."""
    here = camera.link_from_camera
    dx, dy, dz = turned(here.quaternion, look.shift)
    angle = math.hypot(*look.turn)
    more = turn((look.turn[0] / angle, look.turn[1] / angle, look.turn[2] / angle), angle) if angle else (1.0, 0.0, 0.0, 0.0)
    x, y, z = here.position
    pose = Pose(position=(x + dx, y + dy, z + dz), quaternion=multiply(here.quaternion, more))
    focal = look.zoom * _APERTURE / (2.0 * math.tan(math.radians(camera.fovy) / 2.0))
    return [
        *placed(pose, indent),
        f"{indent}float focalLength = {number(focal)}",
        f"{indent}float verticalAperture = {number(_APERTURE)}",
        f"{indent}float horizontalAperture = {number(_APERTURE)}",
        f"{indent}float2 clippingRange = (0.01, 10)",
    ]
