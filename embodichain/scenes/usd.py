"""Scenes as USD: asset references, poses, lights and masses for any USD tool, and all that a bitwise equal simulation needs.

The text is written directly, and read through `assets.usd`, where pxr is imported. Poses are read from the prims, so an object
moved in another tool is moved here too; the rest is read from one JSON attribute, whose numbers are exact.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from embodichain import __version__
from embodichain.assets.usd import files as usd
from embodichain.assets.usd.usd_contents import PrimFacts
from embodichain.errors import AssetError, SceneError
from embodichain.expand.size import resized
from embodichain.types import (
    TABLE_SIZE,
    Asset,
    Body,
    Bounds,
    CameraLook,
    Dynamics,
    Grains,
    Joint,
    JointKind,
    Light,
    Looks,
    NoiseSource,
    ObjectPlacement,
    Pose,
    Scene,
    Texture,
    Wander,
)
from embodichain.types.mishaps import Pushed
from embodichain.types.poses import quaternion_between

_ATTRIBUTE = "embodichain:scene"


def write(scene: Scene, path: Path) -> Path:
    """Writes `scene` to `path`, a .usda file, atomically.

    Raises SceneError when an asset has no file to refer to, or the file cannot be written.
    """
    if path.suffix != ".usda":
        raise SceneError(f"a scene is written as USD text: name the file {path.with_suffix('.usda').name}, not {path.name}")
    lines = [
        "#usda 1.0",
        '(\n    defaultPrim = "scene"\n    metersPerUnit = 1\n    kilogramsPerUnit = 1\n    upAxis = "Z"',
        f"    doc = {_quoted(f'{scene.task}: {scene.instruction}')}\n)",
        'def Xform "scene"\n{',
        f"    custom string {_ATTRIBUTE} = {_quoted(json.dumps(_facts(scene, path.parent)))}",
        *_table(scene),
        *(line for number, light in enumerate(scene.lights) for line in _light(number, light)),
        '    def Xform "objects"\n    {',
        *(line for placement in scene.objects for line in _object(placement, path.parent)),
        "    }",
        *_grains(scene.grains),
        "}",
    ]
    partial = path.with_name(f"{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise SceneError(f"cannot write the scene to {path}: {error}") from error
    return path


def is_scene(path: Path) -> bool:
    """Whether a USD file is a scene written by `write`; raises SceneError when it cannot be read."""
    try:
        prims = {prim.path: prim for prim in usd.inspect(path).prims}
    except AssetError as error:
        raise SceneError(f"cannot read {path}: {error}") from error
    return "/scene" in prims and _ATTRIBUTE in prims["/scene"].values


def read(path: Path) -> Scene:
    """The scene that `write` wrote. Raises SceneError when it is no such file, or when an asset is missing or has changed."""
    try:
        prims = {prim.path: prim for prim in usd.inspect(path).prims}
    except AssetError as error:
        raise SceneError(f"cannot read a scene from {path}: {error}") from error
    if "/scene" not in prims or _ATTRIBUTE not in prims["/scene"].values:
        raise SceneError(
            f"{path} is no scene of this engine: it has no attribute {_ATTRIBUTE} at /scene; sample one with `scene sample`"
        )
    try:
        return _scene(path, prims, json.loads(prims["/scene"].values[_ATTRIBUTE]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SceneError(
            f"{path} has an {_ATTRIBUTE} that this version does not read ({type(error).__name__}: {error}); sample the scene again"
        ) from error


def _scene(path: Path, prims: Mapping[str, PrimFacts], facts: Mapping[str, Any]) -> Scene:
    objects = []
    for entry in facts["objects"]:
        prim = prims.get(f"/scene/objects/{entry['role']}")
        if prim is None:
            raise SceneError(f"{path} has lost the prim of its object {entry['role']!r}")
        objects.append(_placement(entry, prim.values, path.parent))
    looks = facts["looks"]
    return Scene(
        seed=facts["seed"],
        task=facts["task"],
        instruction=facts["instruction"],
        objects=tuple(objects),
        lights=tuple(Light(**{name: tuple(value) for name, value in light.items()}) for light in facts["lights"]),
        table_color=tuple(facts["table_color"]),
        looks=Looks(
            textures={role: Texture(name) for role, name in looks["textures"].items()},
            cameras={
                name: CameraLook(zoom=look["zoom"], shift=tuple(look["shift"]), turn=tuple(look["turn"]))
                for name, look in looks["cameras"].items()
            },
            exposure=looks["exposure"],
            noise=looks["noise"],
            wander=Wander(**looks["wander"]),
            noise_source=NoiseSource(looks.get("noise_source", NoiseSource.NORMAL)),
        ),
        dynamics=Dynamics(**facts["dynamics"]),
        bounds=Bounds(**facts.get("bounds", {})),
        expansion=facts["expansion"],
        grains=_loose(facts.get("grains"), prims),
        happening=tuple(Pushed(**{**push, "force": tuple(push["force"])}) for push in facts.get("happening", ())),
    )


# ------------------------------------------------------------------------------------------------------------- writing


def _facts(scene: Scene, folder: Path) -> dict[str, Any]:
    """Everything of a scene except poses, as plain values."""
    return {
        "version": __version__,
        "seed": scene.seed,
        "task": scene.task,
        "instruction": scene.instruction,
        "lights": [asdict(light) for light in scene.lights],
        "table_color": scene.table_color,
        "looks": asdict(scene.looks),
        "dynamics": asdict(scene.dynamics),
        "bounds": asdict(scene.bounds),
        "expansion": dict(scene.expansion),
        **({"grains": _kind(scene.grains)} if scene.grains.positions else {}),
        **({"happening": [asdict(push) for push in scene.happening]} if scene.happening else {}),
        "objects": [
            {
                "role": placement.role,
                "asset": _reference(placement.asset, folder),
                "content_hash": placement.asset.content_hash,
                **({"scale": placement.asset.scale} if placement.asset.scale != 1.0 else {}),
                "joint_positions": placement.joint_positions,
                "color": placement.color,
                "bodies": [_mass(body) for body in placement.asset.bodies],
                "joints": [{"damping": joint.damping, "friction": joint.friction} for joint in placement.asset.joints],
            }
            for placement in scene.objects
        ],
    }


def _kind(grains: Grains) -> dict[str, Any]:
    return {"radius": grains.radius, "density": grains.density, "drag": grains.drag, "color": grains.color}


def _grains(grains: Grains) -> list[str]:
    """The grains as points, which any USD tool shows as balls; their coordinates are 32-bit numbers."""
    if not grains.positions:
        return []
    if not np.array_equal(np.asarray(grains.positions, np.float32), grains.positions):
        raise SceneError("grains are written with 32-bit coordinates: round their positions first, or they would not replay")
    return [
        '    def Points "grains"\n    {',
        f"        point3f[] points = [{', '.join(map(_tuple, grains.positions))}]",
        f'        float[] widths = [{2.0 * grains.radius!r}] (\n            interpolation = "constant"\n        )',
        f"        color3f[] primvars:displayColor = [{_tuple(grains.color[:3])}]\n    }}",
    ]


def _mass(body: Body) -> dict[str, Any]:
    rubs = [[surface.static_friction, surface.dynamic_friction] for surface in body.surfaces]
    return {
        "mass": body.mass,
        "center_of_mass": body.center_of_mass,
        "diagonal_inertia": body.diagonal_inertia,
        "principal_axes": body.principal_axes,
        "density": body.material.density,
        "static_friction": body.material.static_friction,
        "dynamic_friction": body.material.dynamic_friction,
        **({"surfaces": rubs} if rubs else {}),
    }


def _reference(asset: Asset, folder: Path) -> str:
    """Path of the asset's file relative to the scene's folder."""
    if not asset.path.is_file():
        raise SceneError(f"asset {asset.name!r} has no file to refer to ({asset.path}): build it with `embodichain asset build`")
    return Path(os.path.relpath(asset.path.resolve(), folder.resolve())).as_posix()


def _table(scene: Scene) -> list[str]:
    x, y, z = TABLE_SIZE
    return [
        '    def Cube "table" (\n        prepend apiSchemas = ["PhysicsCollisionAPI"]\n    )\n    {',
        "        double size = 1",
        f"        color3f[] primvars:displayColor = [{_tuple(scene.table_color[:3])}]",
        f"        double3 xformOp:translate = {_tuple((0.0, 0.0, -z / 2))}",
        f"        double3 xformOp:scale = {_tuple((x, y, z))}",
        '        uniform token[] xformOpOrder = ["xformOp:translate", "xformOp:scale"]\n    }',
    ]


def _light(number: int, light: Light) -> list[str]:
    direction = np.asarray(light.direction) / np.linalg.norm(light.direction)
    x, y, z = (float(v) for v in direction)
    return [
        f'    def DistantLight "light{number}"\n    {{',
        f"        color3f inputs:color = {_tuple(light.diffuse)}",
        "        float inputs:intensity = 1000",
        f"        quatd xformOp:orient = {_tuple(quaternion_between((0.0, 0.0, -1.0), (x, y, z)))}",
        '        uniform token[] xformOpOrder = ["xformOp:orient"]\n    }',
    ]


def _object(placement: ObjectPlacement, folder: Path) -> list[str]:
    if not placement.role.isidentifier():
        raise SceneError(f"role {placement.role!r} is no valid prim name; use letters, digits and underscores")
    scale, order = placement.asset.scale, ["xformOp:translate", "xformOp:orient"]
    larger = []
    if scale != 1.0:
        order.append("xformOp:scale")
        larger.append(f"            float3 xformOp:scale = {_tuple((scale, scale, scale))}")
    lines = [
        f'        def Xform "{placement.role}" (',
        f"            prepend references = @{_reference(placement.asset, folder)}@\n        )\n        {{",
        f"            double3 xformOp:translate = {_tuple(placement.pose.position)}",
        f"            quatd xformOp:orient = {_tuple(placement.pose.quaternion)}",
        *larger,
        f"            uniform token[] xformOpOrder = [{', '.join(map(_quoted, order))}]",
    ]
    for body in placement.asset.bodies:
        lines += [
            f'            over "{body.name}"\n            {{',
            f"                float physics:mass = {body.mass!r}",
            f"                point3f physics:centerOfMass = {_tuple([value / scale for value in body.center_of_mass])}",
            f"                float3 physics:diagonalInertia = {_tuple(body.diagonal_inertia)}",
            f"                quatf physics:principalAxes = {_tuple(body.principal_axes)}",
            *_tint(placement),
            "            }",
        ]
    return [*lines, *_rubbing(placement.asset), *_joints(placement.asset), *_paint(placement), "        }"]


def _tint(placement: ObjectPlacement) -> list[str]:
    """A body in the colour of its object, which is stronger than what the asset's file binds to it or its parts."""
    if placement.color is None:
        return []
    return [
        '                over "visual" (\n                    prepend apiSchemas = ["MaterialBindingAPI"]\n                )',
        "                {",
        f"                    color3f[] primvars:displayColor = [{_tuple(placement.color[:3])}]",
        f"                    rel material:binding = </scene/objects/{placement.role}/tint> (",
        '                        bindMaterialAs = "strongerThanDescendants"\n                    )\n                }',
    ]


def _paint(placement: ObjectPlacement) -> list[str]:
    if placement.color is None:
        return []
    return [
        '            def Material "tint"\n            {',
        f"                token outputs:surface.connect = </scene/objects/{placement.role}/tint/surface.outputs:surface>",
        '                def Shader "surface"\n                {',
        '                    uniform token info:id = "UsdPreviewSurface"',
        f"                    color3f inputs:diffuseColor = {_tuple(placement.color[:3])}",
        f"                    float inputs:opacity = {float(placement.color[3])!r}",
        "                    float inputs:roughness = 0.5",
        "                    token outputs:surface\n                }\n            }",
    ]


def _rubbing(asset: Asset) -> list[str]:
    """The friction of the object's materials, by the names that the asset's file has for them."""
    found = {material.name: material for body in asset.bodies for material in (body.material, *body.surfaces)}
    lines = ['            over "materials"\n            {']
    for name, material in found.items():
        lines += [
            f'                over "{name}"\n                {{',
            f"                    float physics:staticFriction = {material.static_friction!r}",
            f"                    float physics:dynamicFriction = {material.dynamic_friction!r}\n                }}",
        ]
    return [*lines, "            }"]


def _joints(asset: Asset) -> list[str]:
    """Damping of the object's joints, per degree where they turn, and their dry friction in PhysX's words."""
    if not asset.movable_joints:
        return []
    lines = ['            over "joints"\n            {']
    for joint in asset.movable_joints:
        turns = joint.kind is JointKind.REVOLUTE
        damping = math.radians(joint.damping) if turns else joint.damping
        lines += [
            f'                over "{joint.name}" (\n                    prepend apiSchemas = ["PhysxJointAPI"]\n                )',
            f"                {{\n                    float drive:{'angular' if turns else 'linear'}:physics:damping = {damping!r}",
            f"                    float physxJoint:jointFriction = {joint.friction!r}\n                }}",
        ]
    return [*lines, "            }"]


def _tuple(values: Sequence[float]) -> str:
    return f"({', '.join(repr(float(value)) for value in values)})"


def _quoted(text: str) -> str:
    """A string in USD's text format."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


# ------------------------------------------------------------------------------------------------------------- reading


def _loose(kind: Mapping[str, Any] | None, prims: Mapping[str, Any]) -> Grains:
    """The scene's grains; empty where the file mentions none."""
    if kind is None:
        return Grains()
    if "/scene/grains" not in prims:
        raise SceneError("the scene has lost the prim of its grains")
    points = np.asarray(prims["/scene/grains"].values["points"], np.float64).reshape(-1, 3)
    positions = tuple((x, y, z) for x, y, z in points.tolist())
    return Grains(**{**kind, "color": tuple(kind["color"])}, positions=positions)


def _placement(entry: Mapping[str, Any], values: Mapping[str, Any], folder: Path) -> ObjectPlacement:
    try:
        asset = usd.read((folder / entry["asset"]).resolve())
    except AssetError as error:
        raise SceneError(f"cannot read the asset of {entry['role']!r}: {error}") from error
    if asset.content_hash != entry["content_hash"]:
        raise SceneError(
            f"asset {asset.name!r} of {entry['role']!r} has content {asset.content_hash}, the scene was made with "
            f"{entry['content_hash']}: it would not replay; sample it again"
        )
    asset = resized(asset, entry.get("scale", 1.0))
    bodies = tuple(_weighed(body, found) for body, found in zip(asset.bodies, entry["bodies"], strict=True))
    joints: tuple[Joint, ...] = tuple(replace(joint, **found) for joint, found in zip(asset.joints, entry["joints"], strict=True))
    x, y, z = (float(v) for v in values["xformOp:translate"])
    a, i, j, k = (float(v) for v in values["xformOp:orient"])
    return ObjectPlacement(
        role=entry["role"],
        asset=replace(asset, bodies=bodies, joints=joints),
        pose=Pose(position=(x, y, z), quaternion=(a, i, j, k)),
        joint_positions=tuple(entry["joint_positions"]),
        color=tuple(entry["color"]) if entry["color"] is not None else None,
    )


def _weighed(body: Body, found: Mapping[str, Any]) -> Body:
    material = replace(body.material, **{name: found[name] for name in ("density", "static_friction", "dynamic_friction")})
    surfaces = tuple(
        replace(surface, density=found["density"], static_friction=static, dynamic_friction=dynamic)
        for surface, (static, dynamic) in zip(body.surfaces, found.get("surfaces", ()), strict=True)
    )
    return replace(
        body,
        mass=found["mass"],
        center_of_mass=tuple(found["center_of_mass"]),
        diagonal_inertia=tuple(found["diagonal_inertia"]),
        principal_axes=tuple(found["principal_axes"]),
        material=material,
        surfaces=surfaces,
    )
