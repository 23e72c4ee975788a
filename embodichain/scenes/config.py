"""Settings of the scene sampler: its effort, the room between objects, and when objects count as at rest. Imports nothing heavy."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from embodichain.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutConfig:
    """The distance between objects, and the effort of the gradient descent that separates them.

    `clearance` [m] is the least gap between two footprints. `step` scales a gradient step: 0.5 splits the deficit of an isolated
    pair exactly, and a little more relaxes crowds faster.
    """

    clearance: float = 0.01
    max_iterations: int = 400
    step: float = 0.6
    tolerance: float = 1e-4

    def __post_init__(self) -> None:
        if self.clearance < 0 or self.max_iterations < 1 or not 0 < self.step <= 1 or self.tolerance <= 0:
            raise ValueError(f"layout needs clearance >= 0, max_iterations >= 1, 0 < step <= 1 and tolerance > 0, got {self}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SettleConfig:
    """When objects count as at rest, and how far they may move until then.

    An object is at rest when it is slower than `speed` [m/s] and `turning` [rad/s] at every control step of `quiet_s` [s]; that
    must happen within `longest_s` [s]. Until then it may move by `shift` [m], tilt by `tilt` [rad], and its joints may move by
    `give` [rad or m].
    """

    enabled: bool = True
    speed: float = 0.002
    turning: float = 0.05
    quiet_s: float = 0.1
    longest_s: float = 1.0
    shift: float = 0.004
    tilt: float = math.radians(3.0)
    give: float = 0.02

    def __post_init__(self) -> None:
        for name in ("speed", "turning", "quiet_s", "shift", "tilt", "give"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.longest_s < self.quiet_s:
            raise ValueError(f"longest_s must be at least quiet_s, got {self.longest_s} and {self.quiet_s}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleConfig:
    """Effort per scene: layouts tried before the scene is refused, poses drawn per object in a layout, draws of ranked assets.

    `min_visible` is the least visible share of each object in the picture of some fixed camera. `distractors` is the largest number
    of objects that no task asks for; each scene draws a number from 0 to that. With `folder`, scenes are not sampled, but read from
    the files in it (`scene sample`, `scene pack`), over and over in order; they bring their own looks, physics and bounds.
    """

    max_layouts: int = 40
    max_poses: int = 60
    max_choices: int = 400
    min_visible: float = 0.5
    distractors: int = 0
    folder: str = ""
    layout: LayoutConfig = field(default_factory=LayoutConfig)
    settle: SettleConfig = field(default_factory=SettleConfig)

    def __post_init__(self) -> None:
        if self.max_layouts < 1 or self.max_poses < 1 or self.max_choices < 1:
            raise ValueError(f"max_layouts, max_poses and max_choices must be at least 1, got {self}")
        if not 0.0 <= self.min_visible <= 1.0 or not 0 <= self.distractors <= 20:
            raise ConfigError(f"min_visible must be 0..1 and distractors 0..20, got {self.min_visible} and {self.distractors}")
