"""Hulls of curved walls are cut back halfway into the hollow that they fill, and what a thing stands on is left alone."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embodichain.assets.geometry.collision import CollisionConfig, decompose, measure
from embodichain.assets.geometry.shapes import box, cylinder, lathe, to_mesh
from embodichain.cli import main

PLAIN, TRIMMED = CollisionConfig(), CollisionConfig(trim=True)


def cup(radius=0.04, wall=0.003, height=0.08):
    """A cup that is open at the top."""
    return to_mesh(cylinder(radius, height, segments=48) - cylinder(radius - wall, height, segments=48).translate((0, 0, wall)))


def reach(hulls):
    """Corners of the box around hulls [m]."""
    points = np.concatenate([hull.vertices for hull in hulls])
    return np.array([points.min(axis=0), points.max(axis=0)])


@given(radius=st.floats(0.02, 0.08), share=st.floats(0.04, 0.12))
@settings(max_examples=2, deadline=None)
def test_a_round_wall_adds_half_as_much_with_as_many_hulls(radius, share):
    solid = cup(radius, share * radius)
    plain, trimmed = (decompose(solid, config) for config in (PLAIN, TRIMMED))
    before, after = measure(solid, plain), measure(solid, trimmed)
    assert after.hulls == before.hulls
    assert after.over < 0.6 * before.over
    assert after.missing - before.missing < 0.5 * (before.over - after.over)  # a cut takes away twice what it leaves out
    assert after.vertices <= 64
    np.testing.assert_allclose(reach(trimmed), reach(plain), atol=0.001 * 4 * radius)


def test_what_a_thing_stands_on_is_not_cut():
    # The hollow below is larger than the ring around it: without its feet the thing would gain much and stand lower.
    profile = [(0.0, 0.004), (0.045, 0.004), (0.046, 0.0), (0.05, 0.0), (0.05, 0.02), (0.0, 0.02)]
    stand = to_mesh(lathe(profile))
    hulls = decompose(stand, CollisionConfig(hull_cost=0.2, trim=True))
    assert reach(hulls)[0, 2] == pytest.approx(0.0, abs=1e-6)


def test_what_fills_its_hull_is_the_same_to_the_bit():
    solid = to_mesh(box((0.1, 0.08, 0.06), chamfer=0.01))
    (plain,), (trimmed,) = (decompose(solid, config) for config in (PLAIN, TRIMMED))
    assert np.array_equal(plain.vertices, trimmed.vertices)


def test_flat_walls_lose_at_most_half_of_what_is_taken_from_their_corners():
    open_box = to_mesh(box((0.1, 0.08, 0.06)) - box((0.092, 0.072, 0.06)).translate((0, 0, 0.004)))
    before, after = (measure(open_box, decompose(open_box, config)) for config in (PLAIN, TRIMMED))
    assert after.hulls == before.hulls
    assert after.over < 0.1 * before.over
    assert after.missing - before.missing <= 0.5 * (before.over - after.over)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_command_builds_with_trimmed_colliders(tmp_path):
    fits = {}
    for name, options in (("plain", ()), ("trimmed", ("--trim",))):
        assert main(["asset", "build", "cup", "--clean", "--no-gallery", "-o", str(tmp_path / name), "--jobs", "1", *options]) == 0
        (report,) = (tmp_path / name / "cup").glob("cup_*/cup_*.json")
        stages = json.loads(report.read_text())["stages"]
        fits[name] = next(entry["after"] for entry in stages if entry["stage"] == "collision")
    assert fits["trimmed"]["over"] < 0.6 * fits["plain"]["over"]
    assert fits["trimmed"]["hulls"] == fits["plain"]["hulls"]
