import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from physics_parts import gantry, scene

from embodichain.errors import IntegrityError, SceneError
from embodichain.motion.action import ActionCodec
from embodichain.physics import counting
from embodichain.physics.counting import CountingPhysics, verify
from embodichain.robots import dual_piper
from embodichain.rollout import ExpertPilot, rollout, write_provenance
from embodichain.tasks.counting import CountingTask
from embodichain.types import CHUNK, TrajectoryId, TrajectoryInfo, camera_spec, write_text

ROBOT = dual_piper()
CODEC = ActionCodec(ROBOT)


def made(seed, *, width=16, height=18, horizon=14, depth=False, check=True):
    """A counting trajectory through the real rollout, and its spec."""
    spec = camera_spec(cameras=len(ROBOT.cameras), height=height, width=width, horizon=horizon, depth=depth)
    out = {name: np.full_like(array, 123) for name, array in spec.allocate().items()}  # a slot holds leftovers
    physics = CountingPhysics(ROBOT, width=width, height=height)
    task = CountingTask()
    setting = replace(scene(seed=seed), task=task.name, instruction=task.request(np.random.default_rng(0)).instruction)
    pilot = ExpertPilot(task, setting, physics, np.random.default_rng(seed))
    outcome = rollout(physics, CODEC, setting, pilot, task.grader(setting), out, spec)
    assert outcome.verdict.success == counting.succeeds(seed) or not check
    identity = TrajectoryId(worker=3, epoch=1, sequence=5)
    write_provenance(out, setting, outcome, identity=identity, robot=ROBOT.name, physics="counting")
    return out


@pytest.mark.parametrize("depth", [False, True])
@pytest.mark.parametrize("horizon", [3, 14])
def test_what_the_rollout_writes_verifies(depth, horizon):
    lengths = set()
    for seed in range(30, 50):
        trajectory = made(seed, depth=depth, horizon=horizon)
        lengths.add(int(trajectory["num_chunks"]))
        if counting.succeeds(seed):
            verify(trajectory)
            verify(trajectory, ROBOT)
        else:
            with pytest.raises(IntegrityError, match=r"info\.(success|reason)"):
                verify(trajectory)
    assert len(lengths) >= min(horizon - 1, 6)


GOOD = made(7, depth=True)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_flipped_byte_anywhere_is_found_and_named(data):
    name = data.draw(st.sampled_from([name for name in GOOD if name not in ("trajectory_id", "info")]))
    torn = dict(GOOD)
    torn[name] = GOOD[name].copy()
    array = torn[name].reshape(-1).view(np.uint8)
    array[data.draw(st.integers(0, array.size - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(IntegrityError, match=rf"seed 7.*{name}"):
        verify(torn)


def test_the_error_names_field_index_and_values():
    torn = dict(GOOD)
    torn["rgb"] = GOOD["rgb"].copy()
    torn["rgb"][2, 1, 4, 5, 0] ^= 0xFF
    got, expected = torn["rgb"][2, 1, 4, 5, 0], GOOD["rgb"][2, 1, 4, 5, 0]
    message = rf"worker 3 \(epoch 1\), scene seed 7: field 'rgb' .*first at \(2, 1, 4, 5, 0\): {got} instead of {expected}"
    with pytest.raises(IntegrityError, match=message):
        verify(torn)


@pytest.mark.parametrize("name", ["rgb", "depth", "proprio", "action"])
def test_swapped_or_repeated_frames_are_found(name):
    for order in ([1, 0], [0, 0]):
        torn = dict(GOOD)
        torn[name] = GOOD[name].copy()
        torn[name][:2] = GOOD[name][order]
        with pytest.raises(IntegrityError, match=f"'{name}'"):
            verify(torn)


@pytest.mark.parametrize("name", ["rgb", "proprio", "action", "num_chunks", "segment"])
def test_a_field_of_another_trajectory_is_found(name):
    other = next(o for o in (made(seed, depth=True) for seed in range(8, 99)) if o["num_chunks"] != GOOD["num_chunks"])
    with pytest.raises(IntegrityError, match=name):
        verify({**GOOD, name: other[name]})


def test_a_wrong_seed_worker_or_physics_is_found():
    info = TrajectoryInfo.decode(GOOD["info"])
    for change in ({"scene_seed": 8}, {"worker": 4}, {"physics": "mujoco"}, {"task": "turn_switch"}, {"success": False}):
        torn = {**GOOD, "info": np.zeros_like(GOOD["info"])}
        write_text(torn["info"], replace(info, **change).encode())
        with pytest.raises(IntegrityError):
            verify(torn)
    with pytest.raises(IntegrityError, match="worker"):
        verify({**GOOD, "trajectory_id": np.uint64(TrajectoryId(worker=2, epoch=1, sequence=5).pack())})


def test_leftovers_behind_the_last_chunk_are_found():
    for name in ("rgb", "action", "proprio", "depth"):
        torn = dict(GOOD)
        torn[name] = GOOD[name].copy()
        torn[name][-1].reshape(-1)[-1] = 1
        with pytest.raises(IntegrityError, match=name):
            verify(torn)


def test_frames_seeds_and_positions_all_differ():
    frames = counting._rgb(1, 0, 50, (4, 4, 3)).reshape(50, -1)
    assert len(np.unique(frames, axis=0)) == 50
    assert (counting._rgb(2, 0, 1, (4, 4, 3)) != counting._rgb(1, 0, 1, (4, 4, 3))).mean() > 0.9
    histogram = np.bincount(counting._rgb(1, 0, 4, (64, 64, 3)).ravel(), minlength=256)
    assert histogram.min() > 0.6 * histogram.mean()
    values = counting.commands(7, ROBOT)
    assert (values.astype(np.float32) == values).all()
    assert np.unique(values).size > 0.99 * values.size


def test_any_robot_counts():
    physics = CountingPhysics(gantry(), width=16, height=16)
    assert physics.reset(scene(seed=3)).measured.shape == (6,)
    assert physics.step(gantry().home).time_s == pytest.approx(0.02)
    rgb = np.zeros((3, 16, 16, 3), np.uint8)
    physics.render(rgb)
    assert rgb.any(axis=(1, 2, 3)).all()
    with pytest.raises(SceneError, match="reset"):
        CountingPhysics(gantry(), width=16, height=16).render(rgb)


def test_verifying_a_megabyte_takes_milliseconds():
    seed = next(s for s in range(1000) if counting.num_steps(s) // CHUNK == 11 and counting.succeeds(s))
    trajectory = made(seed, width=96, height=96)
    verify(trajectory)
    times = []
    for _ in range(5):
        before = time.process_time()
        verify(trajectory)
        times.append(time.process_time() - before)
    assert min(times) < 0.05
