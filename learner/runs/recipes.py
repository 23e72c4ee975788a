"""A run is a recipe: a function that returns one complete configuration. Add one here and it is on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from embodichain.assets.chain.config import AssetsConfig
from embodichain.config import EncodeConfig, WorldConfig
from embodichain.errors import ConfigError, unknown
from embodichain.expand.visual import VisualConfig
from embodichain.recovery.config import MISALIGNED, RecoveryConfig
from embodichain.registry import Registry
from embodichain.types import PLACEMENTS, FullPolicy, ReplayMode, RingSpec, TrajectorySpec
from learner.codecs.config import EncoderConfig
from learner.data.config import DataConfig
from learner.evaluation.config import EvaluateConfig
from learner.models.clwm import sizes as clwm
from learner.models.config import AgentConfig, NormalizerConfig
from learner.models.families import family_of
from learner.training.config import LearnerConfig, Matrices, OptimizerConfig
from learner.vision.config import BUILTIN


@dataclass(frozen=True, kw_only=True)
class RingConfig:
    """The ring between simulation and learner."""

    num_slots: int = 64
    """Trajectories it holds at once."""
    max_reads: int = 50
    """K: how often each trajectory may be read, 1..16383; the paper sweeps 213, 50, 10."""
    full_policy: FullPolicy = FullPolicy.BLOCK
    """When every slot is full and unread: block the simulation, or evict the oldest trajectory."""
    min_ready: int = 8
    """Trajectories before the first sample."""
    mode: ReplayMode = ReplayMode.TRAJECTORY
    """"trajectory": K bounds each trajectory. "aggregate": the whole ring is read K x num_slots times, then refilled, as earlier
    engines did; set min_ready to num_slots to start as they did."""

    placement: str = "host"
    """Where trajectories lie: "host" memory, or "cuda", the learner's GPU ("delayed" is host memory that behaves like one)."""

    def __post_init__(self) -> None:
        if self.placement not in PLACEMENTS:
            raise unknown("ring placement", self.placement, PLACEMENTS)
        if not 1 <= self.max_reads <= 16_383:
            raise ConfigError(f"max_reads (K) must be 1..16383, got {self.max_reads}; the paper sweeps 213, 50, 10")
        if self.mode is ReplayMode.AGGREGATE and self.full_policy is FullPolicy.EVICT_OLDEST:
            raise ConfigError("ring.mode aggregate decides itself when writers may evict: leave ring.full_policy at block")
        if not 1 <= self.min_ready <= self.num_slots:
            raise ConfigError(f"min_ready must be 1..num_slots={self.num_slots}, got {self.min_ready}: more would never start")


@dataclass(frozen=True, kw_only=True)
class StreamConfig:
    """Who simulates."""

    engine: str = "ray"
    """"ray": worker processes; "serial": in this process, between training steps."""
    workers: int = 2
    address: str = ""
    """Of a running Ray cluster; empty starts Ray on this machine."""
    limit: int = 0
    """Scenes to simulate before the stream ends; 0 has no end."""

    def __post_init__(self) -> None:
        if self.engine not in ("ray", "serial"):
            raise unknown("engine", self.engine, ("ray", "serial"))
        if self.workers < 1:
            raise ConfigError(f"workers must be at least 1, got {self.workers}")
        if self.limit < 0:
            raise ConfigError(f"limit must be 0 or more, got {self.limit}")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How long the learner learns and what it keeps."""

    steps: int = 400
    """Training steps in all, those before a resume included."""
    checkpoint_every: int = 100
    """Steps between checkpoints; the last step always writes one."""
    clip: float = 1.0
    """Largest gradient norm."""
    verify: bool = False
    """Check every byte of every read against its provenance (counting physics only)."""
    ranks: int = 1
    """Learner processes on this machine, one a GPU where there are some: each draws its own batches from the one ring."""

    def __post_init__(self) -> None:
        if self.ranks < 1:
            raise ConfigError(f"ranks must be at least 1, got {self.ranks}")
        if self.steps < 1 or self.checkpoint_every < 1:
            raise ConfigError(f"steps and checkpoint_every must be at least 1, got {self.steps} and {self.checkpoint_every}")
        if self.clip <= 0:
            raise ConfigError(f"clip must be positive, got {self.clip}")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One complete run: what is simulated, how it streams, what learns from it and how that is judged."""

    recipe: str
    out: Path = Path("runs/run")
    world: WorldConfig = field(default_factory=WorldConfig)
    stream: StreamConfig = field(default_factory=StreamConfig)
    ring: RingConfig = field(default_factory=RingConfig)
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)

    def __post_init__(self) -> None:
        held = self.train.ranks * self.learner.data.batch_size
        if held > self.ring.num_slots:
            raise ConfigError(
                f"a batch_size of {self.learner.data.batch_size} trajectories for {self.train.ranks} ranks cannot come from "
                f"{self.ring.num_slots} slots: raise ring.num_slots or lower learner.data.batch_size"
            )
        if self.stream.limit and self.stream.limit < self.ring.min_ready:
            raise ConfigError(
                f"a stream of {self.stream.limit} scenes never reaches min_ready={self.ring.min_ready}: raise stream.limit"
            )
        if self.train.verify and self.ring.mode is ReplayMode.AGGREGATE:
            raise ConfigError("ring.mode aggregate bounds no single trajectory, so train.verify cannot hold them to K reads")
        if self.train.verify and self.ring.placement == "cuda":
            raise ConfigError("train.verify compares in host memory: ring.placement must be host, or delayed to try a device")
        if self.train.verify and self.world.physics != "counting":
            raise ConfigError(f"only counting physics can be verified byte by byte, got {self.world.physics!r}")
        encode, encoder = self.world.encode, self.learner.agent.encoder
        if encode.factory == _ENCODER and json.loads(encode.options) != asdict(encoder):
            raise ConfigError(
                f"workers would encode with {encode.options}, the agent with {json.dumps(asdict(encoder))}: "
                "set world.encode.options and learner.agent.encoder alike"
            )

    @property
    def trajectory_bound(self) -> int:
        """K when it bounds each trajectory, 0 when nothing does: what the ledger is told."""
        return self.ring.max_reads if self.ring.mode is ReplayMode.TRAJECTORY else 0

    def ring_spec(self, trajectory: TrajectorySpec) -> RingSpec:
        """The ring for trajectories of that schema."""
        ring = self.ring
        return RingSpec(
            trajectory=trajectory,
            num_slots=ring.num_slots,
            max_reads=ring.max_reads,
            full_policy=ring.full_policy,
            min_ready=ring.min_ready,
            mode=ring.mode,
        )


_ENCODER = "learner.codecs.dino:for_writing"


def encode_on_write(encoder: EncoderConfig) -> EncodeConfig:
    """Lets the workers encode frames with the agent's encoder: once for each trajectory, instead of at every read."""
    return EncodeConfig(factory=_ENCODER, options=json.dumps(asdict(encoder)))


def tiny_cpu() -> RunConfig:
    """The demo: two tasks with recovery, two workers, a tiny world model; about six minutes on two cores."""
    return RunConfig(
        recipe="tiny_cpu",
        out=Path("runs/tiny_cpu"),
        world=WorldConfig(recovery=RecoveryConfig(probability=0.2), visual=VisualConfig(enabled=True), assets=AssetsConfig()),
        learner=LearnerConfig(agent=AgentConfig(encoder=EncoderConfig(source=BUILTIN))),
    )


def seconds_cpu() -> RunConfig:
    """The whole pipe in well under a minute: for trying a change, not for learning anything."""
    base = tiny_cpu()
    return replace(
        base,
        recipe="seconds_cpu",
        out=Path("runs/seconds_cpu"),
        ring=replace(base.ring, num_slots=16, min_ready=2),
        train=replace(base.train, steps=12, checkpoint_every=6),
        evaluate=replace(base.evaluate, episodes=1),
    )


def turn_switch_cpu() -> RunConfig:
    """A policy for one task on two cores: the worker encodes with the built-in encoder, the learner sees latents alone.

    The model has no memory, for a frame says all that this task asks; so all its frames are clean, and the chunk before is kept
    from it: it would go on as before instead of looking. Actions see each frame at a glance and aim: the segmenter tells where the
    switch is seen now, and where it was seen in the first frame, before an arm hid it. They weigh more than the imagined frame,
    and their flow times lie nearer to noise, where only the observation can help; they are judged by the chunk that they point to.
    Of the four frames of a window one is imagined; a quarter of the windows begin with their episode, where an arm is chosen. In
    most episodes the hand strays from the lever and comes back: on the expert's own way the state alone tells where it leads.
    Muon moves the matrices: it gets as far in three quarters of the steps. The policy plays the mean of eight chunks.
    """
    encoder = EncoderConfig(source=BUILTIN, merge=2, segmenter=BUILTIN)
    cameras, grid = 3, 128 // encoder.patch // encoder.merge
    model = replace(
        clwm.tiny(),
        layers=4,
        memory_every=0,
        history_noise_prob=0.0,
        told_place=True,
        told_past=False,
        glance=cameras * grid * grid,
        aim=cameras,
        action_weight=5.0,
        action_shift=2.0,
        action_falloff=2.0,
        action_draws=2,
        proprio_noise=0.02,
        imagined=1,
        video_steps=2,
        action_steps=4,
        action_samples=8,
    )
    return RunConfig(
        recipe="turn_switch_cpu",
        out=Path("runs/turn_switch_cpu"),
        world=WorldConfig(
            tasks=("turn_switch",),
            width=128,
            height=128,
            horizon=32,
            assets=AssetsConfig(counts={"switch": 2}),
            recovery=RecoveryConfig(
                probability=0.9,
                astray=0.85,
                astray_again=0.6,
                stray_aside=0.07,
                stray_above=(0.0, 0.08),
                max_attempts=5,
                kinds=MISALIGNED,
            ),
            encode=encode_on_write(encoder),
        ),
        stream=StreamConfig(workers=1),
        ring=RingConfig(num_slots=128, max_reads=25, min_ready=24),
        learner=LearnerConfig(
            agent=AgentConfig(encoder=encoder, normalizer=NormalizerConfig(cameras=cameras), model=model),
            data=DataConfig(batch_size=16, window=4, openings=0.25, timeout_s=600.0),
            optimizer=OptimizerConfig(rate=3e-3, warmup_steps=100, matrices=Matrices.MUON),
            threads=1,
        ),
        train=TrainConfig(steps=3400),
        evaluate=EvaluateConfig(episodes=50),
    )


RECIPES: Registry[Callable[[], RunConfig]] = Registry(
    "recipe",
    "embodichain.recipes",
    {recipe.__name__: f"{__name__}:{recipe.__name__}" for recipe in (tiny_cpu, seconds_cpu, turn_switch_cpu)},
)
"""Recipes by name."""


def make(name: str) -> RunConfig:
    """The configuration of the recipe called `name`, or "package.module:function"; raises ConfigError listing those that exist."""
    return RECIPES.get(name)()


def counting(config: RunConfig) -> RunConfig:
    """The same run on self-verifying data: every read is checked byte by byte, every trajectory must be read exactly K times.

    The stream ends, the ring is read empty, and nothing is evaluated: there is no world to succeed in. The model is the smallest of
    its family, so that the pipe is what is tested.
    """
    learner = config.learner
    model = family_of(learner.agent.model).smallest()
    learner = replace(learner, agent=replace(learner.agent, model=model), data=replace(learner.data, window=2), measure_batches=2)
    return replace(
        config,
        recipe=f"{config.recipe} (counting)",
        out=config.out.with_name(config.out.name + "_counting"),
        world=replace(config.world, physics="counting", tasks=("counting",), horizon=12, encode=EncodeConfig()),
        stream=replace(config.stream, limit=config.stream.limit or 64),
        ring=replace(config.ring, max_reads=min(config.ring.max_reads, 10), num_slots=16, min_ready=2),
        learner=learner,
        train=replace(config.train, steps=10_000_000, verify=True),
        evaluate=replace(config.evaluate, episodes=0),
    )
