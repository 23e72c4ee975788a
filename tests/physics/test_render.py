import hashlib
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import mujoco
import numpy as np
import pytest
import trimesh
from physics_parts import SIZE, block, box_body, gantry, placed, scene, switch

from embodichain.physics.mujoco import MujocoPhysics
from embodichain.physics.render import Viewpoint, thumbnail, warm_up
from embodichain.types import Light, Mesh

RED = (0.9, 0.05, 0.05, 1.0)


def pictures(physics):
    cameras = len(physics.robot.cameras)
    rgb, depth = np.full((cameras, SIZE, SIZE, 3), 77, np.uint8), np.full((cameras, SIZE, SIZE), 7.7, np.float32)
    physics.render(rgb, depth)
    return rgb, depth


def project(physics, camera, point):
    """Pixel (row, column) and depth along the axis of a world point, by the pinhole model."""
    data = physics.world.data
    index = physics.world.model.camera(f"robot/{camera}").id
    local = data.cam_xmat[index].reshape(3, 3).T @ (np.asarray(point) - data.cam_xpos[index])
    focal = SIZE / 2 / np.tan(np.radians(physics.world.model.cam_fovy[index]) / 2)
    return int(SIZE / 2 - focal * local[1] / -local[2]), int(SIZE / 2 + focal * local[0] / -local[2]), -local[2]


def is_red(pixel):
    return pixel[0] > 2.5 * pixel[1] and pixel[0] > 2.5 * pixel[2] and pixel[0] > 60


def picture_digest(physics):
    physics.reset(scene(placed("a", block(color=RED), 0.05, 0.1), placed("s", switch(), 0.15, -0.1, joint_positions=(0.3,))))
    rgb, depth = pictures(physics)
    return hashlib.sha256(rgb.tobytes() + depth.tobytes()).hexdigest()


def test_an_object_is_seen_in_its_colour_where_geometry_says(physics):
    for x, y in ((0.05, 0.1), (-0.1, -0.15), (0.2, 0.0)):
        physics.reset(scene(placed("block", block((0.06, 0.06, 0.06), color=RED), x, y)))
        rgb, depth = pictures(physics)
        row, column, distance = project(physics, "head", (x, y, 0.06))
        assert is_red(rgb[0, row, column])
        assert depth[0, row, column] == pytest.approx(distance, abs=0.02)
        rows, columns = np.nonzero((rgb[0, ..., 0] > 2.5 * rgb[0, ..., 1]) & (rgb[0, ..., 0] > 60))
        assert abs(rows.mean() - row) < 4
        assert abs(columns.mean() - column) < 2
        assert rows.size < 150


def test_depth_is_the_distance_along_the_axis_to_the_table_and_zero_where_nothing_is_hit(physics):
    physics.reset(scene())
    _, depth = pictures(physics)
    data = physics.world.data
    index = physics.world.model.camera("robot/head").id
    origin, rotation = data.cam_xpos[index], data.cam_xmat[index].reshape(3, 3)
    focal = SIZE / 2 / np.tan(np.radians(30.0))
    checked = 0
    for row in range(SIZE):
        for column in range(20, 44):
            local = np.array((column + 0.5 - SIZE / 2, SIZE / 2 - row - 0.5, -focal)) / focal
            ray = rotation @ local
            hit = origin + ray * (-origin[2] / ray[2])
            if ray[2] < 0 and abs(hit[0]) < 0.34 and abs(hit[1]) < 0.1 and hit[0] < -0.05:
                assert depth[0, row, column] == pytest.approx(-origin[2] / ray[2], abs=1e-4)
                checked += 1
    assert checked > 100
    up = replace(physics.robot, mjcf=physics.robot.mjcf.replace('xyaxes="0 -1 0 0.7 0 0.7"', 'xyaxes="0 -1 0 0 0 1"'))
    ahead = MujocoPhysics(up, width=SIZE, height=SIZE, cameras=("head",))
    ahead.reset(scene())
    rgb, depth = np.zeros((1, SIZE, SIZE, 3), np.uint8), np.full((1, SIZE, SIZE), 7.7, np.float32)
    ahead.render(rgb, depth)
    assert (depth[0, :20, :10] == 0).all()
    assert len(np.unique(rgb[0, :20, :10].reshape(-1, 3), axis=0)) == 1
    assert (depth[0, -10:] > 0).all()


def test_hulls_are_invisible_and_visuals_do_not_collide(physics):
    shape = trimesh.creation.icosphere(subdivisions=2, radius=0.02)
    small = Mesh(vertices=np.array(shape.vertices) + np.array((0, 0, 0.1)), faces=np.array(shape.faces, np.int32))
    body = replace(box_body("block", (0.1, 0.1, 0.1)), visual=small, color=RED)
    state = physics.reset(scene(placed("block", replace(block(), bodies=(body,)))))
    rgb, depth = pictures(physics)
    row, column, distance = project(physics, "head", state.object_poses["block"].position)
    assert not is_red(rgb[0, row, column])  # through the hull one sees the table behind its centre
    assert depth[0, row, column] > distance
    row, column, distance = project(physics, "head", (0, 0, 0.15))
    assert is_red(rgb[0, row, column])
    assert depth[0, row, column] == pytest.approx(distance - 0.02, abs=0.004)
    assert physics.world.model.geom("block/block/visual").contype == 0


def test_colours_lights_and_table_of_the_scene_show_and_leave_no_trace(physics):
    base = scene(placed("block", block((0.06, 0.06, 0.06))))
    physics.reset(base)
    first, _ = pictures(physics)
    painted = replace(base, objects=(replace(base.objects[0], color=RED),), table_color=(0.1, 0.3, 0.8, 1.0))
    physics.reset(painted)
    other, _ = pictures(physics)
    row, column, _ = project(physics, "head", (0, 0, 0.06))
    assert is_red(other[0, row, column])
    assert not is_red(first[0, row, column])
    row, column, _ = project(physics, "head", (-0.15, 0, 0))
    assert other[0, row, column, 2] > 2 * other[0, row, column, 0]
    physics.reset(replace(base, lights=(Light(diffuse=(0.1, 0.1, 0.1)), Light(direction=(0.5, 0.0, -0.8), diffuse=(0.1, 0, 0)))))
    dark, _ = pictures(physics)
    assert dark.mean() < 0.8 * first.mean()
    physics.reset(base)
    np.testing.assert_array_equal(pictures(physics)[0], first)


def test_lights_cast_shadows_where_their_direction_says():
    views = {}
    for shadows in (True, False):
        physics = MujocoPhysics(gantry(), width=SIZE, height=SIZE, shadows=shadows)
        light = Light(direction=(0.0, 0.7071, -0.7071))
        physics.reset(scene(placed("block", block((0.08, 0.08, 0.08)), -0.1, -0.1), lights=(light,)))
        views[shadows] = pictures(physics)[0][0].astype(int)
        behind, before = (project(physics, "head", (-0.1, y, 0))[:2] for y in (-0.02, -0.2))
    assert views[True][behind].sum() < 0.8 * views[False][behind].sum()
    assert (views[True][before] == views[False][before]).all()


def test_pictures_are_bitwise_the_same_in_any_process_and_after_other_scenes(physics):
    first = picture_digest(physics)
    physics.reset(scene(placed("a", block(color=(0, 1, 0, 1)), 0.2, 0.2), placed("s", switch(), -0.15, -0.1)))
    pictures(physics)
    assert picture_digest(physics) == first
    fresh = MujocoPhysics(gantry(), width=SIZE, height=SIZE)
    fresh.reset(scene(placed("a", block(), 0.3, -0.2), placed("s", switch(), -0.15, 0.2)))  # builds the ray caster's tree elsewhere
    pictures(fresh)
    assert picture_digest(fresh) == first
    program = "from test_render import *; print(picture_digest(MujocoPhysics(gantry(), width=SIZE, height=SIZE)))"
    run = subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == first
    assert run.stderr == ""  # neither warp nor MuJoCo talks


def test_rendering_between_steps_changes_no_state(physics):
    def run(render):
        physics.reset(scene(placed("block", block(), 0.0, 0.2, 0.05)))
        command = physics.robot.home
        command[1] = -0.1
        states = []
        for _ in range(20):
            states.append(physics.step(command))
            if render:
                pictures(physics)
                physics.photograph(Viewpoint(eye=(1, 1, 1), target=(0, 0, 0)), width=16, height=8)
        return [np.concatenate([s.measured, s.object_velocities["block"], s.object_poses["block"].position]) for s in states]

    np.testing.assert_array_equal(run(False), run(True))


def test_cameras_are_drawn_in_the_order_asked_for(physics):
    objects = (placed("block", block(color=RED), 0.1, 0.0),)
    physics.reset(scene(*objects))
    rgb, _ = pictures(physics)
    some = MujocoPhysics(gantry(), width=SIZE, height=SIZE, cameras=("right/wrist", "head"))
    some.reset(scene(*objects))
    two = np.zeros((2, SIZE, SIZE, 3), np.uint8)
    some.render(two)
    np.testing.assert_array_equal(two, rgb[[2, 0]])
    with pytest.raises(ValueError, match="draws rgb"):
        some.render(rgb)


def test_photograph_sees_the_scene_from_anywhere(physics):
    physics.reset(scene(placed("block", block((0.1, 0.1, 0.1), color=RED))))
    for eye in ((0.8, 0.5, 0.6), (-0.5, -0.6, 0.4), (0.0, 0.0, 1.0)):
        picture = physics.photograph(Viewpoint(eye=eye, target=(0, 0, 0.05)), width=48, height=32)
        assert picture.shape == (32, 48, 3)
        assert is_red(picture[16, 24])
    smooth = physics.photograph(Viewpoint(eye=(0.8, 0.5, 0.6), target=(0, 0, 0.05)), width=48, height=32, samples=2)
    assert is_red(smooth[16, 24])


def test_thumbnail_shows_the_asset_in_the_middle():
    picture = thumbnail(block((0.2, 0.1, 0.05), color=RED), 64)
    assert picture.shape == (64, 64, 3)
    assert is_red(picture[32, 32])
    assert not is_red(picture[2, 2])
    lever = thumbnail(switch(), 64)
    assert len(np.unique(lever.reshape(-1, 3), axis=0)) > 20


def test_warming_up_again_is_quick():
    warm_up()
    before = time.process_time()
    warm_up()
    assert time.process_time() - before < 2.0
    assert mujoco.mj_versionString()
