"""What a card draws is to the bit what the rasteriser draws, for its kernels run on Warp's CPU device here."""

from contextlib import suppress
from dataclasses import replace

import mujoco
import numpy as np
import pytest
from physics_parts import block, gantry, placed, scene, switch
from test_raster import SHAPES, room

from embodichain.config import WorldConfig
from embodichain.errors import ConfigError, SceneError
from embodichain.expand.visual import VisualConfig
from embodichain.physics.film import Exposure
from embodichain.physics.mujoco import MujocoPhysics
from embodichain.physics.raster.rasteriser import Rasteriser
from embodichain.physics.raster.shot import Shooting
from embodichain.physics.warp import card as card_module
from embodichain.physics.warp.card import open_card
from embodichain.prepare import prepare
from embodichain.stages import SceneStage
from embodichain.tasks import TASKS
from embodichain.types import CameraLook, Light, Looks, NoiseSource, Texture, Wander
from embodichain.types.reels import MOST_NUMBERS

SIZE = 48
VISUAL = VisualConfig(enabled=True, noise_source=NoiseSource.HASH)
LOOKS = Looks(
    textures={"table": Texture.WOOD, "a": Texture.CHECKER},
    cameras={"head": CameraLook(zoom=1.2, turn=(0.02, 0.0, 0.01))},
    exposure=0.3,
    noise=0.02,
    noise_source=NoiseSource.HASH,
    wander=Wander(seed=4, brightness=0.1, warmth=0.1, direction=0.1, exposure=0.1, shake=0.01),
)
LIGHTS = (Light(direction=(0.3, 0.2, -1.0)), Light(direction=(-0.6, 0.1, -0.7), diffuse=(0.3, 0.25, 0.2)))


@pytest.fixture(scope="module")
def card():
    return open_card("delayed")


@pytest.fixture(scope="module")
def physics():
    physics = MujocoPhysics(gantry(), width=SIZE, height=SIZE + 8)
    yield physics
    physics.close()


def canvas(frames: int, cameras: int = 3, height: int = SIZE + 8, width: int = SIZE) -> dict[str, np.ndarray]:
    """Arrays full of what was there before."""
    shape = (frames, cameras, height, width)
    return {
        "rgb": np.full((*shape, 3), 99, np.uint8),
        "depth": np.full(shape, 9.9, np.float32),
        "segmentation": np.full(shape, 99, np.uint8),
    }


def played(physics, scene, frames: int, seed: int = 0) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Notes of some moments of a moving robot, and the pictures that were taken then."""
    rng, notes, taken = np.random.default_rng(seed), np.zeros((frames, 64)), canvas(frames)
    physics.reset(scene)
    for frame in range(frames):
        for _ in range(6):
            physics.step(np.asarray(physics.robot.home) + rng.normal(size=physics.robot.command_size) * 0.1)
        physics.note(notes[frame])
        physics.render(*(taken[name][frame] for name in ("rgb", "depth", "segmentation")))
    return notes, taken


def things(**options):
    some = (placed("a", block((0.08, 0.08, 0.02)), 0.05, 0.1), placed("s", switch(), 0.1, -0.1, joint_positions=(0.2,)))
    return scene(*some, lights=LIGHTS, looks=LOOKS, **options)


def same(found, expected, frames):
    for name, array in expected.items():
        assert np.array_equal(found[name][:frames], array[:frames]), name


@pytest.mark.parametrize("batch", [1, 2, 64])
def test_every_picture_depth_and_label_is_the_rasterisers(card, physics, batch, monkeypatch):
    monkeypatch.setattr(card_module, "_BATCH", batch)
    notes, taken = played(physics, things(), 5)
    assert taken["rgb"].std() > 20 and taken["segmentation"].max() == 4
    out = canvas(7)
    card.draw(physics.shoot(notes), out)
    same(out, taken, 5)
    assert not any(array[5:].any() for array in out.values()), "frames that were not taken are cleared"


def test_only_what_a_trajectory_has_is_written(card, physics):
    notes, taken = played(physics, things(), 1)
    out = {"rgb": canvas(1)["rgb"]}
    card.draw(physics.shoot(notes), out)
    same(out, {"rgb": taken["rgb"]}, 1)


def test_shots_are_drawn_in_any_order_and_know_nothing_of_later_scenes(card, physics):
    other = things(seed=2)
    painted = (replace(other.objects[0], color=(0.1, 0.3, 0.9, 1.0)), *other.objects[1:])
    scenes = [things(seed=1), replace(other, objects=painted, lights=LIGHTS[:1], looks=Looks()), scene(seed=3, lights=())]
    shots, expected = [], []
    for number, one in enumerate(scenes):
        notes, taken = played(physics, one, 2, number)
        shots.append(physics.shoot(notes))
        expected.append(taken)
    for number in (2, 0, 1, 0):
        out = canvas(2)
        card.draw(shots[number], out)
        same(out, expected[number], 2)


TOPS = "".join(
    f'<geom type="box" size="0.2 0.2 0.1" pos="{0.1 * number} 0.05 0.1" rgba="{number / 3} 0.5 0.2 1"/>' for number in range(3)
)
"""Boxes whose tops lie in one plane and overlap."""


@pytest.mark.parametrize(
    ("shapes", "camera"),
    [
        (SHAPES, 'pos="0 -1.2 0.5" xyaxes="1 0 0 0 0.4 1"'),
        (SHAPES, 'pos="-0.5 0.35 0.25"'),  # in the sphere, so that triangles cross the near plane
        (SHAPES, 'pos="0.3 -0.3 0.2"'),  # in the box
        (TOPS, 'pos="0.13 -0.21 1.1" xyaxes="1 0.1 0 -0.1 0.9 0.2"'),
    ],
)
def test_all_solids_from_afar_and_from_within_and_surfaces_in_one_plane(card, shapes, camera):
    model = room(shapes, camera=camera)
    data = mujoco.MjData(model)
    painter = Rasteriser(model, width=SIZE, height=SIZE, cameras=("eye",))
    rgb, depth = np.zeros((1, SIZE, SIZE, 3), np.uint8), np.zeros((1, SIZE, SIZE), np.float32)
    geoms = np.zeros((1, SIZE, SIZE), np.int32)
    painter.draw(data, rgb, depth, geoms)
    labels = np.arange(1, model.ngeom + 2, dtype=np.uint8)
    labels[-1] = 0
    taken = Shooting(painter, 1, labels)
    taken.take(data, Exposure(stops=0.0))
    out = canvas(1, 1, SIZE)
    card.draw(taken.finished(), out)
    same(out, {"rgb": rgb[None], "depth": depth[None], "segmentation": labels[geoms][None]}, 1)


@pytest.mark.slow
@pytest.mark.parametrize("task", [name for name in TASKS.built_in if name != "counting"])
def test_every_task_is_drawn_to_the_bit(card, task):
    """Scenes with all looks expanded, grains, jointed things."""
    world = prepare(WorldConfig(tasks=(task,), width=64, height=64, visual=replace(VISUAL, noise=(0.01, 0.02))), lambda *_: None)
    physics, found, number = world.make_physics(), None, 0
    while found is None:
        with suppress(SceneError):
            found = SceneStage(world).step(number)[1]
        number += 1
    physics.reset(found)
    rng, notes, taken = np.random.default_rng(0), np.zeros((3, MOST_NUMBERS)), canvas(3, len(world.robot.cameras), 64, 64)
    for frame in range(3):
        for _ in range(20):
            physics.step(np.asarray(world.robot.home) + rng.normal(size=world.robot.command_size) * 0.1)
        physics.note(notes[frame])
        physics.render(*(taken[name][frame] for name in ("rgb", "depth", "segmentation")))
    out = canvas(3, len(world.robot.cameras), 64, 64)
    card.draw(physics.shoot(notes), out)
    same(out, taken, 3)
    assert taken["segmentation"].max() >= 3
    physics.close()


def test_without_shadows_too(card):
    physics = MujocoPhysics(gantry(), width=SIZE, height=SIZE + 8, shadows=False)
    notes, taken = played(physics, things(), 1)
    out = canvas(1)
    card.draw(physics.shoot(notes), out)
    same(out, taken, 1)
    physics.close()


def test_what_a_card_does_not_draw_is_refused_with_the_remedy(physics):
    normal = replace(things(), looks=replace(LOOKS, noise_source=NoiseSource.NORMAL))
    notes, _ = played(physics, normal, 1)
    with pytest.raises(SceneError, match=r"set world\.visual\.noise_source hash"):
        physics.shoot(notes)
    rays = MujocoPhysics(gantry(), width=SIZE, height=SIZE, painter="raster-2x2")
    rays.reset(things())
    with pytest.raises(ConfigError, match="as the painter 'raster' does, not 'raster-2x2'"):
        rays.shoot(notes)


def test_without_a_gpu_the_error_says_so_and_what_to_do():
    with pytest.raises(ConfigError, match=r"cannot be drawn on GPU 0.*finds 0 here.*choose stream.darkroom host"):
        open_card("cuda")
