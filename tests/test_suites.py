"""Frozen suites: what they freeze is checked and does not depend on last bits; a change is named; commands take them by name."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from in_process import embodichain

from embodichain.assets.chain.config import AssetsConfig
from embodichain.config import WorldConfig
from embodichain.errors import ConfigError, SceneError
from embodichain.expand.physical import PhysicalConfig
from embodichain.expand.visual import VisualConfig
from embodichain.prepare import prepare
from embodichain.resimulation.suites import FrozenScene, Rate, Suite, freeze, play, scenes_of
from embodichain.rollout import ExpertPilot
from embodichain.types.poses import compose, yaw_pose
from embodichain.world import Split

LIBRARY = Path(__file__).parents[1] / "scenes"
FILES = sorted(LIBRARY.glob("*/*.yaml"))
CONFIG = WorldConfig(
    tasks=("turn_switch",),
    assets=AssetsConfig(counts={"switch": 2}),
    visual=VisualConfig(enabled=True),
    physical=PhysicalConfig(enabled=True),
)


@pytest.fixture(scope="module")
def world():
    return prepare(CONFIG)


@pytest.fixture(scope="module")
def suite(world):
    return freeze("turn_switch/here", world, Split.BEYOND, 3)


def test_a_suite_comes_back_from_its_file_and_its_scenes_from_the_suite(suite, world, tmp_path):
    measured = replace(suite, expert=Rate(successes=2, episodes=3))
    read = Suite.read(measured.write(tmp_path / "turn_switch" / "here.yaml"))
    assert read == measured
    again = list(scenes_of(read, world))
    assert [number for number, _, _ in again] == [scene.number for scene in suite.scenes]
    assert len(list(scenes_of(read, world, 1))) == 1


def test_last_bits_do_not_count_and_everything_else_is_named(suite, world):
    ((_, _, scene),) = scenes_of(suite, world, 1)
    frozen = suite.scenes[0]
    placement = scene.objects[0]

    def moved(x: float, yaw: float):
        pose = compose(yaw_pose(x, 0.0, 0.0, 0.0), compose(placement.pose, yaw_pose(0.0, 0.0, 0.0, yaw)))
        return replace(scene, objects=(replace(placement, pose=pose), *scene.objects[1:]))

    heavier = replace(placement.asset.bodies[0], mass=placement.asset.bodies[0].mass * (1 + 1e-12))
    asset = replace(placement.asset, content_hash="of another processor", bodies=(heavier, *placement.asset.bodies[1:]))
    for same in (moved(1e-7, 1e-7), moved(3e-4, 0.005), replace(scene, objects=(replace(placement, asset=asset),))):
        frozen.check(same)
    renamed = replace(placement, asset=replace(placement.asset, name="switch_999"))
    for other, message in (
        (moved(2e-3, 0.0), r"switch at \(x, y \[0.1 mm\], yaw \[mrad\]\): frozen"),
        (moved(0.0, 0.05), r"switch at .*frozen"),
        (replace(scene, instruction="Sing."), "drawn: frozen"),
        (replace(scene, objects=(renamed,)), "drawn: frozen"),
        (replace(scene, expansion={**scene.expansion, "light_intensity": 0.1}), "drawn: frozen"),
        (replace(scene, objects=()), "objects: frozen 1, here 0"),
    ):
        with pytest.raises(SceneError, match=message):
            frozen.check(other)


def test_a_suite_of_another_world_is_refused_at_its_first_scene(suite, world):
    other = replace(suite, scenes=(replace(suite.scenes[0], drawn="0" * 16), *suite.scenes[1:]))
    with pytest.raises(SceneError, match="is not the one that was frozen"):
        list(scenes_of(other, world))


def test_the_expert_plays_a_suite_and_is_judged(suite, world):
    rows = list(
        play(
            suite,
            world,
            lambda task, scene, physics: ExpertPilot(task, scene, physics, np.random.default_rng(scene.seed)),
            pictures=False,
            count=1,
        )
    )
    assert len(rows) == 1 and rows[0].outcome.verdict.success and rows[0].number == suite.scenes[0].number


def test_files_that_are_no_suites_are_refused(suite, tmp_path):
    path = suite.write(tmp_path / "turn_switch" / "here.yaml")
    text = path.read_text()
    for found, put in (("split: beyond", "split: somewhere"), ("visual:", "visible:"), ("scenes:", "scene:"), ('["', '[["')):
        assert found in text
        path.write_text(text.replace(found, put))
        with pytest.raises(ConfigError, match="is no suite of scenes"):
            Suite.read(path)


@pytest.mark.parametrize("path", FILES, ids=[f"{path.parent.name}/{path.stem}" for path in FILES])
def test_every_suite_that_ships_is_whole_and_small(path):
    suite = Suite.read(path)
    assert suite.task == path.parent.name and suite.name == f"{path.parent.name}/{path.stem}"
    assert suite.split is (Split.HELD_OUT if path.stem == "in" else Split.BEYOND)
    assert len(suite.scenes) == len({scene.drawn for scene in suite.scenes}) == 20
    assert suite.expert is not None and suite.expert.episodes > 0
    assert path.stat().st_size < 20_000


def test_in_and_out_of_distribution_share_neither_instances_nor_looks():
    for path in FILES:
        if path.stem == "out":
            within, beyond = Suite.read(path.with_name("in.yaml")).config, Suite.read(path).config
            assert not set(within.assets.instances) & set(beyond.assets.instances)
            assert not set(within.visual.textures) & set(beyond.visual.textures)


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=[f"{path.parent.name}/{path.stem}" for path in FILES])
def test_scenes_of_a_suite_are_still_those_that_were_frozen(path):
    suite = Suite.read(path)
    assert len(list(scenes_of(suite, prepare(suite.config), 4))) == 4


# ------------------------------------------------------------------------------------------------------------ commands


def told(*arguments: str, code: int = 0):
    said = embodichain(*arguments, "--json")
    assert said.code == code, said.err or said.out
    return json.loads(said.out.splitlines()[-1])


def test_commands_sample_load_compare_pack_draw_and_judge(suite, tmp_path):
    made = told("scene", "sample", "--task", "turn_switch", "-n", "2", "-o", str(tmp_path / "made"), "--size", "0", "--visual")
    first, second = (row["path"] for row in made["scenes"])
    record = made["scenes"][0]["record"]
    again = told("scene", "load", record, "-o", str(tmp_path / "again" / "scene.usda"))
    assert again["how"].endswith("the same to the bit") and again["hash"] == told("scene", "load", first)["hash"]
    assert told("scene", "diff", first, again["out"])["differences"] == []
    found = told("scene", "diff", first, second, code=1)["differences"]
    assert {"seed", "objects/switch/pose/position"} <= {row["path"] for row in found}
    packed = told("scene", "pack", str(tmp_path / "made"), "-o", str(tmp_path / "pack"))
    assert packed["scenes"][0]["hash"] == again["hash"]
    sheet = told("scene", "render", str(tmp_path / "pack"), "-o", str(tmp_path / "sheet.png"), "--size", "32")
    assert sheet["scenes"] == 2 and (tmp_path / "sheet.png").stat().st_size > 500
    path = suite.write(tmp_path / "turn_switch" / "here.yaml")
    (row,) = told("scene", "eval", str(path), "-n", "1")["suites"]
    assert (row["pilot"], row["successes"], row["episodes"]) == ("expert", 1, 1)
    (played,) = told("scene", "play", first)["episodes"]
    assert played["task"] == "turn_switch" and "reason" in played


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["scene", "eval", "turn_swich/in"], r"there is no suite 'turn_swich/in'; available: .*turn_switch/in"),
        (["scene", "render", "turn_switch/in", "-o", "x.png", "--size", "7"], "--size must be even"),
        (["scene", "pack", "turn_switch/in", "-o", "x", "-n", "0"], "--count must be at least 1"),
        (["scene", "diff", "nothing.usda", "nothing.usda"], "there is nothing at nothing.usda"),
        (["scene", "eval", "turn_switch/in", "--expert", "--policy", "x"], "not allowed with"),
    ],
)
def test_faults_of_commands_are_one_line(arguments, message):
    said = embodichain(*arguments)
    assert said.code == 2 and said.err.count("\n") == 1
    assert re.search(message, said.err)


def test_places_are_frozen_in_tenths_of_a_millimetre(world, suite):
    ((number, _, scene),) = scenes_of(suite, world, 1)
    x, y, yaw = FrozenScene.of(number, scene).places[0]
    assert abs(x * 1e-4 - scene.objects[0].pose.position[0]) <= 5e-5 and abs(y * 1e-4 - scene.objects[0].pose.position[1]) <= 5e-5
    assert abs(yaw) <= 3142
