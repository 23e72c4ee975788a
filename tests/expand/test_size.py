"""Laws of size: a resized asset is the same thing built larger, proportions that matter stay, and all else stays as it was."""

import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embodichain.errors import SceneError
from embodichain.expand.size import draw_sizes, resized
from embodichain.motion.frames import affordance
from embodichain.types import Asset, JointKind, ObjectRequest, Pose, SceneRequest

sys.path.insert(0, str(Path(__file__).parent.parent / "physics"))
from physics_parts import block, box_body, switch

FACTORS = st.floats(0.5, 2.0)


def drawer() -> Asset:
    """A box in a box that slides out, with a handle."""
    found = switch()
    slide = replace(found.joints[1], kind=JointKind.PRISMATIC, axis=(1.0, 0.0, 0.0), lower=0.0, upper=0.10, rest=0.02)
    frames = {"handle": ("lever", Pose(position=(0.01, 0.0, 0.03))), "back": ("base", Pose(position=(-0.03, 0.0, 0.0)))}
    return replace(found, joints=(found.joints[0], slide), affordances=frames)


@settings(max_examples=40, deadline=None)
@given(factor=FACTORS, x=st.floats(0.01, 0.2), y=st.floats(0.01, 0.2), z=st.floats(0.01, 0.2))
def test_a_resized_box_is_the_box_built_so_large(factor, x, y, z):
    found, built = resized(block((x, y, z)), factor).bodies[0], box_body("block", (factor * x, factor * y, factor * z))
    assert found.mass == pytest.approx(built.mass)
    assert found.diagonal_inertia == pytest.approx(built.diagonal_inertia)
    assert found.body_pose.position == pytest.approx(built.body_pose.position)
    for mine, theirs in ((found.visual, built.visual), (found.hulls[0], built.hulls[0])):
        np.testing.assert_allclose(mine.vertices, theirs.vertices, atol=1e-12)
    low, middle, high = sorted(found.diagonal_inertia)
    assert low > 0.0 and low + middle >= high * (1 - 1e-9)
    assert found.material == built.material


@settings(max_examples=40, deadline=None)
@given(factor=FACTORS, share=st.floats(0.0, 1.0))
def test_frames_and_bounds_grow_with_the_asset_wherever_its_joints_are(factor, share):
    for asset in (drawer(), replace(switch(), affordances=drawer().affordances)):
        large = resized(asset, factor)
        small_joints, large_joints = (
            tuple(joint.lower + share * (joint.upper - joint.lower) for joint in some.movable_joints) for some in (asset, large)
        )
        for name in asset.affordances:
            before, after = affordance(asset, name, Pose(), small_joints), affordance(large, name, Pose(), large_joints)
            np.testing.assert_allclose(after.position, factor * np.array(before.position), atol=1e-12)
            np.testing.assert_allclose(after.quaternion, before.quaternion, atol=1e-12)
        np.testing.assert_allclose(large.bounds, factor * asset.bounds, atol=1e-12)
        assert large.scale == factor and large.content_hash == asset.content_hash


def test_a_factor_of_one_changes_nothing():
    asset = drawer()
    assert resized(asset, 1.0) is asset


REQUEST = SceneRequest(
    instruction="",
    objects=(
        ObjectRequest(role="pan", category="block"),
        ObjectRequest(role="lid", category="block", onto=("pan", "top", "bottom")),
        ObjectRequest(role="knob", category="block", onto=("lid", "top", "bottom")),
        ObjectRequest(role="tall", category="block", height=(0.0, 0.0404)),
        *(ObjectRequest(role=role, category="block") for role in ("small", "large", "other")),
    ),
    ascending=("small", "large"),
    size_step=0.0098,
)
ASSETS = [block() for _ in range(5)] + [block((0.05, 0.05, 0.05)), block()]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_what_belongs_together_keeps_its_proportions_and_limits_hold(seed):
    sizes = draw_sizes(REQUEST, ASSETS, np.random.default_rng(seed), (0.9, 1.1))
    pan, lid, knob, tall, small, large, other = sizes
    assert pan == lid == knob and small == large
    assert tall * 0.04 <= 0.0404 + 1e-12
    assert 0.05 * large - 0.04 * small >= 0.0098 - 1e-12
    assert all(0.9 <= size <= 1.1 for size in sizes)
    assert len({pan, tall, small, other}) > 1
    assert sizes == draw_sizes(REQUEST, ASSETS, np.random.default_rng(seed), (0.9, 1.1))


def test_sizes_that_the_task_cannot_use_are_refused_by_name():
    with pytest.raises(SceneError, match=r"'tall' cannot be made 1.2 to 1.3 times as large.*at most 1.01 .*`scale`"):
        draw_sizes(REQUEST, ASSETS, np.random.default_rng(0), (1.2, 1.3))


def test_sizes_are_as_often_halved_as_doubled():
    request = SceneRequest(instruction="", objects=(ObjectRequest(role="block", category="block"),))
    rng = np.random.default_rng(0)
    drawn = [math.log(draw_sizes(request, [block()], rng, (0.5, 2.0))[0]) for _ in range(400)]
    assert abs(np.mean(drawn)) < 0.06 and min(drawn) < -0.6 and max(drawn) > 0.6
