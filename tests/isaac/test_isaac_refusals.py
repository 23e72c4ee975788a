"""What Isaac Sim's adapter cannot carry or apply is refused with its values, and never dropped."""

from contextlib import closing
from dataclasses import fields, replace

import numpy as np
import psutil
import pytest
from ended import has_ended
from isaac_parts import HONEST, SIZE, home, worlds, wrong
from physics_parts import block, gantry, placed, scene

from embodichain.errors import SceneError
from embodichain.isaac import wire
from embodichain.isaac.server import PHYSICS_HZ
from embodichain.isaac.tensors import Delayed, Touched
from embodichain.isaac.variation import varied
from embodichain.physics.mujoco import MujocoPhysics
from embodichain.types import CameraLook, Dynamics, Looks, Texture, Wander
from embodichain.types.settings import Sensor, Setting

ROOM = Setting(room=3, table=0, height=0.7, environment=0, turn=0.0, strength=1.0, softness=0.1)


def test_more_contacts_than_there_is_room_for_void_the_world_and_are_not_dropped(monkeypatch):
    monkeypatch.setattr(wire, "MOST_PAIRS", 2)
    blocks = [placed(name, block(), x=0.15 * number) for number, name in enumerate("abc")]
    with closing(worlds(wrong("Cramped"))) as batch:
        batch.load((0, 1), [scene(*blocks), scene(*blocks[:2])])
        tape = batch.step(home(batch))
        assert len(tape.state(1).contacts) == 2
        with pytest.raises(SceneError, match=r"world 0: 3 pairs of bodies touched .* a simulator may report 2: give"):
            tape.state(0)
        with pytest.raises(SceneError, match="3 pairs"):
            batch.step(home(batch)).state(0)


def test_contacts_that_isaac_sim_itself_has_no_room_for_are_told():
    board = {name: np.zeros(shape, kind) for name, kind, shape in wire.tape_layout(1, 1, dict.fromkeys(wire.SIZES, 0))}
    for pairs, lost, told in ((128, False, 128), (129, False, 129), (40_000, False, 32_767), (3, True, 129), (200, True, 200)):
        touched = Touched(wire.report_pairs)
        for number in range(pairs):
            touched.add(0, number, np.ones(3), 1.0, 0.0)
        touched.lost = lost
        touched.write(board, 0)
        assert board["num_pairs"][0] == told and (told > wire.MOST_PAIRS) == (pairs > 128 or lost)


def test_a_scene_that_varies_what_a_simulator_does_not_apply_is_refused_and_others_are_not():
    still = scene(placed("a", block(), z=0.3))
    applied = replace(still, dynamics=Dynamics(stiffness=1.1, torque=0.9, delay_s=0.014))
    looks = {
        r"textures \(table wood\)": Looks(textures={"table": Texture.WOOD, "a": Texture.PLAIN}),
        r"cameras \(front\)": Looks(cameras={"front": CameraLook(zoom=1.1), "top": CameraLook()}),
        r"exposure \(0.2 stops\); noise \(0.01\)": Looks(exposure=0.2, noise=0.01),
        r"wander \(shake 0.001\)": Looks(wander=Wander(seed=3, shake=0.001)),
        r"setting \(room 3\)": Looks(setting=ROOM),
        r"sensor \(blur 0.5\)": Looks(sensor=Sensor(blur=0.5)),
    }
    refused = {words: replace(still, looks=look) for words, look in looks.items()}
    refused[r"damping \(joint_damping 1.3\)"] = replace(still, dynamics=Dynamics(joint_damping=1.3))
    refused[r"grip \(grip_friction 0.9\)"] = replace(still, dynamics=Dynamics(grip_friction=0.9))
    with closing(worlds(wrong("Plain"))) as batch:
        batch.load((0, 1), (still, applied))
        batch.step(home(batch)).state(1)
        for words, varied in refused.items():
            with pytest.raises(SceneError, match=words + r".* \(it applies delay, drives\): set world\..*choose physics mujoco"):
                batch.load((0,), (varied,))
            with pytest.raises(SceneError, match=words):
                batch.step(home(batch)).state(0)
            batch.step(home(batch)).state(1)


def test_every_value_of_a_scene_that_expansion_may_vary_is_known_to_be_varied():
    """A new one is refused too, until somebody has said who applies it."""
    still = scene(placed("a", block()))
    assert varied(still) == {}
    for field in fields(Dynamics):
        assert varied(replace(still, dynamics=replace(Dynamics(), **{field.name: 0.5}))), field.name
    for field in fields(Wander):
        if field.name not in ("seed", "time_constant_s"):
            assert varied(replace(still, looks=Looks(wander=replace(Wander(), **{field.name: 0.5})))), field.name
    values = {"textures": {"table": Texture.WOOD}, "cameras": {"top": CameraLook(zoom=2.0)}, "exposure": 1.0, "noise": 0.1}
    values |= {"setting": ROOM, "sensor": Sensor(depth_holes=0.1)}
    assert {field.name for field in fields(Looks)} == {*values, "wander", "noise_source"}, (
        "a source of noise is nothing without noise"
    )
    for name, value in values.items():
        assert varied(replace(still, looks=replace(Looks(), **{name: value}))), name


@pytest.mark.parametrize("delay_s", [0.0, 0.004, 0.02, 0.026])
def test_commands_are_as_late_in_isaac_sim_as_in_mujoco(delay_s):
    physics = MujocoPhysics(gantry(), width=SIZE, height=SIZE)
    physics.reset(replace(scene(placed("a", block())), dynamics=Dynamics(delay_s=delay_s)))
    held, robot = physics.world, physics.robot
    home = np.asarray(robot.home)
    delayed, rng = Delayed(home, round(delay_s * PHYSICS_HZ), 10), np.random.default_rng(0)
    for _ in range(6):
        command = home + rng.normal(size=home.shape)
        delayed.give(command)
        late, older, newer = physics.aim(command)
        for step in range(10):
            expected = older if step < late else newer
            assert np.allclose(held.gains * delayed.at(step)[held.channels], expected, atol=1e-12), step


def test_worlds_that_were_closed_load_no_scene_and_start_nothing():
    batch = worlds(HONEST)
    process = psutil.Process(batch._process.pid)
    batch.close()
    assert has_ended(process)
    with pytest.raises(SceneError, match="were closed: make new ones"):
        batch.load((0,), (scene(placed("a", block())),))
    assert batch._process is None
    batch.close()
