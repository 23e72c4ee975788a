"""Records of a run survive its death."""

import time

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
    with PeakMemory(period_s=0.01) as peak:
        before = tree_memory_bytes()
        block = bytearray(b"x" * (200 * 2**20))
        deadline = time.monotonic() + 60.0
        while peak.bytes - before < 150 * 2**20 and time.monotonic() < deadline:
            time.sleep(0.01)
        del block
        assert tree_memory_bytes() - before < 100 * 2**20
    assert peak.bytes - before > 150 * 2**20
