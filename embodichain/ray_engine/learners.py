"""Runs one function in several processes on several nodes by Ray Train: the learners of a run, whatever they learn."""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import ray
import ray.train
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from embodichain.errors import ConfigError, EmbodiChainError, LearnerError, PeerLost
from embodichain.progress import Board
from embodichain.ray_engine.config import RayConfig
from embodichain.ray_engine.doubts import is_gone
from embodichain.ray_engine.start import start_ray

__all__ = ["Learners", "run_on_nodes"]

Result = TypeVar("Result")

_LOOK_S = 0.2
"""Interval at which the command looks what learners have told, and learners whether they should stop [s]."""
_ROOM_S = 60.0
"""How long the command waits for nodes that have room for learners [s]."""
_SILENT_S = 600.0
"""How long learners wait for each other in a collective [s]."""
_GONE_S = 30.0
"""How long it takes Ray to notice that a node is lost, with some reserve [s]."""
_MOST = 400
"""Most characters of an error that is told on."""
_NODE = "ray.io/node-id"


@dataclass(frozen=True, kw_only=True)
class Learners:
    """How many learners there are, and where."""

    nodes: int
    ranks: int
    """Learners on each node; each with a GPU, if the cluster has as many."""
    cores: int
    """CPU cores of each learner."""
    address: str
    """Address of a running cluster."""
    storage: Path
    """A folder that all nodes see, for files of Ray Train; it is removed afterwards."""

    @property
    def count(self) -> int:
        """Learners in all."""
        return self.nodes * self.ranks


Work = Callable[[Any, int, int, Board, Callable[[], bool]], Result]
"""What each learner does: called with what all are given, the number of its node, its place on the node, a board that speaks at
the command, and whether it is to stop. Those two are for the first learner; others have a quiet board and are never stopped."""


def run_on_nodes(work: Work[Result], given: object, learners: Learners, board: Board, stopped: Callable[[], bool]) -> list[Result]:
    """Calls `work` in every learner, within one process group of torch; returns what each returned, by rank.

    Raises ConfigError when the cluster has no room, the error of the learner that failed, or LearnerError when one was lost.
    """
    os.environ["RAY_TRAIN_V2_ENABLED"] = "1"
    os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"
    started = start_ray(RayConfig(address=learners.address))
    logging.getLogger("ray.train").setLevel(logging.ERROR)
    try:
        gpus = ray.cluster_resources().get("GPU", 0) >= learners.count
        places = _places(learners, gpus, board, stopped)
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        desk = ray.remote(num_cpus=0)(Desk).options(scheduling_strategy=here).remote()
        settings = {"work": work, "given": ray.put(given), "desk": desk, "ranks": learners.ranks, "places": places}
        trainer = TorchTrainer(
            _learner,
            train_loop_config=settings,
            torch_config=TorchConfig(backend="nccl" if gpus else "gloo", timeout_s=int(_SILENT_S)),
            scaling_config=ScalingConfig(
                num_workers=learners.count,
                use_gpu=gpus,
                resources_per_worker={"CPU": learners.cores},
                label_selector=[{_NODE: place} for place in places for _ in range(learners.ranks)],
            ),
            run_config=RunConfig(name=learners.storage.name, storage_path=str(learners.storage.parent)),
        )
        _follow(trainer, desk, board, stopped)
        results = ray.get(desk.results.remote())
        return [results[rank] for rank in range(learners.count)]
    finally:
        if started:
            ray.shutdown()
        shutil.rmtree(learners.storage, ignore_errors=True)


def _places(learners: Learners, gpus: bool, board: Board, stopped: Callable[[], bool]) -> list[str]:
    """The nodes that learners are to stand on: this one first, so that the first ring is where the run was started."""
    here = ray.get_runtime_context().get_node_id()
    wanted = {"CPU": learners.cores * learners.ranks, **({"GPU": learners.ranks} if gpus else {})}
    until, told = time.monotonic() + _ROOM_S, False
    while True:
        alive = [node for node in ray.nodes() if node["Alive"]]
        fit = [node["NodeID"] for node in alive if all(node["Resources"].get(kind, 0) >= n for kind, n in wanted.items())]
        if len(fit) >= learners.nodes:
            return sorted(fit, key=lambda node: node != here)[: learners.nodes]
        lack = f"{learners.nodes} learner nodes of {wanted} each are asked for, the cluster has {len(fit)} (of {len(alive)} nodes)"
        if time.monotonic() > until or stopped():
            raise ConfigError(f"{lack}: add nodes, or lower --nodes, --ranks or learner.threads")
        if not told:
            board.say(f"waiting for nodes: {lack}")
            told = True
        time.sleep(1.0)


def _follow(trainer: TorchTrainer, desk: ray.actor.ActorHandle, board: Board, stopped: Callable[[], bool]) -> None:
    """Waits for the training's end, shows meanwhile what learners tell, and tells them when to stop."""
    failure: list[BaseException] = []

    def fit() -> None:
        try:
            trainer.fit()
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=fit, name="learners", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(_LOOK_S)
        for line in ray.get(desk.read.remote(stopped())):
            line.show(board)
    if failure:
        raise _plain(failure[0], ray.get(desk.seats.remote()), ray.get(desk.failures.remote()))


def _plain(error: BaseException, seats: dict[int, LearnerPlace], failures: Sequence[LearnerFailure]) -> EmbodiChainError:
    """One error that says why the training has ended, of the many that learners end with when one of them fails."""
    for failure in failures:
        if isinstance(failure.error, EmbodiChainError) and not isinstance(failure.error, PeerLost):
            return failure.error
    until = time.monotonic() + _GONE_S
    silent = seats.keys() - {failure.rank for failure in failures}
    while True:
        lost = [rank for rank, seat in seats.items() if is_gone(seat.node)]
        if lost or not silent or time.monotonic() > until:
            break
        time.sleep(0.5)
    remedy = "the last checkpoint is whole: go on with --resume, and with fewer --nodes if it does not come back"
    if lost or silent:
        who = ", ".join(f"{rank} on {seats[rank].host}" for rank in sorted(lost or silent))
        return LearnerError(f"learner rank {who} was lost{' with its node' if lost else ''}; {remedy}")
    if failures:
        return LearnerError(f"learner rank {failures[0].rank} failed: {failures[0].words}")
    return LearnerError(f"Ray Train could not run the learners: {' '.join(str(error).split())[:_MOST]}")


# ------------------------------------------------------------------------------------------------- between command and learners


class Line(NamedTuple):
    """A call to the board of a learner, to be repeated at the command's: of `update`, or of `say` if `phase` is empty."""

    phase: str
    done: int
    total: int
    note: str

    def show(self, board: Board) -> None:
        """Repeats it."""
        if self.phase:
            board.update(self.phase, self.done, self.total, self.note)
        else:
            board.say(self.note)


class LearnerPlace(NamedTuple):
    """Where a learner stands."""

    node: str
    host: str


class LearnerFailure(NamedTuple):
    """How a learner failed; its error if it is one of ours."""

    rank: int
    error: EmbodiChainError | None
    words: str


class Desk:
    """An actor where the command and the learners leave notes for each other."""

    def __init__(self) -> None:
        self._lines: list[Line] = []
        self._stop = False
        self._seats: dict[int, LearnerPlace] = {}
        self._results: dict[int, Any] = {}
        self._failures: list[LearnerFailure] = []

    def read(self, stop: bool) -> list[Line]:
        """What learners have told since the last call; `stop` if they are to stop."""
        lines, self._lines, self._stop = self._lines, [], self._stop or stop
        return lines

    def tell(self, lines: Sequence[Line]) -> bool:
        """Leaves lines for the command; whether learners are to stop."""
        self._lines += lines
        return self._stop

    def sit(self, rank: int, seat: LearnerPlace) -> None:
        """A learner has begun."""
        self._seats[rank] = seat

    def end(self, rank: int, result: Any) -> None:
        """A learner has ended well."""
        self._results[rank] = result

    def fail(self, failure: LearnerFailure) -> None:
        """A learner has failed."""
        self._failures.append(failure)

    def seats(self) -> dict[int, LearnerPlace]:
        """Where the learners that began stand, by rank."""
        return self._seats

    def results(self) -> dict[int, Any]:
        """What the learners that ended well returned, by rank."""
        return self._results

    def failures(self) -> list[LearnerFailure]:
        """How learners failed, in that order."""
        return self._failures


class _FarBoard(Board):
    """A learner's board: its lines appear at the command, which in turn says through it when to stop. Never waits."""

    def __init__(self, desk: ray.actor.ActorHandle) -> None:
        super().__init__(quiet=True)
        self._desk = desk
        self._said: list[Line] = []
        self._phases: dict[str, Line] = {}
        self._asked: ray.ObjectRef | None = None
        self._ask_at = 0.0
        self._stop = False

    def update(self, phase: str, done: int, total: int, note: str = "") -> None:
        """See `Board.update`; of several updates within a moment the last is told."""
        self._phases[phase] = Line(phase, done, total, note)
        self.stopped()

    def say(self, text: str) -> None:
        """See `Board.say`."""
        self._said.append(Line("", 0, 0, text))
        self.stopped()

    def stopped(self) -> bool:
        """Whether the command has asked to stop; as it was a moment ago."""
        if self._asked is not None and ray.wait([self._asked], timeout=0)[0]:
            self._stop = ray.get(self._asked) or self._stop
            self._asked = None
        if self._asked is None and time.monotonic() >= self._ask_at:
            self._ask_at = time.monotonic() + _LOOK_S
            self._asked = self._desk.tell.remote([*self._said, *self._phases.values()])
            self._said, self._phases = [], {}
        return self._stop


def _learner(settings: dict[str, Any]) -> None:
    """One learner, as Ray Train calls it."""
    desk, context = settings["desk"], ray.train.get_context()
    rank, here = context.get_world_rank(), ray.get_runtime_context().get_node_id()
    node, place = divmod(rank, settings["ranks"])  # Train itself counts two nodes with one address as one
    os.environ |= {"NODE_RANK": str(node), "LOCAL_RANK": str(place), "LOCAL_WORLD_SIZE": str(settings["ranks"])}
    ray.get(desk.sit.remote(rank, LearnerPlace(here, ray.util.get_node_ip_address())))
    board = _FarBoard(desk) if rank == 0 else Board(quiet=True)
    try:
        if here != settings["places"][node]:
            raise LearnerError(f"Ray placed learner rank {rank} on node {here}, not {settings['places'][node]}, where its ring is")
        stopped = board.stopped if isinstance(board, _FarBoard) else _never
        result = settings["work"](ray.get(settings["given"]), node, place, board, stopped)
        ray.get(desk.end.remote(rank, result))
    except BaseException as error:
        ours = error if isinstance(error, EmbodiChainError) else None
        words = f"{type(error).__name__}: {' '.join(str(error).split())[:_MOST]}"
        ray.get(desk.fail.remote(LearnerFailure(rank, ours, words)))
        raise


def _never() -> bool:
    return False
