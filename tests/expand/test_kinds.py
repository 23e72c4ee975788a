"""Laws of the kinds of disturbance: weights decide, what a scene has nothing for is left out, and nonsense is refused."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embodichain.errors import ConfigError
from embodichain.recovery.config import MISALIGNED, Kinds
from embodichain.types import Grains, Mishap, ObjectPlacement, Pose, Scene

sys.path.insert(0, str(Path(__file__).parent.parent / "scenes"))
import scene_parts as parts

PROVOKED = [Mishap.MISALIGNED, Mishap.SLIP, Mishap.OUT_OF_BOUNDS, Mishap.COLLISION, Mishap.TIME_OUT]


def scene(*assets) -> Scene:
    objects = tuple(ObjectPlacement(role=f"thing{i}", asset=asset, pose=Pose()) for i, asset in enumerate(assets))
    return Scene(seed=0, task="none", instruction="", objects=objects)


BOLTED, LOOSE = scene(parts.switch()), scene(parts.switch(), parts.mouse())


@given(st.sampled_from(PROVOKED), st.integers(0, 99))
def test_only_one_kind_is_drawn_when_only_it_has_a_weight(kind: Mishap, seed: int) -> None:
    assert Kinds.only(kind).draw(np.random.default_rng(seed), LOOSE) is kind
    possible = kind if kind not in (Mishap.SLIP, Mishap.OUT_OF_BOUNDS) else Mishap.MISALIGNED
    assert Kinds.only(kind).draw(np.random.default_rng(seed), BOLTED) is possible


@given(st.sampled_from(PROVOKED), st.integers(0, 99))
def test_hands_are_led_onto_nothing_where_nothing_is_held_from_above_or_bolted_down(kind: Mishap, seed: int) -> None:
    bare = replace(parts.mouse(), affordances={"side_grasp": ("body", Pose())})
    possible = kind if kind in (Mishap.MISALIGNED, Mishap.TIME_OUT) else Mishap.MISALIGNED
    assert Kinds.only(kind).draw(np.random.default_rng(seed), scene(bare)) is possible


@given(st.sampled_from(PROVOKED), st.integers(0, 99))
def test_nothing_slips_that_would_spill(kind: Mishap, seed: int) -> None:
    filled = replace(LOOSE, grains=Grains(positions=((0.0, 0.0, 0.1),)))
    possible = kind if kind is not Mishap.SLIP else Mishap.MISALIGNED
    assert Kinds.only(kind).draw(np.random.default_rng(seed), filled) is possible


def test_weights_are_shares_of_what_is_possible() -> None:
    rng, kinds = np.random.default_rng(0), Kinds(misaligned=0.5, slip=0.25, out_of_bounds=0.0, collision=0.25, time_out=0.0)
    loose = [kinds.draw(rng, LOOSE) for _ in range(2000)]
    assert set(loose) == {Mishap.MISALIGNED, Mishap.SLIP, Mishap.COLLISION}
    assert loose.count(Mishap.SLIP) / 2000 == pytest.approx(0.25, abs=0.04)
    bolted = [kinds.draw(rng, BOLTED) for _ in range(2000)]
    assert set(bolted) == {Mishap.MISALIGNED, Mishap.COLLISION}
    assert bolted.count(Mishap.COLLISION) / 2000 == pytest.approx(1 / 3, abs=0.04)


def test_all_five_kinds_are_drawn_by_default_and_only_misses_of_misaligned() -> None:
    rng = np.random.default_rng(1)
    assert {Kinds().draw(rng, LOOSE) for _ in range(400)} == set(PROVOKED)
    assert {MISALIGNED.draw(rng, LOOSE) for _ in range(50)} == {Mishap.MISALIGNED}


@pytest.mark.parametrize("wrong", [{"slip": -0.1}, {"slip": float("nan")}, dict.fromkeys(map(str, PROVOKED), 0.0)])
def test_impossible_weights_are_refused(wrong: dict) -> None:
    with pytest.raises(ConfigError, match="weights >= 0 that are not all 0"):
        Kinds(**wrong)
