"""LeRobot v3 out and in: nothing changes on the way, nothing is lost to a kill, and every read of a ring is in its ledger."""

import json
import signal
import time

import numpy as np
import pyarrow.parquet as pq
import pytest
from exchange_parts import CODEC, ROBOT, begin_run, episodes_in, fill, recording, schema, start, write

from embodichain.errors import ConfigError
from embodichain.exchange import sources
from embodichain.exchange.card import AssetOrigin, Card
from embodichain.exchange.lerobot_reader import LeRobotFolder
from embodichain.exchange.lerobot_writer import LeRobotWriter
from embodichain.exchange.mapping import load
from embodichain.exchange.recorded import DatasetLayout, Recorded
from embodichain.ring.ledger import Event, Ledger
from embodichain.ring.ledger import load as load_ledger
from embodichain.ring.proof import verify
from embodichain.types import LEDGER_FILE, TrajectoryInfo, read_text

SOURCES = {"hash0": AssetOrigin(name="switch_0", category="switch", licence="CC0-1.0", origin="made here")}


def write_set(folder, numbers, spec, *, resume=False):
    """A data set of these trajectories."""
    layout = DatasetLayout.of(ROBOT, spec)
    with LeRobotWriter(folder, layout, Card(layout=layout, command="test", sources=SOURCES), resume=resume) as writer:
        for number in numbers:
            writer.add(Recorded.of(recording(number, spec), CODEC))


def assert_same(read, made):
    """Everything is as it was recorded, pictures within what their codec loses."""
    chunks = int(made["num_chunks"])
    assert int(read["num_chunks"]) == chunks
    for name, length in (("action", chunks), ("segment", chunks), ("proprio", chunks + 1)):
        assert np.array_equal(read[name], made[name][:length]), name
    assert np.array_equal(read["action_mask"], made["action_mask"])
    assert read_text(read["instruction"]) == read_text(made["instruction"])
    assert TrajectoryInfo.decode(read["info"]) == TrajectoryInfo.decode(made["info"])
    assert np.abs(read["rgb"].astype(int) - made["rgb"][: chunks + 1]).mean() < 3


@pytest.mark.parametrize("chunk", [1, 16])
def test_what_is_written_is_read_back_equal(tmp_path, chunk):
    spec = schema(chunk=chunk)
    write_set(tmp_path / "set", range(3), spec)
    folder = LeRobotFolder(tmp_path / "set", ROBOT, spec)
    assert folder.num_episodes == 3
    for number in range(3):
        assert_same(folder.episode(number), recording(number, spec))


def test_rows_at_the_control_rate_make_any_chunk(tmp_path):
    write_set(tmp_path / "set", [5], fine := schema(chunk=1, horizon=12))
    read = LeRobotFolder(tmp_path / "set", ROBOT, schema(chunk=4)).episode(0)
    made = recording(5, fine)
    chunks = int(made["num_chunks"]) // 4
    assert np.array_equal(read["action"].reshape(-1, 30), made["action"][: 4 * chunks, 0])
    assert np.array_equal(read["proprio"], made["proprio"][: 4 * chunks + 1 : 4])
    assert np.abs(read["rgb"].astype(int) - made["rgb"][: 4 * chunks + 1 : 4]).mean() < 3
    assert list(read["segment"]) == [1] * chunks, "a chunk with any failed step is a failure"


def test_statistics_tasks_and_card_are_those_of_all_episodes(tmp_path):
    spec = schema()
    write_set(tmp_path, range(4), spec)
    state = np.concatenate([Recorded.of(recording(n, spec), CODEC).state for n in range(4)]).astype(np.float64)
    found = json.loads((tmp_path / "meta/stats.json").read_text())["observation.state"]
    assert np.allclose(found["mean"], state.mean(axis=0)) and np.allclose(found["std"], state.std(axis=0))
    assert found["max"] == state.max(axis=0).tolist() and found["count"] == [len(state)]
    tasks = pq.read_table(tmp_path / "meta/tasks.parquet").to_pandas()
    assert list(tasks.index) == ["Turn switch 0 on.", "Turn switch 1 on.", "Turn switch 2 on."]
    card = (tmp_path / "README.md").read_text()
    assert "license: other" in card and "| switch_0 | switch | CC0-1.0 | made here | `hash0` | 2 |" in card
    assert "unknown" in next(line for line in card.splitlines() if "`hash1`" in line)


def test_a_data_set_goes_on_where_it_stopped_and_clears_what_was_not_finished(tmp_path):
    spec = schema()
    write_set(tmp_path, range(2), spec)
    with pytest.raises(ConfigError, match="--resume"):
        write_set(tmp_path, [2], spec)
    for left in ("data/chunk-000/file-002.parquet", "data/chunk-000/file-005.parquet", "data/chunk-000/file-003.parquet.partial"):
        (tmp_path / left).write_bytes(b"torn")
    write_set(tmp_path, [2], spec, resume=True)
    folder = LeRobotFolder(tmp_path, ROBOT, spec)
    for number in range(3):
        assert_same(folder.episode(number), recording(number, spec))
    assert not list(tmp_path.rglob("*.partial"))
    assert len(list((tmp_path / "data").rglob("*.parquet"))) == 3, "stock readers take every file that is there"
    with pytest.raises(ConfigError, match="chunk 16, now 4"):
        write_set(tmp_path, [3], schema(chunk=4), resume=True)


# ---------------------------------------------------------------------------------------------------------- from a ring


def reads_in(run):
    """Reads that the ledger of a run holds."""
    records, damaged = load_ledger(run / LEDGER_FILE)
    assert not damaged
    return int(np.count_nonzero(records["event"] == Event.READ))


def test_reading_along_gives_each_trajectory_once_and_books_every_draw(tmp_path, monkeypatch, no_shared_memory_left):
    monkeypatch.setattr(sources, "_PATIENCE_S", 0.1)
    run, told = tmp_path / "run", sources.Told()
    with begin_run(run, schema(), slots=6, max_reads=200) as ring:
        fill(ring, range(6))
        along = sources.from_ring(
            ring, ROBOT, run / LEDGER_FILE, [int(recording(0, schema())["trajectory_id"])], told, lambda: None
        )
        found = [next(along).trajectory_id for _ in range(5)]
        along.close()
        assert sorted(found) == [int(recording(number, schema())["trajectory_id"]) for number in range(1, 6)]
        assert told.reads == 5 + told.seen_before == ring.stats().acquired == reads_in(run)


def wait_until(true, process, what):
    deadline = time.monotonic() + 240
    while not true():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, f"not within 240 s: {what}"
        time.sleep(0.02)


def test_a_killed_export_loses_one_episode_at_most_and_one_that_is_asked_to_stop_none(tmp_path, no_shared_memory_left):
    spec, run, out = schema(size=64), tmp_path / "run", tmp_path / "set"
    with begin_run(run, spec, slots=24, max_reads=3) as ring:
        fill(ring, range(24))
        with Ledger.open(run / LEDGER_FILE) as ledger, ring.sample(2) as lease:
            ledger.read(lease, step=7)  # the learner is at its eighth iteration
        killed = start("export", "lerobot", "--run", run, "-n", 0, "-o", out)
        wait_until(lambda: episodes_in(out) >= 3, killed, "three episodes")
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
        kept, booked = episodes_in(out), reads_in(run) - 2
        made = {int(recording(n, spec)["trajectory_id"]): recording(n, spec) for n in range(24)}
        for number in range(kept):
            path = out / f"meta/episodes/chunk-000/file-{number:03d}.parquet"
            row = pq.read_table(path, columns=["provenance/trajectory_id"]).to_pylist()[0]
            assert_same(LeRobotFolder(out, ROBOT, spec).episode(number), made[int(row["provenance/trajectory_id"])])
        drawn = load_ledger(run / LEDGER_FILE)[0]
        assert set(drawn["step"][drawn["event"] == Event.READ]) == {7}
        assert 0 <= len(set(drawn["trajectory_id"][drawn["event"] == Event.READ][2:])) - kept <= 1, (booked, kept)

        asked = start("export", "lerobot", "--run", run, "-n", 0, "-o", out, "--resume", "--json")
        wait_until(lambda: episodes_in(out) >= kept + 2, asked, "two more")
        asked.send_signal(signal.SIGTERM)
        said, _ = asked.communicate(timeout=120)
        assert asked.returncode == 130
        report = json.loads(said.splitlines()[-1])
        assert report["interrupted"] and report["episodes"] == episodes_in(out) == kept + report["new_episodes"]
        assert report["reads"] - report["seen_before"] == report["new_episodes"], "what was drawn was written"
        assert ring.stats().acquired == reads_in(run), "every draw is in the ledger"
        assert verify(run / LEDGER_FILE).holds
    ids = set()
    for path in (out / "meta/episodes").rglob("*.parquet"):
        ids |= set(pq.read_table(path, columns=["provenance/trajectory_id"])["provenance/trajectory_id"].to_pylist())
    assert len(ids) == episodes_in(out), "no trajectory twice"


# ------------------------------------------------------------------------------------------------------ somebody else's


def theirs(folder, spec):
    """A data set as somebody else would have made it: other names, and no file of ours."""
    write_set(folder, [3], spec)
    path = folder / "meta/info.json"
    info = json.loads(path.read_text())
    for key in ("action", "observation.state"):
        info["features"][key]["names"] = [f"motor_{i}" for i in range(14)]
    info["features"]["observation.images.top"] = info["features"].pop("observation.images.head")
    path.write_text(json.dumps(info))
    (folder / "videos/observation.images.head").rename(folder / "videos/observation.images.top")
    (folder / "meta/embodichain.json").unlink()
    episode = folder / "meta/episodes/chunk-000/file-000.parquet"
    table = pq.read_table(episode)
    names = [name.replace("images.head", "images.top") for name in table.column_names]
    pq.write_table(table.rename_columns(names).drop_columns(["provenance/info"]), episode)


def mapping_file(path, **more):
    channels = DatasetLayout.of(ROBOT, schema()).channels
    values = {"cameras": {"head": "observation.images.top"}, "action": {c: f"motor_{i}" for i, c in enumerate(channels)}, **more}
    path.write_text(json.dumps(values))
    return load(path)


def test_a_foreign_set_is_refused_with_all_that_is_missing_and_read_with_a_mapping(tmp_path):
    spec = schema(chunk=1)
    theirs(tmp_path / "set", spec)
    with pytest.raises(ConfigError) as refused:
        LeRobotFolder(tmp_path / "set", ROBOT, spec)
    for word in ("left.joint1", "right.gripper", "camera head", "observation.images.top", "motor_13", "--static.mapping"):
        assert word in str(refused.value)
    read = LeRobotFolder(tmp_path / "set", ROBOT, spec, mapping_file(tmp_path / "map.yaml")).episode(0)
    made = recording(3, spec)
    chunks = int(made["num_chunks"])
    assert np.array_equal(read["action"], made["action"][:chunks])
    assert np.array_equal(read["proprio"], made["proprio"][: chunks + 1])
    assert TrajectoryInfo.decode(read["info"]).physics == "recorded"


def test_another_rate_is_interpolated_in_time(tmp_path):
    spec = schema(chunk=1)
    theirs(tmp_path / "set", spec)
    mapping = mapping_file(tmp_path / "map.yaml", fps=25)
    read = LeRobotFolder(tmp_path / "set", ROBOT, spec, mapping).episode(0)
    made = CODEC.decode(recording(3, spec)["action"][: int(recording(3, spec)["num_chunks"]), 0])
    commands = CODEC.decode(read["action"][:, 0])
    assert np.allclose(commands[::2][: len(made)], made, atol=1e-6), "their instants are among ours"
    assert np.allclose(commands[1 : 2 * len(made) - 2 : 2], (made[:-1] + made[1:]) / 2, atol=1e-6), "and between them lies the mean"


def test_words_that_a_mapping_does_not_know_are_refused(tmp_path):
    (tmp_path / "map.yaml").write_text("camera: {head: top}")
    with pytest.raises(ConfigError, match="did you mean 'cameras'"):
        load(tmp_path / "map.yaml")
    (tmp_path / "map.yaml").write_text("action: {left.joint1: [1, 2]}")
    with pytest.raises(ConfigError, match=r"left\.joint1"):
        load(tmp_path / "map.yaml")


def test_the_writer_takes_what_a_slot_holds_and_no_more():
    spec = schema()
    out = recording(1, spec)
    recorded = Recorded.of(out, CODEC)
    write(out, spec, 2)
    assert np.array_equal(recorded.rgb, recording(1, spec)["rgb"][: recorded.num_frames]), "copies, not views"
