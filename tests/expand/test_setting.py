"""Laws of drawn settings: a function of the scene's seed, beside everything else, within their ranges, and kept in files."""

from dataclasses import replace

import numpy as np
import pytest

from embodichain.errors import ConfigError
from embodichain.expand.setting import SensorConfig, SettingConfig, furnish, reserved
from embodichain.scenes import usd
from embodichain.scenes.values import content_hash, differences, values
from embodichain.types import Asset, Grains, Light, ObjectPlacement, Pose, Scene
from embodichain.types.settings import NUM_ENVIRONMENTS, NUM_ROOMS, NUM_TABLES, NUM_VARIANTS

ON, SENSED = SettingConfig(enabled=True), SensorConfig(enabled=True)


def bare(seed, objects=()):
    light = Light(direction=(0.6, 0.0, -0.8))
    return Scene(seed=seed, task="t", instruction="do it", objects=objects, lights=(light,), grains=Grains())


def thing(role, category):
    return ObjectPlacement(role=role, asset=Asset(name=role, category=category, bodies=()), pose=Pose())


def test_without_settings_a_scene_is_the_same_object_and_its_hash_knows_nothing_of_them():
    scene = bare(3)
    assert furnish(scene, SettingConfig(), SensorConfig()) is scene
    assert not [path for path in values(scene) if "setting" in path or "sensor" in path]


def test_a_setting_follows_from_the_seed_and_touches_looks_alone():
    scenes = [furnish(bare(seed), ON, SENSED) for seed in (3, 3, 4)]
    assert content_hash(scenes[0]) == content_hash(scenes[1]) != content_hash(scenes[2])
    touched = {difference.path.split("/")[0] for difference in differences(bare(3), scenes[0])}
    assert touched == {"looks", "table_color", "expansion"}
    assert abs(scenes[0].looks.setting.turn) == pytest.approx(np.pi)  # the light shines towards +X: it comes from -X


def test_an_object_has_its_finish_whatever_category_stands_before_it():
    found = {}
    for category in ("cup", "block"):
        scene = bare(5, (thing("a", category), thing("b", "block")))
        found[category] = furnish(scene, replace(ON, glass=1.0), SENSED).looks.setting
    assert set(found["cup"].glass) == {"a"}
    assert not found["block"].glass
    assert found["cup"].finishes["b"] == found["block"].finishes["b"]


def test_a_thousand_settings_use_every_room_and_map_of_training_and_none_that_is_reserved():
    kept = reserved(ON)
    for config in (ON, kept):
        found = [furnish(bare(seed), config, SensorConfig()).looks.setting for seed in range(1000)]
        assert {one.room for one in found} == {-1, *range(*config.rooms)}
        assert {one.table for one in found} == set(range(*config.tables))
        assert {one.environment for one in found} == set(range(*config.environments))
        variants = {number % NUM_VARIANTS for one in found for number in one.textures.values()}
        assert variants == set(range(*config.variants))
    sizes = (ON.rooms[1], ON.tables[1], ON.environments[1], ON.variants[1])
    assert sizes == (kept.rooms[0], kept.tables[0], kept.environments[0], kept.variants[0])
    assert (kept.rooms[1], kept.tables[1], kept.environments[1]) == (NUM_ROOMS, NUM_TABLES, NUM_ENVIRONMENTS)


@pytest.mark.parametrize(
    ("wrong", "told"), [({"rooms": (5, 99)}, "rooms"), ({"height": (0.1, 0.5)}, "height"), ({"metal": 1.5}, "metal")]
)
def test_impossible_ranges_are_refused_by_name(wrong, told):
    with pytest.raises(ConfigError, match=f"visual.setting.* {told}|visual.setting.{told}"):
        SettingConfig(**wrong)


def test_a_file_keeps_setting_and_sensor(tmp_path):
    scene = furnish(bare(9), ON, SENSED)
    assert not differences(usd.read(usd.write(scene, tmp_path / "scene.usda")), scene)
