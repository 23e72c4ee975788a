"""Laws of external forces: they obey Newton, last for one control step, leave nothing behind, and are kept as runs."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from physics_parts import KINDS

from embodichain.errors import SceneError
from embodichain.types import ObjectPlacement, Pose, Push, Scene
from embodichain.types.mishaps import pushes_at, runs

sys.path.insert(0, str(Path(__file__).parent.parent / "scenes"))
import scene_parts as parts


@pytest.fixture(scope="module", params=KINDS)
def physics(request):
    world = request.param(parts.ROBOT, width=16, height=16)
    yield world
    world.close()


def mouse_scene() -> Scene:
    mouse = ObjectPlacement(role="mouse", asset=parts.mouse(), pose=Pose(position=(0.0, 0.0, 0.3)))
    return Scene(seed=1, task="none", instruction="", objects=(mouse,))


def test_a_push_accelerates_a_body_in_the_air_by_its_force_over_its_mass_for_one_control_step(physics):
    mass = sum(body.mass for body in parts.mouse().bodies)
    physics.reset(mouse_scene())
    for push, gain in (((2.0, -1.0, 0.5), 1.0), (None, 0.0), ((2.0, -1.0, 0.5), 1.0)):
        before = physics.step(parts.ROBOT.home).object_velocities["mouse"][:3]
        pushes = () if push is None else (Push(body="mouse", force=push),)
        after = physics.step(parts.ROBOT.home, pushes).object_velocities["mouse"][:3]
        expected = gain * 0.02 / mass * np.array((2.0, -1.0, 0.5)) - (0.0, 0.0, 9.81 * 0.02)
        np.testing.assert_allclose(after - before, expected, rtol=0.02, atol=2e-3)


def test_a_pushed_episode_leaves_nothing_behind_and_repeats_bitwise(physics):
    def play(force):
        physics.reset(mouse_scene())
        for number in range(40):
            physics.step(parts.ROBOT.home, (Push(body="mouse", force=force),) if force and number % 3 == 0 else ())
        return physics.world.data.qpos.copy()

    calm, pushed = play(None), play((1.0, 0.5, 0.0))
    np.testing.assert_array_equal(play((1.0, 0.5, 0.0)), pushed)
    np.testing.assert_array_equal(play(None), calm)
    assert math.dist(calm, pushed) > 1e-3


def test_a_body_that_is_not_there_cannot_be_pushed(physics):
    physics.reset(mouse_scene())
    with pytest.raises(SceneError, match=r"no body 'cat' to push; loose objects: mouse"):
        physics.step(parts.ROBOT.home, (Push(body="cat", force=(1.0, 0.0, 0.0)),))


FORCES = st.tuples(*[st.floats(-9, 9)] * 3)
PUSHES = st.builds(lambda body, force: Push(body=body, force=force), st.sampled_from("ab"), FORCES)
STEPS = st.lists(st.lists(PUSHES, max_size=2, unique_by=lambda push: push.body).map(tuple), max_size=6)


@given(STEPS, st.integers(1, 4))
def test_runs_hold_every_step_exactly(steps, repeat):
    pushes = [acting for acting in steps for _ in range(repeat)]
    found = runs(pushes)
    assert [set(pushes_at(found, number)) for number in range(len(pushes))] == [set(acting) for acting in pushes]
    assert len(found) <= sum(len(acting) for acting in steps)
