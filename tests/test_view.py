"""`embodichain view` shows what there is: parts, joints and moments of assets, robots, scenes and episodes, in a real browser."""

import json
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from embodichain.cli import main
from embodichain.config import WorldConfig
from embodichain.physics.mujoco import MujocoPhysics
from embodichain.prepare import prepare
from embodichain.resimulation import resimulate
from embodichain.stages import SceneStage
from embodichain.types import rotate
from embodichain.viewing.assets import of_asset
from embodichain.viewing.exhibit import Layer
from embodichain.viewing.worlds import of_episode, of_robot, of_scene

CONFIG = WorldConfig(tasks=("turn_switch",), width=32, height=32, horizon=64, painter="raster")


@pytest.fixture(scope="module")
def world():
    return prepare(CONFIG, lambda name, done, total: None)


@pytest.fixture(scope="module")
def switch(world):
    return next(asset for asset in world.assets if asset.category == "switch")


def corners(exhibit, poses, layer=Layer.LOOKS, frame=None):
    """All points of a layer in the world's frame, [n, 3]."""
    parts = [part for part in exhibit.parts if part.layer is layer and frame in (None, part.frame)]
    return np.concatenate([rotate(poses[part.frame].quaternion, part.mesh.vertices) + poses[part.frame].position for part in parts])


def test_an_asset_shows_every_hull_its_inertia_and_joints_that_move_what_hangs_on_them(switch):
    exhibit = of_asset(switch.path)
    assert sum(part.layer is Layer.HULLS for part in exhibit.parts) == sum(len(body.hulls) for body in switch.bodies)
    assert np.allclose(
        [corners(exhibit, exhibit.start()).min(0), corners(exhibit, exhibit.start()).max(0)], switch.bounds, atol=1e-6
    )
    (slider,) = exhibit.sliders
    assert (slider.lower, slider.upper) == (switch.joints[-1].lower, switch.joints[-1].upper)
    low, high = (exhibit.posed({slider.name: at}) for at in (slider.lower, slider.upper))
    child = switch.joints[-1].child
    assert np.abs(corners(exhibit, low, frame=child) - corners(exhibit, high, frame=child)).max() > 0.005
    others = [body.name for body in switch.bodies if body.name != child]
    assert all(low[name] == high[name] for name in others)


def test_a_robot_moves_where_its_sliders_say(world):
    exhibit = of_robot(world.robot)
    assert len(exhibit.sliders) == world.robot.command_size
    start = {slider.name: slider.start for slider in exhibit.sliders}
    first = next(slider for slider in exhibit.sliders if slider.name == world.robot.arms[0].joints[0])
    moved = exhibit.posed(start | {first.name: first.start + 0.5})
    at_home = exhibit.posed(start)
    changed = {name for name in moved if not np.allclose(moved[name].quaternion, at_home[name].quaternion, atol=1e-9)}
    assert changed and all(name.startswith(f"robot/{world.robot.arms[0].name}") for name in changed)


def test_an_episode_is_the_streams_own_with_everything_where_it_was(world):
    exhibit, again = of_episode(world, 3), resimulate(world, 3)
    timeline = exhibit.timeline
    assert timeline is not None
    assert exhibit.facts["verdict"] == again.outcome.verdict.reason
    frames = again.outcome.num_chunks + 1
    assert np.array_equal(timeline.pictures, again.trajectory["rgb"][:frames]), "pictures to the bit"
    assert len(timeline.time_s) == len(timeline.contacts) == len(timeline.notes) == len(timeline.poses)
    assert np.allclose(np.diff(timeline.time_s), 1 / world.robot.control_hz)
    assert timeline.shown[0] == 0 and timeline.shown[-1] == frames - 1
    touching = [moment for moment, note in enumerate(timeline.notes) if "robot" in note and "switch/lever" in note]
    assert touching, "the robot touched the lever, and the notes say when"
    switch = next(placed.pose.position for placed in again.scene.objects if placed.role == "switch")
    assert any(np.linalg.norm(timeline.contacts[moment] - switch, axis=1).min(initial=np.inf) < 0.15 for moment in touching)


def test_a_saved_scene_is_shown_as_it_was_saved(world, tmp_path, capsys):
    from embodichain.scenes import usd

    _, scene = SceneStage(world, physics=MujocoPhysics(world.robot, width=16, height=16)).step(0)
    path = usd.write(scene, tmp_path / "scene_00000.usda")
    assert main(["view", str(path), "--dry-run", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["facts"]["instruction"] == scene.instruction and told["layers"]["looks"] > 10
    shown = of_scene(world.robot, usd.read(path)).start()
    roots = [name for name in shown if name.startswith("switch/")]
    there = [np.linalg.norm(np.subtract(shown[name].position, scene.objects[0].pose.position)) for name in roots]
    assert roots and min(there) < 0.1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing_of_the_kind"], "is nothing to look at"),
        (["juggle:3"], "unknown task 'juggle'"),
        (["dual_piper", "--port", "0"], "--port must be 1 to 65535"),
        (["."], "USD files, and one is shown at a time"),
    ],
)
def test_what_is_nothing_to_look_at_is_answered(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["view", *words]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_a_browser_sees_an_episode_and_ctrl_c_ends_the_page(tmp_path):
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium is installed")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    command = [sys.executable, "-m", "embodichain.cli", "view", "turn_switch:5", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        told = json.loads(process.stdout.readline())
        flags = ["--no-sandbox", "--enable-webgl", "--ignore-gpu-blocklist", "--enable-unsafe-swiftshader"]
        with playwright.sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=chromium, args=flags)
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            page.set_default_timeout(120_000)
            page.goto(told["url"])
            page.get_by_text("Flip the lever").wait_for()
            before = page.get_by_text("0.00 s of")
            before.wait_for()
            field = page.locator("input[type=text]").first
            field.fill(str(told["moments"] - 1))
            field.press("Enter")
            page.get_by_text(f"{(told['moments'] - 1) / 50:.2f} s of").wait_for()
            assert page.locator("canvas").count() >= 1
            browser.close()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
