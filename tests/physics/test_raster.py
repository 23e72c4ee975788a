"""The rasteriser shows what the ray caster shows, and what it adds is where arithmetic says."""

import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import mujoco
import numpy as np
import pytest
from physics_parts import block, gantry, placed, scene, switch

from embodichain import physics as physics_room
from embodichain.assets.chain.config import AssetsConfig
from embodichain.config import WorldConfig
from embodichain.errors import ConfigError, SceneError
from embodichain.expand.visual import VisualConfig
from embodichain.physics.mujoco import MujocoPhysics
from embodichain.physics.painters import DEFAULT, PAINTERS
from embodichain.physics.raster.rasteriser import Rasteriser
from embodichain.prepare import prepare
from embodichain.stages import SceneStage
from embodichain.types import Light

SIZE = 128
SHAPES = """
<geom type="sphere" size="0.12" pos="-0.5 0.35 0.2" rgba="0.8 0.2 0.2 1"/>
<geom type="capsule" size="0.08 0.15" pos="0 0.4 0.2" euler="30 60 0" rgba="0.2 0.8 0.2 1"/>
<geom type="cylinder" size="0.1 0.12" pos="0.5 0.3 0.2" euler="20 40 10" rgba="0.2 0.2 0.8 1"/>
<geom type="ellipsoid" size="0.08 0.14 0.1" pos="-0.4 -0.3 0.2" euler="0 20 50" rgba="0.8 0.8 0.2 1"/>
<geom type="box" size="0.1 0.06 0.12" pos="0.3 -0.3 0.2" euler="10 30 20" rgba="0.2 0.8 0.8 1"/>"""


def room(parts="", light="0.3 0.2 -1", camera='pos="0 0 2"', assets=""):
    """A plane under a directional light and a camera that looks down."""
    return mujoco.MjModel.from_xml_string(
        f"""<mujoco><compiler angle="degree"/><visual><headlight ambient="0.3 0.3 0.3" diffuse="0.2 0.2 0.2"/></visual>
        <asset>{assets}</asset><worldbody><light type="directional" dir="{light}" diffuse="0.6 0.6 0.6"/>
        <camera name="eye" fovy="50" {camera}/><geom name="ground" type="plane" size="2 2 1" rgba="0.7 0.7 0.7 1"/>
        {parts}</worldbody></mujoco>"""
    )


def drawn(painter, data, size=SIZE, cameras=1):
    rgb, depth = np.full((cameras, size, size, 3), 77, np.uint8), np.full((cameras, size, size), 7.7, np.float32)
    geoms = np.full((cameras, size, size), 77, np.int32)
    painter.draw(data, rgb, depth, geoms)
    return rgb, depth, geoms


def of(name, model, size=SIZE, **options):
    """What a painter makes of a model at rest."""
    painter = PAINTERS.get(name)(model, width=size, height=size, cameras=("eye",), **options)
    return [array[0] for array in drawn(painter, mujoco.MjData(model), size)]


def off_edges(labels):
    """Pixels [..., h, w] whose eight neighbours show the same."""
    padded = np.pad(labels, [(0, 0)] * (labels.ndim - 2) + [(1, 1), (1, 1)], mode="edge")
    height, width = labels.shape[-2:]
    shifts = [padded[..., y : y + height, x : x + width] for y in range(3) for x in range(3)]
    return np.all([shift == labels for shift in shifts], axis=0)


def agrees(rays, triangles, within=1e-3):
    """Geoms on 99.5% of pixels; depth off edges within 1 mm, but for `within` [m] where large round solids are seen at a slant."""
    assert (rays[2] == triangles[2]).mean() >= 0.995
    calm = off_edges(rays[2]) & off_edges(triangles[2])
    assert calm.mean() > 0.5
    wrong = np.abs(triangles[1][calm] - rays[1][calm])
    assert wrong.max() <= within
    assert np.mean(wrong > 1e-3) < 0.03


OTHERS = [pytest.param(task, marks=pytest.mark.slow) for task in ("pour_water", "hanging_mug")]


@pytest.fixture(scope="module", params=["turn_switch", *OTHERS])
def played(request):
    """A scene of a task with its looks expanded, some way into an arm's motion, and its physics."""
    config = WorldConfig(
        tasks=(request.param,),
        assets=AssetsConfig(counts={"switch": 1, "bottle": 1, "cup": 1, "mug": 1, "rack": 1}),
        visual=VisualConfig(enabled=True),
        width=SIZE,
        height=SIZE,
    )
    world = prepare(config)
    physics = world.make_physics()
    stage = SceneStage(world, physics=physics)
    number = 0
    while True:
        try:
            _, found = stage.step(number)
            break
        except SceneError:
            number += 1
    physics.reset(found)
    command = world.robot.home.copy()
    command[1] += 0.3
    for _ in range(10):
        physics.step(command)
    yield physics
    physics.close()


def test_it_shows_what_rays_show_in_scenes_of_tasks(played):
    cameras = tuple(f"robot/{camera.name}" for camera in played.robot.cameras)
    model, data = played.world.model, played.world.data
    made = [PAINTERS.get(name)(model, width=SIZE, height=SIZE, cameras=cameras) for name in ("raycast", "raster")]
    rays, triangles = (drawn(painter, data, cameras=len(cameras)) for painter in made)
    agrees(rays, triangles)
    assert len(np.unique(rays[2])) > 10  # there is something to be right about
    difference = np.abs(rays[0].astype(int) - triangles[0].astype(int)).mean(axis=-1)[off_edges(rays[2])]
    assert np.median(difference) < 4
    assert np.mean(difference > 40) < 0.03
    finer = drawn(Rasteriser(model, width=SIZE, height=SIZE, cameras=cameras, samples=2), data, cameras=len(cameras))
    uncut = drawn(Rasteriser(model, width=SIZE, height=SIZE, cameras=cameras, cull=False), data, cameras=len(cameras))
    for number in range(3):
        np.testing.assert_array_equal(uncut[number], triangles[number])
    np.testing.assert_array_equal(finer[1], triangles[1])
    np.testing.assert_array_equal(finer[2], triangles[2])
    assert (finer[0] != triangles[0]).any()


def test_every_kind_of_solid_is_where_rays_find_it():
    for camera in ('pos="0 0 2"', 'pos="-1.2 -1.2 0.8" xyaxes="1 -1 0 0.4 0.4 1"', 'pos="0.1 -0.3 0.25" xyaxes="1 0 0 0 0.2 1"'):
        model = room(SHAPES, camera=camera)
        rays, triangles = of("raycast", model), of("raster", model)
        agrees(rays, triangles, within=4e-3)
        np.testing.assert_array_equal(triangles[1] == 0.0, triangles[2] < 0)


def test_of_two_surfaces_in_one_place_the_later_geom_shows():
    wide, small = (
        '<geom type="box" size="{0} {0} 0.1" pos="0 0 0.1" rgba="{1} 0.2 0.2 1"/>'.format(*a) for a in ((0.5, 0.2), (0.3, 0.9))
    )
    for parts, shown in ((wide + small, 2), (small + wide, 2)):
        model = room(parts, camera='pos="0.4 -1 1.1" xyaxes="1 0.4 0 -0.3 0.7 1"')
        rays, triangles = of("raycast", model), of("raster", model)
        agrees(rays, triangles)
        assert (triangles[2] == shown).sum() > 500


def test_a_triangle_through_the_camera_is_cut_at_it_and_not_dropped():
    # The camera stands low above a long box: its upper side reaches from behind the camera to before it.
    model = room(
        '<geom type="box" size="1.5 0.3 0.1" pos="0 0 0.1" rgba="0.9 0.3 0.1 1"/>', camera='pos="0 0 0.22" xyaxes="0 -1 0 0.1 0 1"'
    )
    rays, triangles = of("raycast", model), of("raster", model)
    agrees(rays, triangles)
    assert (triangles[2][-1] == 1).sum() > SIZE / 2
    assert triangles[1][-1].min() < 0.06


def test_cameras_lights_and_geoms_are_read_at_every_picture():
    model = room(SHAPES + '<body name="ball" pos="0 0 0.3"><freejoint/><geom size="0.1"/></body>')
    data = mujoco.MjData(model)
    painter = Rasteriser(model, width=SIZE, height=SIZE, cameras=("eye",))

    def same_as_fresh():
        now = drawn(painter, data)
        fresh = drawn(Rasteriser(model, width=SIZE, height=SIZE, cameras=("eye",)), data)
        for one, other in zip(now, fresh, strict=True):
            np.testing.assert_array_equal(one, other)
        agrees(drawn(PAINTERS.get("raycast")(model, width=SIZE, height=SIZE, cameras=("eye",)), data), now, within=4e-3)
        return now[0]

    seen = [same_as_fresh()]

    def changed():
        seen.append(same_as_fresh())
        assert all((seen[-1] != earlier).any() for earlier in seen[:-1])

    data.qpos[:3] = (0.2, 0.1, 0.5)
    changed()
    model.cam_pos[0] = (0.3, -0.2, 1.5)
    changed()
    model.cam_fovy[0] = 70.0
    changed()
    model.light_dir[0] = (-0.6, 0.0, -0.8)
    changed()
    model.light_diffuse[0] = (0.2, 0.3, 0.6)
    changed()
    model.geom_rgba[1] = (0.1, 0.9, 0.9, 1.0)
    changed()
    model.geom_pos[3] += (0.1, 0.1, 0.0)  # it stands still from picture to picture, and is somewhere else now
    changed()
    model.geom_rgba[2, 3] = 0.0
    changed()
    model.light_active[0] = 0
    changed()


def digest():
    """Of the pictures of a scene with both switches and blocks, drawn after those of another."""
    physics = MujocoPhysics(gantry(), width=64, height=64, painter="raster")
    found = hashlib.sha256()
    for objects in ([placed("a", block(), 0.2, 0.2)], [placed("a", block(), 0.05, 0.1), placed("s", switch(), 0.15, -0.1)]):
        physics.reset(scene(*objects, lights=(Light(direction=(0.2, 0.4, -0.8)), Light(direction=(-0.5, 0.1, -0.7)))))
        rgb, depth = np.zeros((3, 64, 64, 3), np.uint8), np.zeros((3, 64, 64), np.float32)
        labels = np.zeros((3, 64, 64), np.uint8)
        physics.render(rgb, depth, labels)
        found = hashlib.sha256(rgb.tobytes() + depth.tobytes() + labels.tobytes())
    return found.hexdigest()


def test_pictures_are_bitwise_the_same_in_any_process():
    program = "from test_raster import digest; print(digest())"
    run = subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == digest()
    assert run.stderr == ""


CHECKER = """<texture name="t" type="2d" builtin="checker" width="64" height="64" rgb1="1 1 1" rgb2="0 0 0"/>
<material name="m" texture="t" texrepeat="4 4" specular="0"/>"""


@pytest.mark.parametrize("camera", ['pos="0 0 1.5"', 'pos="0 -1.4 0.35" xyaxes="1 0 0 0 0.3 1"'])
def test_textures_follow_perspective(camera):
    model = room('<geom type="box" size="1 1 0.01" material="m"/>', light="0 0 -1", camera=camera, assets=CHECKER)
    rgb, depth, geoms = of("raster", model)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    step = np.tan(np.radians(25.0)) * (2 * np.arange(SIZE) + 1 - SIZE) / SIZE
    rays = np.stack([*np.meshgrid(step, -step), -np.ones((SIZE, SIZE))], axis=-1)
    points = data.cam_xpos[0] + (rays * depth[..., None]) @ data.cam_xmat[0].reshape(3, 3).T
    u, v = 4 * (points[..., 0] + 1) / 2, 4 * (1 - points[..., 1]) / 2
    white = (np.floor(2 * u) + np.floor(2 * v)) % 2 == 0  # MuJoCo's checker is two by two fields
    inside = np.minimum(np.abs(2 * u - np.round(2 * u)), np.abs(2 * v - np.round(2 * v))) > 0.2
    near = inside & (geoms == 1) & (points[..., 2] > 0.009) & (depth < 2.2)
    bright = rgb.mean(axis=-1) > 90
    assert near.sum() > 800
    agreement = np.mean(bright[near] == white[near])
    assert max(agreement, 1.0 - agreement) > 0.99  # whichever of the two colours comes first


def test_fine_textures_far_away_are_grey_and_do_not_flicker():
    fine = CHECKER.replace("4 4", "237 237")
    low = room('<geom type="box" size="2 2 0.01" material="m"/>', light="0 0 -1", camera='pos="0 0 3"', assets=fine)
    rays, triangles = of("raycast", low)[0], of("raster", low)[0]
    assert triangles[40:88, 40:88].std() < 0.2 * rays[40:88, 40:88].std()


def test_shadows_lie_where_a_ray_to_the_light_is_blocked():
    model = room(
        '<geom type="box" size="0.2 0.1 0.15" pos="0.1 0 0.5" euler="0 0 30"/><geom size="0.15" pos="-0.5 0.4 0.3"/>',
        light="0.3 0.4 -0.8",
    )
    lit, (dark, depth, geoms) = of("raster", model, shadows=False)[0], of("raster", model)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    step = np.tan(np.radians(25.0)) * (2 * np.arange(SIZE) + 1 - SIZE) / SIZE
    blocked = np.zeros((SIZE, SIZE), bool)
    for row, column in np.argwhere(geoms == 0):
        ray = data.cam_xmat[0].reshape(3, 3) @ (step[column], -step[row], -1.0)
        point = data.cam_xpos[0] + depth[row, column] * ray
        blocked[row, column] = (
            mujoco.mj_ray(model, data, point + np.array((0.0, 0.0, 1e-4)), -data.light_xdir[0], None, 1, -1, np.zeros(1, np.int32))
            > 0
        )
    ground = off_edges(geoms) & (geoms == 0) & off_edges(blocked.astype(int))
    darker = lit.astype(int).sum(axis=-1) - dark.astype(int).sum(axis=-1)
    assert 0.03 < blocked[ground].mean() < 0.5
    assert np.mean(darker[ground & blocked] > 100) > 0.95
    assert np.mean(darker[ground & ~blocked] < 40) > 0.95
    partly = (darker > 20) & (darker < 150) & (geoms == 0)
    assert partly.sum() > 30  # edges are soft


def test_a_light_leaves_no_stripes_on_what_it_lights():
    for light in ("0 0 -1", "0.7 0.2 -0.6", "-0.2 0.9 -0.3"):
        model = room('<geom type="box" size="0.5 0.5 0.1" pos="0 0 0.1"/>', light=light)
        lit, dark = of("raster", model, shadows=False)[0], of("raster", model)[0]
        assert np.mean(np.abs(lit[40:88, 40:88].astype(int) - dark[40:88, 40:88]) > 3) == 0.0


def test_highlights_are_where_the_light_is_mirrored_and_as_wide_as_the_material_says():
    widths = {}
    for name, shininess in (("dull", 0.05), ("bright", 0.9)):
        assets = f'<material name="m" rgba="0.2 0.2 0.2 1" specular="1" shininess="{shininess}"/>'
        model = room('<geom type="box" size="1.5 1.5 0.01" material="m"/>', light="0.3 0 -1", assets=assets)
        grey = of("raster", model)[0].astype(int).sum(axis=-1)
        row, column = np.argwhere(grey > 0.9 * grey.max() + 0.1 * grey.min()).mean(axis=0)
        # Seen from 2 m above, light that falls along (0.3, 0, -1) is mirrored towards the eye from (-0.6, 0).
        assert row == pytest.approx(SIZE / 2, abs=3)
        assert column == pytest.approx(SIZE / 2 - 0.6 / 2.0 / np.tan(np.radians(25.0)) * SIZE / 2, abs=6)
        widths[name] = int((grey > (grey.max() + grey.min()) / 2).sum())
    assert widths["dull"] > 3 * widths["bright"] > 0


def test_supersampling_softens_edges_only():
    model = room('<geom type="box" size="0.4 0.4 0.1" pos="0 0 0.1" euler="0 0 15" rgba="0.9 0.1 0.1 1"/>', light="0 0 -1")
    plain, fine = of("raster", model), of("raster", model, samples=2)
    np.testing.assert_array_equal(plain[1], fine[1])
    np.testing.assert_array_equal(plain[2], fine[2])
    calm = off_edges(off_edges(plain[2]).astype(int)) & off_edges(plain[2])
    assert np.abs(plain[0].astype(int) - fine[0])[calm].max() <= 12
    between = fine[0][~off_edges(plain[2])][..., 1]
    assert len(np.unique(between)) > len(np.unique(plain[0][~off_edges(plain[2])][..., 1])) + 10


def test_what_it_cannot_draw_is_refused():
    lamp = mujoco.MjModel.from_xml_string('<mujoco><worldbody><light pos="0 0 1"/><camera name="eye"/></worldbody></mujoco>')
    with pytest.raises(SceneError, match="shines from a point"):
        Rasteriser(lamp, width=16, height=16, cameras=("eye",))
    with pytest.raises(ValueError, match="1 or 2 samples"):
        Rasteriser(room(), width=16, height=16, cameras=("eye",), samples=3)
    painter = Rasteriser(room(), width=16, height=16, cameras=("eye",))
    with pytest.raises(ValueError, match="draws rgb"):
        painter.draw(mujoco.MjData(room()), np.zeros((1, 16, 8, 3), np.uint8))


def test_a_world_says_who_paints_it():
    with pytest.raises(ConfigError, match=r"brush.*raycast"):
        MujocoPhysics(gantry(), width=16, height=16, painter="brush")
    with pytest.raises(ConfigError, match="lets nobody choose"):
        physics_room.make("counting", painter="raycast", robot=gantry(), width=16, height=16)
    chosen = scene(placed("block", block((0.08, 0.08, 0.08)), 0.0, 0.0))
    seen = {}
    for painter in ("raycast", "raster", "raster-2x2"):
        physics = physics_room.make("mujoco", painter=painter, robot=gantry(), width=32, height=32)
        physics.reset(chosen)
        seen[painter] = np.zeros((3, 32, 32, 3), np.uint8)
        physics.render(seen[painter])
        physics.close()
    default = physics_room.make("mujoco", robot=gantry(), width=32, height=32)
    default.reset(chosen)
    rgb = np.zeros((3, 32, 32, 3), np.uint8)
    default.render(rgb)
    np.testing.assert_array_equal(rgb, seen["raster"])
    assert (seen["raycast"] != rgb).any()
    assert (seen["raster-2x2"] != rgb).mean() > 0.005, "edges are smoothed"
    assert WorldConfig().painter == DEFAULT
    assert replace(WorldConfig(), painter="raycast") != WorldConfig()
