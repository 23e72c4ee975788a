"""A stream that is not intact is never called intact."""

from pathlib import Path

import pytest

from embodichain.engine import EngineReport
from embodichain.errors import IntegrityError
from embodichain.ring.ledger import Event, Ledger
from embodichain.stages import Fate, Produced
from embodichain.types import TrajectoryId
from learner.runs.complete import check_complete, reads_by_trajectory

BOUND = 3


def stream(path: Path, reads: dict[TrajectoryId, int], published: int) -> tuple[EngineReport, dict[int, int]]:
    """An engine's report of `published` trajectories, and what a real ledger of `reads` says."""
    report = EngineReport()
    for number in range(published):
        report.add(Produced(number=number, task="counting", fate=Fate.PUBLISHED, reason=""))
    with Ledger.open(path) as ledger:
        for identity, count in reads.items():
            for index in range(count):
                ledger.record(Event.READ, identity.pack(), read_index=index)
    return report, reads_by_trajectory(path)


def ids(*numbers: int, epoch: int = 0) -> list[TrajectoryId]:
    return [TrajectoryId(worker=n % 2, epoch=epoch, sequence=n) for n in numbers]


def test_an_intact_stream_passes(tmp_path):
    check_complete(*stream(tmp_path / "ledger", dict.fromkeys(ids(0, 1, 2), BOUND), 3), BOUND)


@pytest.mark.parametrize(
    ("reads", "published", "fault"),
    [
        (dict.fromkeys(ids(0, 1), BOUND), 3, "lost: 3 were published, 2 were ever read"),
        ({**dict.fromkeys(ids(0, 1, 2), BOUND), **dict.fromkeys(ids(1, epoch=1), BOUND)}, 3, r"duplicated: scenes \[1\]"),
        ({**dict.fromkeys(ids(0, 1), BOUND), **dict.fromkeys(ids(2), BOUND + 1)}, 3, "not read exactly 3 times"),
        ({**dict.fromkeys(ids(0, 1), BOUND), **dict.fromkeys(ids(2), BOUND - 1)}, 3, "not read exactly 3 times"),
    ],
)
def test_lost_duplicated_and_overread_trajectories_are_named(tmp_path, reads, published, fault):
    with pytest.raises(IntegrityError, match=fault):
        check_complete(*stream(tmp_path / "ledger", reads, published), BOUND)
