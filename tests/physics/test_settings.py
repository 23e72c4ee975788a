"""Laws of settings and sensors: rooms, maps and finishes change pictures as they say and nothing else, and leave nothing behind."""

from dataclasses import replace

import numpy as np
import pytest
from physics_parts import SIZE, block, gantry, placed, scene

from embodichain.errors import SceneError
from embodichain.physics import sensors
from embodichain.physics.decor.environments import environment
from embodichain.physics.decor.textures import made
from embodichain.physics.film import _wandering
from embodichain.physics.mujoco import MujocoPhysics
from embodichain.types import CameraLook, Light, Looks
from embodichain.types.settings import NUM_ENVIRONMENTS, NUM_ROOMS, NUM_TABLES, Sensor, Setting, SurfaceFinish, TextureKind

GREY = (0.5, 0.45, 0.4, 1.0)
OBJECTS = (placed("a", block((0.08, 0.08, 0.06), color=GREY), 0.05, 0.1), placed("b", block(), 0.1, -0.1))
BARE = Setting(room=-1, table=1, height=0.75, environment=2, turn=0.0, strength=1.0, softness=0.0)


@pytest.fixture(scope="module")
def physics():
    physics = MujocoPhysics(gantry(), width=SIZE, height=SIZE)
    yield physics
    physics.close()


def see(physics, looks, steps=0, **changes):
    """Pictures, depths and segmentation of a scene after some steps, and where everything then is."""
    physics.reset(replace(scene(*OBJECTS, looks=looks), **changes))
    shape = (len(physics.robot.cameras), SIZE, SIZE)
    rgb, depth, labels = np.zeros((*shape, 3), np.uint8), np.zeros(shape, np.float32), np.zeros(shape, np.uint8)
    for _ in range(steps):
        physics.step(physics.robot.home)
    physics.render(rgb, depth, labels)
    return rgb.astype(int), depth, labels, physics.world.data.qpos.copy()


def test_a_setting_changes_pictures_but_no_motion_and_leaves_nothing_behind(physics):
    plain = see(physics, Looks(), steps=10)
    room = see(physics, Looks(setting=replace(BARE, room=3, textures={"table": 5, "walls": 150}, glass={"a": 0.4})), steps=10)
    np.testing.assert_array_equal(room[3], plain[3])
    np.testing.assert_array_equal(room[2] == 3, plain[2] == 3)
    assert (np.abs(room[0] - plain[0]).max(axis=-1) > 8).mean() > 0.5
    for before, after in zip(plain, see(physics, Looks(), steps=10), strict=True):
        np.testing.assert_array_equal(after, before)


def test_the_map_lights_what_faces_it_and_turns_with_its_setting(physics):
    dim, bright = (see(physics, Looks(setting=replace(BARE, strength=s)))[0].mean() for s in (0.5, 1.0))
    assert bright > 1.2 * dim
    shiny = replace(BARE, finishes={"table": SurfaceFinish(specular=1.0, roughness=0.3, metal=1.0)})
    turned = see(physics, Looks(setting=replace(shiny, turn=np.pi / 2)))[0]
    assert np.abs(turned - see(physics, Looks(setting=shiny))[0]).max() > 20


def test_polished_metal_reflects_the_map_and_rough_plastic_does_not(physics):
    def table(finish, turn):
        rgb, _, labels, _ = see(physics, Looks(setting=replace(BARE, turn=turn, finishes={"table": finish})), lights=())
        return rgb[labels == 1].astype(float)

    apart = []
    for finish in (SurfaceFinish(specular=0.0, roughness=0.9), SurfaceFinish(specular=1.0, roughness=0.1, metal=1.0)):
        apart.append(np.abs(table(finish, 0.0) - table(finish, np.pi)).mean())
    assert apart[1] > 3.0 * apart[0]


def test_a_wide_light_has_soft_shadows(physics):
    light = Light(direction=(0.5, 0.2, -0.8), diffuse=(0.7, 0.7, 0.7))
    between = []
    for softness in (0.0, 0.3):
        setting = replace(BARE, softness=softness, finishes={"table": SurfaceFinish(specular=0.0)})
        rgb, _, labels, _ = see(physics, Looks(setting=setting), lights=(light,))
        shades = rgb[0][labels[0] == 1].mean(axis=-1)
        low, high = shades.min(), np.median(shades)
        between.append(((shades > low + 0.25 * (high - low)) & (shades < low + 0.75 * (high - low))).sum())
    assert between[1] > 1.5 * between[0]


def test_what_is_behind_glass_is_mixed_with_it_by_its_opacity(physics):
    def shown(opacity):
        glass = {} if opacity == 1.0 else {"a": opacity}
        finishes = {"a": SurfaceFinish(specular=0.0), "table": SurfaceFinish(specular=0.0)}
        rgb, _, labels, _ = see(physics, Looks(setting=replace(BARE, glass=glass, finishes=finishes)))
        return rgb[0][labels[0] == 3].astype(float)

    # An opacity just above 0 shows what is behind it. Bytes are rounded, so that mixtures are off by at most one.
    behind, half, front = shown(1e-6), shown(0.5), shown(1.0)
    assert np.abs(behind - front).mean() > 5.0
    assert np.abs(half - 0.5 * (behind + front)).max() <= 1.5


def test_a_higher_table_has_a_floor_farther_below(physics):
    depths = []
    for height in (0.5, 0.9):
        _, depth, labels, _ = see(physics, Looks(setting=replace(BARE, height=height)))
        depths.append(depth[(labels == 0) & (depth > 0)].max())
    assert depths[1] > depths[0] + 0.2


@pytest.mark.parametrize("number", [0, NUM_ROOMS - 1])
def test_rooms_enclose_the_scene(physics, number):
    _, depth, labels, _ = see(physics, Looks(setting=replace(BARE, room=number)))
    assert (depth > 0).all()
    assert (labels == 1).any()


def test_unknown_numbers_are_refused_by_name(physics):
    for wrong, told in (
        ({"room": NUM_ROOMS}, f"room {NUM_ROOMS}"),
        ({"table": NUM_TABLES}, f"table {NUM_TABLES}"),
        ({"environment": NUM_ENVIRONMENTS}, f"environment map {NUM_ENVIRONMENTS}"),
        ({"textures": {"table": 999}}, "texture 999"),
    ):
        with pytest.raises(SceneError, match=told):
            see(physics, Looks(setting=replace(BARE, **wrong)))


def test_a_painter_that_draws_no_settings_refuses_them():
    physics = MujocoPhysics(gantry(), width=SIZE, height=SIZE, painter="raycast")
    with pytest.raises(SceneError, match="'raycast' does not draw"):
        physics.reset(scene(*OBJECTS, looks=Looks(setting=BARE)))


@pytest.mark.parametrize("kind", [TextureKind.PLANKS, TextureKind.PLASTER, TextureKind.BRUSHED, TextureKind.RIBBED])
def test_a_texture_is_a_function_of_its_number_and_repeats_without_a_seam(kind):
    number, other = kind.numbers()[2:4]
    pixels = made(number)
    np.testing.assert_array_equal(made(number), pixels)
    assert (made(other) != pixels).mean() > 0.2
    for axis in (0, 1):
        steps = np.abs(np.diff(pixels.astype(int), axis=axis)).mean(axis=(1 - axis, 2))
        seam = np.abs(pixels.take(0, axis).astype(int) - pixels.take(-1, axis)).mean()
        assert seam <= 1.5 * steps.max() + 2.0


def test_maps_shed_the_same_light_on_a_table_and_differ():
    found = [environment(number).diffuse for number in range(0, NUM_ENVIRONMENTS, 5)]
    up = [float((0.282095 * d[0] + 0.488603 * d[3] + 0.630784 * d[7]).mean()) for d in found]
    np.testing.assert_allclose(up, up[0], rtol=1e-4)
    assert all(np.abs(one - other).max() > 0.01 for i, one in enumerate(found) for other in found[:i])


def test_a_rolling_shutter_shows_each_row_as_the_camera_then_sees_it(physics):
    turn = np.array((0.05, -0.04, 0.06))
    looks = Looks(
        setting=replace(BARE, finishes={"table": SurfaceFinish(specular=0.0)}, textures={"table": TextureKind.TILES.numbers()[6]})
    )
    still = see(physics, looks)[0][0].astype(np.uint8)
    sensors.roll(still, (None, None), turn, physics.robot.cameras[0].fovy)
    for row, share in ((4, 4.5 / SIZE - 0.5), (SIZE - 5, (SIZE - 4.5) / SIZE - 0.5)):
        then = tuple(share * turn)
        rotated = see(physics, replace(looks, cameras={physics.robot.cameras[0].name: CameraLook(turn=then)}))[0][0]
        unturned = see(physics, looks)[0][0]
        before, after = (np.abs(one[row, 4:-4].astype(int) - rotated[row, 4:-4]).mean() for one in (unturned, still))
        assert after < 0.5 * before, (row, before, after)


def test_depth_errs_with_the_square_of_the_distance_and_nothing_stays_nothing():
    rng = np.random.default_rng(0)
    depth = np.zeros((1, 64, 64), np.float32)
    depth[:, :, 16:40], depth[:, :, 40:] = 0.5, 2.0
    true = depth.copy()
    sensors.err(depth, Sensor(depth_noise=0.01, depth_holes=1.0), 0.02, rng)
    assert (depth[true == 0.0] == 0.0).all()
    near, far = depth[:, :, 20:36], depth[:, :, 44:]
    assert 12.0 < far.std() / near.std() < 20.0
    np.testing.assert_allclose((near.mean(), far.mean()), (0.51, 2.04), rtol=2e-3)
    assert (depth[:, :, 39:41] == 0.0).all()


def test_blur_keeps_the_mean_and_lowers_contrast():
    rgb = np.random.default_rng(1).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)
    mean, spread = rgb.mean(), rgb.std()
    sensors.blur(rgb, 1.0)
    assert abs(rgb.mean() - mean) < 1.0
    assert rgb.std() < 0.5 * spread


def test_a_smooth_path_has_small_accelerations_and_the_same_deviation():
    deviations = np.array((0.01, 0.02))
    jagged, smooth = (_wandering(5, deviations, 2.0, 50, times) for times in (0, 2))
    bends = [np.abs(np.diff(path, 2, axis=0)).mean(axis=0) for path in (jagged, smooth)]
    assert (bends[1] < 0.05 * bends[0]).all()
    np.testing.assert_allclose(smooth.std(axis=0), deviations, rtol=1e-6)
