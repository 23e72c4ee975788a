"""What a scene varies beyond what its USD file says, so that a simulator that would ignore it can refuse the scene instead."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields

from embodichain.isaac.wire import KINDS
from embodichain.types import CameraLook, Dynamics, Scene, Texture
from embodichain.types.settings import Sensor

_DRIVES = ("stiffness", "servo_damping", "torque")
_REMEDY = {
    "drives": "set world.physical.stiffness, damping_ratio and torque to '1 1'",
    "damping": "set world.physical.arm_damping to '1 1'",
    "grip": "set world.physical.grip_friction to '1 1'",
    "delay": "set world.physical.delay_s to '0 0'",
    "textures": "set world.visual.patterned 0",
    "cameras": "set world.visual.zoom '1 1', shift 0 and turn 0",
    "exposure": "set world.visual.exposure '0 0'",
    "noise": "set world.visual.noise '0 0'",
    "wander": "set world.visual.brightness, warmth, direction, wandering_exposure and shake to 0",
    "setting": "set world.visual.setting.enabled False",
    "sensor": "set world.visual.sensor.enabled False",
}


def varied(scene: Scene) -> dict[str, str]:
    """The kinds of variation in a scene, a subset of `wire.KINDS`, each with the value that differs from the nominal one."""
    looks, nominal = scene.looks, Dynamics()
    found: dict[str, list[str]] = {kind: [] for kind in KINDS}
    kinds = {"joint_damping": "damping", "grip_friction": "grip", "delay_s": "delay", **dict.fromkeys(_DRIVES, "drives")}
    for name, kind in kinds.items():
        value = getattr(scene.dynamics, name)
        if value != getattr(nominal, name):
            found[kind].append(f"{name} {value:.3g}")
    found["textures"] = [f"{role} {texture}" for role, texture in looks.textures.items() if texture is not Texture.PLAIN]
    found["cameras"] = [name for name, look in looks.cameras.items() if look != CameraLook()]
    found["exposure"] = [f"{looks.exposure:.3g} stops"] if looks.exposure else []
    found["noise"] = [f"{looks.noise:.3g}"] if looks.noise else []
    still = ("seed", "time_constant_s")
    drifting = [field.name for field in fields(looks.wander) if field.name not in still]
    found["wander"] = [f"{name} {getattr(looks.wander, name):.3g}" for name in drifting if getattr(looks.wander, name)]
    found["setting"] = [f"room {looks.setting.room}"] if looks.setting is not None else []
    sensor = {field.name: getattr(looks.sensor, field.name) for field in fields(Sensor)} if looks.sensor is not None else {}
    found["sensor"] = [f"{name} {value:.3g}" for name, value in sensor.items() if value]
    return {kind: ", ".join(values) for kind, values in found.items() if values}


def unapplied(scene: Scene, applied: Collection[str]) -> str:
    """Why a simulator that applies only these kinds must not play the scene; empty when it may."""
    missing = {kind: value for kind, value in varied(scene).items() if kind not in applied}
    if not missing:
        return ""
    values = "; ".join(f"{kind} ({value})" for kind, value in missing.items())
    remedies = "; ".join(_REMEDY[kind] for kind in missing)
    known = ", ".join(sorted(applied)) or "nothing"
    return (
        f"scene {scene.seed} varies {values}, which this simulator does not apply (it applies {known}): {remedies}; "
        "or choose physics mujoco"
    )
