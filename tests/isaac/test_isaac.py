"""Isaac Sim behind its wire: what goes through it comes out to the bit, and each way to be wrong is found out or survived."""

import json
import os
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from ended import has_ended
from isaac_parts import HONEST, PATIENCE, SIZE, home, worlds, wrong

sys.path.insert(0, str(Path(__file__).parent.parent / "physics"))
from physics_parts import block, gantry, placed, scene, switch

from embodichain.assets.usd import files as asset_usd
from embodichain.errors import ConfigError, SceneError
from embodichain.isaac.wire import GRACE_S
from embodichain.isaac.worlds import INTERPRETER
from embodichain.physics.contract import examine
from embodichain.physics.many import Many
from embodichain.types import Grains, Push

LAWS = {
    "Xyzw": "a scene stands as it was described",
    "PicturesFromBefore": "a picture shows the scene that was loaded last",
    "OtherOrder": "the robot begins at home",
    "LastInstant": "contacts are those of the whole period",
    "Degrees": "the robot begins at home",
    "OtherPeriod": "a step is one control period",
    "OneCommand": "a command moves the joints that it names, by that much",
    "StopsTheOthers": "loading a world leaves the others as they are",
    "WeakPush": "a push acts as a force, in its own world",
}
"""What each simulator that only answers wrongly breaks."""
SAYS = {
    "Xyzw": "is reported turned by",
    "PicturesFromBefore": "just loaded, are shown as",
    "OtherOrder": "at home it is",
    "LastInstant": "its weight says",
    "Degrees": "at home it is",
    "OtherPeriod": "gravity says",
    "OneCommand": "in world 1 a value moved",
    "StopsTheOthers": "the fall of a block in world 1 changes",
    "WeakPush": "m/s after 5 steps",
}


@pytest.fixture(scope="module")
def honest():
    found = worlds(HONEST)
    yield found
    found.close()


def test_what_goes_through_the_wire_is_to_the_bit_what_the_worlds_say(honest, tmp_path):
    def stored(asset):
        """As catalogues hold it: a file keeps some numbers in 32 bits."""
        asset_usd.write(asset, tmp_path / f"{asset.name}.usda")
        return asset_usd.read(tmp_path / f"{asset.name}.usda")

    cube, lever = stored(block()), stored(switch())
    reference = Many(gantry(), num_worlds=2, width=SIZE, height=SIZE)
    balls = Grains(positions=tuple((float(np.float32(0.1 + 0.02 * i)), 0.0, float(np.float32(0.1))) for i in range(3)))
    loads = [
        ((0,), (scene(placed("a", cube, z=0.2)),)),
        ((1,), (scene(placed("s", lever, joint_positions=(0.3,)), placed("b", cube, 0.2), placed("c", cube, 0.3)),)),
        ((0,), (replace(scene(placed("a", cube, z=0.2)), grains=balls),)),
    ]
    rng = np.random.default_rng(0)
    for some, scenes in loads:
        for batch in (honest, reference):
            batch.load(some, scenes)
        for step in range(20):
            command = home(honest) + rng.normal(size=(2, 6)) * 0.02
            pushes = {0: (Push(body="a", force=(1.0, 0.5, 0.0)),)} if step == 10 else {}
            mine, theirs = honest.step(command, pushes), reference.step(command, pushes)
            for world in range(2):
                if theirs.rosters[world] is None:
                    continue
                a, b = mine.state(world), theirs.state(world)
                assert (a.time_s, a.object_poses, a.object_joints, a.contacts) == (
                    b.time_s,
                    b.object_poses,
                    b.object_joints,
                    b.contacts,
                )
                assert a.arms == b.arms and a.control_hz == b.control_hz
                assert np.array_equal(a.measured, b.measured) and np.array_equal(a.grain_positions, b.grain_positions)
                for role in a.object_velocities:
                    assert np.array_equal(a.object_velocities[role], b.object_velocities[role])
    pictures = [
        (
            np.zeros((2, 3, SIZE, SIZE, 3), np.uint8),
            np.zeros((2, 3, SIZE, SIZE), np.float32),
            np.zeros((2, 3, SIZE, SIZE), np.uint8),
        )
        for _ in range(2)
    ]
    for batch, into in zip((honest, reference), pictures, strict=True):
        batch.render((1, 0), *into)
    for mine, theirs in zip(*pictures, strict=True):
        assert theirs.any() and np.array_equal(mine, theirs)


def test_the_contract_holds_for_the_reference_and_through_the_wire(honest):
    for batch in (Many(gantry(), num_worlds=2, width=SIZE, height=SIZE), honest):
        assert [(finding.law, finding.broken) for finding in examine(batch, height=SIZE, width=SIZE) if finding.broken] == []


@pytest.mark.parametrize("how", [how if how == "Xyzw" else pytest.param(how, marks=pytest.mark.slow) for how in LAWS])
def test_a_simulator_that_answers_wrongly_breaks_its_law(how):
    with closing(worlds(wrong(how))) as batch:
        broken = next(finding.broken for finding in examine(batch, height=SIZE, width=SIZE) if finding.law == LAWS[how])
    assert SAYS[how] in broken


@pytest.mark.parametrize(
    ("how", "words"),
    [
        pytest.param("OldReply", r"answered request \d+ and not \d+", marks=pytest.mark.slow),
        ("Raises", r"asked to step, it failed: RuntimeError: PhysX is out of memory"),
        ("Dies", r"the other side has closed the connection.*its last words: GPU crash dump"),
        pytest.param("Hangs", r"no answer within 2 s", marks=pytest.mark.slow),
    ],
)
def test_a_simulator_that_fails_voids_its_worlds_and_is_started_anew(how, words):
    batch = worlds(wrong(how), patience=replace(PATIENCE, step_s=2.0))
    try:
        batch.load((0, 1), [scene(placed("a", block(), z=0.3))] * 2)
        first = psutil.Process(batch._process.pid)
        assert [batch.step(home(batch)).state(1).time_s for _ in range(2)] == pytest.approx([0.02, 0.04])
        began = time.monotonic()
        tape = batch.step(home(batch))
        assert time.monotonic() - began < 20.0
        for world in range(2):
            with pytest.raises(SceneError, match=words):
                tape.state(world)
        with pytest.raises(SceneError, match="was ended"):
            batch.render((0,), np.empty((1, 3, SIZE, SIZE, 3), np.uint8))
        assert batch.step(home(batch)).faults.keys() == {0, 1}, "until the next scene"
        assert has_ended(first)
        batch.load((1,), (scene(placed("a", block(), z=0.3)),))
        tape = batch.step(home(batch))
        assert tape.state(1).time_s == pytest.approx(0.02)
        with pytest.raises(SceneError, match="was ended"):
            tape.state(0)
    finally:
        batch.close()


@pytest.mark.slow
@pytest.mark.parametrize(("how", "most_s"), [("SegfaultsAtClose", 5.0), ("HangsAtClose", 15.0)])
def test_a_simulator_that_does_not_end_well_is_ended(how, most_s):
    batch = worlds(wrong(how), patience=replace(PATIENCE, end_s=1.0))
    batch.load((0,), (scene(placed("a", block())),))
    process, folder, began = batch._process, batch._folder, time.monotonic()
    batch.close()
    batch.close()
    assert time.monotonic() - began < most_s
    assert process.returncode is not None and not folder.exists()


@pytest.mark.slow
def test_what_a_simulator_prints_is_no_answer():
    batch = worlds(wrong("Talks"))
    try:
        batch.load((0,), (scene(placed("a", block(), z=0.3)),))
        for _ in range(3):
            state = batch.step(home(batch)).state(0)
        assert state.time_s == pytest.approx(0.06)
    finally:
        batch.close()


def test_numbers_that_make_no_sense_void_their_world_alone(honest):
    honest.load((0, 1), [scene(placed("a", block(), z=0.3))] * 2)
    honest._board.arrays["pose"][0, 0, 3:] = (2.0, 0.0, 0.0, 0.0)
    tape = honest.look()
    with pytest.raises(SceneError, match="no unit quaternion"):
        tape.state(0)
    tape.state(1)
    honest._board.arrays["measured"][1, 0] = np.nan
    with pytest.raises(SceneError, match="not finite"):
        honest.look().state(1)


def test_a_scene_that_there_is_no_room_for_is_refused_and_named():
    with closing(worlds(wrong("NoRoom"))) as batch, pytest.raises(SceneError, match="has 0 objects, the scene has 1"):
        batch.load((0,), (scene(placed("a", block())),))


def test_things_without_a_file_are_sent_as_they_are_however_often(honest):
    """A colour that is seen is that of the block that was loaded, not of one that lay at the same address before."""
    colors = {"red": (0.9, 0.0, 0.0, 1.0), "blue": (0.0, 0.0, 0.9, 1.0)}
    picture, labels = np.zeros((1, 3, SIZE, SIZE, 3), np.uint8), np.zeros((1, 3, SIZE, SIZE), np.uint8)
    for name in ("red", "blue") * 4:
        honest.load((0,), (scene(placed("a", block((0.2, 0.2, 0.2), color=colors[name]))),))
        honest.render((0,), picture, None, labels)
        red, _, blue = picture[labels == 3].astype(float).sum(axis=0)
        assert (red > blue) == (name == "red")


_OWNER = """
import sys, time
sys.path[:0] = sys.argv[3:]
from physics_parts import gantry
from embodichain.isaac.wire import GRACE_S
from embodichain.isaac.worlds import Worlds
batch = Worlds(gantry(), num_worlds=1, width=16, height=16, command=sys.argv[1:3])
print(batch._process.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.slow
def test_a_simulator_that_hangs_does_not_outlive_who_was_killed(tmp_path):
    hanging = tmp_path / "hanging.py"
    hanging.write_text(
        "import socket, sys, threading, time\nfrom embodichain.isaac import wire\nfrom embodichain.isaac.fake import Reference\n"
        "class Stuck(Reference):\n    def close(self):\n        time.sleep(3600)\n"
        "with socket.socket(fileno=int(sys.argv[-1])) as c:\n    wire.serve(c, Stuck())\n"
    )
    parts = [str(Path(__file__).parent.parent / "physics")]
    command = [sys.executable, "-c", _OWNER, sys.executable, str(hanging), *parts]
    owner = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    simulator = psutil.Process(int(owner.stdout.readline()))
    assert not has_ended(simulator)
    owner.kill()
    owner.wait()
    assert has_ended(simulator, GRACE_S + 60.0)


def test_without_an_interpreter_the_remedy_is_named(monkeypatch, tmp_path):
    def answer(**environment) -> dict:
        command = [sys.executable, "-m", "embodichain.cli", "physics", "check", "isaac", "--json"]
        done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=200)
        assert done.returncode == 2, done
        return json.loads(done.stdout)

    assert "set EMBODICHAIN_ISAAC_PYTHON to the python.sh" in answer(**{INTERPRETER: ""})["error"]
    assert "'/no/python.sh', which is no program" in answer(**{INTERPRETER: "/no/python.sh"})["error"]
    mute = tmp_path / "python.sh"
    mute.write_text("#!/bin/sh\necho no GPU with ray tracing cores >&2\nexit 3\n")
    mute.chmod(0o700)
    assert "no GPU with ray tracing cores" in answer(**{INTERPRETER: str(mute)})["error"]
    with pytest.raises(ConfigError, match="no camera 'tail'"):
        worlds(HONEST, cameras=("tail",))
