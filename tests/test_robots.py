"""Robots: the platform's published kinematics, its grip, and robots derived from files."""

import math

import mujoco
import numpy as np
import pytest
import trimesh

from embodichain.errors import ConfigError, RobotError
from embodichain.motion.kinematics import Chain
from embodichain.robots import ROBOTS, dual_piper, get, load_mjcf
from embodichain.robots.geometry import open_gripper
from embodichain.types import CONTROL_HZ, Robot

PUBLISHED = (  # alpha [deg], a, d, theta offset [deg], lower, upper
    (0, 0, 0.123, 0, -2.618, 2.618),
    (-90, 0, 0, -172.22, 0, 3.14),
    (0, 0.28503, 0, -102.78, -2.967, 0),
    (90, -0.02198, 0.25075, 0, -1.745, 1.745),
    (-90, 0, 0, 0, -1.22, 1.22),
    (90, 0, 0.091, 0, -2.0944, 2.0944),
)

FINGER = """
<body name="{side}_finger" pos="0 0 0.06">
  <joint name="{side}_slide" type="slide" axis="0 {sign} 0" range="0 0.04"/>
  <geom type="box" size="0.01 0.005 0.02" pos="0 {offset} 0.02" mass="0.02"/>
</body>"""
ONE_ARM = """
<mujoco model="one_arm">
  <default><joint armature="0.05" damping="1"/><geom type="capsule" size="0.03" mass="0.6"/></default>
  <worldbody>
    <geom name="ground" type="plane" size="2 2 0.1"/>
    <body name="root">
      <geom type="cylinder" size="0.05 0.04" pos="0 0 0.04"/>
      <body pos="0 0 0.15"><joint name="a1" axis="0 0 1" range="-170 170"/><geom fromto="0 0 -0.05 0 0 0.05"/>
      <body pos="0 0 0.1"><joint name="a2" axis="0 1 0" range="-100 100"/><geom fromto="0 0 0 0 0 0.3"/>
      <body pos="0 0 0.3"><joint name="a3" axis="0 1 0" range="0 150"/><geom fromto="0 0 0 0 0 0.25"/>
      <body pos="0 0 0.25"><joint name="a4" axis="0 0 1" range="-170 170"/><geom fromto="0 0 0 0 0 0.05" mass="0.2"/>
      <body pos="0 0 0.08"><joint name="a5" axis="0 1 0" range="-110 110"/><geom fromto="0 0 0 0 0 0.05" mass="0.2"/>
      <body name="palm" pos="0 0 0.07"><joint name="a6" axis="0 0 1" range="-175 175"/>
        <geom type="box" size="0.03 0.05 0.03" pos="0 0 0.02"/>""" + (
    FINGER.format(side="near", sign=1, offset=0.005)
    + FINGER.format(side="far", sign=-1, offset=-0.005)
    + """
      </body></body></body></body></body></body>
    </body>
  </worldbody>
  <contact><exclude body1="root" body2="palm"/></contact>
  <actuator>
    <motor joint="a1" gear="50" ctrlrange="-1 1"/><motor joint="a2" gear="50" ctrlrange="-1 1"/>
    <position joint="a3" kp="700" kv="30" forcerange="-40 40"/><motor joint="a4" gear="20" ctrlrange="-1 1"/>
    <motor joint="a5" gear="20" ctrlrange="-1 1"/><motor joint="a6" gear="20" ctrlrange="-1 1"/>
    <position joint="near_slide" kp="100"/><position joint="far_slide" kp="100"/>
  </actuator>
  <keyframe><key name="home" qpos="0 0.3 1.2 0 1.5 0 0.02 0.02"/></keyframe>
</mujoco>"""
)


def write(tmp_path, text, name="robot.xml"):
    path = tmp_path / name
    path.write_text(text)
    return path


def simulation(robot: Robot, extra=None):
    """The robot at home, held by its actuators: model, data and a function that holds a command for some control steps."""
    spec = mujoco.MjSpec.from_string(robot.mjcf)
    if extra is not None:
        extra(spec)
    model = spec.compile()
    data = mujoco.MjData(model)
    for arm in robot.arms:
        for name, value in zip(arm.joints, arm.home, strict=True):
            data.qpos[model.joint(name).qposadr[0]] = value
        for name, value in open_gripper(model, arm).items():
            data.qpos[model.joint(name).qposadr[0]] = value
    names = [n for arm in robot.arms for n in (*arm.joints, *([f"{arm.name}/gripper"] if arm.gripper_joints else []))]
    actuators = [model.actuator(name).id for name in names]

    def hold(command, steps):
        data.ctrl[actuators] = command
        mujoco.mj_step(model, data, round(steps / CONTROL_HZ / model.opt.timestep))

    mujoco.mj_forward(model, data)
    return model, data, hold


def test_platform_follows_the_published_denavit_hartenberg_parameters():
    rng = np.random.default_rng(0)
    chain = Chain.of(dual_piper(), 0)
    assert np.allclose(chain.lower, [row[4] for row in PUBLISHED]) and np.allclose(chain.upper, [row[5] for row in PUBLISHED])

    def link(alpha, a, d, theta):
        ca, sa, ct, st = np.cos(alpha), np.sin(alpha), np.cos(theta), np.sin(theta)
        return np.array([[ct, -st, 0, a], [st * ca, ct * ca, -sa, -sa * d], [st * sa, ct * sa, ca, ca * d], [0, 0, 0, 1]])

    for _ in range(20):
        q = rng.uniform(chain.lower, chain.upper)
        frame = np.eye(4)
        for (alpha, a, d, offset, _, _), angle in zip(PUBLISHED, q, strict=True):
            frame = frame @ link(math.radians(alpha), a, d, angle + math.radians(offset))
        frame = frame @ link(0, 0, 0.136, 0)
        frame[:3, 3] += (-0.20, 0.30, 0.22)
        position, quaternion = chain.forward(q)
        rotation = np.empty(9)
        mujoco.mju_quat2Mat(rotation, quaternion)
        assert np.allclose(position, frame[:3, 3], atol=1e-12)
        assert np.allclose(rotation.reshape(3, 3), frame[:3, :3], atol=1e-12)


def test_platform_at_home_touches_nothing_and_stays_where_it_is():
    robot = dual_piper()
    model, data, hold = simulation(robot)
    assert data.ncon == 0
    before = data.qpos.copy()
    hold(robot.home, 100)
    assert np.abs(data.qpos - before).max() < 1e-4  # gravity compensation: no sag
    for arm in robot.arms:
        site = data.site(arm.site)
        assert 0.1 < site.xpos[2] < 0.35 and site.xmat[8] < -0.95  # above the table, pointing down
        assert not (abs(site.xpos[0]) < 0.2 and abs(site.xpos[1]) < 0.25)  # beside the working area
    assert {model.camera(i).name for i in range(model.ncam)} == {camera.name for camera in robot.cameras}


def test_joint_targets_are_reached_without_overshoot():
    robot = dual_piper()
    model, data, hold = simulation(robot)
    step = np.array([0.3, 0.2, -0.2, 0.3, 0.2, 0.3, 0.0] * 2)
    addresses = [model.joint(n).qposadr[0] for arm in robot.arms for n in arm.joints]
    moving = [i for i in range(14) if i not in (6, 13)]
    overshoot = np.zeros(12)
    for _ in range(50):
        hold(robot.home + step, 1)
        done = (data.qpos[addresses] - robot.home[moving]) / step[moving]
        overshoot = np.maximum(overshoot, done - 1.0)
    assert np.all(np.abs(done - 1.0) < 1e-3) and overshoot.max() < 0.02


@pytest.mark.parametrize("mass", [0.1, 0.5, 1.0])
def test_gripper_holds_a_block_without_creep(mass):
    robot = dual_piper()
    tip = Chain.of(robot, 0).pose(np.array(robot.arms[0].home)).position

    def block(spec):
        body = spec.worldbody.add_body(name="block", pos=tip)
        body.add_freejoint()
        body.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, size=(0.02, 0.02, 0.02), mass=mass, friction=(0.4, 0.005, 0.0001))

    model, data, hold = simulation(robot, block)
    body = model.body("block").id
    model.body_gravcomp[body] = 1.0  # weightless until the gripper has closed
    command = robot.home.copy()
    command[6] = 0.0
    hold(command, 40)
    model.body_gravcomp[body] = 0.0
    hold(command, 10)
    held = data.body("block").xpos - data.site("left/tip").xpos
    hold(command, 250)
    assert np.linalg.norm(data.body("block").xpos - data.site("left/tip").xpos - held) < 1e-3
    assert data.body("block").xpos[2] > tip[2] - 0.004
    assert data.ten_length[model.tendon("left/gripper").id] == pytest.approx(0.04, abs=0.002)


def test_gripper_opening_is_the_distance_between_the_pads():
    robot = dual_piper()
    model, data, hold = simulation(robot)
    for opening in (0.07, 0.03, 0.0):
        command = robot.home.copy()
        command[[6, 13]] = opening
        hold(command, 60)
        for arm in robot.arms:
            left, right = (data.geom(f"{arm.name}/pad_{side}") for side in "lr")
            gap = np.linalg.norm(left.xpos - right.xpos) - 2 * model.geom(f"{arm.name}/pad_l").size[1]
            assert gap == pytest.approx(opening, abs=5e-4)
            closing = (left.xpos - right.xpos) / np.linalg.norm(left.xpos - right.xpos)
            assert np.allclose(closing, data.site(arm.site).xmat.reshape(3, 3)[:, 1], atol=1e-6)


def test_file_of_one_arm_becomes_a_robot_with_table_camera_and_servos(tmp_path):
    robot = load_mjcf(write(tmp_path, ONE_ARM))
    (arm,) = robot.arms
    assert arm.joints == ("a1", "a2", "a3", "a4", "a5", "a6")
    assert arm.home == (0, 0.3, 1.2, 0, 1.5, 0)
    assert arm.gripper_joints == ("near_slide", "far_slide") and arm.gripper_open == pytest.approx(0.08)
    assert [camera.name for camera in robot.cameras] == ["head"]
    assert robot.world_from_base.position[0] < -0.2
    model, data, hold = simulation(robot)
    assert "left/palm" in {model.body(i).name for i in range(model.nbody)} and model.nkey == 0
    top = data.geom("table").xpos + robot.world_from_base.position
    assert np.allclose(top, (0, 0, -0.02))
    tip = data.site(arm.site).xmat.reshape(3, 3)
    assert np.allclose(tip[:, 1], data.joint("near_slide").xaxis)  # Y closes
    assert np.allclose(tip[:, 2], data.joint("a6").xaxis)  # Z approaches
    palm = data.body("left/palm")
    assert np.allclose(palm.xmat.reshape(3, 3).T @ (data.site(arm.site).xpos - palm.xpos), (0, 0, 0.090), atol=1e-9)
    before = data.qpos.copy()
    hold([*arm.home, 0.08], 60)
    assert np.abs(data.qpos - before).max() < 2e-3
    hold([*(np.array(arm.home) + 0.1), 0.03], 80)
    assert np.allclose(data.qpos[:6], np.array(arm.home) + 0.1, atol=2e-3)
    assert np.allclose(data.qpos[6:8], 0.015, atol=1e-3)


def test_robot_of_a_file_has_exact_kinematics_in_the_world_frame(tmp_path):
    robot = load_mjcf(write(tmp_path, ONE_ARM))
    chain = Chain.of(robot, 0)
    model, data, _ = simulation(robot)
    rng = np.random.default_rng(1)
    for _ in range(20):
        data.qpos[:6] = rng.uniform(chain.lower, chain.upper)
        mujoco.mj_kinematics(model, data)
        position, _ = chain.forward(data.qpos[:6])
        assert np.allclose(position, data.site("left/tip").xpos + robot.world_from_base.position, atol=1e-12)


def test_file_with_two_arms_keeps_its_table_and_orders_arms_by_side(tmp_path):
    def arm(name, y):
        joints = "".join(
            f'<body name="{name}_link{i}" pos="0 0 0.1"><joint name="{name}_{i}" axis="{"0 0 1" if i % 2 else "0 1 0"}"'
            ' range="-1.5 2"/><geom size="0.02" fromto="0 0 0 0 0 0.1"/>'
            for i in range(5)
        )
        site = f'<site name="{name}_tcp" pos="0 0 0.12"/>'
        return f'<body name="{name}" pos="-0.3 {y} 0.1"><geom type="sphere" size="0.03"/>{joints}{site}{"</body>" * 6}'

    def actuators(name):
        return "".join(f'<position joint="{name}_{i}" kp="100" kv="10"/>' for i in range(5))

    text = f"""<mujoco><compiler angle="radian"/><default><geom type="capsule"/></default><worldbody>
      <body name="bench"><geom type="box" size="0.4 0.5 0.1" pos="0 0 -0.1"/></body>
      <camera name="top" pos="0 0 1"/>{arm("east", -0.25)}{arm("west", 0.25)}</worldbody>
      <actuator>{actuators("east")}{actuators("west")}</actuator></mujoco>"""
    robot = load_mjcf(write(tmp_path, text))
    assert [a.name for a in robot.arms] == ["left", "right"]
    assert robot.arms[0].joints[0] == "west_0" and robot.arms[1].joints[0] == "east_0"
    assert robot.arms[0].home == (0.25,) * 5 and robot.arms[0].gripper_joints == ()
    assert robot.world_from_base.position == (0, 0, 0) and [c.name for c in robot.cameras] == ["top"]
    model, data, _ = simulation(robot)
    assert model.geom("table").size[0] == 0.4 and model.ngeom == 13
    link = data.body("left/west_link4")
    assert np.allclose(link.xmat.reshape(3, 3).T @ (data.site("left/tip").xpos - link.xpos), (0, 0, 0.12))


def test_torso_above_two_arms_is_held_and_a_hand_of_hinges_ends_the_arm(tmp_path):
    def chain(name, count, inner=""):
        bodies = "".join(
            f'<body pos="0.02 0 0.1"><joint name="{name}{i}" axis="{"0 1 0" if i % 2 else "1 0 0"}"/><geom size="0.02"/>'
            for i in range(count)
        )
        return bodies + inner + "</body>" * count

    hand = chain("thumb", 1) + chain("index", 2)
    names = ["waist0"] + [f"{side}{i}" for side in "pq" for i in range(5)] + ["thumb0", "index0", "index1"]
    text = f"""<mujoco><worldbody>{chain("waist", 1, chain("p", 5, hand) + chain("q", 5))}</worldbody>
      <actuator>{"".join(f'<position joint="{name}" kp="50"/>' for name in names)}</actuator></mujoco>"""
    robot = load_mjcf(write(tmp_path, text))
    assert sorted(a.joints for a in robot.arms) == [tuple(f"{side}{i}" for i in range(5)) for side in "pq"]


def test_arms_that_face_each_other_across_x_are_turned_and_names_tell_their_sides(tmp_path):
    def arm(name, x, turn):
        joints = "".join(f'<body pos="0 0 0.1"><joint name="{name}{i}" axis="0 1 0"/><geom size="0.02"/>' for i in range(4))
        return f'<body name="{name}" pos="{x} 0.01 0" quat="{turn}">{joints}{"</body>" * 5}'

    text = f"""<mujoco><worldbody>{arm("right", -0.45, "1 0 0 0")}{arm("left", 0.45, "0 0 0 1")}</worldbody>
      <actuator>{"".join(f'<position joint="{n}{i}" kp="9"/>' for n in ("right", "left") for i in range(4))}</actuator></mujoco>"""
    robot = load_mjcf(write(tmp_path, text))
    assert robot.arms[0].joints[0] == "left0"
    assert Chain.of(robot, 0).positions[0][:2] == pytest.approx((0.0, 0.45))


def test_meshes_and_includes_are_found_from_anywhere_and_keyed_by_content(tmp_path):
    folder = tmp_path / "parts"
    folder.mkdir()
    trimesh.creation.icosphere(subdivisions=1, radius=0.04).export(folder / "ball.stl")
    write(tmp_path, '<mujocoinclude><asset><mesh name="ball" file="ball.stl"/></asset></mujocoinclude>', "assets.xml")
    text = ONE_ARM.replace("<default>", '<compiler meshdir="parts"/><include file="assets.xml"/><default>', 1)
    path = write(tmp_path, text.replace('<body name="root">', '<body name="root"><geom type="mesh" mesh="ball"/>'))
    robot = load_mjcf(path)
    assert mujoco.MjModel.from_xml_string(robot.mjcf).nmesh == 1 and robot.mesh_dir == folder
    trimesh.creation.icosphere(subdivisions=2, radius=0.04).export(folder / "ball.stl")
    assert load_mjcf(path).content_hash != robot.content_hash


def test_content_hash_follows_the_file(tmp_path):
    one, two = write(tmp_path, ONE_ARM), write(tmp_path, ONE_ARM.replace('kp="700"', 'kp="701"'), "other.xml")
    assert load_mjcf(one).content_hash == load_mjcf(one).content_hash != load_mjcf(two).content_hash


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<mujoco><worldbody><body></worldbody></mujoco>", "does not parse"),
        ("not xml at all", "does not parse"),
        ('<mujoco><worldbody><body><joint name="j"/></body></worldbody></mujoco>', "does not compile"),
        ('<mujoco><worldbody><body><joint/><geom size="1"/></body></worldbody></mujoco>', "no actuated hinge chain"),
        (ONE_ARM.replace('<body name="root">', '<body name="root"><freejoint/>').replace("<keyframe>", "<!--")
         .replace("</keyframe>", "-->"), "floating base"),
    ],
)  # fmt: skip
def test_files_that_are_no_robot_are_refused_with_the_reason(tmp_path, text, message):
    with pytest.raises(RobotError, match=message):
        load_mjcf(write(tmp_path, text))


def test_names_and_paths_lead_to_robots(tmp_path):
    assert get("dual_piper") == dual_piper() and set(ROBOTS) == {"dual_piper", "metaworld", "robosuite"}
    assert get(str(write(tmp_path, ONE_ARM, "thing.xml"))).name == "thing"
    with pytest.raises(RobotError, match=r"no robot file at .*absent\.xml"):
        get(str(tmp_path / "absent.xml"))
    with pytest.raises(ConfigError, match="unknown robot 'dual_paper'; available: dual_piper"):
        get("dual_paper")


def test_a_saved_robot_loads_as_the_robot_it_was(tmp_path):
    original = dual_piper()
    file = tmp_path / "saved.xml"
    file.write_text(original.mjcf)
    loaded = get(str(file))
    assert [arm.joints for arm in loaded.arms] == [arm.joints for arm in original.arms]
    assert [camera.name for camera in loaded.cameras] == [camera.name for camera in original.cameras]
    again = tmp_path / "again.xml"
    again.write_text(loaded.mjcf)
    assert [arm.joints for arm in get(str(again)).arms] == [arm.joints for arm in original.arms]
    for arm in range(2):
        here, there = (Chain.of(robot, arm).forward(np.array(original.arms[arm].home))[0] for robot in (original, loaded))
        assert np.linalg.norm(here - there) < 0.02
