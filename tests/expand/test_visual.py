"""Laws of visual expansion: within its ranges, recorded, and only when asked for."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embodichain.errors import ConfigError
from embodichain.expand.visual import VisualConfig, blackbody, redraw
from embodichain.types import Grains, Scene

SCENE = Scene(seed=0, task="none", instruction="", objects=())


def test_nothing_changes_unless_enabled() -> None:
    assert redraw(SCENE, np.random.default_rng(0), VisualConfig()) is SCENE


def test_as_many_scenes_change_as_asked_and_those_that_do_change_alike() -> None:
    some = VisualConfig(enabled=True, probability=0.3)
    drawn = [redraw(SCENE, np.random.default_rng(seed), some) for seed in range(600)]
    assert np.mean([scene is not SCENE for scene in drawn]) == pytest.approx(0.3, abs=0.06)
    warm = [scene.expansion["light_temperature_k"] for scene in drawn if scene is not SCENE]
    assert min(warm) < 3200 and max(warm) > 7000
    with pytest.raises(ConfigError, match="probability"):
        VisualConfig(probability=1.5)


@given(st.integers(0, 2**32 - 1))
def test_draws_stay_in_range_and_are_recorded(seed: int) -> None:
    config = VisualConfig(enabled=True)
    scene = redraw(SCENE, np.random.default_rng(seed), config)
    (light,) = scene.lights
    assert np.isclose(np.linalg.norm(light.direction), 1.0) and light.direction[2] <= -np.cos(config.tilt[1]) + 1e-9
    assert all(0.0 <= channel <= config.intensity[1] + 1e-9 for channel in light.diffuse)
    assert np.abs(np.subtract(scene.table_color, SCENE.table_color)).max() <= config.table_shade + 1e-9
    assert scene.expansion["light_temperature_k"] == pytest.approx(scene.expansion["light_temperature_k"])
    assert config.temperature[0] <= scene.expansion["light_temperature_k"] <= config.temperature[1]
    assert scene.expansion["table_red"] == pytest.approx(scene.table_color[0], abs=1e-4)


@given(st.floats(1500, 6000), st.floats(1.05, 1.5))
def test_a_hotter_light_is_bluer(temperature: float, factor: float) -> None:
    cool, hot = blackbody(temperature), blackbody(temperature * factor)
    assert hot[2] / hot[0] > cool[2] / cool[0]
    assert max(cool) == pytest.approx(1.0)


@pytest.mark.parametrize(
    "wrong", [{"temperature": (0.0, 10.0)}, {"intensity": (0.5, 1.5)}, {"tilt": (0.5, 0.1)}, {"object_shade": 2.0}]
)
def test_impossible_ranges_are_refused(wrong: dict) -> None:
    with pytest.raises(ConfigError):
        VisualConfig(**wrong)


def test_grains_change_colour_and_no_other_draw() -> None:
    grains = Grains(positions=((0.0, 0.0, 0.1),))
    dry, wet = (
        redraw(scene, np.random.default_rng(5), VisualConfig(enabled=True)) for scene in (SCENE, replace(SCENE, grains=grains))
    )
    assert wet.grains.color != grains.color and wet.grains.positions == grains.positions and dry.grains == Grains()
    assert wet.looks == dry.looks and wet.expansion == dry.expansion and wet.lights == dry.lights
