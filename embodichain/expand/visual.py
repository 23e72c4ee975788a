"""Visual expansion: each episode under its own light, on its own table, with its own shades of the objects' colours."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from embodichain.errors import ConfigError
from embodichain.types import Light, Range, Scene, Vec3


@dataclass(frozen=True, slots=True, kw_only=True)
class VisualConfig:
    """Ranges that the looks of a scene are drawn from, when `enabled`.

    `temperature` [K] and `intensity` (of white, 0..1) of the light; `tilt` [rad] of its direction from the vertical;
    `table_shade` and `object_shade`: the largest change of a colour channel of the table and of an object (0..1).
    """

    enabled: bool = False
    temperature: Range = (2800.0, 7500.0)
    intensity: Range = (0.45, 0.8)
    tilt: Range = (0.0, 0.7)
    table_shade: float = 0.18
    object_shade: float = 0.06

    def __post_init__(self) -> None:
        for name in ("temperature", "intensity", "tilt"):
            low, high = getattr(self, name)
            if not 0 <= low <= high:
                raise ConfigError(f"visual range {name} must be 0 <= low <= high, got {(low, high)}")
        if self.temperature[0] < 1000 or self.intensity[1] > 1 or self.tilt[1] > 1.4:
            raise ConfigError(f"visual expansion needs temperature >= 1000 K, intensity <= 1 and tilt <= 1.4 rad, got {self}")
        if not (0 <= self.table_shade <= 1 and 0 <= self.object_shade <= 1):
            raise ConfigError(f"shades must lie in 0..1, got table {self.table_shade} and object {self.object_shade}")


def redraw(scene: Scene, rng: np.random.Generator, config: VisualConfig) -> Scene:
    """The scene under a new light, with a new table and tinted objects; poses, joints and physics stay untouched.

    The draw is added to `Scene.expansion`. Returns the scene itself when the expansion is not enabled.
    """
    if not config.enabled:
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
        if len(placement.asset.bodies) == 1:  # one override colours all bodies: it would flatten an articulated object
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
    return replace(
        scene,
        lights=(light,),
        table_color=table,
        objects=tuple(objects),
        expansion={**scene.expansion, **{name: round(value, 4) for name, value in drawn.items()}},
    )


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
