"""Records of a run survive its death."""

import time
from itertools import pairwise

from embodichain import metrics
from embodichain.metrics import MetricsWriter, PeakMemory, read_metrics, tree_memory_bytes


def test_records_come_back_in_order_and_by_kind(tmp_path):
    writer = MetricsWriter(tmp_path / "metrics.jsonl", clock=lambda: 5.0)
    for step in range(5):
        writer.write("train", {"step": step})
        writer.write("stream", {"ready": step})
    writer.close()
    assert [r["step"] for r in read_metrics(tmp_path / "metrics.jsonl", "train")] == [0, 1, 2, 3, 4]
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 10


def test_a_torn_last_line_is_ignored(tmp_path):
    path = tmp_path / "metrics.jsonl"
    MetricsWriter(path).write("train", {"step": 1})
    with path.open("a") as file:
        file.write('{"kind": "train", "st')
    assert [r["step"] for r in read_metrics(path)] == [1]


def test_peak_memory_sees_an_allocation_that_is_gone_again():
    with PeakMemory(period_s=0.01, share=1.0) as peak:
        before = tree_memory_bytes()
        block = bytearray(b"x" * (200 * 2**20))
        deadline = time.monotonic() + 60.0
        while peak.bytes - before < 150 * 2**20 and time.monotonic() < deadline:
            time.sleep(0.01)
        del block
        assert tree_memory_bytes() - before < 100 * 2**20
    assert peak.bytes - before > 150 * 2**20


def test_looking_takes_no_more_than_its_share_of_the_time(monkeypatch):
    """Nobody's processor is spent on watching, however many processes there are: 0.05 s of looking, then 0.95 s of none."""
    looks = []

    def slow() -> int:
        looks.append(time.monotonic())
        time.sleep(0.05)
        return 1

    monkeypatch.setattr(metrics, "tree_memory_bytes", slow)
    with PeakMemory(period_s=0.0, share=0.05):
        time.sleep(2.5)
    regular = looks[:-1]  # the last one as it closes
    assert 2 <= len(regular) <= 3, looks
    assert all(after - before >= 0.99 for before, after in pairwise(regular))
