"""Laws of looks: surfaces, cameras and film change pictures as they say, smoothly, alike for all cameras, and nothing else."""

from dataclasses import replace

import numpy as np
import pytest
from physics_parts import SIZE, block, placed, scene

from embodichain.errors import SceneError
from embodichain.physics.film import _wandering
from embodichain.types import CameraLook, Looks, Texture, Wander

RED = (0.9, 0.05, 0.05, 1.0)
OBJECTS = (placed("a", block((0.08, 0.08, 0.02), color=RED), 0.05, 0.1), placed("b", block(), 0.1, -0.1))


def see(physics, looks, steps=0):
    """Pictures and segmentation of a scene after some steps, and where everything then is."""
    physics.reset(scene(*OBJECTS, looks=looks))
    shape = (len(physics.robot.cameras), SIZE, SIZE)
    rgb, depth, segmentation = np.zeros((*shape, 3), np.uint8), np.zeros(shape, np.float32), np.zeros(shape, np.uint8)
    for _ in range(steps):
        physics.step(physics.robot.home)
    physics.render(rgb, depth, segmentation)
    return rgb.astype(int), segmentation, physics.world.data.qpos.copy()


def test_segmentation_tells_objects_table_and_robot_apart(physics):
    rgb, labels, _ = see(physics, Looks())
    assert set(np.unique(labels)) <= {0, 1, 2, 3, 4}
    assert all((labels[0] == label).sum() > 5 for label in (1, 3, 4))
    red = (rgb[0, ..., 0] > 2 * rgb[0, ..., 1]) & (rgb[0, ..., 0] > 60)
    np.testing.assert_array_equal(red, labels[0] == 3)
    assert (labels == 2).any()


@pytest.mark.parametrize("texture", [t for t in Texture if t is not Texture.PLAIN])
def test_a_pattern_shows_on_its_surface_alone(physics, texture):
    plain, labels, _ = see(physics, Looks())
    for role, label in (("table", 1), ("a", 3)):
        rgb, _, _ = see(physics, Looks(textures={role: texture}))
        changed = np.abs(rgb - plain).max(axis=-1) > 3
        assert changed[labels == label].mean() > 0.2, (role, texture)
        assert not changed[labels != label].any()
    assert np.array_equal(see(physics, Looks())[0], plain)


def test_zoom_magnifies_about_the_centre_and_turn_moves_the_picture(physics):
    _, labels, _ = see(physics, Looks())
    _, zoomed, _ = see(physics, Looks(cameras={"head": CameraLook(zoom=1.3)}))
    for label in (3, 4):
        before, after = (np.argwhere(seen[0] == label).mean(axis=0) + 0.5 - SIZE / 2 for seen in (labels, zoomed))
        np.testing.assert_allclose(after, 1.3 * before, atol=1.0)
    np.testing.assert_array_equal(zoomed[1:], labels[1:])
    _, turned, _ = see(physics, Looks(cameras={"head": CameraLook(turn=(0.0, 0.1, 0.0))}))
    assert np.argwhere(turned[0] == 3)[:, 1].mean() > np.argwhere(labels[0] == 3)[:, 1].mean() + 3  # the camera turned left
    np.testing.assert_array_equal(see(physics, Looks())[1], labels)


def test_exposure_doubles_light_per_stop_and_noise_has_its_deviation(physics):
    rgb, _, _ = see(physics, Looks())
    brighter, _, _ = see(physics, Looks(exposure=0.5))
    np.testing.assert_allclose(brighter, np.minimum(rgb * 2**0.5, 255), atol=0.51)
    noisy, _, _ = see(physics, Looks(noise=0.02))
    inside = (rgb > 30) & (rgb < 225)
    assert (noisy - rgb)[inside].std() == pytest.approx(0.02 * 255, rel=0.05)
    np.testing.assert_array_equal(noisy, see(physics, Looks(noise=0.02))[0])


def test_what_wanders_is_alike_for_all_cameras_and_leaves_physics_alone(physics):
    wander = Wander(seed=3, time_constant_s=0.5, brightness=0.3, warmth=0.2, direction=0.2)
    still, moved = see(physics, Looks(), 40), see(physics, Looks(wander=wander), 40)
    np.testing.assert_array_equal(still[2], moved[2])
    both = (still[1] == 1) & (moved[1] == 1)
    ratios = [np.median(moved[0][c][both[c]] / np.maximum(still[0][c][both[c]], 1), axis=0) for c in range(3) if both[c].sum() > 50]
    assert len(ratios) >= 2 and np.abs(ratios[0] - 1).max() > 0.03
    np.testing.assert_allclose(ratios, np.broadcast_to(ratios[0], np.shape(ratios)), rtol=0.08)
    shaken, again = (see(physics, Looks(wander=replace(wander, shake=0.05)), 40) for _ in range(2))
    assert (shaken[1] != moved[1]).any()
    np.testing.assert_array_equal(shaken[0], again[0])


def test_wandering_is_stationary_and_forgets_in_its_time_constant():
    paths = _wandering(7, np.full(4000, 0.5), 0.8)
    assert paths[0].std() == pytest.approx(0.5, rel=0.05) and paths[-1].std() == pytest.approx(0.5, rel=0.05)
    lag = 40  # control steps: one time constant
    assert np.corrcoef(paths[100], paths[100 + lag])[0, 1] == pytest.approx(np.exp(-1.0), abs=0.05)
    assert np.abs(np.diff(paths, axis=0)).max() < 0.5 * 6 * np.sqrt(2 * 0.02 / 0.8)


def test_an_unknown_camera_is_named_with_those_that_exist(physics):
    with pytest.raises(SceneError, match=r"changes camera 'eye'; the robot has head"):
        see(physics, Looks(cameras={"eye": CameraLook()}))
