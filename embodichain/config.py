"""The part of a run's configuration that every worker needs: what is simulated and recorded. Imports nothing heavy."""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass, field

from embodichain.assets.chain.config import AssetsConfig
from embodichain.errors import ConfigError
from embodichain.expand.diversity import DiversityConfig
from embodichain.expand.physical import PhysicalConfig
from embodichain.expand.visual import VisualConfig
from embodichain.protocols import FrameEncoder
from embodichain.recovery.config import RecoveryConfig
from embodichain.scenes.config import SampleConfig
from embodichain.tasks.benchmarks import BENCHMARKS, common
from embodichain.types import CHUNK, Bounds, Robot, TrajectorySpec, camera_spec

__all__ = ["EncodeConfig", "WorldConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodeConfig:
    """Encode-on-write: workers write latents into the ring instead of pixels, computed once for each trajectory.

    `factory` is the import path "module:function" of a function that makes a `FrameEncoder`, called with the keywords in `options`
    (JSON). Empty streams pixels, which the learner encodes at every read.
    """

    factory: str = ""
    options: str = "{}"

    def make(self) -> FrameEncoder:
        """The encoder; raises ConfigError when the path or its options are wrong."""
        module, _, function = self.factory.partition(":")
        try:
            return getattr(importlib.import_module(module), function)(**json.loads(self.options))
        except (ImportError, AttributeError, ValueError, TypeError) as error:
            raise ConfigError(
                f"frames cannot be encoded by {self.factory!r} with {self.options}: {error}; "
                "give 'module:function' and its keywords as a JSON object"
            ) from error


@dataclass(frozen=True, kw_only=True)
class WorldConfig:
    """What is simulated and recorded: the part of a run's configuration that every worker needs."""

    robot: str = "dual_piper"
    """A name from `embodichain list`, or the path of an MJCF file."""
    physics: str = "mujoco"
    painter: str = "raster"
    """What draws the pictures: "raster", or "raster-2x2", which smooths edges and takes twice as long, or "raycast", which takes
    eight times as long. A policy is judged with the painter that it was trained with.
    """
    tasks: tuple[str, ...] = ("turn_switch", "place_mouse_pad")
    """Episodes take turns over these. Tasks of a benchmark ("metaworld:reach-v3") come with its robot and its physics."""
    width: int = 64
    height: int = 64
    """Resolution of every camera [pixels]."""
    depth: bool = False
    """Stream depth besides RGB."""
    segmentation: bool = False
    """Stream what each pixel shows: table, robot, or which object."""
    horizon: int = 64
    """Largest number of chunks in an episode (of 16 actions, 0.32 s, unless `chunk` is set): three objects take up to 20 s."""
    chunk: int = CHUNK
    """Actions in a chunk: a frame is taken before each chunk."""
    between: int = 0
    """More pictures inside each chunk, at equal distances in time: 0, 1 or 3. Three of them turn the pictures of a chunk and the
    frame after it into one clip of motion, and four pictures a chunk are one latent of the codec `wan`."""
    seed: int = 0
    """Decides every scene, and the learner's weights and random draws."""
    assets: AssetsConfig = field(default_factory=AssetsConfig)
    recovery: RecoveryConfig = field(default_factory=RecoveryConfig)
    visual: VisualConfig = field(default_factory=VisualConfig)
    scenes: SampleConfig = field(default_factory=SampleConfig)
    diversity: DiversityConfig = field(default_factory=DiversityConfig)
    physical: PhysicalConfig = field(default_factory=PhysicalConfig)
    bounds: Bounds = field(default_factory=Bounds)
    """Limits of the robot's conduct: every grader fails an episode that exceeds them."""
    encode: EncodeConfig = field(default_factory=EncodeConfig)

    def __post_init__(self) -> None:
        if isinstance(self.tasks, str):
            raise ConfigError(f"tasks are several names, got the one string {self.tasks!r}: write ({self.tasks!r},)")
        if not self.tasks:
            raise ConfigError("tasks must name at least one task; see `embodichain list`")
        if self.width < 16 or self.height < 16 or self.width % 2 or self.height % 2:
            raise ConfigError(f"width and height must be even and at least 16, got {self.width} x {self.height}")
        if self.seed < 0:
            raise ConfigError(f"seed must be 0 or more, got {self.seed}")
        if self.chunk < 1:
            raise ConfigError(f"a chunk holds at least 1 action, got chunk={self.chunk}")
        if self.between not in (0, 1, 3) or self.chunk % (self.between + 1):
            raise ConfigError(
                f"between must be 0, 1 or 3 pictures that divide a chunk of {self.chunk} actions evenly, got {self.between}"
            )
        if self.assets.pool.enabled and self.diversity.enabled:
            raise ConfigError(
                "diversity chooses among scenes of one catalogue, and assets.pool deals each scene a hand of its own: turn off "
                "one of diversity.enabled and assets.pool.live"
            )
        if self.scenes.folder and (self.assets.pool.enabled or self.diversity.enabled):
            raise ConfigError(
                f"the scenes in {self.scenes.folder} are chosen and have their assets: turn off diversity.enabled and "
                "assets.pool.live, or leave out scenes.folder"
            )
        self._follow(common(self.tasks))

    def _follow(self, benchmark: str) -> None:
        """Sets robot and physics to those of the tasks' benchmark, or back; raises ConfigError for settings that it cannot have.

        A benchmark's robot and physics together are what earlier tasks brought, and go with them. One without the other was asked
        for by name, and is never replaced.
        """
        brought = self.robot == self.physics and self.robot in BENCHMARKS
        for name, usual in (("robot", "dual_piper"), ("physics", "mujoco")):
            got = getattr(self, name)
            if brought or got in (usual, benchmark):
                object.__setattr__(self, name, benchmark or usual)
            elif benchmark:
                raise ConfigError(f"tasks of {benchmark} bring their own {name}, got {name}={got!r}: leave it out")
            elif got in BENCHMARKS:
                raise ConfigError(
                    f"{name} {got!r} acts in tasks of {got} alone, got {', '.join(self.tasks)}: choose tasks of the benchmark, as "
                    f"{got}:NAME, or leave {name} out"
                )
        if not benchmark:
            return
        wanted = {
            "visual.enabled": self.visual.enabled,
            "physical.enabled": self.physical.enabled,
            "diversity.enabled": self.diversity.enabled,
            "scenes.distractors": self.scenes.distractors > 0,
            "scenes.folder": bool(self.scenes.folder),
            "assets.pool": self.assets.pool.enabled,
            "segmentation": self.segmentation,
        }
        if asked := [name for name, on in wanted.items() if on]:
            raise ConfigError(
                f"scenes of {benchmark} are its own affair, and {' and '.join(asked)} would change nothing there: leave that off "
                "(the recipe metaworld_cpu does)"
            )

    def trajectory_spec(self, robot: Robot) -> TrajectorySpec:
        """The schema of this world's trajectories as they are played, with pixels."""
        cameras = len(robot.cameras)
        return camera_spec(
            cameras=cameras,
            height=self.height,
            width=self.width,
            horizon=self.horizon,
            chunk=self.chunk,
            between=self.between,
            depth=self.depth,
            segmentation=self.segmentation,
        )

    def stream_spec(self, robot: Robot) -> TrajectorySpec:
        """The schema of the ring's trajectories: with encode-on-write, latents instead of pixels, and of depth if possible."""
        if not self.encode.factory:
            return self.trajectory_spec(robot)
        encoder = self.encode.make()
        depth_latents = self.depth and encoder.encodes_depth
        return camera_spec(
            cameras=len(robot.cameras),
            height=self.height,
            width=self.width,
            horizon=self.horizon,
            chunk=self.chunk,
            between=self.between,
            depth=self.depth and not depth_latents,
            segmentation=self.segmentation,
            latents=encoder.latent_shape(self.height, self.width),
            depth_latents=depth_latents,
        )
