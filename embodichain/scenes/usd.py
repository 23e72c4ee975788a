"""Scenes as USD: asset references, poses, lights and masses for any USD tool, and all that a bitwise equal simulation needs.

The text is written directly, and read through `assets.usd`, where pxr is imported. Poses are read from the prims, so an object
moved in another tool is moved here too; the rest is read from one JSON attribute, whose numbers are exact.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from embodichain import __version__
from embodichain.assets.usd import files as usd
from embodichain.assets.usd.usd_contents import PrimFacts
from embodichain.errors import AssetError, SceneError
from embodichain.expand.size import resized
from embodichain.motion.frames import asset_from_body
from embodichain.scenes.usd_robot import camera_overrides, robot_text
from embodichain.scenes.usd_text import listed, placed, quoted, spelt
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
    Robot,
    Scene,
    Texture,
    Wander,
)
from embodichain.types.mishaps import Pushed
from embodichain.types.plain import from_plain
from embodichain.types.poses import quaternion_between
from embodichain.types.settings import Sensor, Setting

_ATTRIBUTE = "embodichain:scene"
_AS_WRITTEN = re.compile(rf'^    custom string {_ATTRIBUTE} = "((?:[^"\\\n]|\\.)*)"$', re.MULTILINE)
_KEPT = 64
_PHYSICS_SCENE = (
    '    def PhysicsScene "physics"\n    {',
    "        vector3f physics:gravityDirection = (0, 0, -1)",
    "        float physics:gravityMagnitude = 9.81\n    }",
)


def write(scene: Scene, path: Path, robot: Robot | None = None) -> Path:
    """Writes `scene` to `path`, a .usda file, atomically.

    With `robot` the file holds everything that a simulator starts from: the physics scene, the robot at home and its cameras, by
    reference to a file of the robot beside `path`, and the parts of articulated objects where their joints have them. Without it
    these are left to the simulator, and objects lie with their joints at zero.

    Raises SceneError when an asset has no file to refer to, or the file cannot be written.
    """
    if path.suffix != ".usda":
        raise SceneError(f"a scene is written as USD text: name the file {path.with_suffix('.usda').name}, not {path.name}")
    lines = [
        "#usda 1.0",
        '(\n    defaultPrim = "scene"\n    metersPerUnit = 1\n    kilogramsPerUnit = 1\n    upAxis = "Z"',
        f"    doc = {quoted(f'{scene.task}: {scene.instruction}')}\n)",
        'def Xform "scene"\n{',
        f"    custom string {_ATTRIBUTE} = {quoted(json.dumps(_facts(scene, path.parent, robot)))}",
        *(_PHYSICS_SCENE if robot else ()),
        *_table(scene),
        *(line for number, light in enumerate(scene.lights) for line in _light(number, light)),
        '    def Xform "objects"\n    {',
        *(line for placement in scene.objects for line in _object(placement, path.parent, moved=robot is not None)),
        "    }",
        *(_robot(scene, robot) if robot else ()),
        *_grains(scene.grains),
        "}",
    ]
    partial = path.with_name(f"{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if robot is not None and not (path.parent / robot_file(robot)).exists():
            partial.write_text(robot_text(robot), encoding="utf-8")
            partial.replace(path.parent / robot_file(robot))
        partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise SceneError(f"cannot write the scene to {path}: {error}") from error
    return path


def robot_file(robot: Robot) -> str:
    """Name of the file of a robot beside the scenes that it is in; another robot of the same name has another."""
    return f"robot_{re.sub(r'[^0-9A-Za-z_]', '_', robot.name)}_{robot.content_hash[:8]}.usda"


def is_scene(path: Path) -> bool:
    """Whether a USD file is a scene written by `write`; raises SceneError when it cannot be read."""
    return _recorded(path) is not None


def heading(path: Path) -> Mapping[str, Any]:
    """The task, seed and instruction of a scene's file and, if it was written with one, the name and hash of its robot.

    That is quick, because nothing that the file refers to is opened. Raises SceneError when it is no scene.
    """
    facts = _facts_of(path)
    return {name: facts[name] for name in ("task", "seed", "instruction", "robot") if name in facts}


def read(path: Path) -> Scene:
    """The scene that `write` wrote. Raises SceneError when it is no such file, or when an asset is missing or has changed."""
    facts = _facts_of(path)
    try:
        prims = {prim.path: prim for prim in usd.inspect(path).prims}
    except AssetError as error:
        raise SceneError(f"cannot read a scene from {path}: {error}") from error
    try:
        return _scene(path, prims, facts)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unreadable(path, error) from error


def _recorded(path: Path) -> str | None:
    """The JSON of a scene's file; None in any other USD file. Found in the text that `write` wrote, which is quick, or by pxr."""
    try:
        found = _AS_WRITTEN.search(path.read_text(encoding="utf-8")) if path.suffix == ".usda" else None
        if found:
            return re.sub(r"\\(.)", lambda escaped: {"n": "\n"}.get(escaped[1], escaped[1]), found[1])
        prims = {prim.path: prim for prim in usd.inspect(path).prims}
    except (OSError, UnicodeDecodeError, AssetError) as error:
        raise SceneError(f"cannot read a scene from {path}: {error}") from error
    return prims["/scene"].values.get(_ATTRIBUTE) if "/scene" in prims else None


def _facts_of(path: Path) -> Mapping[str, Any]:
    text = _recorded(path)
    if text is None:
        raise SceneError(
            f"{path} is no scene of this engine: it has no attribute {_ATTRIBUTE} at /scene; sample one with `scene sample`"
        )
    try:
        found = json.loads(text)
        return {**found, "task": found["task"], "seed": found["seed"], "instruction": found["instruction"]}
    except (ValueError, KeyError, TypeError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> SceneError:
    return SceneError(
        f"{path} has an {_ATTRIBUTE} that this version does not read ({type(error).__name__}: {error}); sample the scene again"
    )


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
            setting=from_plain(Setting, looks["setting"]) if "setting" in looks else None,
            sensor=from_plain(Sensor, looks["sensor"]) if "sensor" in looks else None,
        ),
        dynamics=Dynamics(**facts["dynamics"]),
        bounds=Bounds(**facts.get("bounds", {})),
        expansion=facts["expansion"],
        grains=_loose(facts.get("grains"), prims),
        happening=tuple(Pushed(**{**push, "force": tuple(push["force"])}) for push in facts.get("happening", ())),
    )


# ------------------------------------------------------------------------------------------------------------- writing


def _facts(scene: Scene, folder: Path, robot: Robot | None) -> dict[str, Any]:
    """Everything of a scene except poses, as plain values."""
    return {
        "version": __version__,
        **({"robot": {"name": robot.name, "content_hash": robot.content_hash}} if robot else {}),
        "seed": scene.seed,
        "task": scene.task,
        "instruction": scene.instruction,
        "lights": [asdict(light) for light in scene.lights],
        "table_color": scene.table_color,
        "looks": {name: value for name, value in asdict(scene.looks).items() if value is not None},
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
        f"        point3f[] points = [{', '.join(map(spelt, grains.positions))}]",
        f'        float[] widths = [{2.0 * grains.radius!r}] (\n            interpolation = "constant"\n        )',
        f"        color3f[] primvars:displayColor = [{spelt(grains.color[:3])}]\n    }}",
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
        f"        color3f[] primvars:displayColor = [{spelt(scene.table_color[:3])}]",
        f"        double3 xformOp:translate = {spelt((0.0, 0.0, -z / 2))}",
        f"        double3 xformOp:scale = {spelt((x, y, z))}",
        '        uniform token[] xformOpOrder = ["xformOp:translate", "xformOp:scale"]\n    }',
    ]


def _light(number: int, light: Light) -> list[str]:
    direction = np.asarray(light.direction) / np.linalg.norm(light.direction)
    x, y, z = (float(v) for v in direction)
    return [
        f'    def DistantLight "light{number}"\n    {{',
        f"        color3f inputs:color = {spelt(light.diffuse)}",
        "        float inputs:intensity = 1000",
        f"        quatd xformOp:orient = {spelt(quaternion_between((0.0, 0.0, -1.0), (x, y, z)))}",
        '        uniform token[] xformOpOrder = ["xformOp:orient"]\n    }',
    ]


def _robot(scene: Scene, robot: Robot) -> list[str]:
    """The robot by reference, with its cameras as the scene has them."""
    return [
        '    def Xform "robot" (',
        f"        prepend references = @./{robot_file(robot)}@\n    )\n    {{",
        *camera_overrides(robot, scene.looks.cameras, " " * 8),
        "    }",
    ]


def _object(placement: ObjectPlacement, folder: Path, *, moved: bool) -> list[str]:
    """An object by reference, as the scene has it; with `moved`, its parts are where its joints have them."""
    if not placement.role.isidentifier():
        raise SceneError(f"role {placement.role!r} is no valid prim name; use letters, digits and underscores")
    scale, order = placement.asset.scale, ["xformOp:translate", "xformOp:orient"]
    larger = []
    if scale != 1.0:
        order.append("xformOp:scale")
        larger.append(f"            float3 xformOp:scale = {spelt((scale, scale, scale))}")
    lines = [
        f'        def Xform "{placement.role}" (',
        f"            prepend references = @{_reference(placement.asset, folder)}@\n        )\n        {{",
        f"            double3 xformOp:translate = {spelt(placement.pose.position)}",
        f"            quatd xformOp:orient = {spelt(placement.pose.quaternion)}",
        *larger,
        f"            uniform token[] xformOpOrder = [{', '.join(map(quoted, order))}]",
    ]
    for body in placement.asset.bodies:
        lines += [
            f'            over "{body.name}"\n            {{',
            f"                float physics:mass = {body.mass!r}",
            f"                point3f physics:centerOfMass = {spelt([value / scale for value in body.center_of_mass])}",
            f"                float3 physics:diagonalInertia = {spelt(body.diagonal_inertia)}",
            f"                quatf physics:principalAxes = {spelt(body.principal_axes)}",
            *(_moved(placement, body.name) if moved and placement.asset.movable_joints else ()),
            *_tint(placement),
            "            }",
        ]
    return [*lines, *_rubbing(placement.asset), *_joints(placement, moved=moved), *_paint(placement), "        }"]


def _moved(placement: ObjectPlacement, name: str) -> list[str]:
    """A body where the object's joints have it; the object's prim scales it."""
    pose, scale = asset_from_body(placement.asset, name, placement.joint_positions), placement.asset.scale
    x, y, z = pose.position
    return placed(Pose(position=(x / scale, y / scale, z / scale), quaternion=pose.quaternion), " " * 16)


def _tint(placement: ObjectPlacement) -> list[str]:
    """A body in the colour of its object, which is stronger than what the asset's file binds to it or its parts."""
    if placement.color is None:
        return []
    return [
        '                over "visual" (\n                    prepend apiSchemas = ["MaterialBindingAPI"]\n                )',
        "                {",
        f"                    color3f[] primvars:displayColor = [{spelt(placement.color[:3])}]",
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
        f"                    color3f inputs:diffuseColor = {spelt(placement.color[:3])}",
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


def _joints(placement: ObjectPlacement, *, moved: bool) -> list[str]:
    """Damping of the object's joints, per degree where they turn, and their dry friction in PhysX's words; where `moved`, also
    their positions, in degrees where they turn.
    """
    asset = placement.asset
    mounts = [joint for joint in asset.joints if joint.parent == ""] if moved else []
    if not asset.movable_joints and not mounts:
        return []
    lines = ['            over "joints"\n            {']
    for joint in mounts:  # in its own file the world is where the object stands
        lines += [
            f'                over "{joint.name}"\n                {{',
            f"                    rel physics:body0 = </scene/objects/{placement.role}>\n                }}",
        ]
    for index, joint in enumerate(asset.movable_joints):
        turns = joint.kind is JointKind.REVOLUTE
        word = "angular" if turns else "linear"
        damping = math.radians(joint.damping) if turns else joint.damping
        schemas = ["PhysxJointAPI", *([f"PhysicsJointStateAPI:{word}"] if moved else [])]
        lines += [
            f'                over "{joint.name}" (\n                    prepend apiSchemas = {listed(map(quoted, schemas))}\n'
            "                )",
            f"                {{\n                    float drive:{word}:physics:damping = {damping!r}",
            f"                    float physxJoint:jointFriction = {joint.friction!r}",
        ]
        if moved:
            position = (placement.joint_positions or (0.0,) * len(asset.movable_joints))[index]
            shown = math.degrees(position) if turns else position
            lines.append(f"                    float state:{word}:physics:position = {shown!r}")
        lines.append("                }")
    return [*lines, "            }"]


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


@lru_cache(maxsize=_KEPT)
def asset_in(file: Path, changed_ns: int) -> Asset:
    """An asset as it is in its file; many scenes may have it. `changed_ns` says when that was written, so that changes are seen."""
    return usd.read(file)


def _placement(entry: Mapping[str, Any], values: Mapping[str, Any], folder: Path) -> ObjectPlacement:
    try:
        file = (folder / entry["asset"]).resolve()
        asset = asset_in(file, file.stat().st_mtime_ns)
    except (AssetError, OSError) as error:
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
