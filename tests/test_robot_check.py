"""Laws of `embodichain robot check`, and of the refusals before sampling that say the same."""

import json
import time

import numpy as np
import pytest
import robot_parts as parts
from test_robots import ONE_ARM, write

from embodichain import cli, robots
from embodichain.assets.chain.catalog import build_catalog
from embodichain.assets.chain.config import AssetsConfig
from embodichain.cache import cache_dir
from embodichain.config import WorldConfig
from embodichain.errors import RobotError
from embodichain.scenes.coverage import beyond_reach, coverage
from embodichain.scenes.reach import ReachTable
from embodichain.tasks import TASKS, categories, make
from embodichain.tasks.needs import lacking
from embodichain.types import Pose
from embodichain.world import check_names

REAL = [name for name in TASKS.built_in if name != "counting"]


def two(tmp_path, hand=None, x=-0.5):
    made = hand or parts.slides
    arms = [(side, parts.SEVEN, (x, y, 0.0), 0, parts.SEVEN_HOME, made(side)) for side, y in (("left", 0.3), ("right", -0.3))]
    return write(tmp_path, parts.robot(arms), "two.xml")


@pytest.mark.parametrize("name", REAL)
def test_the_platform_lacks_nothing_for_any_task(name):
    assert lacking(robots.dual_piper(), make(name)) == ()


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("handover_block", "it needs 2 arms and robot 'robot' has 1: describe a dual-arm"),
        ("pour_water", "it needs 2 arms"),
        ("open_pan_and_place", "it needs 2 arms"),
    ],
)
def test_a_task_for_two_arms_is_refused_to_one_before_anything_is_built(tmp_path, task, said, capsys):
    path = str(write(tmp_path, ONE_ARM))
    with pytest.raises(RobotError, match=f"robot 'robot' cannot do task '{task}': {said}"):
        check_names(WorldConfig(robot=path, tasks=(task,)))
    begun = time.perf_counter()
    command = ["scene", "sample", "--task", task, "--robot", path, "-o", str(tmp_path / "out"), "--json"]
    assert cli.main(command) == 2
    assert time.perf_counter() - begun < 20.0 and not (tmp_path / "out").exists()  # no table of reach, no scene
    assert said.partition(":")[0] in json.loads(capsys.readouterr().out)["error"]


def test_a_gripper_too_narrow_too_short_or_too_thick_is_refused_with_its_measure(tmp_path):
    narrow = robots.get(two(tmp_path, lambda side: parts.slides(side, high=0.02)))
    (first, second) = lacking(narrow, make("place_mouse_pad"))
    assert "the left arm" in first and "opens 40 mm, 62 mm needed: give it a wider gripper" in first and "right arm" in second
    assert lacking(narrow, make("turn_switch")) == lacking(narrow, make("rearrange_table")) == ()
    short = robots.get(two(tmp_path, lambda side: parts.slides(side, pad=(0.01, 0.004, 0.009))))
    assert "has fingers of 18 mm, 25 mm needed" in lacking(short, make("place_mouse_pad"))[0]
    thick = robots.get(two(tmp_path, lambda side: parts.slides(side, pad=(0.01, 0.025, 0.02))))
    assert "has fingers 50 mm thick, at most 40 mm fit" in lacking(thick, make("hanging_mug"))[0]


def test_a_robot_that_stands_too_far_away_is_refused_with_where_it_stands(tmp_path):
    task = make("turn_switch")
    assets = build_catalog(AssetsConfig().serving(categories([task])), cache_dir() / "assets")
    for x, reached in ((-0.5, True), (-1.6, False)):
        robot = robots.get(two(tmp_path, x=x))
        found = coverage(task, robot, assets, ReachTable.solver(robot), draws=12)
        assert [one.role for one in found] == ["switch"] and found[0].draws == 12
        assert (found[0].any_arm > 0.5) == reached and (beyond_reach(found, robot) == ()) == reached
    (said,) = beyond_reach(found, robot)
    assert "reaches lever_tip of 'switch' in any of 12 placements: its base stands at (" in said


def test_a_pose_is_reached_alike_with_and_without_a_table():
    robot = robots.dual_piper()
    table, alone = ReachTable.load_or_build(robot), ReachTable.solver(robot)
    rng = np.random.default_rng(0)
    for _ in range(20):
        x, y, z = rng.uniform((-0.3, -0.4, 0.02), (0.2, 0.4, 0.2)).tolist()
        pose = Pose(position=(x, y, z), quaternion=(0.0, 1.0, 0.0, 0.0))
        assert alone(pose) == tuple(chain.arm for i, chain in enumerate(table.chains) if table.solvable(i, pose))


def test_the_check_says_what_is_there_what_is_missing_and_what_can_be_done(tmp_path, capsys):
    path = two(tmp_path, lambda side: parts.linkage(side))
    out = tmp_path / "report"
    command = ["robot", "check", str(path), "--task", "turn_switch", "--draws", "8", "-o", str(out), "--json"]
    assert cli.main(command) == 0
    told = json.loads(capsys.readouterr().out)
    left = told["arms"][0]
    assert told["usable"] and told["faults"] == [] and [row["task"] for row in told["tasks"]] == ["turn_switch"]
    assert (left["gripper"], len(left["joints"]), left["gripper_joints"]) == ("linkage", 7, ["left_driver_a"])
    assert left["opening"] == pytest.approx(0.088, abs=2e-3) and left["base"] == pytest.approx((-0.5, 0.3, 0.333))
    assert any("no speed limits" in note for note in told["notes"])
    page = (out / "report.html").read_text()
    assert all(word in page for word in ("turn_switch", "linkage", "left_joint1", "front"))
    assert all((out / name).stat().st_size > 1000 for name in ("robot_over.png", "robot_front.png", "reach.png"))


def test_the_check_fails_for_a_task_that_cannot_be_done_and_says_why(tmp_path, capsys):
    path = write(tmp_path, ONE_ARM)
    assert cli.main(["robot", "check", str(path), "--task", "handover_block"]) == 1
    said = capsys.readouterr().out
    assert "CANNOT" in said and "it needs 2 arms" in said and "not usable: 0 of 1 tasks" in said


def test_the_check_has_nothing_to_say_of_a_benchmarks_robot(capsys):
    assert cli.main(["robot", "check", "metaworld"]) == 2
    assert "belongs to a benchmark" in capsys.readouterr().err
