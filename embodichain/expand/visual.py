"""Randomises looks: each episode has its own light, table, surfaces, cameras and camera effects.

Quantities that change during an episode follow Ornstein-Uhlenbeck processes (`types.Wander`), common to all cameras.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from embodichain.errors import ConfigError
from embodichain.expand.setting import SensorConfig, SettingConfig
from embodichain.types import CameraLook, Light, Looks, NoiseSource, Range, Scene, Texture, Vec3, Wander

_ALLOWED: dict[str, Range] = {
    "probability": (0.0, 1.0),
    "patterned": (0.0, 1.0),
    "zoom": (0.5, 2.0),
    "shift": (0.0, 0.1),
    "turn": (0.0, 0.5),
    "exposure": (-2.0, 2.0),
    "noise": (0.0, 0.2),
    "time_constant_s": (0.1, 60.0),
    "brightness": (0.0, 0.5),
    "warmth": (0.0, 0.5),
    "direction": (0.0, 0.5),
    "wandering_exposure": (0.0, 0.5),
    "shake": (0.0, 0.05),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class VisualConfig:
    """Ranges of the looks of a scene, if `enabled`, applied to a share `probability` of the scenes.

    Light: `temperature` [K], `intensity` (0..1), `tilt` [rad] from the vertical. `table_shade`, `object_shade`: largest change of a
    colour channel (0..1). `patterned`: probability that a surface has a texture, one of `textures` (others are reserved for
    held-out scenes). Cameras: factor `zoom` of the focal length, largest `shift` [m] and `turn` [rad]. Camera effects: `exposure`
    [stops], `noise` of a pixel (full scale is 1). The others are standard deviations of drifting quantities with time constant
    `time_constant_s` [s], see `types.Wander`. `noise_source` is what noise is drawn from: a darkroom on a GPU needs "hash". Rooms,
    environment maps and finishes are a `setting`, errors of real cameras a `sensor`; each is enabled by itself.
    """

    enabled: bool = False
    probability: float = 1.0
    temperature: Range = (2800.0, 7500.0)
    intensity: Range = (0.45, 0.8)
    tilt: Range = (0.0, 0.7)
    table_shade: float = 0.18
    object_shade: float = 0.06
    patterned: float = 0.6
    textures: tuple[Texture, ...] = (Texture.WOOD, Texture.CLOTH, Texture.SPECKLE, Texture.CHECKER)
    zoom: Range = (0.94, 1.06)
    shift: float = 0.012
    turn: float = 0.025
    exposure: Range = (-0.35, 0.35)
    noise: Range = (0.0, 0.02)
    time_constant_s: Range = (1.5, 8.0)
    brightness: float = 0.06
    warmth: float = 0.05
    direction: float = 0.04
    wandering_exposure: float = 0.06
    shake: float = 0.0015
    noise_source: NoiseSource = NoiseSource.NORMAL
    setting: SettingConfig = field(default_factory=SettingConfig)
    sensor: SensorConfig = field(default_factory=SensorConfig)

    def __post_init__(self) -> None:
        for name in ("temperature", "intensity", "tilt"):
            low, high = getattr(self, name)
            if not 0 <= low <= high:
                raise ConfigError(f"visual range {name} must be 0 <= low <= high, got {(low, high)}")
        if self.temperature[0] < 1000 or self.intensity[1] > 1 or self.tilt[1] > 1.4:
            raise ConfigError(f"visual expansion needs temperature >= 1000 K, intensity <= 1 and tilt <= 1.4 rad, got {self}")
        for name, (lowest, highest) in _ALLOWED.items():
            value = getattr(self, name)
            low, high = value if isinstance(value, tuple) else (value, value)
            if not (math.isfinite(low) and math.isfinite(high) and lowest <= low <= high <= highest):
                raise ConfigError(f"visual expansion cannot draw {name} from {value}: it needs values within {lowest}..{highest}")
        if not self.textures or Texture.PLAIN in self.textures:
            raise ConfigError(f"textures must name patterns, at least one and not plain, got {[str(t) for t in self.textures]}")
        if not (0 <= self.table_shade <= 1 and 0 <= self.object_shade <= 1):
            raise ConfigError(f"shades must lie in 0..1, got table {self.table_shade} and object {self.object_shade}")


def redraw(scene: Scene, rng: np.random.Generator, config: VisualConfig, cameras: Sequence[str] = ()) -> Scene:
    """Changes light, surfaces and cameras of a scene, but not poses, joints and physics.

    `cameras` are the names of cameras to change. The drawn values are added to `Scene.expansion`. Returns the scene itself if the
    expansion is not enabled, or not drawn for this scene.
    """
    if not config.enabled or (config.probability < 1.0 and rng.uniform() >= config.probability):
        return scene
    temperature = float(rng.uniform(*config.temperature))
    intensity = float(rng.uniform(*config.intensity))
    tilt = float(rng.uniform(*config.tilt))
    azimuth = float(rng.uniform(-math.pi, math.pi))
    direction = (math.sin(tilt) * math.cos(azimuth), math.sin(tilt) * math.sin(azimuth), -math.cos(tilt))
    red, green, blue = (intensity * channel for channel in blackbody(temperature))
    distance = 1.5
    light = Light(
        position=(-distance * direction[0], -distance * direction[1], -distance * direction[2]),
        direction=direction,
        diffuse=(red, green, blue),
    )
    table = _tint(scene.table_color, rng.uniform(-config.table_shade, config.table_shade, 3))
    objects = []
    for placement in scene.objects:
        shift = rng.uniform(-config.object_shade, config.object_shade, 3)
        if len(placement.asset.bodies) == 1:  # an override colours all bodies alike, which hides articulated parts
            color = _tint(placement.color or placement.asset.bodies[0].color, shift)
            objects.append(replace(placement, color=color))
        else:
            objects.append(placement)
    drawn = {
        "light_temperature_k": temperature,
        "light_intensity": intensity,
        "light_tilt_rad": tilt,
        "light_azimuth_rad": azimuth,
        "table_red": table[0],
        "table_green": table[1],
        "table_blue": table[2],
    }
    looks, seen = _looks(scene, rng, config, cameras)
    drawn |= seen
    grains = scene.grains
    if grains.positions:  # drawn last: scenes without grains keep their draws
        grains = replace(grains, color=_tint(grains.color, rng.uniform(-config.object_shade, config.object_shade, 3)))
    return replace(
        scene,
        grains=grains,
        looks=looks,
        lights=(light,),
        table_color=table,
        objects=tuple(objects),
        expansion={**scene.expansion, **{name: round(value, 4) for name, value in drawn.items()}},
    )


def _looks(scene: Scene, rng: np.random.Generator, config: VisualConfig, cameras: Sequence[str]) -> tuple[Looks, dict[str, float]]:
    """Draws surfaces, cameras, camera effects and drift; also returns the values for the provenance."""
    patterns = list(Texture)
    textures = {}
    for role in ("table", *(placement.role for placement in scene.objects)):
        pattern = config.textures[int(rng.integers(len(config.textures)))]
        textures[role] = pattern if rng.random() < config.patterned else Texture.PLAIN
    found = {}
    for name in cameras:
        zoom = float(rng.uniform(*config.zoom))
        shift, turn = (rng.uniform(-limit, limit, 3).tolist() for limit in (config.shift, config.turn))
        shift[2] = -abs(shift[2])  # forward only, because behind a camera is its mount
        found[name] = CameraLook(zoom=zoom, shift=(shift[0], shift[1], shift[2]), turn=(turn[0], turn[1], turn[2]))
    wander = Wander(
        seed=int(rng.integers(2**31)),
        time_constant_s=float(rng.uniform(*config.time_constant_s)),
        brightness=config.brightness,
        warmth=config.warmth,
        direction=config.direction,
        exposure=config.wandering_exposure,
        shake=config.shake,
    )
    exposure, noise = float(rng.uniform(*config.exposure)), float(rng.uniform(*config.noise))
    looks = Looks(textures=textures, cameras=found, exposure=exposure, noise=noise, wander=wander, noise_source=config.noise_source)
    drawn = {"exposure_stops": exposure, "noise": noise, "wander_seed": float(wander.seed), "wander_s": wander.time_constant_s}
    drawn |= {f"{role}.texture": float(patterns.index(texture)) for role, texture in textures.items()}
    drawn |= {f"{name}.zoom": look.zoom for name, look in found.items()}
    return looks, drawn


def blackbody(temperature: float) -> Vec3:
    """RGB of a black body at `temperature` [K], each channel in 0..1 with the largest near 1.

    Planck's law at the three primaries (611, 549, 465 nm), relative to daylight at 6504 K and normalised to its largest channel.
    """
    second_radiation_constant = 1.438777e-2  # h c / k [m K]
    relative = []
    for wavelength in (611e-9, 549e-9, 465e-9):
        power = 1.0 / math.expm1(second_radiation_constant / (wavelength * temperature))
        daylight = 1.0 / math.expm1(second_radiation_constant / (wavelength * 6504.0))
        relative.append(power / daylight)
    red, green, blue = (channel / max(relative) for channel in relative)
    return red, green, blue


def _tint(color: tuple[float, float, float, float], shift: np.ndarray) -> tuple[float, float, float, float]:
    red, green, blue = (float(min(max(channel + change, 0.0), 1.0)) for channel, change in zip(color[:3], shift, strict=True))
    return red, green, blue, color[3]
