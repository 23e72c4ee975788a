"""A run folder belongs to one process, and what is in it is whole, whatever the disk does."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from embodichain.errors import RunError
from embodichain.metrics import MetricsWriter, read_metrics
from learner.records.files import append_line, held, write_whole
from learner.records.run_folder import RunFolder
from learner.records.weight_files import read_weights, write_weights
from learner.runs import run as running
from learner.runs.config import RunConfig
from learner.runs.options import RunOptions

SMALL_DISK = """
import resource, sys
from pathlib import Path
from embodichain.errors import RunError
import torch
from embodichain.metrics import MetricsWriter
from learner.records.run_folder import RunFolder
from learner.records.weight_files import write_weights

resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))  # a file may hold no more: writing beyond fails as on a full disk
folder = RunFolder.create(Path(sys.argv[1]))
agent = {"w": torch.zeros(100_000)}
for write in (
    lambda: write_weights(folder.path / "agent.safetensors", agent, form="test"),
    lambda: folder.write_identity({"a": "x" * 200_000}, ["embodichain", "run"]),
    lambda: [metrics.write("train", {"step": step, "x": "y" * 100}) for step in range(5_000)],
    lambda: [folder.end_session({"step": step, "x": "y" * 100}) for step in range(5_000)],
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
        f"cannot write {path / 'agent.safetensors'}",
        f"cannot write {path / 'config.yaml'}",
        f"cannot write {path / 'metrics.jsonl'}",
        f"cannot write {path / 'sessions.jsonl'}",
    ]
    for name in ("metrics.jsonl", "sessions.jsonl"):  # each line is whole, the last one too
        lines = (path / name).read_text().splitlines(keepends=True)
        assert [json.loads(line)["step"] for line in lines] == [*range(len(lines))] and lines[-1].endswith("\n")
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


def test_a_line_is_written_whole_however_little_the_kernel_takes_at_a_time(tmp_path, monkeypatch):
    folder, write = RunFolder.create(tmp_path / "run"), os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, bytes(data)[:7]))
    folder.begin_session(["embodichain", "run"])
    folder.end_session({"steps": 3})
    assert [note["steps"] for note in folder.earlier_sessions()] == [3]


def test_a_line_that_a_crash_tore_is_skipped_and_nothing_is_glued_to_it(tmp_path):
    folder = RunFolder.create(tmp_path / "run")
    folder.end_session({"steps": 3})
    for path in (folder.sessions, folder.metrics):
        with path.open("a") as file:
            file.write('{"kind": "train", "totals": {"steps": 1}')
    folder.end_session({"steps": 4})
    metrics = MetricsWriter(folder.metrics)
    metrics.write("train", {"step": 5})
    metrics.close()
    assert [note["steps"] for note in folder.earlier_sessions()] == [3, 4]
    assert [record["step"] for record in read_metrics(folder.metrics)] == [5]


def test_files_that_cannot_be_opened_are_one_line(tmp_path):
    for write in (
        lambda: MetricsWriter(tmp_path / "none" / "metrics.jsonl"),
        lambda: append_line(tmp_path / "none" / "sessions.jsonl", "{}"),
        lambda: write_weights(tmp_path / "file" / "agent.safetensors", {}, form="test"),
    ):
        (tmp_path / "file").touch()
        with pytest.raises(RunError, match=r"^cannot write [^\n]*; [^\n]*$"):
            write()


def test_many_who_write_the_same_weights_leave_one_whole_file(tmp_path):
    path = tmp_path / "agent.safetensors"
    weights = [{"w": torch.full((200_000,), float(number))} for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda one: write_weights(path, one, form="test"), weights * 8))
    found, _ = read_weights(path, form="test", advice="")
    assert any(torch.equal(found["w"], one["w"]) for one in weights) and [*tmp_path.iterdir()] == [path]


def test_assets_that_cannot_be_copied_are_one_line(tmp_path):
    source = tmp_path / "cup" / "cup.usda"
    source.parent.mkdir()
    source.write_text("#usda 1.0")
    world: Any = SimpleNamespace(assets=[SimpleNamespace(path=source)])  # of a world, its assets alone are copied
    (tmp_path / "assets" / "cup").mkdir(parents=True)
    (tmp_path / "assets" / "cup" / "cup.usda").symlink_to(tmp_path / "none" / "cup.usda")  # which cannot be written to
    with pytest.raises(RunError, match=r"^cannot write .*cup\.usda: [^\n]*; free some space"):
        running.copy_assets(world, tmp_path / "assets")
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"^cannot write [^\n]*; free some space"):
        running.copy_assets(world, tmp_path / "file")


def test_a_run_that_came_and_went_meanwhile_is_not_overwritten(tmp_path, monkeypatch):
    @contextmanager
    def late(folder):
        (folder / "config.yaml").write_text("another run's")  # between the first look and the lock
        with held(folder):
            yield

    monkeypatch.setattr(running, "held", late)
    with pytest.raises(RunError, match="holds a run already"):
        running.run(RunOptions(config=RunConfig(recipe="test", out=tmp_path / "run"), resume=False, dry_run=False, json=False))
    assert (tmp_path / "run" / "config.yaml").read_text() == "another run's"
