"""Reachability: the table's answers are those of inverse kinematics, the same from disk, and visible in a picture."""

import math
import pickle

import numpy as np
import pytest
from PIL import Image

from embodichain.errors import MotionError
from embodichain.motion.ik import IkConfig, explore, solve
from embodichain.motion.kinematics import as_quaternion, matrix_to_quaternion
from embodichain.motion.plan import table_clearance
from embodichain.robots import dual_piper
from embodichain.scenes.reach import ReachConfig, ReachTable
from embodichain.types import Pose

ROBOT = dual_piper()
COARSE = ReachConfig(spacing=0.1, tilts=(0.0, 35.0), azimuths=6, yaws=4, seeds=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("reach")


@pytest.fixture(scope="module")
def table(folder):
    return ReachTable.load_or_build(ROBOT, COARSE, cache_dir=folder)


def down(x, y, z, yaw=0.0):
    return Pose(position=(x, y, z), quaternion=(0.0, math.cos(yaw / 2), math.sin(yaw / 2), 0.0))


def random_pose(rng, largest_tilt):
    tilt, azimuth, yaw = rng.uniform((0, 0, 0), (math.radians(largest_tilt), 2 * math.pi, 2 * math.pi))
    z = np.array([math.sin(tilt) * math.cos(azimuth), math.sin(tilt) * math.sin(azimuth), -math.cos(tilt)])
    x = np.cross((math.sin(yaw), math.cos(yaw), 0.1), z)
    x /= np.linalg.norm(x)
    rotation = np.stack([x, np.cross(z, x), z], axis=1)
    x, y, z = (float(v) for v in rng.uniform((-0.3, -0.45, 0.0), (0.3, 0.45, 0.25)))
    return Pose(position=(x, y, z), quaternion=as_quaternion(matrix_to_quaternion(rotation)))


def reaches(chain, pose):
    """Patient inverse kinematics, and fingers above the table: what the table promises."""
    config = IkConfig(seeds=48, position_tolerance=1e-3, rotation_tolerance=1e-2)
    try:
        return table_clearance(chain, solve(chain, pose, chain.home, config)) >= -0.002
    except MotionError:
        return False


@pytest.mark.parametrize("largest_tilt", [0.0, 50.0])
def test_answers_agree_with_inverse_kinematics(table, largest_tilt):
    rng = np.random.default_rng(0)
    poses = [random_pose(rng, largest_tilt) for _ in range(250)]
    expected = np.array([[reaches(chain, pose) for chain in table.chains] for pose in poses])
    answers = np.array([[chain.arm in table.arms_reaching(pose) for chain in table.chains] for pose in poses])
    assert 0.2 < expected.mean() < 0.8
    assert (answers == expected).mean() >= 0.97


def test_most_queries_need_no_inverse_kinematics(table):
    rng = np.random.default_rng(1)
    known = [answer for _ in range(200) for answer in table._lookup(random_pose(rng, 0.0))]
    assert np.mean([answer is not None for answer in known]) > 0.5


def test_half_turns_are_the_same_grasp(table):
    rng = np.random.default_rng(2)
    for _ in range(50):
        x, y, z, yaw = rng.uniform((-0.3, -0.4, 0.01, 0), (0.3, 0.4, 0.2, math.pi))
        assert table.arms_reaching(down(x, y, z, yaw)) == table.arms_reaching(down(x, y, z, yaw + math.pi))


def test_each_arm_reaches_its_side_and_none_reaches_inside_the_table(table):
    assert table.arms_reaching(down(0.0, 0.0, 0.05)) == ("left", "right")
    assert table.arms_reaching(down(0.0, 0.4, 0.05)) == ("left",)
    assert table.arms_reaching(down(0.0, -0.4, 0.05)) == ("right",)
    assert table.arms_reaching(down(0.0, 0.0, -0.05)) == ()
    assert table.arms_reaching(down(3.0, 0.0, 0.05)) == ()
    assert 0.2 < table.fraction(0) < table.fraction() < 1.0
    assert table.fraction(0) == pytest.approx(table.fraction(1), abs=0.005)  # mirror images


def test_table_from_disk_is_the_one_built_and_is_not_built_again(table, folder):
    calls = []
    again = ReachTable.load_or_build(ROBOT, COARSE, cache_dir=folder, progress=lambda done, total: calls.append(done))
    assert np.array_equal(again.quality, table.quality) and not calls
    (stored,) = folder.glob("*.npz")
    whole = stored.read_bytes()
    stored.write_bytes(whole[: len(whole) // 2])  # a crash half way through another program's copy
    steps = []
    rebuilt = ReachTable.load_or_build(ROBOT, COARSE, cache_dir=folder, progress=lambda *step: steps.append(step))
    assert np.array_equal(rebuilt.quality, table.quality)
    assert steps[-1][0] == steps[-1][1] and [done for done, _ in steps] == list(range(1, len(steps) + 1))


def test_a_table_that_another_process_has_sent_is_as_good_and_compiles_nothing_anew(table):
    """Ray hands over the memory of arrays itself, read-only; numba would compile inverse kinematics a second time for such."""
    pose = down(0.0, 0.3, 0.1)
    table.solvable(0, pose)
    before, sent = list(explore.signatures), []
    packed = pickle.dumps(table, protocol=5, buffer_callback=sent.append)
    taken = pickle.loads(packed, buffers=[bytes(buffer.raw()) for buffer in sent])
    assert [taken.solvable(arm, pose) for arm in (0, 1)] == [table.solvable(arm, pose) for arm in (0, 1)]
    assert explore.signatures == before
    assert taken.arms_reaching(pose) == table.arms_reaching(pose)
    np.testing.assert_array_equal(taken.quality, table.quality)


def test_key_follows_robot_and_configuration():
    changed = ReachConfig(spacing=0.1, tilts=(0.0, 35.0), azimuths=6, yaws=4, seeds=9)
    assert COARSE.key(ROBOT) == ReachConfig(spacing=0.1, tilts=(0.0, 35.0), azimuths=6, yaws=4, seeds=8).key(ROBOT)
    assert COARSE.key(ROBOT) != changed.key(ROBOT)


def test_drawing_shows_reached_and_unreached_cells(table, tmp_path):
    path = tmp_path / "reach.png"
    table.draw(path)
    picture = np.asarray(Image.open(path).convert("RGB"))
    assert picture.shape[0] > 300 and len(np.unique(picture.reshape(-1, 3), axis=0)) > 20


def test_config_refuses_an_empty_grid():
    with pytest.raises(ValueError, match="positive"):
        ReachConfig(spacing=0.0)
