"""One complete run as values: ring, stream, training and how it is judged. Imports nothing heavy."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from embodichain.config import EncodeConfig, WorldConfig
from embodichain.errors import ConfigError, unknown
from embodichain.ray_engine.weather import Budgets
from embodichain.types import PLACEMENTS, FullPolicy, ReplayMode, RingSpec, TrajectorySpec
from embodichain.types.reels import CameraMode
from learner.codecs.config import EncoderConfig
from learner.evaluation.config import EvaluateConfig
from learner.training.config import LearnerConfig


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
    """Where trajectories lie: "host" memory, "huge" (in huge pages of it, where some are mounted), "pinned" (page-locked for the
    learner's GPU, which then fetches by itself), or "cuda", on that GPU ("delayed" is host memory that behaves like one)."""

    snapshot_mib: int = 1024
    """Largest ring [MiB] that is saved with each checkpoint, so that a resumed run reads on where it stopped. What is in a larger
    one is given up when a run is resumed, and the ledger says so; 0 saves none."""

    def __post_init__(self) -> None:
        if self.snapshot_mib < 0:
            raise ConfigError(f"snapshot_mib must be 0 or more, got {self.snapshot_mib}")
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
    """"ray": worker processes; "serial": in this process, between training steps; "crew": many worlds that are stepped together,
    by this process, and workers that think for them and draw their pictures afterwards (as with `camera` "reels")."""
    workers: int = 2
    """At the beginning, and the fewest."""
    worlds: int = 8
    """Worlds of a crew, a multiple of its workers."""
    most_workers: int = 0
    """The number of workers may grow up to this while the learner waits for them, and shrinks while they wait: `--workers 2:16`; 0
    keeps it."""
    target_pairs: float = 0.0
    """E that an elastic number of workers should reach, in state-action pairs an iteration; 0 asks for balance alone."""
    address: str = ""
    """Of a running Ray cluster; empty starts Ray on this machine."""
    cpus_per_worker: float = 1.0
    """Cores that each worker asks of a running cluster; those that wait for some show in `ray status`."""
    hang_s: float = 300.0
    """A worker without a sign of life for so long [s] is replaced; one that waits for room in the ring gives signs."""
    budgets: Budgets = field(default_factory=Budgets)
    """Lost workers that a run survives, by cause, within a window of time."""
    limit: int = 0
    """Scenes to simulate before the stream ends; 0 has no end."""
    camera: CameraMode = CameraMode.SNAPSHOTS
    """When and where pictures are drawn: "snapshots", while an episode is played; "reels", by its worker once it is a success, so
    that failures cost no picture; "darkroom", in one process beside the workers. They are the same to the bit."""

    def __post_init__(self) -> None:
        if self.engine not in ("ray", "serial", "crew"):
            raise unknown("engine", self.engine, ("ray", "serial", "crew"))
        if self.workers < 1:
            raise ConfigError(f"workers must be at least 1, got {self.workers}")
        if self.most_workers and self.most_workers < self.workers:
            raise ConfigError(f"--workers is min:max with min <= max, got {self.workers}:{self.most_workers}")
        if self.target_pairs < 0 or (self.target_pairs and not self.most_workers):
            raise ConfigError(f"target_pairs is for an elastic number of workers (--workers min:max), got {self.target_pairs}")
        if self.cpus_per_worker < 0 or self.hang_s <= 0:
            raise ConfigError(
                f"cpus_per_worker must be 0 or more and hang_s positive, got {self.cpus_per_worker} and {self.hang_s}"
            )
        if self.limit < 0:
            raise ConfigError(f"limit must be 0 or more, got {self.limit}")
        if self.engine != "ray" and self.camera is CameraMode.DARKROOM:
            raise ConfigError(
                f"a darkroom is a process beside the workers, and the engine {self.engine!r} has none: choose "
                "--stream.camera reels, or --engine ray"
            )
        if self.engine == "crew" and (self.worlds < 1 or self.worlds % self.workers):
            raise ConfigError(f"worlds must be a multiple of the {self.workers} workers of a crew, got {self.worlds}")
        if self.engine == "crew" and self.most_workers:
            raise ConfigError("a crew has as many workers from beginning to end: give --workers one number")


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
    measure_every: int = 0
    """Steps between measurements of the loss on held-out episodes (`evaluate.measured`), after the last too; 0 for never."""
    ranks: int = 1
    """Learner processes on this machine, one a GPU where there are some: each draws its own batches from the one ring."""

    def __post_init__(self) -> None:
        if self.ranks < 1:
            raise ConfigError(f"ranks must be at least 1, got {self.ranks}")
        if self.steps < 1 or self.checkpoint_every < 1:
            raise ConfigError(f"steps and checkpoint_every must be at least 1, got {self.steps} and {self.checkpoint_every}")
        if self.clip <= 0:
            raise ConfigError(f"clip must be positive, got {self.clip}")
        if self.measure_every < 0:
            raise ConfigError(f"measure_every must be 0 or more, got {self.measure_every}")


@dataclass(frozen=True, kw_only=True)
class StaticConfig:
    """A data set that was made before, to learn from instead of a stream or beside it, under the same bound K."""

    folder: str = ""
    """Of a LeRobot v3 data set; empty for none."""
    share: float = 1.0
    """Of what is read, how much comes from it: 1 is the static baseline, and nothing is simulated to learn from."""
    mapping: str = ""
    """A YAML file that says which of its cameras and numbers are which of the robot's; empty when it calls them as we do."""
    episodes: int = 0
    """Use only so many, the first ones; 0 uses all."""

    def __post_init__(self) -> None:
        if not 0.0 < self.share <= 1.0:
            raise ConfigError(f"static.share is a share of the reads, above 0 and at most 1, got {self.share}")
        if self.episodes < 0:
            raise ConfigError(f"static.episodes must be 0 or more, got {self.episodes}")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One complete run: what is simulated, how it streams, what learns from it and how that is judged."""

    recipe: str
    out: Path = Path("runs/run")
    world: WorldConfig = field(default_factory=WorldConfig)
    stream: StreamConfig = field(default_factory=StreamConfig)
    static: StaticConfig = field(default_factory=StaticConfig)
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
        if self.learner.data.ahead and self.train.ranks > 1:
            raise ConfigError(
                f"learner.data.ahead {self.learner.data.ahead} is for one learner process, not {self.train.ranks}: a checkpoint "
                "keeps the batches that are under way, and holds the first rank's alone; leave it at 0"
            )
        if self.stream.limit and self.stream.limit < self.ring.min_ready:
            raise ConfigError(
                f"a stream of {self.stream.limit} scenes never reaches min_ready={self.ring.min_ready}: raise stream.limit"
            )
        if self.train.verify and self.ring.mode is ReplayMode.AGGREGATE:
            raise ConfigError("ring.mode aggregate bounds no single trajectory, so train.verify cannot hold them to K reads")
        if self.train.verify and self.ring.placement == "cuda":
            raise ConfigError("train.verify compares in host memory: ring.placement must be host, or delayed to try a device")
        if self.static.folder and (self.train.ranks > 1 or self.train.verify or self.ring.mode is ReplayMode.AGGREGATE):
            raise ConfigError("a static data set is read by one rank, under a bound of each trajectory, and is not counting data")
        if self.train.verify and self.world.physics != "counting":
            raise ConfigError(f"only counting physics can be verified byte by byte, got {self.world.physics!r}")
        self.learner.agent.model.check_chunk(self.world.chunk)
        encode, encoder = self.world.encode, self.learner.agent.encoder
        if encode.factory == _ENCODER and EncoderConfig(**json.loads(encode.options)) != encoder:
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


_ENCODER = "learner.codecs.catalog:for_writing"


def encode_on_write(encoder: EncoderConfig) -> EncodeConfig:
    """Lets the workers encode frames with the agent's encoder: once for each trajectory, instead of at every read."""
    options = {name: value for name, value in asdict(encoder).items() if (name, value) != ("codec", "dino")}
    return EncodeConfig(factory=_ENCODER, options=json.dumps(options))  # without a codec, as before there was a choice
