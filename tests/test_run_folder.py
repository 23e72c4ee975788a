"""A run folder belongs to one process, and what is in it is whole, whatever the disk does."""

import subprocess
import sys

import pytest

from embodichain.errors import RunError
from learner.records.files import held, write_whole
from learner.records.run_folder import RunFolder

SMALL_DISK = """
import resource, sys
from pathlib import Path
from embodichain.errors import RunError
from embodichain.metrics import MetricsWriter
from learner.records.run_folder import RunFolder

resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))  # a file may hold no more: writing beyond fails as on a full disk
folder = RunFolder.create(Path(sys.argv[1]))
for write in (
    lambda: folder.write_identity({"a": "x" * 200_000}, ["embodichain", "run"]),
    lambda: [metrics.write("train", {"step": step, "x": "y" * 100}) for step in range(5_000)],
):
    metrics = MetricsWriter(folder.metrics)
    try:
        write()
    except RunError as error:
        print(error)
    metrics.close()
"""


def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(tmp_path):
    path = tmp_path / "run"
    told = subprocess.run([sys.executable, "-c", SMALL_DISK, str(path)], capture_output=True, text=True, check=True).stdout
    assert [line.partition(":")[0] for line in told.splitlines()] == [
        f"cannot write {path / 'config.yaml'}",
        f"cannot write {path / 'metrics.jsonl'}",
    ]
    assert not list(path.glob("*.partial")) and not list(path.glob(".*.partial"))
    RunFolder.create(path).write_identity({"a": 1}, ["embodichain", "run"])  # it was no run yet
    assert RunFolder.open(path).config.read_text() == "a: 1\n"


def test_a_file_is_the_old_one_or_the_new_one(tmp_path):
    file = tmp_path / "summary.json"
    write_whole(file, "old")
    with pytest.raises(RunError, match="cannot write"):
        write_whole(tmp_path / "none" / "summary.json", "new")
    with pytest.raises(UnicodeEncodeError):
        write_whole(file, "\ud800")
    assert file.read_text() == "old" and [*tmp_path.iterdir()] == [file]


def test_two_runs_cannot_share_a_folder(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from learner.records.files import held\n"
        "with held(Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        with pytest.raises(RunError, match=f"in use by another process .pid {other.pid}."), held(tmp_path):
            pass
    finally:
        other.kill()
        other.wait()
    with held(tmp_path):  # the dead hold nothing
        pass
