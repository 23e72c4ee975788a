"""The faults of somebody's data set show when it is opened, each as one line; what is opened can be learned from."""

import json
import re
from dataclasses import replace

import pytest
from exchange_parts import CODEC, ROBOT, recording, schema

from embodichain.cli import main
from embodichain.errors import ConfigError
from embodichain.exchange.card import Card
from embodichain.exchange.lerobot_reader import LeRobotFolder
from embodichain.exchange.lerobot_writer import LeRobotWriter
from embodichain.exchange.mapping import load
from embodichain.exchange.recorded import DatasetLayout, Recorded
from embodichain.types import TrajectoryId, read_text

SPEC = schema(chunk=4, horizon=4)
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
CHINESE = "把杯子放到架子上，然后再把灯打开。" * 6
LONG = "Turn the small red switch that stands at the left edge of the table " * 3 + "OFF"


def cut(recorded, chunks):
    """The first chunks of an episode."""
    frames = {name: getattr(recorded, name)[: chunks + 1] for name in ("rgb", "state", "state_pose")}
    commands = {name: getattr(recorded, name)[:chunks] for name in ("action", "action_pose", "segment")}
    return replace(recorded, **frames, **commands)


def write_set(folder, episodes):
    layout = DatasetLayout.of(ROBOT, SPEC)
    with LeRobotWriter(folder, layout, Card(layout=layout, command="test")) as writer:
        for number, episode in enumerate(episodes):
            writer.add(replace(episode, trajectory_id=number))
    return folder


@pytest.fixture
def made():
    return Recorded.of(recording(1, SPEC), CODEC)


def opened(folder, text="", *, spec=SPEC):
    """A data set, read with a mapping."""
    path = folder.parent / "mapping.yaml"
    path.write_text(text or "{}")
    return LeRobotFolder(folder, ROBOT, spec, load(path))


@pytest.mark.parametrize("words", ["a" + CHINESE, CHINESE, LONG])
def test_an_instruction_that_does_not_fit_is_refused_and_a_mapping_says_it_shorter(tmp_path, made, words):
    folder = write_set(tmp_path / "set", [replace(made, instruction="Turn it on."), replace(made, instruction=words)])
    with pytest.raises(ConfigError, match="longer than the 160 bytes") as refused:
        opened(folder)
    assert repr(words) in str(refused.value) and "instruction: " in str(refused.value)
    shorter = opened(folder, json.dumps({"instruction": {words: "把灯打开。"}}))
    assert [read_text(shorter.episode(number)["instruction"]) for number in (0, 1)] == ["Turn it on.", "把灯打开。"]
    same = opened(folder, "instruction: turn it off")
    assert [read_text(same.episode(number)["instruction"]) for number in (0, 1)] == ["turn it off"] * 2


def test_episodes_shorter_than_a_chunk_are_left_out_and_counted(tmp_path, made):
    long = Recorded.of(recording(3, schema(chunk=4, horizon=4)), CODEC)
    folder = write_set(tmp_path / "set", [cut(made, 1), long, cut(made, 1), long])
    twelve = schema(chunk=12, horizon=4)
    read = opened(folder, spec=twelve)
    assert (read.num_episodes, read.left_out) == (2, 2)
    assert [TrajectoryId.unpack(read.trajectory_id(number)).sequence for number in (0, 1)] == [1, 3]
    assert [int(read.episode(number)["num_chunks"]) for number in (0, 1)] == [(long.num_frames - 1) * 4 // 12] * 2
    with pytest.raises(ConfigError, match=r"no episode of .* is long enough"):
        opened(folder, spec=schema(chunk=64, horizon=4))


FAULTS = {
    "fps": "fps is missing",
    "features": "features is missing",
    "total_episodes": "total_episodes is missing",
    "data_path": "data_path is missing",
    "video_path": "video_path is missing",
}


@pytest.mark.parametrize("lost", FAULTS)
def test_a_description_that_lacks_something_is_refused(tmp_path, made, lost):
    path = write_set(tmp_path / "set", [made]) / "meta/info.json"
    info = json.loads(path.read_text())
    del info[lost]
    path.write_text(json.dumps(info))
    with pytest.raises(ConfigError, match=FAULTS[lost]):
        opened(tmp_path / "set")


@pytest.mark.parametrize(
    ("name", "value"), [("fps", "fast"), ("fps", 0), ("total_episodes", "all"), ("features", []), ("data_path", "{episode_chunk}")]
)
def test_a_description_with_a_value_of_another_kind_is_refused(tmp_path, made, name, value):
    path = write_set(tmp_path / "set", [made]) / "meta/info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))
    with pytest.raises(ConfigError, match=name):
        opened(tmp_path / "set")


@pytest.mark.parametrize(
    "file",
    [
        "data/chunk-000/file-000.parquet",
        "meta/episodes/chunk-000/file-000.parquet",
        "videos/observation.images.head/chunk-000/file-000.mp4",
    ],
)
def test_files_that_are_not_there_show_at_once(tmp_path, made, file):
    folder = write_set(tmp_path / "set", [made])
    (folder / file).write_bytes(POINTER)
    with pytest.raises(ConfigError, match="git lfs pull"):
        opened(folder)
    (folder / file).unlink()
    with pytest.raises(ConfigError, match=r"lacks the file|describes no episode 0"):
        opened(folder)


SLIPS = [
    ("action:", "action holds nothing"),
    ("cameras:", "cameras holds nothing"),
    ("keys:", "keys holds nothing"),
    ("keys: {acton: action}", "did you mean 'action'"),
    ("keys: {action: 3}", "name of a column"),
    ("cameras: [head]", "cameras holds list"),
    ("cameras: {head: 3}", "name of a column"),
    ("cameras: {haed: observation.images.head}", "did you mean 'head'"),
    ("action: [1]", "action holds list"),
    ("action: {left.joint1: {value: x}}", "finite numbers"),
    ("action: {left.joint1: {value: .inf}}", "finite numbers"),
    ("action: {left.joint1: {from: left.joint1, scale: much}}", "finite numbers"),
    ("action: {left.jiont1: {from: left.joint1, scale: 5}}", "did you mean 'left.joint1'"),
    ("state: {left.griper: left.gripper}", "did you mean 'left.gripper'"),
    ("fps: fast", "fps is 'fast'"),
    ("fps: -3", "fps is -3"),
    ("fps: 0", "fps is 0"),
    ("fps: .nan", "fps is nan"),
    ("instruction: [a]", "give a sentence"),
    ("camera: {head: observation.images.head}", "did you mean 'cameras'"),
    ("- cameras", "cameras, action"),
]


@pytest.fixture(scope="module")
def right(tmp_path_factory):
    """A data set without a fault."""
    return write_set(tmp_path_factory.mktemp("right") / "set", [Recorded.of(recording(1, SPEC), CODEC)])


@pytest.mark.parametrize(("text", "said"), SLIPS)
def test_a_slip_in_a_mapping_is_refused_with_what_was_meant(right, text, said):
    with pytest.raises(ConfigError, match=re.escape(said)):
        opened(right, text)


def test_a_dry_run_says_what_is_wrong_with_the_static_set_and_what_is_left_out(tmp_path, made, capsys):
    long = Recorded.of(recording(3, SPEC), CODEC)
    folder = write_set(tmp_path / "set", [cut(made, 1), long])
    say = ["run", "seconds_cpu", "--static", str(folder), "--out", str(tmp_path / "run"), "--dry-run"]
    say += ["--world.chunk", "12", "--learner.agent.model.chunk", "12"]
    assert main(say) == 0, capsys.readouterr().err
    assert "# static: 1 static episodes" in (said := capsys.readouterr().out) and "1 more are shorter" in said
    (folder / "data/chunk-000/file-001.parquet").write_bytes(POINTER)
    assert main(say) == 2
    said = capsys.readouterr().err
    assert "git lfs pull" in said and "Traceback" not in said
