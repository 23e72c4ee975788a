"""Writes an asset as self-contained MJCF, because MuJoCo's own reader of USD drops friction and joint drives."""

from __future__ import annotations

import math
from xml.etree import ElementTree

import numpy as np

from embodichain.types import Asset, Body, Joint, JointKind, Mesh, Pose
from embodichain.types.assets import half_sizes
from embodichain.types.poses import compose, inverse


def to_mjcf(asset: Asset, *, floor: bool = False, visual: bool = True) -> str:
    """MJCF text with all meshes inline; a root that is not bolted down gets a free joint.

    Args:
        asset: the asset.
        floor: whether to add a ground plane, options that hold contacts, and a light, for testing the asset.
        visual: whether to include visual meshes.
    """
    root = ElementTree.Element("mujoco", model=asset.name)
    ElementTree.SubElement(root, "compiler", angle="radian", autolimits="true")
    if floor:
        ElementTree.SubElement(root, "option", timestep="0.002", integrator="implicitfast", cone="elliptic", impratio="10")
    assets = ElementTree.SubElement(root, "asset")
    world = ElementTree.SubElement(root, "worldbody")
    if floor:
        ElementTree.SubElement(world, "light", pos="0 0 2", dir="0 0 -1")
        ElementTree.SubElement(world, "geom", name="floor", type="plane", size="2 2 0.1", condim="4", friction="0.3 0.002 0.0001")
    contact = ElementTree.SubElement(root, "contact")
    elements: dict[str, ElementTree.Element] = {"": world}
    poses = {body.name: body.body_pose for body in asset.bodies}
    joints = {joint.child: joint for joint in asset.joints}
    pending = list(asset.bodies)
    while pending:
        for body in [body for body in pending if not (joints.get(body.name) and joints[body.name].parent not in elements)]:
            joint = joints.get(body.name)
            parent = joint.parent if joint else ""
            pose = compose(inverse(poses[parent]), body.body_pose) if parent else body.body_pose
            elements[body.name] = _body(elements[parent], assets, body, joint, pose, visual=visual)
            if parent:
                ElementTree.SubElement(contact, "exclude", body1=parent, body2=body.name)
            pending.remove(body)
    joined = {frozenset((joint.parent, joint.child)) for joint in asset.joints}
    for first, second in (pair for pair in asset.apart if frozenset(pair) not in joined):
        ElementTree.SubElement(contact, "exclude", body1=first, body2=second)
    followers = [joint for joint in asset.movable_joints if joint.mimic]
    equality = ElementTree.SubElement(root, "equality") if followers else None
    for joint in followers:
        assert joint.mimic is not None
        assert equality is not None
        coefficients = f"{joint.mimic.offset!r} {joint.mimic.multiplier!r} 0 0 0"
        ElementTree.SubElement(equality, "joint", joint1=joint.name, joint2=joint.mimic.joint, polycoef=coefficients)
    for name, (owner, pose) in asset.affordances.items():
        ElementTree.SubElement(
            elements[owner], "site", name=name, pos=_text(pose.position), quat=_text(pose.quaternion), size="0.003", group="4"
        )
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode")


def _body(
    parent: ElementTree.Element,
    assets: ElementTree.Element,
    body: Body,
    joint: Joint | None,
    pose: Pose,
    *,
    visual: bool,
) -> ElementTree.Element:
    element = ElementTree.SubElement(parent, "body", name=body.name, pos=_text(pose.position), quat=_text(pose.quaternion))
    if joint is None:
        ElementTree.SubElement(element, "freejoint", name=f"{body.name}_free")
    elif joint.kind is not JointKind.FIXED:
        made = ElementTree.SubElement(
            element,
            "joint",
            name=joint.name,
            type="hinge" if joint.kind is JointKind.REVOLUTE else "slide",
            axis=_text(joint.axis),
            pos=_text(joint.anchor),
            damping=repr(joint.damping),
            frictionloss=repr(joint.friction),
            stiffness=repr(joint.stiffness),
            springref=repr(joint.rest),
            # With the default impedance, a joint held only by friction would creep by 0.05 rad a second.
            solimpfriction="0.9999 0.9999 0.001",
        )
        if joint.bounded:
            made.set("range", _text((joint.lower, joint.upper)))
        if joint.armature:
            made.set("armature", repr(joint.armature))
        if math.isfinite(joint.effort):
            made.set("actuatorfrcrange", _text((-joint.effort, joint.effort)))
    ElementTree.SubElement(
        element,
        "inertial",
        pos=_text(body.center_of_mass),
        quat=_text(body.principal_axes),
        mass=repr(body.mass),
        diaginertia=_text(body.diagonal_inertia),
    )
    if visual and len(body.visual.faces):
        _mesh(assets, f"{body.name}_visual", body.visual, faces=True)
        ElementTree.SubElement(
            element, "geom", type="mesh", mesh=f"{body.name}_visual", contype="0", conaffinity="0", group="2",
            mass="0", rgba=_text(body.color),
        )  # fmt: skip
    for index, (hull, surface) in enumerate(zip(body.hulls, body.touching, strict=True)):
        friction = f"{surface.dynamic_friction!r} 0.002 0.0001"
        name = f"{body.name}_hull_{index:02d}"
        solid = {"type": "mesh", "mesh": name}
        if hull.shape is None:
            _mesh(assets, name, hull, faces=False)
        else:
            pose, kind = hull.shape.pose, str(hull.shape.kind)
            size = _text(half_sizes(hull.shape))
            solid = {"type": kind, "size": size, "pos": _text(pose.position), "quat": _text(pose.quaternion)}
        common = {"name": name, "group": "3", "condim": "4", "friction": friction, "mass": "0", "rgba": _text(body.color)}
        ElementTree.SubElement(element, "geom", common | solid)
    return element


def _mesh(assets: ElementTree.Element, name: str, mesh: Mesh, *, faces: bool) -> None:
    """An inline mesh; hulls are written as vertices only, because MuJoCo computes the hull itself."""
    element = ElementTree.SubElement(assets, "mesh", name=name, inertia="shell", vertex=_text(mesh.vertices.ravel()))
    if faces:
        element.set("face", " ".join(str(index) for index in mesh.faces.ravel().tolist()))


def _text(values: object) -> str:
    return " ".join(f"{value:.9g}" for value in np.asarray(values, np.float64).tolist())
