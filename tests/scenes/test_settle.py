"""Laws of settling: a scene lies still, hardly anything has moved, and what falls, tips or gives way is refused."""

from dataclasses import replace

import numpy as np
import pytest
from scene_parts import ROBOT, body, box, make_sampler, mouse, pad, switch

from embodichain import tasks
from embodichain.errors import SceneError
from embodichain.physics.mujoco import MujocoPhysics
from embodichain.scenes.config import SettleConfig
from embodichain.scenes.settle import settle
from embodichain.types import Asset, ObjectPlacement, Pose, Scene
from embodichain.types.poses import turn, yaw_pose


@pytest.fixture(scope="module")
def physics() -> MujocoPhysics:
    return MujocoPhysics(ROBOT, width=16, height=16)


def scene_of(asset: Asset, pose: Pose, joints: tuple[float, ...] = ()) -> Scene:
    return Scene(
        seed=3,
        task="test",
        instruction="",
        objects=(ObjectPlacement(role="thing", asset=asset, pose=pose, joint_positions=joints),),
    )


def test_what_had_no_time_to_lie_still_is_named_though_it_does_by_now(physics) -> None:
    falling = scene_of(pad(), yaw_pose(0.0, 0.0, 0.0004, 0.0))
    with pytest.raises(SceneError, match=r"'thing' .*does not come to rest within 0\.1 s"):
        settle(physics, falling, SettleConfig(quiet_s=0.1, longest_s=0.1))


def test_a_settled_scene_lies_still_where_it_was_put(physics) -> None:
    above = scene_of(mouse(), yaw_pose(0.05, 0.1, 0.002, 0.4))
    settled = settle(physics, above)
    (before,), (after,) = above.objects, settled.objects
    np.testing.assert_allclose(after.pose.position[:2], before.pose.position[:2], atol=1e-4)
    assert -5e-4 < after.pose.position[2] < 1e-4
    start = physics.reset(settled).object_poses["thing"]
    for _ in range(25):
        state = physics.step(ROBOT.home)
        assert np.abs(state.object_velocities["thing"]).max() < 0.01
    np.testing.assert_allclose(state.object_poses["thing"].position, start.position, atol=5e-5)


def test_settling_is_decided_by_the_scene_whatever_was_simulated_before(physics) -> None:
    scene = scene_of(mouse(), Pose(position=(0.0, 0.0, 0.001), quaternion=turn((1.0, 0.0, 0.0), 0.02)))
    first = settle(physics, scene)
    settle(physics, scene_of(pad(), yaw_pose(0.0, 0.0, 0.0, 0.0)))
    assert settle(physics, scene).objects[0].pose == first.objects[0].pose
    assert settle(MujocoPhysics(ROBOT, width=16, height=16), scene).objects[0].pose == first.objects[0].pose


def test_what_falls_tips_slides_or_gives_way_is_refused_by_name(physics) -> None:
    with pytest.raises(SceneError, match=r"'thing' \(mouse_100\) falls by 1\d mm, 4 mm allowed"):
        settle(physics, scene_of(mouse(), yaw_pose(0.0, 0.0, 0.012, 0.0)))
    top_heavy = Asset(name="tower", category="t", bodies=(body("b", box((0.03, 0.03, 0.12), (0, 0, 0.06)), mass=0.2),))
    leaning = Pose(position=(0.0, 0.0, 0.006), quaternion=turn((1.0, 0.0, 0.0), 0.35))
    with pytest.raises(SceneError, match=r"'thing' \(tower\) tips by \d+ degrees"):
        settle(physics, scene_of(top_heavy, leaning))
    with pytest.raises(SceneError, match="does not come to rest"):
        settle(physics, scene_of(top_heavy, leaning), SettleConfig(longest_s=0.12))
    lever = switch()
    loose = replace(lever, joints=tuple(replace(joint, friction=0.0, damping=0.0) for joint in lever.joints))
    with pytest.raises(SceneError, match=r"does not hold its lever: 0.300 becomes"):
        settle(physics, scene_of(loose, yaw_pose(0.0, 0.0, 0.0, 0.0), (0.3,)))


def test_sampled_scenes_have_settled_when_the_sampler_has_physics(physics, tmp_path_factory) -> None:
    folder = tmp_path_factory.mktemp("reach")
    settled, put = make_sampler(folder, physics=physics), make_sampler(folder)
    for seed in range(4):
        for name in ("place_mouse_pad", "turn_switch"):
            ours, theirs = (which.sample(tasks.make(name), seed) for which in (settled, put))
            assert ours.instruction == theirs.instruction
            for placed, before in zip(ours.objects, theirs.objects, strict=True):
                np.testing.assert_allclose(placed.pose.position, before.pose.position, atol=1e-3)
            start = physics.reset(ours)
            speeds = [np.abs(physics.step(ROBOT.home).object_velocities[role]).max() for role in start.object_poses]
            assert max(speeds) < 0.005
