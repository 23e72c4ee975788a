"""Packed scenes open anywhere: pxr alone finds in them what the engine plays, and the engine reads them back to the bit."""

import json
import math
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import mujoco
import numpy as np
import pytest

from embodichain.assets.chain.config import AssetsConfig
from embodichain.config import WorldConfig
from embodichain.errors import ConfigError
from embodichain.expand.physical import PhysicalConfig
from embodichain.expand.visual import VisualConfig
from embodichain.physics.mujoco import MujocoPhysics
from embodichain.prepare import prepare
from embodichain.resimulation import resimulate
from embodichain.robots.posed import posed
from embodichain.scenes import usd
from embodichain.scenes.saved import INDEX, SavedScenes, pack
from embodichain.scenes.values import differences
from embodichain.stages import SceneStage

OPENED = Path(__file__).parent / "opened_elsewhere.py"
CONFIG = WorldConfig(
    tasks=("turn_switch", "place_mouse_pad"),
    seed=1,
    assets=AssetsConfig(counts={"switch": 2, "mouse": 2, "pad": 2}),
    visual=VisualConfig(enabled=True),
    physical=PhysicalConfig(enabled=True),
)


@pytest.fixture(scope="module")
def world():
    return prepare(CONFIG)


@pytest.fixture(scope="module")
def packed(world, tmp_path_factory):
    """Scenes, and the folder of a pack of them that has been moved since."""
    stage = SceneStage(world)
    scenes = {f"scene_{number:05d}.usda": stage.step(number)[1] for number in range(4)}
    first, then = tmp_path_factory.mktemp("first") / "pack", tmp_path_factory.mktemp("then") / "elsewhere"
    index = pack(scenes.items(), first, world.robot)
    shutil.move(first, then)
    return scenes, then, index


@pytest.fixture(scope="module")
def opened(packed, tmp_path_factory):
    """What pxr alone finds in each of them, without the engine and with an empty cache."""
    _, folder, _ = packed
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"EMBODICHAIN_CACHE": str(tmp_path_factory.mktemp("empty")), "HOME": str(tmp_path_factory.mktemp("home"))}
    found = {}
    for path in sorted(folder.glob("scene_*.usda")):
        result = subprocess.run(
            [sys.executable, "-P", str(OPENED), str(path)], capture_output=True, text=True, env=environment, check=True
        )
        assert "embodichain" not in result.stderr
        found[path.name] = json.loads(result.stdout)
    return found


def test_everything_lies_in_the_folder_and_is_referred_to_relatively(packed, opened):
    _, folder, index = packed
    for name, found in opened.items():
        assert found["missing"] == found["absolute"] == []
        assert len(found["files"]) > 3
        assert all(Path(file).is_relative_to(folder.resolve()) for file in found["files"]), name
        assert str(folder) not in (folder / name).read_text()
    assert json.loads((folder / INDEX).read_text()) == index
    assert all((folder / row["file"]).is_file() and row["licence"] for row in index["assets"])
    assert [row["file"] for row in index["scenes"]] == sorted(opened)


def test_the_pad_has_the_colour_that_the_words_say_and_the_objects_their_frictions(packed, opened):
    scenes, _, _ = packed
    named = {"red": 0, "green": 1, "blue": 2}
    seen = set()
    for name, scene in scenes.items():
        for placement in scene.objects:
            root = f"/scene/objects/{placement.role}/"
            shown = [color for path, color in opened[name]["colors"].items() if path.startswith(root)]
            assert shown
            if placement.color is not None:
                assert all(color == pytest.approx(placement.color[:3], abs=1e-6) for color in shown)
            if placement.role == "pad_target":
                for word, channel in named.items():
                    if word in scene.instruction:
                        assert all(int(np.argmax(color)) == channel for color in shown), (scene.instruction, shown)
                        seen.add(word)
            rubbing = [value for path, value in opened[name]["frictions"].items() if path.startswith(root)]
            materials = {
                round(one.dynamic_friction, 5) for body in placement.asset.bodies for one in (body.material, *body.surfaces)
            }
            assert rubbing and {round(value, 5) for value in rubbing} <= materials
    assert seen, "no words named a colour"


def test_bodies_cameras_and_joints_are_where_the_engine_has_them(packed, opened, world):
    scenes, _, _ = packed
    physics = MujocoPhysics(world.robot, width=16, height=16)
    for name, scene in scenes.items():
        physics.reset(scene)
        model, data = physics.world.model, physics.world.data
        mujoco.mj_kinematics(model, data)
        mujoco.mj_camlight(model, data)
        found = opened[name]
        for placement in scene.objects:
            for body in placement.asset.bodies:
                at = data.body(f"{placement.role}/{body.name}").xpos
                np.testing.assert_allclose(found["bodies"][f"/scene/objects/{placement.role}/{body.name}"], at, atol=2e-6)
            for joint, position in zip(placement.asset.movable_joints, placement.joint_positions, strict=True):
                told = found["states"][f"/scene/objects/{placement.role}/joints/{joint.name}"]
                assert abs(position) > 0.1 and told == pytest.approx(math.degrees(position), rel=1e-5)
        for link in posed(world.robot).links[1:]:
            (at,) = [place for path, place in found["bodies"].items() if path == f"/scene/robot/{link.name.replace('/', '_')}"]
            np.testing.assert_allclose(at, data.body(f"robot/{link.name}").xpos, atol=1e-6)
        assert set(found["cameras"]) == {camera.name for camera in world.robot.cameras}
        for camera, numbers in found["cameras"].items():
            index = model.camera(f"robot/{camera}").id
            wanted = [*data.cam_xpos[index], *data.cam_xmat[index].reshape(3, 3)[:, 2], model.cam_fovy[index]]
            np.testing.assert_allclose(numbers, wanted, atol=3e-4)
    physics.close()


def test_there_is_a_physics_scene_an_articulated_robot_and_no_joint_is_torn(opened):
    for found in opened.values():
        assert found["gravity"] == [[0, 0, -1]]
        assert "/scene/robot" in found["roots"]
        assert len([path for path in found["apart"] if path.startswith("/scene/robot/")]) >= 14
        assert max(found["apart"].values()) < 2e-5, {path: apart for path, apart in found["apart"].items() if apart >= 2e-5}
    assert any("/scene/objects/switch/" in path for found in opened.values() for path in found["apart"])


def test_the_engine_reads_back_every_value_and_streams_from_the_folder(packed, world):
    scenes, folder, _ = packed
    saved = SavedScenes(folder)
    assert [path.name for path in saved.paths] == list(scenes)
    for path, scene in zip(saved.paths, scenes.values(), strict=True):
        assert not differences(usd.read(path), scene)
        assert usd.heading(path)["robot"]["content_hash"] == world.robot.content_hash
    streaming = prepare(replace(CONFIG, scenes=replace(CONFIG.scenes, folder=str(folder))))
    stage = SceneStage(streaming)
    for number, scene in enumerate([*scenes.values(), *scenes.values()]):
        task, found = stage.step(number)
        assert task.name == scene.task and not differences(found, scene)
    once, again = resimulate(streaming, 4), resimulate(world, 0)
    assert once.trajectory["action"].tobytes() == again.trajectory["action"].tobytes()
    assert once.trajectory["rgb"].tobytes() == again.trajectory["rgb"].tobytes(), "as if it had been sampled"


def test_folders_that_cannot_be_streamed_are_refused(packed, world, tmp_path):
    _, folder, _ = packed
    with pytest.raises(ConfigError, match=r"no scenes in .*no such folder"):
        SavedScenes(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="0 USD files, and none of them is a scene"):
        SavedScenes(tmp_path)
    with pytest.raises(ConfigError, match="has no scenes of task 'pour_water'; it has place_mouse_pad, turn_switch"):
        SavedScenes(folder).check(["pour_water"], world.robot)
    with pytest.raises(ConfigError, match=r"was saved with robot 'dual_piper'.*choose that robot"):
        SavedScenes(folder).check(["turn_switch"], replace(world.robot, control_hz=25))
