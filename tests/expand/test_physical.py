"""Laws of physical expansion: whatever is drawn could exist, is recorded, and is decided by the generator alone."""

import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embodichain.errors import ConfigError
from embodichain.expand.physical import DENSITIES, FRICTIONS, PhysicalConfig, vary, with_ballast
from embodichain.types import Dynamics, Grains
from embodichain.types.poses import matrix_of

sys.path.insert(0, str(Path(__file__).parent.parent / "physics"))
from physics_parts import block, box_body, placed, scene, switch

ENABLED = PhysicalConfig(enabled=True)
SCENE = scene(placed("block", block()), placed("switch", switch(), 0.2, joint_positions=(0.4,)))


def inertia_of(body):
    axes = matrix_of(body.principal_axes)
    return axes @ np.diag(body.diagonal_inertia) @ axes.T


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_every_draw_could_exist(seed):
    varied = vary(SCENE, np.random.default_rng(seed), ENABLED)
    for before, after in zip(SCENE.objects, varied.objects, strict=True):
        assert after.pose == before.pose and after.asset.content_hash == before.asset.content_hash
        for old, new in zip(before.asset.bodies, after.asset.bodies, strict=True):
            assert new.mass / old.mass == pytest.approx(new.material.density / old.material.density)
            assert DENSITIES[0] <= new.material.density <= DENSITIES[1]
            assert FRICTIONS[0] <= new.material.dynamic_friction <= FRICTIONS[1]
            low, middle, high = sorted(new.diagonal_inertia)
            assert low > 0 and low + middle >= high * (1 - 1e-9)
            lower, upper = new.hulls[0].vertices.min(axis=0), new.hulls[0].vertices.max(axis=0)
            assert (lower <= new.center_of_mass).all() and (np.array(new.center_of_mass) <= upper).all()
    damping_ratio = varied.dynamics.servo_damping / np.sqrt(varied.dynamics.stiffness)
    assert ENABLED.damping_ratio[0] - 1e-9 <= damping_ratio <= ENABLED.damping_ratio[1] + 1e-9
    assert round(varied.dynamics.delay_s / 0.002) * 0.002 == pytest.approx(varied.dynamics.delay_s)
    assert varied.expansion["robot.stiffness"] == pytest.approx(varied.dynamics.stiffness, rel=1e-3)
    assert varied.expansion["block.density"] == pytest.approx(
        varied.objects[0].asset.bodies[0].mass / block().bodies[0].mass, rel=1e-3
    )
    again = vary(SCENE, np.random.default_rng(seed), ENABLED)
    assert again.expansion == varied.expansion and again.dynamics == varied.dynamics


@settings(max_examples=40, deadline=None)
@given(share=st.floats(0.0, 0.95), x=st.floats(-1, 1), y=st.floats(-1, 1), z=st.floats(-1, 1))
def test_ballast_gives_the_inertia_of_the_two_parts_about_any_point(share, x, y, z):
    body = box_body("block", (0.1, 0.06, 0.02), mass=0.4)
    point = np.array((x, y, z)) * (0.05, 0.03, 0.01)
    found = with_ballast(body, share, point)

    def about_origin(inertia, mass, center):
        center = np.asarray(center)
        return inertia + mass * (center @ center * np.eye(3) - np.outer(center, center))

    parts = about_origin((1 - share) * inertia_of(body), (1 - share) * 0.4, body.center_of_mass)
    parts = parts + about_origin(np.zeros((3, 3)), share * 0.4, point)
    np.testing.assert_allclose(about_origin(inertia_of(found), found.mass, found.center_of_mass), parts, rtol=1e-9, atol=1e-12)


def test_nothing_changes_unless_it_is_enabled():
    assert vary(SCENE, np.random.default_rng(0), PhysicalConfig()) is SCENE
    assert SCENE.dynamics == Dynamics()


@pytest.mark.parametrize("name", [f.name for f in fields(PhysicalConfig) if f.name != "enabled"])
def test_an_impossible_range_is_refused_with_what_is_possible(name):
    low, high = getattr(PhysicalConfig(), name)
    for limits in ((high + 0.01, low), (-1.0, high), (low, 1e6), (low, float("nan"))):
        with pytest.raises(ConfigError, match=rf"cannot draw {name} from .* within "):
            replace(PhysicalConfig(), **{name: limits})


def test_grains_become_denser_or_lighter_and_change_no_other_draw():
    grains = Grains(positions=((0.0, 0.0, 0.1),))
    config = PhysicalConfig(enabled=True)
    dry, wet = (vary(scene, np.random.default_rng(5), config) for scene in (SCENE, replace(SCENE, grains=grains)))
    low, high = config.density
    assert low <= wet.grains.density / grains.density <= high and wet.grains.density != grains.density
    assert wet.expansion == {**dry.expansion, "grains.density": pytest.approx(wet.grains.density / grains.density, rel=1e-3)}
    assert wet.dynamics == dry.dynamics and wet.grains.positions == grains.positions and dry.grains == Grains()
