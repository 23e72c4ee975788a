"""Laws of filling: as many grains as asked for, inside the vessel, clear of walls and of each other; or a refusal that says why."""

from dataclasses import replace

import numpy as np
import pytest
import scene_parts as parts
from scipy.spatial import QhullError
from vessel_parts import FLOOR, WALL, vessel

from embodichain.episode import check_start
from embodichain.errors import SceneError
from embodichain.physics.mujoco import MujocoPhysics
from embodichain.scenes.filling import Vessels
from embodichain.types import Filling, ObjectPlacement, Scene
from embodichain.types.poses import yaw_pose

RADIUS, HEIGHT = 0.028, 0.14


def standing(x: float = 0.05, y: float = -0.1, yaw: float = 0.7) -> tuple[ObjectPlacement, ...]:
    return (ObjectPlacement(role="bottle", asset=vessel("carafe", RADIUS, HEIGHT), pose=yaw_pose(x, y, 0.0, yaw)),)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("count", "radius"), [(1, 0.005), (40, 0.0045), (60, 0.004)])
def test_grains_lie_inside_clear_of_walls_and_of_one_another(seed: int, count: int, radius: float) -> None:
    wanted = Filling(role="bottle", count=count, radius=radius)
    grains = Vessels().fill(wanted, standing(), np.random.default_rng(seed))
    found = np.array(grains.positions)
    assert found.shape == (count, 3) and (grains.radius, grains.color) == (radius, wanted.color)
    apart = np.linalg.norm(found[:, None] - found[None], axis=-1) + 1.0 * np.eye(count)
    assert apart.min() >= 2 * radius
    assert np.hypot(found[:, 0] - 0.05, found[:, 1] + 0.1).max() <= RADIUS - WALL - radius
    assert found[:, 2].min() >= FLOOR + radius and found[:, 2].max() <= HEIGHT - radius
    np.testing.assert_array_equal(found, found.astype(np.float32))


def test_a_filled_vessel_keeps_its_grains_and_begins_without_overlap() -> None:
    physics = MujocoPhysics(parts.ROBOT, width=16, height=16)
    objects = standing()
    grains = Vessels().fill(Filling(role="bottle", count=40), objects, np.random.default_rng(1))
    scene = Scene(seed=1, task="pour_water", instruction="", objects=objects, grains=grains)
    state = physics.reset(scene)
    check_start(scene, state)
    assert state.deepest() < 1e-4
    for _ in range(60):
        state = physics.step(parts.ROBOT.home)
    away = np.hypot(*(state.grain_positions[:, :2] - (0.05, -0.1)).T)
    assert away.max() < RADIUS and state.grain_positions[:, 2].max() < 0.04
    physics.close()


def test_the_generator_alone_decides() -> None:
    wanted, vessels = Filling(role="bottle", count=30), Vessels()
    first = vessels.fill(wanted, standing(), np.random.default_rng(3))
    vessels.fill(Filling(role="bottle", count=5), standing(yaw=0.1), np.random.default_rng(8))
    assert vessels.fill(wanted, standing(), np.random.default_rng(3)) == first
    assert vessels.fill(wanted, standing(), np.random.default_rng(4)) != first


def test_what_does_not_fit_is_refused_with_the_number_that_does() -> None:
    with pytest.raises(SceneError, match=r"holds \d+ grains of radius 0.01 m, 300 are asked for"):
        Vessels().fill(Filling(role="bottle", count=300, radius=0.01), standing(), np.random.default_rng(0))
    with pytest.raises(SceneError, match="asked for in 'jug'; the scene has"):
        Vessels().fill(Filling(role="jug", count=3), standing(), np.random.default_rng(0))


def test_no_grain_fits_into_a_vessel_narrower_than_it() -> None:
    narrow = (ObjectPlacement(role="bottle", asset=vessel("carafe", 0.008, 0.1), pose=yaw_pose(0.0, 0.0, 0.0, 0.0)),)
    with pytest.raises(SceneError, match="holds 0 grains"):
        Vessels().fill(Filling(role="bottle", count=1, radius=0.006), narrow, np.random.default_rng(0))


def test_a_vessel_with_a_hull_that_is_none_is_refused_each_time() -> None:
    glass = vessel("carafe", RADIUS, HEIGHT)
    flat = replace(glass.bodies[0].hulls[-1], vertices=glass.bodies[0].hulls[-1].vertices * (1.0, 1.0, 0.0))
    body = replace(glass.bodies[0], hulls=(*glass.bodies[0].hulls[:-1], flat))
    broken = replace(glass, bodies=(body,), content_hash="broken")
    placed, vessels = (ObjectPlacement(role="bottle", asset=broken, pose=yaw_pose(0.0, 0.0, 0.0, 0.0)),), Vessels()
    for _ in range(2):  # the second time, its other walls must not pass for all of them
        with pytest.raises(QhullError):
            vessels.fill(Filling(role="bottle", count=30), placed, np.random.default_rng(0))
