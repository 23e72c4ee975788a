"""Draws the setting of a scene (room, table, environment map, textures, finishes) and its sensor model.

Both have random streams of their own: scenes without them are what they were before there were settings, and scenes with them have
the objects, places and physics that the same seeds have without.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from embodichain.errors import ConfigError
from embodichain.types import Range, Scene
from embodichain.types.settings import (
    NUM_ENVIRONMENTS,
    NUM_ROOMS,
    NUM_TABLES,
    NUM_VARIANTS,
    OBJECT_KINDS,
    Sensor,
    Setting,
    SurfaceFinish,
    TextureKind,
)

__all__ = ["SensorConfig", "SettingConfig", "furnish", "reserved"]

_STREAM = 0x5E771
"""Second number of the seed of a scene's setting."""
_TABLES = (
    TextureKind.VENEER, TextureKind.PLANKS, TextureKind.VENEER, TextureKind.PARQUET, TextureKind.MARBLE, TextureKind.GRANITE,
    TextureKind.TERRAZZO, TextureKind.WEAVE, TextureKind.LINOLEUM, TextureKind.PLASTER, TextureKind.CONCRETE,
)  # fmt: skip
_FLOORS = (
    TextureKind.PLANKS, TextureKind.PARQUET, TextureKind.TILES, TextureKind.TERRAZZO, TextureKind.CARPET, TextureKind.CONCRETE,
    TextureKind.LINOLEUM, TextureKind.GRANITE, TextureKind.MARBLE,
)  # fmt: skip
_WALLS = (TextureKind.PLASTER, TextureKind.CONCRETE, TextureKind.BRICK, TextureKind.WALLPAPER, TextureKind.TILES, TextureKind.WEAVE)
_TEXTURED_OBJECTS = 12
"""Most objects of a scene that have a texture of their own."""
Span = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingConfig:
    """Ranges of the settings of scenes, if `enabled`.

    `rooms`, `tables`, `environments` and `variants` (of each kind of texture) are drawn from the first number up to but without the
    second; the others are for held-out scenes. `open_space`: probability that there is no room, and the map is seen. `height` of
    the table top [m]. `strength` of the map. `softness`: tangent of the lights' angular radius. `patterned`: probability that an
    object has a texture. `metal`: probability that a surface is metallic. `glass`: probability that objects of the categories
    `see_through` are, with an `opacity`.
    """

    enabled: bool = False
    rooms: Span = (0, 30)
    tables: Span = (0, 9)
    environments: Span = (0, 20)
    variants: Span = (0, 12)
    open_space: float = 0.2
    height: Range = (0.62, 0.95)
    strength: Range = (0.7, 1.3)
    softness: Range = (0.01, 0.15)
    patterned: float = 0.5
    metal: float = 0.15
    glass: float = 0.6
    see_through: tuple[str, ...] = ("bottle", "cup")
    opacity: Range = (0.25, 0.5)

    def __post_init__(self) -> None:
        most = {"rooms": NUM_ROOMS, "tables": NUM_TABLES, "environments": NUM_ENVIRONMENTS, "variants": NUM_VARIANTS}
        for name, count in most.items():
            first, end = getattr(self, name)
            if not 0 <= first < end <= count:
                raise ConfigError(f"visual.setting.{name} takes (first, end) with 0 <= first < end <= {count}, got {(first, end)}")
        allowed = {
            "open_space": (0.0, 1.0), "height": (0.3, 1.1), "strength": (0.0, 3.0), "softness": (0.0, 0.5), "patterned": (0.0, 1.0),
            "metal": (0.0, 1.0), "glass": (0.0, 1.0), "opacity": (0.0, 1.0),
        }  # fmt: skip
        _check("visual.setting", self, allowed)


@dataclass(frozen=True, slots=True, kw_only=True)
class SensorConfig:
    """Ranges of the sensor models of scenes, if `enabled`; see `types.settings.Sensor`."""

    enabled: bool = False
    blur: Range = (0.0, 0.8)
    readout_s: Range = (0.0, 0.02)
    depth_noise: Range = (0.0005, 0.003)
    depth_step: Range = (0.0005, 0.003)
    depth_holes: Range = (0.1, 0.7)
    depth_drift: Range = (0.0, 0.01)
    smooth: int = 2

    def __post_init__(self) -> None:
        allowed = {
            "blur": (0.0, 5.0), "readout_s": (0.0, 0.1), "depth_noise": (0.0, 0.1), "depth_step": (0.0, 0.1),
            "depth_holes": (0.0, 1.0), "depth_drift": (0.0, 0.2), "smooth": (0, 3),
        }  # fmt: skip
        _check("visual.sensor", self, allowed)


def _check(name: str, config: SettingConfig | SensorConfig, allowed: dict[str, tuple[float, float]]) -> None:
    for key, (lowest, highest) in allowed.items():
        value = getattr(config, key)
        low, high = value if isinstance(value, tuple) else (value, value)
        if not (math.isfinite(low) and math.isfinite(high) and lowest <= low <= high <= highest):
            raise ConfigError(f"{name} cannot draw {key} from {value}: it needs values within {lowest}..{highest}")


def reserved(config: SettingConfig) -> SettingConfig:
    """The same setting with the rooms, tables, maps and textures that training does not use; unchanged where it uses all."""
    return replace(
        config,
        rooms=_rest(config.rooms, NUM_ROOMS),
        tables=_rest(config.tables, NUM_TABLES),
        environments=_rest(config.environments, NUM_ENVIRONMENTS),
        variants=_rest(config.variants, NUM_VARIANTS),
    )


def _rest(used: Span, count: int) -> Span:
    if used[1] < count:
        return (used[1], count)
    return (0, used[0]) if used[0] > 0 else used


def furnish(scene: Scene, config: SettingConfig, sensor: SensorConfig) -> Scene:
    """Gives a scene a setting and a sensor model, as far as they are enabled; poses, joints, cameras and physics stay.

    What was drawn is added to `Scene.expansion`, and is a function of the scene's seed alone.
    """
    if config.enabled:
        rng = np.random.default_rng((scene.seed, _STREAM))
        setting = _setting(scene, rng, config)
        shade = rng.uniform(0.82, 1.0) * rng.uniform(0.93, 1.0, 3)
        drawn = {name: float(getattr(setting, name)) for name in ("room", "table", "height", "environment", "strength", "softness")}
        drawn |= {f"{role}_texture": float(setting.textures[role]) for role in ("table", "floor", "walls")}
        scene = replace(
            scene,
            looks=replace(scene.looks, setting=setting),
            table_color=(float(shade[0]), float(shade[1]), float(shade[2]), 1.0),
            expansion={**scene.expansion, **{f"setting.{name}": round(value, 4) for name, value in drawn.items()}},
        )
    if sensor.enabled:
        rng = np.random.default_rng((scene.seed, _STREAM + 1))
        names = ("blur", "readout_s", "depth_noise", "depth_step", "depth_holes", "depth_drift")
        values = {name: round(float(rng.uniform(*getattr(sensor, name))), 6) for name in names}
        found = Sensor(**values, smooth=sensor.smooth)
        kept = {f"sensor.{name}": values[name] for name in ("blur", "readout_s", "depth_noise")}
        scene = replace(scene, looks=replace(scene.looks, sensor=found), expansion={**scene.expansion, **kept})
    return scene


def _setting(scene: Scene, rng: np.random.Generator, config: SettingConfig) -> Setting:
    room = int(rng.integers(*config.rooms)) if rng.random() >= config.open_space else -1
    table, environment = int(rng.integers(*config.tables)), int(rng.integers(*config.environments))
    x, y, _ = scene.lights[0].direction if scene.lights else (0.0, 0.0, -1.0)
    textures = {
        "table": _texture(rng, _TABLES, config),
        "floor": _texture(rng, _FLOORS, config),
        "walls": _texture(rng, _WALLS, config),
        "legs": _texture(rng, (TextureKind.VENEER, TextureKind.BRUSHED), config),
    }
    finishes = {
        "table": _finish(rng, (0.1, 0.8), (0.15, 0.7)),
        "floor": _finish(rng, (0.05, 0.6), (0.2, 0.8)),
        "walls": _finish(rng, (0.0, 0.15), (0.6, 0.95)),
        "ceiling": SurfaceFinish(specular=0.0, roughness=0.95),
        "legs": _finish(rng, (0.1, 0.6), (0.2, 0.7)),
        "furniture": _finish(rng, (0.05, 0.5), (0.2, 0.8)),
        "robot": _finish(rng, (0.2, 0.8), (0.15, 0.6), 0.3, rng.random()),
    }
    glass: dict[str, float] = {}
    for number, placement in enumerate(scene.objects):
        # The same number of draws for every object, so that none depends on what the others are.
        texture, patterned, clear, metal = _texture(rng, OBJECT_KINDS, config), rng.random(), rng.random(), rng.random()
        finish, opacity = _finish(rng, (0.1, 0.9), (0.12, 0.85), config.metal, metal), float(rng.uniform(*config.opacity))
        see_through = placement.asset.category in config.see_through and clear < config.glass
        if see_through:
            glass[placement.role] = opacity
            finish = SurfaceFinish(specular=0.9, roughness=0.1)
        elif patterned < config.patterned and number < _TEXTURED_OBJECTS:
            textures[placement.role] = texture
        finishes[placement.role] = finish
    return Setting(
        room=room,
        table=table,
        height=float(rng.uniform(*config.height)),
        environment=environment,
        turn=math.atan2(-y, -x),
        strength=float(rng.uniform(*config.strength)),
        softness=float(rng.uniform(*config.softness)),
        textures=textures,
        colors={
            "floor": _colour(rng, 0.75, 1.0),
            "walls": _colour(rng, 0.7, 1.0),
            "ceiling": _colour(rng, 0.75, 1.0),
            "legs": _colour(rng, 0.3, 1.0),
            "robot": _colour(rng, 0.3, 1.0, 0.35),
        },
        finishes=finishes,
        glass=glass,
    )


def _texture(rng: np.random.Generator, kinds: Sequence[TextureKind], config: SettingConfig) -> int:
    numbers = kinds[int(rng.integers(len(kinds)))].numbers(config.variants)
    return numbers[int(rng.integers(len(numbers)))]


def _finish(rng: np.random.Generator, specular: Range, roughness: Range, chance: float = 0.0, draw: float = 1.0) -> SurfaceFinish:
    metal = float(rng.uniform(0.6, 1.0))
    found = SurfaceFinish(specular=float(rng.uniform(*specular)), roughness=float(rng.uniform(*roughness)))
    return replace(found, metal=metal, specular=max(found.specular, 0.7)) if draw < chance else found


def _colour(rng: np.random.Generator, low: float, high: float, apart: float = 0.12) -> tuple[float, float, float]:
    """A colour of this brightness whose channels differ by at most `apart`."""
    red, green, blue = (rng.uniform(low, high) * (1.0 - rng.uniform(0.0, apart, 3))).tolist()
    return red, green, blue
