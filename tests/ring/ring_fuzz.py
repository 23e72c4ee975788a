"""Kills and stops writers, readers and reapers at random, and checks everything they touched; also a script (`--help`).

Exact counts come from two places that a kill cannot spoil: the ring's own witness of reads, and a ledger flushed after every draw.
"""

import argparse
import json
import mmap
import os
import signal
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from containers import fork_in_container
from ring_parts import die_with_parent, is_whole, ring_spec

from embodichain.errors import RingClosed, RingError, RingTimeout
from embodichain.ring.ledger import Event, Ledger, load
from embodichain.ring.proof import verify
from embodichain.ring.ring import Ring

TORN, READS, PUBLISHED = range(3)
"""Cells of the scoreboard that all processes share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FuzzReport:
    """What a run did and found; `torn`, `over_k`, `leaked`, `lost_count` must be 0."""

    seconds: float
    kills: int
    stops: int
    published: int
    reads: int
    trajectories: int
    reaped: int
    torn: int
    over_k: int
    claimed_twice: int
    leaked: int

    @property
    def clean(self) -> bool:
        return self.torn == self.over_k == self.claimed_twice == self.leaked == 0


def writer(ring, board, life, rng, *, publish_first=False):
    for sequence in range(1 << 30):
        number = life << 24 | sequence
        slot = ring.reserve(timeout_s=600.0)
        slot["trajectory_id"][()] = number
        if publish_first:  # the sabotage: readable before it is written
            views = dict(slot)
            slot.publish()
        else:
            views = slot
        content = np.arange(1, len(views["content"]) + 1, dtype=np.uint64) * np.uint64(number | 1)
        for piece in np.split(np.arange(len(content)), 4):
            views["content"][piece] = content[piece]
            if rng.random() < 0.2:
                time.sleep(rng.random() * 0.002)
        views["action"][:] = number % 1000
        if not publish_first:
            if rng.random() < 0.1:
                slot.abandon()
                continue
            slot.publish()
        board[PUBLISHED] += 1


def reader(ring, board, ledger, rng):
    while True:
        try:
            lease = ring.acquire(int(rng.integers(1, 5)), 600.0, rng, partial=True)
        except RingTimeout:
            continue
        ledger.read(lease, step=0)
        ledger.flush()
        board[READS] += len(lease)
        board[TORN] += sum(not is_whole(sample) for sample in lease)
        if rng.random() < 0.3:
            time.sleep(rng.random() * 0.003)
        board[TORN] += sum(not is_whole(sample) for sample in lease)
        if rng.random() < 0.02:
            second = ring.acquire(1, 600.0, rng)  # two leases at once, perhaps on one slot
            ledger.read(second, step=0)
            ledger.flush()
            second.release()
        lease.release()


def reaper(ring, board, rng):
    while True:
        ring.reap()
        time.sleep(rng.random() * 0.001)


def run(
    seconds: float,
    *,
    seed: int = 0,
    writers: int = 3,
    readers: int = 3,
    reapers: int = 1,
    kill_every_s: float = 0.01,
    max_kills: int = 1 << 60,
    least_reads: int = 0,
    sabotage: str = "",
    words: int = 512,
    containers: bool = False,
) -> FuzzReport:
    """Runs the mix for `seconds`, or until `max_kills` and `least_reads` are reached, and judges it.

    `sabotage`: "publish_first" must come out torn. `containers`: every second process lives in a pid namespace of its own.
    """
    rng = np.random.default_rng(seed)
    shared = mmap.mmap(-1, 64 * 3 * 8)
    boards = np.frombuffer(shared, np.int64).reshape(64, 3)
    roles = ["writer"] * writers + ["reader"] * readers + ["reaper"] * reapers
    pids: list[int] = [0] * len(roles)
    stopped: dict[int, float] = {}
    lives = kills = stops = 0
    max_reads = 3
    with tempfile.TemporaryDirectory() as folder, Ring.create(ring_spec(num_slots=12, max_reads=max_reads, words=words)) as ring:
        book = Path(folder) / "ledger"
        Ledger.open(book).close()

        def spawn(place: int) -> int:
            nonlocal lives
            lives += 1
            life = lives
            pid = fork_in_container() if containers and place % 2 else os.fork()
            if pid:
                return pid
            code = 1
            try:
                die_with_parent()
                own = np.random.default_rng((seed, life))
                mine = Ring.attach(ring.path)
                if roles[place] == "writer":
                    writer(mine, boards[place], life, own, publish_first=sabotage == "publish_first")
                elif roles[place] == "reader":
                    reader(mine, boards[place], Ledger.open(book), own)
                else:
                    reaper(mine, boards[place], own)
            except RingClosed:
                code = 0
            except RingError as error:
                # Sabotage makes an honest writer's publish stale: the ring refuses it, as it should.
                code = 0 if sabotage else 1
                if code:
                    print(error, file=sys.stderr)
            finally:
                os._exit(code)

        begin = time.monotonic()
        try:
            while (now := time.monotonic()) - begin < seconds and (kills < max_kills or boards[:, READS].sum() < least_reads):
                for place, pid in enumerate(pids):
                    if pid and os.waitpid(pid, os.WNOHANG)[0]:
                        assert sabotage, f"a {roles[place]} failed by itself"
                        stopped.pop(pid, None)
                        pids[place] = 0
                    if not pids[place]:
                        pids[place] = spawn(place)
                for pid, until in list(stopped.items()):
                    if now > until:
                        os.kill(pid, signal.SIGCONT)
                        del stopped[pid]
                if sabotage and boards[:, TORN].sum():
                    break
                time.sleep(rng.random() * 2 * kill_every_s)
                place = int(rng.integers(len(roles)))
                if rng.random() < 0.2:
                    if pids[place] not in stopped:
                        os.kill(pids[place], signal.SIGSTOP)
                        stopped[pids[place]] = now + rng.random() * 0.1
                        stops += 1
                elif not sabotage:
                    os.kill(pids[place], signal.SIGKILL)
                    os.waitpid(pids[place], 0)
                    stopped.pop(pids[place], None)
                    pids[place] = 0
                    kills += 1
        finally:
            for pid in filter(None, pids):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        took = time.monotonic() - begin
        ring.reap()
        stats = ring.stats()
        leaked = stats.writing + stats.held + (stats.participants - 1) + (stats.free + stats.ready != stats.num_slots)
        torn = 0
        with Ledger.open(book) as ledger:
            while ring.stats().ready:
                with ring.sample(4, 0.0, rng, partial=True) as batch:
                    torn += sum(not is_whole(sample) for sample in batch)
                    ledger.read(batch, step=1)
        leaked += ring.stats().free != stats.num_slots
        report = verify(book, max_reads)
        assert load(book)[1] == 0
        assert (load(book)[0]["event"] == Event.READ).all()
        return FuzzReport(
            seconds=round(took, 1),
            kills=kills,
            stops=stops,
            published=int(boards[:, PUBLISHED].sum()),
            reads=int(boards[:, READS].sum()),
            trajectories=report.trajectories,
            reaped=ring.stats().reaped,
            torn=torn + int(boards[:, TORN].sum()),
            over_k=len(report.violations) + ring.stats().over_reads,
            claimed_twice=report.duplicates,
            leaked=leaked,
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--kills", type=int, default=1 << 60, help="stop after this many")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every", type=float, default=0.005, help="mean time between kills [s]")
    parser.add_argument("--containers", action="store_true", help="every second process in a pid namespace of its own (needs root)")
    arguments = parser.parse_args()
    report = run(
        arguments.seconds,
        seed=arguments.seed,
        kill_every_s=arguments.every,
        max_kills=arguments.kills,
        containers=arguments.containers,
    )
    print(json.dumps(asdict(report)))
    return 0 if report.clean else 1


if __name__ == "__main__":
    sys.exit(main())
