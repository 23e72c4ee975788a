"""Laws of grains: they flow, come to rest, stay within walls of 3 mm, are seen, weigh what they should and replay bitwise."""

from dataclasses import replace

import numpy as np
import pytest
import trimesh
from physics_parts import SIZE, block, box_body, gantry, placed, scene

from embodichain.errors import SceneError
from embodichain.physics.mujoco import MujocoPhysics
from embodichain.types import Asset, Grains, Mesh, Texture
from embodichain.types.scenes import Looks

WALL, INNER, HEIGHT = 0.003, 0.03, 0.08
HOME_S = 50


def jar() -> Asset:
    """A square jar of five boards, 3 mm thick."""
    outer, high = INNER + WALL, HEIGHT / 2
    boards = [((2 * outer, 2 * outer, WALL), (0.0, 0.0, WALL / 2))]
    for side in (-1.0, 1.0):
        boards += [((WALL, 2 * outer, HEIGHT), (side * (INNER + WALL / 2), 0.0, high))]
        boards += [((2 * outer, WALL, HEIGHT), (0.0, side * (INNER + WALL / 2), high))]
    meshes = []
    for size, center in boards:
        made = trimesh.creation.box(extents=size)
        meshes.append(Mesh(vertices=np.array(made.vertices) + center, faces=np.array(made.faces, np.int32)))
    body = box_body("jar", (2 * outer, 2 * outer, HEIGHT), mass=0.4)
    body = replace(body, hulls=tuple(meshes), visual=meshes[0], body_pose=placed("x", block()).pose, center_of_mass=(0, 0, high))
    return Asset(name="jar", category="jar", bodies=(body,))


def cloud(count: int, height: float = 0.01, **options) -> Grains:
    """Grains in rows above one another, inside the jar."""
    ticks = (np.arange(5) - 2) * 0.0105
    rows = [(x, y, height + 0.0105 * z) for z in range(20) for x in ticks for y in ticks]
    return Grains(positions=tuple((float(x), float(y), float(z)) for x, y, z in rows[:count]), **options)


def play(physics, wanted, steps=HOME_S):
    """The state after some steps of staying at home, and the deepest that anything was ever in anything."""
    state = physics.reset(wanted)
    deepest = state.deepest()
    for _ in range(steps):
        state = physics.step(physics.robot.home)
        deepest = max(deepest, state.deepest())
    return state, deepest


@pytest.mark.parametrize("radius", [0.004, 0.005])
def test_grains_in_a_jar_level_out_and_come_to_rest_in_it(physics, radius):
    state, deepest = play(physics, scene(placed("jar", jar()), grains=cloud(50, radius=radius)), 2 * HOME_S)
    found = state.grain_positions
    assert found.shape == (50, 3) and np.abs(state.grain_velocities).max() < 0.01
    assert np.abs(found[:, :2]).max() < INNER - radius + 0.0015 and found[:, 2].min() > WALL + radius - 0.0015
    assert deepest < 0.002
    weight = 50 * cloud(1, radius=radius).mass * 9.81
    assert state.force_between("grains", "jar/") >= weight * 0.95
    assert not state.touching("grains", "table") and not state.touching("grains", "robot/")


def test_grains_flow_until_they_lie_in_one_layer(physics):
    wanted = scene(placed("jar", jar()), grains=cloud(25, radius=0.0045))
    tower = tuple((0.001 * (k % 2), 0.001 * (k % 3), 0.01 + 0.0092 * k) for k in range(15))
    state, _ = play(physics, replace(wanted, grains=replace(wanted.grains, positions=tower)), 3 * HOME_S)
    assert state.grain_positions[:, 2].max() < WALL + 2.5 * 0.0045


def test_fast_grains_do_not_pass_a_wall_of_3_mm(physics):
    wanted = scene(placed("jar", jar()), grains=cloud(25, height=0.02, radius=0.004))
    physics.reset(wanted)
    physics.world.data.qvel[physics.world.grains.qvel].reshape(-1, 3)[:] = (2.5, 0.3, 0.0)
    inside = 0
    for _ in range(HOME_S):
        state = physics.step(physics.robot.home)
        x, _, z = state.grain_positions.T
        low = z < HEIGHT  # what flies over the rim went the lawful way
        inside = max(inside, int(low.sum()))
        assert (np.abs(x - state.object_poses["jar"].position[0])[low & (z > 0.01)] < INNER + 0.03).all()
    assert inside == 25 and (np.abs(x)[z > 0.005] < 0.2).all()


def test_a_falling_grain_obeys_gravity_and_drag(physics):
    for drag in (0.0, 4.0):
        grains = Grains(positions=((0.2, 0.4, 0.6),), drag=drag)
        state, _ = play(physics, scene(grains=grains), 10)
        speed = 9.81 * 0.2 if drag == 0.0 else 9.81 / drag * (1.0 - np.exp(-drag * 0.2))
        assert state.grain_velocities[0, 2] == pytest.approx(-speed, rel=0.01)


def test_grains_are_one_body_to_contacts_and_meet_all_things(physics):
    grains = Grains(positions=((0.25, 0.3, 0.005), (0.25, 0.3087, 0.005), (0.05, 0.1, 0.044)))
    state = physics.reset(scene(placed("a", block(), 0.05, 0.1), grains=grains))
    state = physics.step(physics.robot.home)
    assert {(c.first, c.second) for c in state.contacts} >= {("table", "grains"), ("a/block", "grains"), ("grains", "grains")}


def test_the_same_scene_ends_bitwise_the_same_whatever_was_played_before(physics):
    wanted = scene(placed("jar", jar()), grains=cloud(40))
    first, _ = play(physics, wanted)
    play(physics, scene(placed("a", block()), grains=cloud(3, height=0.2)), 3)
    play(physics, replace(wanted, grains=replace(wanted.grains, density=3000.0)), 3)
    again, _ = play(physics, wanted)
    other = MujocoPhysics(gantry(), width=SIZE, height=SIZE)
    fresh, _ = play(other, wanted)
    other.close()
    assert first.grain_positions.tobytes() == again.grain_positions.tobytes() == fresh.grain_positions.tobytes()


def test_a_scene_without_grains_has_none(physics):
    state, _ = play(physics, scene(placed("a", block())), 1)
    assert state.grain_positions.shape == state.grain_velocities.shape == (0, 3)


def test_mass_follows_density(physics):
    for density in (500.0, 2000.0):
        physics.reset(scene(grains=cloud(4, radius=0.005, density=density)))
        mass = physics.world.model.body_mass[physics.world.grains.bodies]
        np.testing.assert_allclose(mass, density * 4 / 3 * np.pi * 0.005**3)


def test_cameras_see_grains_in_their_colour_under_a_label_of_their_own(physics):
    red = (0.9, 0.05, 0.05, 1.0)
    spread = tuple((0.02 * x, 0.02 * y, 0.01) for x in range(-5, 6) for y in range(-5, 6))
    wanted = scene(placed("a", block(), 0.2, 0.3), grains=Grains(positions=spread, radius=0.01, color=red))
    shape = (len(physics.robot.cameras), SIZE, SIZE)
    for texture in (Texture.PLAIN, Texture.CHECKER):
        rgb, labels = np.zeros((*shape, 3), np.uint8), np.zeros(shape, np.uint8)
        physics.reset(replace(wanted, looks=Looks(textures={"table": texture})))
        physics.render(rgb, None, labels)
        shown = labels[0] == 4
        assert shown.sum() > 40 and set(np.unique(labels)) <= {0, 1, 2, 3, 4}
        assert (rgb[0][shown][:, 0].astype(int) > 2 * rgb[0][shown][:, 1]).mean() > 0.95


@pytest.mark.parametrize(
    ("grains", "why"),
    [
        (Grains(positions=tuple((0.0, 0.0, 0.1 + 0.01 * k) for k in range(201))), "at most 200 grains"),
        (Grains(positions=((0.0, 0.0, 0.1),), radius=0.001), "pass through walls"),
    ],
)
def test_impossible_grains_are_refused(physics, grains, why):
    with pytest.raises(SceneError, match=why):
        physics.reset(scene(grains=grains))
