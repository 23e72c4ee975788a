"""Laws of assembled dual-arms: two files of different kinds become one robot that stands, reaches and acts like any other."""

import mujoco
import numpy as np
import pytest
import yaml
from test_robots import ONE_ARM, write

from embodichain import robots
from embodichain.errors import RobotError
from embodichain.motion.action import ActionCodec
from embodichain.motion.ik import solve
from embodichain.motion.kinematics import Chain
from embodichain.physics.mujoco import MujocoPhysics
from embodichain.robots.assemble import assemble
from embodichain.types import Pose, Scene


def link(name, mass=0.4, size="0.05 0.05 0.2", z=0.1):
    inertia = '<inertia ixx="0.004" iyy="0.004" izz="0.002" ixy="0" ixz="0" iyz="0"/>'
    shape = f'<origin xyz="0 0 {z}"/><geometry><box size="{size}"/></geometry>'
    return (
        f'<link name="{name}"><inertial><origin xyz="0 0 {z}"/><mass value="{mass}"/>{inertia}</inertial>'
        f"<visual>{shape}</visual><collision>{shape}</collision></link>"
    )


def joint(name, kind, parent, child, z, axis, lower, upper, effort=60):
    return (
        f'<joint name="{name}" type="{kind}"><parent link="{parent}"/><child link="{child}"/><origin xyz="0 0 {z}"/>'
        f'<axis xyz="{axis}"/><limit lower="{lower}" upper="{upper}" effort="{effort}" velocity="2"/></joint>'
    )


def urdf():
    """A 7-joint arm with two sliding fingers, as URDF: no actuators, no keyframe."""
    parts = [link("base", 2.0, "0.1 0.1 0.08", 0.04)]
    axes = ("0 0 1", "0 1 0", "0 0 1", "0 1 0", "0 0 1", "0 1 0", "0 0 1")
    heights = (0.1, 0.12, 0.15, 0.15, 0.14, 0.14, 0.06)
    parent = "base"
    for number, (axis, height) in enumerate(zip(axes, heights, strict=True)):
        size = "0.04 0.04 0.08" if number < 6 else "0.05 0.09 0.03"
        parts.append(link(f"l{number}", 0.4, size, 0.05 if number < 6 else 0.02))
        parts.append(joint(f"j{number}", "revolute", parent, f"l{number}", height, axis, -1.8 if number % 2 else -2.8, 2.0))
        parent = f"l{number}"
    for side, sign in (("a", 1), ("b", -1)):
        parts.append(link(f"finger_{side}", 0.02, "0.02 0.01 0.05", 0.03))
        parts.append(joint(f"slide_{side}", "prismatic", parent, f"finger_{side}", 0.05, f"0 {sign} 0", 0.0, 0.035, 20))
    return f'<robot name="seven">{"".join(parts)}</robot>'


def description():
    return {
        "name": "mixed",
        "arms": {
            "left": {"file": "six.xml", "position": [-0.3, 0.35, 0.0], "yaw_deg": -20},
            "right": {"file": "seven.urdf", "position": [-0.3, -0.35, 0.05], "home": [0.3, 0.6, 0.0, 1.0, 0.0, 1.2, 0.0]},
        },
        "cameras": [
            {"name": "head", "position": [-0.5, 0, 0.8], "target": [0, 0, 0], "fovy": 50},
            {"name": "left_wrist", "arm": "left", "position": [-0.09, 0, -0.1], "target": [0, 0, 0.05], "fovy": 75},
        ],
    }


@pytest.fixture
def robot(tmp_path):
    write(tmp_path, ONE_ARM, "six.xml")
    write(tmp_path, urdf(), "seven.urdf")
    return robots.get(write(tmp_path, yaml.safe_dump(description()), "mixed.yaml"))


def test_two_files_become_one_dual_arm_with_everything_derived(robot):
    left, right = robot.arms
    assert (robot.name, left.name, right.name) == ("mixed", "left", "right")
    assert (len(left.joints), len(right.joints)) == (6, 7)
    assert left.gripper_open == pytest.approx(0.08)
    assert right.gripper_open == pytest.approx(0.06)  # at 0 its fingers overlap by 1 cm
    assert left.joint_speed == () and right.joint_speed == (2.0,) * 7 and right.gripper_speed == 4.0  # those of the URDF
    assert right.home == (0.3, 0.6, 0.0, 1.0, 0.0, 1.2, 0.0)
    assert [camera.name for camera in robot.cameras] == ["head", "left_wrist"]
    codec = ActionCodec(robot)
    assert codec.mask.sum() == 7 + 7 + 6 + 7 + 2
    command = codec.round(robot.home)
    np.testing.assert_array_equal(codec.decode(codec.encode(command[None])[0]), command)


def test_its_kinematics_are_those_of_the_simulated_robot_and_inverse_kinematics_finds_them(robot):
    physics = MujocoPhysics(robot, width=16, height=16)
    physics.reset(Scene(seed=0, task="none", instruction="", objects=()))
    data, model = physics.world.data, physics.world.model
    rng = np.random.default_rng(0)
    for number, arm in enumerate(robot.arms):
        chain = Chain.of(robot, number)
        q = 0.5 * (chain.lower + chain.upper) + 0.3 * rng.uniform(-1, 1, chain.dof) * (chain.upper - chain.lower) / 2
        for name, value in zip(arm.joints, q, strict=True):
            data.qpos[model.joint(f"robot/{name}").qposadr[0]] = value
        mujoco.mj_kinematics(model, data)
        position, quaternion = chain.forward(q)
        np.testing.assert_allclose(position, data.site(f"robot/{arm.site}").xpos, atol=1e-9)
        x, y, z = position.tolist()
        w, i, j, k = quaternion.tolist()
        found = solve(chain, Pose(position=(x, y, z), quaternion=(w, i, j, k)), q + 0.1)
        np.testing.assert_allclose(chain.forward(found)[0], position, atol=2e-3)


def test_it_takes_as_many_commands_a_second_as_its_description_says(tmp_path, robot):
    write(tmp_path, ONE_ARM, "six.xml")
    write(tmp_path, urdf(), "seven.urdf")
    quick = assemble({**description(), "control_hz": 100}, folder=tmp_path)
    assert (robot.control_hz, quick.control_hz) == (50, 100) and quick.content_hash != robot.content_hash
    physics = MujocoPhysics(quick, width=16, height=16)
    physics.reset(Scene(seed=0, task="none", instruction="", objects=()))
    assert physics.step(quick.home).time_s == pytest.approx(0.01)


def test_its_servos_reach_their_targets_and_its_grippers_open(robot):
    physics = MujocoPhysics(robot, width=16, height=16)
    state = physics.reset(Scene(seed=0, task="none", instruction="", objects=()))
    assert state.deepest() < 1e-3
    command = robot.home
    command[0] += 0.2
    command[6], command[-1] = 0.02, 0.03
    for _ in range(150):
        state = physics.step(command)
    np.testing.assert_allclose(state.measured, command, atol=0.02)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("arms"), "needs arms"),
        (lambda d: d["arms"].pop("right"), "has arms left, right, got left"),
        (lambda d: d["arms"]["left"].pop("file"), "arm 'left' needs a file"),
        (lambda d: d["arms"]["left"].update(file="none.xml"), "no robot file at .*none.xml"),
        (lambda d: d["arms"]["left"].update(postion=[0, 0, 0]), "unknown entry 'postion'; known: file, position"),
        (lambda d: d["arms"]["left"].update(position=[0, 0]), r"needs position: \[x, y, z\]"),
        (lambda d: d["arms"]["right"].update(position=[-0.3, 0.35, 0.02]), "0.02 m apart, inside each other"),
        (lambda d: d["arms"]["right"].update(home=[0.0]), "has 7 joints .* its home has"),
        (lambda d: d["cameras"][1].update(arm="middle"), "sits on arm 'middle'; arms: left, right"),
        (lambda d: d["cameras"][0].update(fovy=400), "fovy 1..170"),
        (lambda d: d.update(control_hz=0), "whole number of commands per second, got control_hz: 0"),
        (lambda d: d.update(control_hz=True), "whole number of commands per second, got control_hz: True"),
        (lambda d: d.update(name=["a"]), r"needs a name that is text, got name: \['a'\]"),
        (lambda d: d.update(arms={1: {}, "left": {}}), "has arms left, right, got 1, left"),
        (lambda d: d["arms"].update(left="six.xml"), "arm 'left' needs a file, as .*, got 'six.xml'"),
        (lambda d: d["arms"]["left"].update(file=6), "arm 'left' needs a file, as"),
        (lambda d: d["arms"]["left"].update(yaw_deg="left"), "yaw_deg of arm 'left' is a number, got 'left'"),
        (lambda d: d["arms"]["left"].update(yaw_deg=float("inf")), "yaw_deg of arm 'left' is a number, got inf"),
        (lambda d: d["arms"]["left"].update(position=[0, "a", 0]), "position of arm 'left' is .* in metres, got 'a'"),
        (lambda d: d["arms"]["left"].update(position=3), r"needs position: \[x, y, z\] in metres, got 3"),
        (lambda d: d["arms"]["right"].update(home=["a"] * 7), "home of arm 'right' is a number for each joint .*, got 'a'"),
        (lambda d: d["arms"]["right"].update(home="0000000"), "has 7 joints .* its home has '0000000'"),
        (lambda d: d["arms"]["right"].update(joint_speed=[1, 2]), r"its joint_speed has \[1, 2\]"),
        (lambda d: d["arms"]["right"].update(gripper_speed=-1), "needs speeds above 0"),
        (lambda d: d.update(cameras={"name": "head"}), "cameras are a list of entries"),
        (lambda d: d.update(cameras="head"), "cameras are a list of entries"),
        (lambda d: d.update(cameras=["head"]), "cameras are a list of entries"),
        (lambda d: d["cameras"][0].update(fovy="wide"), "fovy of camera 'head' is a number, got 'wide'"),
        (lambda d: d["cameras"][1].update(arm=["left"]), r"sits on arm \['left'\]; arms: left, right"),
        (lambda d: d["cameras"][1].update(name="head"), "a name of its own, got head twice"),
    ],
)  # fmt: skip
def test_a_description_that_cannot_be_is_refused_with_the_reason(tmp_path, change, message):
    write(tmp_path, ONE_ARM, "six.xml")
    write(tmp_path, urdf(), "seven.urdf")
    described = description()
    change(described)
    with pytest.raises(RobotError, match=message):
        assemble(described, folder=tmp_path)


@pytest.mark.parametrize("text", [b"\xff\xfe\x00arms", b"name: 2026-13-45", b"arms: [", b"- 1", b"", b"arms: {left: *x}"])
def test_a_file_that_is_no_description_is_refused_in_one_error(tmp_path, text):
    path = tmp_path / "odd.yaml"
    path.write_bytes(text)
    with pytest.raises(RobotError, match=r"is no YAML|needs arms"):
        robots.get(path)


def test_a_urdf_alone_is_a_robot_and_joints_that_imitate_others_have_no_motor(tmp_path):
    hinge = joint("knuckle_{s}", "revolute", "l6", "claw_{s}", 0.05, "{axis} 0 0", 0.0, 0.5, 20)
    fingers = ""
    for side, sign in (("a", 1), ("b", -1)):
        shape = f'<origin xyz="0 {sign * 0.03} 0.03"/><geometry><box size="0.02 0.01 0.05"/></geometry>'
        part = hinge.format(s=side, axis=sign)
        fingers += link(f"claw_{side}", 0.02).replace(
            '<origin xyz="0 0 0.1"/><geometry><box size="0.05 0.05 0.2"/></geometry>', shape
        )
        fingers += part.replace("</joint>", '<mimic joint="knuckle_a" multiplier="1"/></joint>') if side == "b" else part
    text = urdf()
    text = text[: text.index('<link name="finger_a">')] + fingers + "</robot>"
    (arm,) = robots.get(write(tmp_path, text, "claws.urdf")).arms
    assert len(arm.joints) == 7 and arm.gripper_joints == ("knuckle_a",) and arm.gripper_open > 0.03
    assert dict(arm.gripper_rest).keys() == {"knuckle_b"} and arm.joint_speed == (2.0,) * 7
