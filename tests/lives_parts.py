"""Lives of one run, each in a process of its own, ended in ways that nobody chose: `python lives_parts.py JSON` tells one story."""

import dataclasses
import json
import os
import signal
import sys
import traceback
from pathlib import Path

import numpy as np

from embodichain.metrics import MetricsWriter
from embodichain.prepare import prepare
from embodichain.progress import Board
from embodichain.world import World
from learner.records.run_folder import RunFolder
from learner.runs import recipes
from learner.runs.config import RunConfig
from learner.runs.session import stream_and_learn

K = 3
LIMIT = 60
"""Scenes."""


def configured(out: Path, *, snapshot_mib: int = 64, engine: str = "serial", limit: int = LIMIT, ahead: int = 0) -> RunConfig:
    """A counting run that checks every byte, and at its end that each trajectory was read K times."""
    config = recipes.counting(recipes.seconds_cpu())
    ring = dataclasses.replace(config.ring, max_reads=K, num_slots=16, snapshot_mib=snapshot_mib)
    stream = dataclasses.replace(config.stream, engine=engine, limit=limit)
    train = dataclasses.replace(config.train, steps=10_000, checkpoint_every=4, verify=True)
    learner = dataclasses.replace(config.learner, data=dataclasses.replace(config.learner.data, ahead=ahead))
    return dataclasses.replace(config, out=out, ring=ring, stream=stream, learner=learner, train=train)


class Counted(MetricsWriter):
    """Knows how many steps were told."""

    steps = 0

    def write(self, kind: str, values) -> None:
        self.steps += kind == "train"
        super().write(kind, values)


def live(config: RunConfig, world: World, *, steps: int | None, kill: bool, resume: bool) -> int:
    """One life in a process of its own, ended after some steps by Ctrl-C or `kill -9`, or by the stream; its exit code."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    code = 1
    try:
        folder = RunFolder(path=config.out)
        metrics = Counted(folder.metrics)

        def stopped() -> bool:
            over = steps is not None and metrics.steps > steps
            if over and kill:
                os.kill(os.getpid(), signal.SIGKILL)
            return over

        with Board(quiet=True) as board:
            stream_and_learn(world, config, folder, metrics, board, resume=resume, stopped=stopped)
        code = 0
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        os._exit(code)


def main(out: str, lives: int, seed: int, *, last_slots: int = 16, last_reads: int = K, **settings) -> None:
    """Lives that end after a random number of steps, by signal and by `kill -9` in turns, and one that sees the stream's end.

    This process has started no thread and computed nothing, so that its children may be forks.
    """
    config = configured(Path(out), **settings)
    world = prepare(config.world, lambda name, done, total: None)
    rng, folder = np.random.default_rng(seed), RunFolder.create(config.out)
    for number in range(lives + 1):
        last = number == lives
        kill = number % 2 == 1  # the first leaves a checkpoint to go on from
        steps = None if last else int(rng.integers(1, 8))
        if last:
            ring = dataclasses.replace(config.ring, num_slots=last_slots, max_reads=last_reads)
            config = dataclasses.replace(config, ring=ring)
        code = live(config, world, steps=steps, kill=kill and not last, resume=number > 0)
        assert code in ((0, -signal.SIGKILL) if kill and not last else (0,)), f"life {number} ended with {code}"
    assert folder.checkpoint.exists()


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
