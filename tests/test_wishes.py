"""What is asked of a running run through a file is done or refused, whatever lies there, and the run goes on."""

import os

import pytest

from embodichain.metrics import MetricsWriter, read_metrics
from embodichain.ring.ledger import Ledger
from embodichain.ring.ring import Ring
from embodichain.types import RingSpec, camera_spec
from learner.records.run_folder import RunFolder
from learner.runs.wishes import Wishes


@pytest.fixture
def asked(tmp_path, no_shared_memory_left):
    """The path of the file, and what the run makes of it: K afterwards, and whether it said that it refused."""
    spec = camera_spec(cameras=1, height=8, width=8, horizon=2)
    with Ring.create(RingSpec(trajectory=spec, num_slots=2, max_reads=5)) as ring, Ledger.open(tmp_path / "ledger.bin") as ledger:
        metrics = MetricsWriter(tmp_path / "metrics.jsonl")
        wishes = Wishes(RunFolder(path=tmp_path), ring, ledger, metrics)

        def outcome() -> tuple[int, bool]:
            wishes.look(3)
            wishes.look(4)
            records = read_metrics(tmp_path / "metrics.jsonl", "wish")
            assert len(records) <= 1, "each is looked at once"
            return ring.stats().max_reads, "refused" in records[0]

        yield tmp_path / "wishes.json", outcome
        metrics.close()


def test_a_bound_is_changed(asked):
    path, outcome = asked
    path.write_text('{"max_reads": 9}')
    assert outcome() == (9, False)


NO_BOUNDS = [
    *('{"max_reads": %s}' % value for value in ("1e999", "true", "3.9", '"9"', "0", "null", 23 * "9", "[" * 3000 + "]" * 600)),  # noqa: UP031
    *("{}", "[9]", "9", "", "\0", '{"max_reads": 9}' + 5000 * " "),
]


@pytest.mark.parametrize("text", NO_BOUNDS, ids=lambda text: text[:24])
def test_what_is_no_bound_is_refused(asked, text):
    path, outcome = asked
    path.write_text(text)
    assert outcome() == (5, True)


def test_a_folder_is_no_file(asked):
    path, outcome = asked
    path.mkdir()
    assert outcome() == (5, True)


def test_a_pipe_holds_up_nobody(asked):
    path, outcome = asked
    os.mkfifo(path)
    assert outcome() == (5, True)


def test_a_link_is_not_followed(asked, tmp_path):
    path, outcome = asked
    (tmp_path / "elsewhere").write_text('{"max_reads": 9}')
    path.symlink_to(tmp_path / "elsewhere")
    assert outcome() == (5, True)
