"""robomimic's HDF5 and RoboTwin's layout hold what was recorded, also when their writer was never closed."""

import io
import json

import h5py
import numpy as np
import pytest
from exchange_parts import CODEC, ROBOT, recording, schema
from PIL import Image

from embodichain.cli import main
from embodichain.errors import ConfigError
from embodichain.exchange.card import Card
from embodichain.exchange.recorded import DatasetLayout, Recorded
from embodichain.exchange.robomimic import RobomimicWriter
from embodichain.exchange.robotwin import RoboTwinWriter
from embodichain.exchange.writers import FORMATS

SPEC = schema(chunk=4)
LAYOUT = DatasetLayout.of(ROBOT, SPEC)


def writer(kind, folder, *, resume=False):
    return kind(folder, LAYOUT, Card(layout=LAYOUT, command="test"), resume=resume)


def recorded(number):
    return Recorded.of(recording(number, SPEC), CODEC)


def assert_demonstrations(path, numbers):
    with h5py.File(path, "r") as file:
        assert sorted(file["data"]) == [f"demo_{i}" for i in range(len(numbers))]
        assert file["data"].attrs["total"] == sum(recorded(n).num_frames - 1 for n in numbers)
        assert json.loads(file["data"].attrs["env_args"])["env_kwargs"]["channels"] == list(LAYOUT.channels)
        for place, number in enumerate(numbers):
            demo, made = file[f"data/demo_{place}"], recorded(number)
            assert demo.attrs["num_samples"] == made.num_frames - 1
            assert np.array_equal(demo["actions"][()].reshape(made.action.shape), made.action)
            assert np.array_equal(demo["obs/state"], made.state[:-1]) and np.array_equal(demo["next_obs/state"], made.state[1:])
            assert np.array_equal(demo["obs/head_image"], made.rgb[:-1, 0])
            assert demo["dones"][()].tolist() == [0] * (made.num_frames - 2) + [1]


def test_robomimic_holds_all_also_while_it_is_written_and_when_it_goes_on(tmp_path):
    first = writer(RobomimicWriter, tmp_path)
    first.add(recorded(1))
    first.add(recorded(2))
    del first  # never closed, as a kill would leave it
    assert_demonstrations(tmp_path / "dataset.hdf5", [1, 2])
    with writer(RobomimicWriter, tmp_path, resume=True) as second:
        second.add(recorded(3))
    assert_demonstrations(tmp_path / "dataset.hdf5", [1, 2, 3])
    assert not (tmp_path / "demos").exists(), "packed into one file"
    with writer(RobomimicWriter, tmp_path, resume=True) as third:
        third.add(recorded(4))
    assert_demonstrations(tmp_path / "dataset.hdf5", [1, 2, 3, 4])


def test_robotwin_holds_commands_in_force_and_pictures_as_its_readers_decode_them(tmp_path):
    with writer(RoboTwinWriter, tmp_path) as first:
        first.add(recorded(2))
    with writer(RoboTwinWriter, tmp_path, resume=True) as second:
        second.add(recorded(3))
        second.add(recorded(4))
    for task, place, number in (("task_0", 0, 2), ("task_1", 0, 3), ("task_0", 1, 4)):
        folder, made = tmp_path / task / "demo_embodichain", recorded(number)
        with h5py.File(folder / f"data/episode{place}.hdf5", "r") as file:
            in_force = np.concatenate([made.state[:1], made.action[:, -1]])
            assert np.array_equal(file["joint_action/left_arm"], in_force[:, :6])
            assert np.array_equal(file["joint_action/right_arm"], in_force[:, 7:13])
            assert np.allclose(file["joint_action/vector"][:, 6], (in_force[:, 6] / ROBOT.arms[0].gripper_open).clip(0, 1))
            assert np.array_equal(file["endpose/right_endpose"], made.state_pose[:, 7:])
            stored = np.asarray(Image.open(io.BytesIO(file["observation/left_camera/rgb"][1])))
            assert np.abs(stored[..., ::-1].astype(int) - made.rgb[1, 1]).mean() < 6, "blue first, as OpenCV hands it over"
        words = json.loads((folder / f"instructions/episode{place}.json").read_text())
        assert words["seen"] == [made.instruction]
        assert (folder / f"video/episode{place}.mp4").stat().st_size > 500
    assert (tmp_path / "task_0/demo_embodichain/seed.txt").read_text() == "2 4"


@pytest.mark.parametrize("form", FORMATS.built_in)
def test_nothing_is_begun_that_could_not_be_finished(form, tmp_path, capsys):
    say = ["export", form, "-o", str(tmp_path / "set")]
    assert main([*say, "--task", "turn_switch", "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["format"] == form
    assert main([*say]) == 2 and "--task TASK" in capsys.readouterr().err
    assert main([*say, "--run", str(tmp_path)]) == 2 and "no ring now" in capsys.readouterr().err
    assert main([*say, "--run", str(tmp_path), "--chunk", "4"]) == 2 and "--chunk says how scenes" in capsys.readouterr().err
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("form", FORMATS.built_in)
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--size", "63"], "must be even"),
        (["--chunk", "0"], "at least 1 action"),
        (["--recovery", "7"], "recovery probability must be 0..1"),
        (["--painter", "oil"], "unknown painter 'oil'"),
        (["--robot", "dual_pipr"], "dual_piper"),
        (["--run", "."], "one of them"),
    ],
)
def test_a_dry_run_refuses_what_the_export_refuses(form, words, said, tmp_path, capsys):
    say = ["export", form, "--task", "turn_switch", "-o", str(tmp_path / "set"), *words]
    for more in ([], ["--dry-run"]):
        assert main([*say, *more]) == 2
        assert said in (told := capsys.readouterr().err) and "Traceback" not in told
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("form", FORMATS.built_in)
def test_a_dry_run_looks_at_the_folder_and_changes_nothing(form, tmp_path, capsys):
    say = ["export", form, "--task", "turn_switch", "--size", "32", "--chunk", "4", "-o", str(tmp_path), "--dry-run"]
    (tmp_path / "README.md").write_text("my notes")
    assert main(say) == 2 and "README.md" in capsys.readouterr().err
    (tmp_path / "README.md").unlink()
    assert main(say) == 0 and not list(tmp_path.iterdir())
    with writer(FORMATS.get(form), tmp_path) as begun:
        begun.add(recorded(1))
    assert main(say) == 2 and "--resume" in capsys.readouterr().err
    assert main([*say, "--resume"]) == 0
    assert main([*say, "--resume", "--size", "64"]) == 2 and "width 32, now 64" in capsys.readouterr().err


def test_encoded_trajectories_are_refused():
    from embodichain.types import camera_spec

    with pytest.raises(ConfigError, match="no pictures"):
        DatasetLayout.of(ROBOT, camera_spec(cameras=3, height=32, width=32, horizon=4, latents=(2, 2, 8)))
