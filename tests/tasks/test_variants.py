"""Held-out scenes differ from the streamed ones, and only as they say."""

import numpy as np
import pytest

from embodichain.errors import ConfigError
from embodichain.tasks.variants import Phrases, widened
from embodichain.types import ObjectRequest, SceneRequest


def test_phrases_of_the_two_variants_never_mix() -> None:
    phrases = Phrases(streamed=("Take {thing}.", "Lift {thing}."), held_out=("Raise {thing}.",))
    rng = np.random.default_rng(0)
    assert {phrases.draw(rng, False, thing="it") for _ in range(30)} == {"Take it.", "Lift it."}
    assert {phrases.draw(rng, True, thing="it") for _ in range(30)} == {"Raise it."}
    with pytest.raises(ConfigError):
        Phrases(streamed=("Take it.",), held_out=("Take it.",))


def test_widening_keeps_the_middle_and_adds_half() -> None:
    wanted = ObjectRequest(role="cup", category="mug", x=(0.0, 0.2), y=(-0.1, 0.1), yaw=(-1.0, 1.0))
    wider = widened(SceneRequest(instruction="Go.", objects=(wanted,))).objects[0]
    np.testing.assert_allclose((*wider.x, *wider.y, *wider.yaw), (-0.05, 0.25, -0.15, 0.15, -1.0, 1.0))
