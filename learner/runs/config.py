"""The configuration of a complete run: ring, stream, training and evaluation. Does not import torch."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from embodichain.config import EncodeConfig, WorldConfig
from embodichain.errors import ConfigError, unknown
from embodichain.ray_engine.weather import Budgets
from embodichain.types import ACTION_DIM, MOST_TOGETHER, PLACEMENTS, FullPolicy, ReplayMode, RingSpec, TrajectorySpec
from embodichain.types.reels import CameraMode, DarkroomPlace
from learner.codecs.config import EncoderConfig
from learner.evaluation.config import EvaluateConfig
from learner.training.config import LearnerConfig, Parallel


@dataclass(frozen=True, kw_only=True)
class RingConfig:
    """Settings of the ring between simulation and learner."""

    num_slots: int = 64
    """Trajectories it holds at once."""
    max_reads: int = 50
    """K: how often each trajectory may be read, 1..16383; the paper sweeps 213, 50, 10."""
    full_policy: FullPolicy = FullPolicy.BLOCK
    """What happens when every slot holds a trajectory with reads left: block the simulation, or evict the oldest trajectory."""
    min_ready: int = 8
    """Trajectories that must be in the ring before the first batch is drawn."""
    mode: ReplayMode = ReplayMode.TRAJECTORY
    """"trajectory": K bounds the reads of each trajectory. "aggregate": the whole ring is read K x num_slots times in all, then
    refilled, as in earlier engines; set min_ready to num_slots to also start as they did."""

    placement: str = "host"
    """Where trajectories are stored: "host" memory; "huge", huge pages of host memory, if mounted; "pinned", page-locked for the
    learner's GPU, which then copies by itself; "cuda", memory of that GPU; "delayed", host memory that simulates a GPU, for
    tests."""

    snapshot_mib: int = 1024
    """Largest ring [MiB] that is saved with each checkpoint, so that a resumed run continues reading where it stopped. The content
    of a larger ring is lost when a run is resumed, which the ledger records; 0 never saves the ring."""

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
    """Settings of the simulation: engine, workers, cameras."""

    engine: str = "ray"
    """"ray": worker processes simulate. "serial": this process simulates between training steps. "crew": this process steps many
    worlds together, while workers run their experts and render their pictures afterwards (as with `camera` "reels")."""
    workers: int = 2
    """Number of workers at the start, and the smallest number later."""
    worlds: int = 8
    """Number of worlds of a crew; a multiple of its workers."""
    most_workers: int = 0
    """Largest number of workers (`--workers 2:16`): it grows while the learner waits for data, and shrinks while workers wait for
    room in the ring. 0 keeps the number fixed."""
    target_pairs: float = 0.0
    """E that an elastic number of workers should reach, in state-action pairs an iteration; 0 only balances waiting times."""
    address: str = ""
    """Address of a running Ray cluster; empty starts Ray on this machine."""
    cpus_per_worker: float = 1.0
    """CPU cores that each worker requests from a running cluster; workers that wait for cores are listed by `ray status`."""
    hang_s: float = 300.0
    """A worker without a heartbeat for this long [s] is replaced; workers that wait for room in the ring still send heartbeats."""
    deliver_together: int = 1
    """Number of trajectories that a worker on another node makes before it sends them to the ring's node in one call. More than 1
    pays where a trajectory is made within milliseconds; a worker that dies loses all that it had not sent."""
    budgets: Budgets = field(default_factory=Budgets)
    """How many lost workers a run survives within a window of time, by cause."""
    limit: int = 0
    """Number of scenes after which the stream ends; 0 means never."""
    camera: CameraMode = CameraMode.SNAPSHOTS
    """When and where pictures are rendered: "snapshots", while an episode is played; "reels", by its worker after the episode has
    succeeded, so that failures cost no rendering; "darkroom", in one process for all workers. The pictures are bit-identical."""
    darkroom: DarkroomPlace = DarkroomPlace.HOST
    """Where that process renders: "host", on a CPU; "card", on the GPU that holds the ring, straight into its slots, with the
    painter "raster", pixels and not latents, and noise from world.visual.noise_source "hash"."""

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
        if not 1 <= self.deliver_together <= MOST_TOGETHER:
            raise ConfigError(f"deliver_together must be 1 to {MOST_TOGETHER} trajectories, got {self.deliver_together}")
        if self.limit < 0:
            raise ConfigError(f"limit must be 0 or more, got {self.limit}")
        if self.darkroom is DarkroomPlace.CARD and self.camera is not CameraMode.DARKROOM:
            raise ConfigError(
                f"stream.darkroom card is where a darkroom draws, and stream.camera is {self.camera}: set stream.camera darkroom"
            )
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
    """How long the learner trains, and what it saves."""

    steps: int = 400
    """Training steps in all, including those before a resume."""
    checkpoint_every: int = 100
    """Steps between checkpoints; the last step always writes one."""
    clip: float = 1.0
    """Largest gradient norm."""
    verify: bool = False
    """Check every byte of every read against its provenance (with counting physics only)."""
    measure_every: int = 0
    """Steps between measurements of the loss on held-out episodes (`evaluate.measured`), also after the last step; 0 for never."""
    ranks: int = 1
    """Learner processes on a machine, one for each GPU if there are any; each draws its own batches from the same ring."""
    nodes: int = 1
    """Learner nodes of the cluster at `stream.address`; each has a ring of its own, `ranks` learner processes, and a share of the
    workers and of the scenes. All see the run's folder."""

    def __post_init__(self) -> None:
        if self.ranks < 1 or self.nodes < 1:
            raise ConfigError(f"ranks and nodes must be at least 1, got {self.ranks} and {self.nodes}")
        if self.steps < 1 or self.checkpoint_every < 1:
            raise ConfigError(f"steps and checkpoint_every must be at least 1, got {self.steps} and {self.checkpoint_every}")
        if self.clip <= 0:
            raise ConfigError(f"clip must be positive, got {self.clip}")
        if self.measure_every < 0:
            raise ConfigError(f"measure_every must be 0 or more, got {self.measure_every}")


@dataclass(frozen=True, kw_only=True)
class StaticConfig:
    """A fixed data set to train on instead of the stream or together with it, under the same replay bound K."""

    folder: str = ""
    """Folder of a LeRobot v3 data set; empty for none."""
    share: float = 1.0
    """Share of the reads that come from the data set. 1 is the static baseline, for which nothing is simulated."""
    mapping: str = ""
    """A YAML file that maps its cameras and channels to those of the robot; empty if the names are the same."""
    episodes: int = 0
    """Use only the first `episodes` of the data set; 0 uses all."""

    def __post_init__(self) -> None:
        if not 0.0 < self.share <= 1.0:
            raise ConfigError(f"static.share is a share of the reads, above 0 and at most 1, got {self.share}")
        if self.episodes < 0:
            raise ConfigError(f"static.episodes must be 0 or more, got {self.episodes}")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One complete run: what is simulated, how it is streamed, what is trained, and how that is evaluated."""

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
        learners = self.train.ranks * self.train.nodes
        if self.learner.data.ahead and learners > 1:
            raise ConfigError(
                f"learner.data.ahead {self.learner.data.ahead} is for one learner process, not {learners}: a checkpoint "
                "keeps the batches that are under way, and holds the first rank's alone; leave it at 0"
            )
        if self.stream.limit and self.stream.limit // self.train.nodes < self.ring.min_ready:
            raise ConfigError(
                f"a stream of {self.stream.limit} scenes never reaches min_ready={self.ring.min_ready}"
                + (f" in each of {self.train.nodes} rings" if self.train.nodes > 1 else "")
                + ": raise stream.limit"
            )
        self._check_nodes()
        if self.train.measure_every and self.learner.parallel is Parallel.FSDP and learners > 1:
            raise ConfigError(
                f"train.measure_every {self.train.measure_every} measures in the first of {learners} learners, which under "
                "learner.parallel fsdp hold a slice of the weights each: set train.measure_every 0, or learner.parallel ddp"
            )
        if self.train.verify and self.ring.mode is ReplayMode.AGGREGATE:
            raise ConfigError("ring.mode aggregate bounds no single trajectory, so train.verify cannot hold them to K reads")
        if self.stream.darkroom is DarkroomPlace.CARD and self.ring.placement not in ("cuda", "delayed"):
            raise ConfigError(
                f"a darkroom on a card draws into a ring on that card, and ring.placement is {self.ring.placement!r}: "
                "set ring.placement cuda, or stream.darkroom host"
            )
        if self.train.verify and self.ring.placement == "cuda":
            raise ConfigError("train.verify compares in host memory: ring.placement must be host, or delayed to try a device")
        if self.static.folder and (learners > 1 or self.train.verify or self.ring.mode is ReplayMode.AGGREGATE):
            raise ConfigError("a static data set is read by one rank, under a bound of each trajectory, and is not counting data")
        if self.train.verify and self.world.physics != "counting":
            raise ConfigError(f"only counting physics can be verified byte by byte, got {self.world.physics!r}")
        self.learner.agent.model.check_actions(self.world.chunk, ACTION_DIM)
        encode, encoder = self.world.encode, self.learner.agent.encoder
        if encode.factory == _ENCODER and EncoderConfig(**json.loads(encode.options)) != encoder:
            raise ConfigError(
                f"workers would encode with {encode.options}, the agent with {json.dumps(asdict(encoder))}: "
                "set world.encode.options and learner.agent.encoder alike"
            )

    def _check_nodes(self) -> None:
        """Raises ConfigError when several learner nodes are asked for and cannot be."""
        nodes, stream = self.train.nodes, self.stream
        if nodes == 1:
            return
        if stream.engine != "ray" or not stream.address:
            raise ConfigError(
                f"{nodes} learner nodes are of a Ray cluster: give --engine ray and --stream.address HOST:PORT, or auto"
            )
        if stream.workers < nodes:
            raise ConfigError(f"{nodes} learner nodes have a ring each, and each ring a worker: raise --workers {stream.workers}")
        if stream.camera is CameraMode.DARKROOM:
            raise ConfigError(
                f"a darkroom is beside one ring, and {nodes} learner nodes have {nodes}: choose --stream.camera reels"
            )

    @property
    def trajectory_bound(self) -> int:
        """K if it bounds each trajectory, else 0; the value for the ledger."""
        return self.ring.max_reads if self.ring.mode is ReplayMode.TRAJECTORY else 0

    def ring_spec(self, trajectory: TrajectorySpec) -> RingSpec:
        """The specification of the ring for trajectories of this schema."""
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
    """Makes workers encode frames with the agent's encoder, once for each trajectory instead of at every read."""
    options = {name: value for name, value in asdict(encoder).items() if (name, value) != ("codec", "dino")}
    return EncodeConfig(factory=_ENCODER, options=json.dumps(options))  # the default codec is left out, as in older files
