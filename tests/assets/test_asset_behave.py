from dataclasses import replace

import mujoco
import numpy as np
import pytest

from embodichain.assets.families import source
from embodichain.assets.geometry.articulate import gravity_load
from embodichain.assets.physical import grasp
from embodichain.assets.physical import simulated_checks as behave
from embodichain.assets.physical.mjcf import to_mjcf
from embodichain.assets.physical.simulation import slid
from embodichain.types import Mesh


def test_delivered_assets_rest_where_they_are_put_and_their_joints_stay(catalog):
    for asset in catalog.values():
        found = behave.behave(asset)
        assert found.rest_drift < 1e-3, asset.name
        assert np.degrees(found.rest_turn) < 1.0, asset.name
        assert found.joint_creep < 0.005, asset.name
        assert found.joint_reach > 0.99, asset.name
        assert found.drop_energy < 1.005, asset.name
        assert found.drop_depth < 5e-4, asset.name
        assert found.push_held < 5e-4 < 0.1 < found.push_slid, asset.name
        assert behave.check(asset) == []


def test_every_promised_grasp_lifts_and_holds(catalog):
    for asset in catalog.values():
        assert {name: grasp.lift(asset, name).reason for name in grasp.grasps(asset)} == dict.fromkeys(grasp.grasps(asset), "held")


def test_a_grasp_in_the_air_or_through_the_object_holds_nothing(catalog):
    block = catalog["block"]
    (owner, pose) = block.affordances["grasp"]
    away = replace(block, affordances={"grasp": (owner, replace(pose, position=(0.0, 0.2, 0.1)))})
    assert not grasp.lift(away, "grasp").held
    inside = replace(block, affordances={"grasp": (owner, replace(pose, position=(0.0, 0.035, pose.position[2])))})
    assert "fit" in grasp.lift(inside, "grasp").reason


def test_mjcf_has_the_mass_friction_and_joints_of_the_asset(catalog):
    for asset in catalog.values():
        model = mujoco.MjModel.from_xml_string(to_mjcf(asset))
        for body in asset.bodies:
            index = model.body(body.name)
            assert index.mass[0] == pytest.approx(body.mass, rel=1e-6)
            assert sorted(index.inertia) == pytest.approx(sorted(body.diagonal_inertia), rel=1e-6)
            geom = model.geom(f"{body.name}_hull_00")
            assert geom.friction[0] == pytest.approx(body.material.dynamic_friction)
        for joint in asset.movable_joints:
            index = model.joint(joint.name)
            assert index.range == pytest.approx((joint.lower, joint.upper))
            assert model.dof_frictionloss[index.dofadr[0]] == pytest.approx(joint.friction)
            assert model.dof_damping[index.dofadr[0]] == pytest.approx(joint.damping)
            assert model.jnt_stiffness[index.id] == pytest.approx(joint.stiffness)
            assert model.qpos_spring[index.qposadr[0]] == pytest.approx(joint.rest)
        assert {model.site(i).name for i in range(model.nsite)} == set(asset.affordances)


def test_a_top_heavy_thing_on_a_point_is_caught(catalog):
    bottle = catalog["bottle"]
    body = bottle.bodies[0]
    turned = [Mesh(vertices=hull.vertices[:, [2, 0, 1]] + [0.0, 0.0, 0.08], faces=hull.faces) for hull in body.hulls]
    tilted = [Mesh(vertices=hull.vertices @ _turn(0.4), faces=hull.faces) for hull in turned]
    lifted = [
        Mesh(vertices=hull.vertices - [0, 0, min(h.vertices[:, 2].min() for h in tilted)], faces=hull.faces) for hull in tilted
    ]
    falling = replace(bottle, bodies=(replace(body, hulls=tuple(lifted), center_of_mass=(0.0, 0.0, 0.08)),))
    assert "rest" in {issue.check for issue in behave.check(falling)}


def test_a_push_moves_things_as_far_as_friction_says(catalog):
    # Under 1.6 of what friction bears, the rest accelerates: half of 0.6 mu g t^2 in a second, once it has settled.
    for category in ("block", "mug"):
        found = behave.behave(catalog[category])
        friction = max(0.3, catalog[category].bodies[0].material.dynamic_friction)
        assert found.push_slid == pytest.approx(0.3 * friction * 9.81, rel=0.05)


@pytest.mark.parametrize("count", [1, 4, 16])
def test_what_sticks_on_many_points_creeps_no_more_than_on_few(count):
    """Hulls of uneven soles, side by side and into each other, touch a slope in many points, most of which carry little."""
    rng, meshes, geoms = np.random.default_rng(count), "", ""
    for index in range(count):
        angles, (x, y) = np.arange(16) * np.pi / 8 + rng.uniform(0.0, 6.0), rng.uniform(-0.02, 0.02, 2)
        ring = np.stack([x + 0.01 * np.cos(angles), y + 0.01 * np.sin(angles)], axis=1)
        points = np.concatenate([np.c_[ring, rng.uniform(0.0, 1e-4, 16)], np.c_[ring, np.full(16, 0.03)]])
        meshes += f'<mesh name="hull_{index}" vertex="{" ".join(map(str, points.ravel()))}"/>'
        geoms += f'<geom type="mesh" mesh="hull_{index}" condim="4" friction="1 0.002 0.0001"/>'
    body = f'<body name="thing"><inertial pos="0 0 0.01" mass="0.1" diaginertia="1e-4 1e-4 1e-4"/>{geoms}</body>'
    crept = slid(f"<mujoco><asset>{meshes}</asset><worldbody>{body}</worldbody></mujoco>", "thing")
    assert crept is not None
    assert crept < 1e-4


def test_gained_energy_sinking_slipping_and_sticking_are_faults(catalog):
    found = behave.behave(catalog["block"])
    for changes, check in (
        ({"drop_energy": 1.2}, "drop"),
        ({"drop_depth": 0.01}, "drop"),
        ({"push_held": 0.01}, "push"),
        ({"push_slid": 0.001}, "push"),
        ({"penetration": 0.01}, "sink"),
    ):
        assert [issue.check for issue in behave.faults(catalog["block"], replace(found, **changes))] == [check]


def test_a_lever_without_enough_friction_is_caught(catalog):
    switch = catalog["switch"]
    (lever,) = switch.movable_joints
    weak = 0.5 * gravity_load(switch.bodies, switch.joints, lever)
    joints = tuple(replace(joint, friction=weak, damping=1e-4) if joint == lever else joint for joint in switch.joints)
    assert "joint_creep" in {issue.check for issue in behave.check(replace(switch, joints=joints))}


def sprung(asset, **changes):
    return replace(asset, joints=tuple(replace(joint, **changes) if joint.upper > joint.lower else joint for joint in asset.joints))


def test_a_spring_brings_a_joint_back_and_one_too_weak_for_it_is_caught(catalog):
    springy = sprung(catalog["switch"], stiffness=0.1, rest=-1.0, friction=0.0)
    assert behave.behave(springy).joint_return > 0.99
    assert behave.check(springy) == []
    weak = sprung(catalog["switch"], stiffness=0.001, rest=-1.0)
    assert [issue.check for issue in behave.check(weak)] == ["joint_return"]


def test_a_button_is_pressed_by_a_finger_and_comes_back():
    for seed in range(10):
        for joint in source.procedural("button_panel", seed).joints[1:]:
            pressed, out = (joint.stiffness * (joint.rest - end) for end in (joint.lower, joint.upper))
            assert 0.5 < out < pressed < 4.0, "newton"


def test_a_stuck_lever_is_caught(catalog):
    switch = catalog["switch"]
    joints = tuple(replace(joint, damping=100.0) for joint in switch.joints)
    assert "joint_reach" in {issue.check for issue in behave.check(replace(switch, joints=joints))}


def _turn(angle):
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
