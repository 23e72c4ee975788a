"""A gantry robot, block and switch assets, scenes, and the kinds of physics: small real parts for the physics tests."""

import numpy as np
import trimesh

from embodichain.physics.many import Many
from embodichain.physics.mujoco import MujocoPhysics
from embodichain.physics.single import Single
from embodichain.types import (
    Arm,
    Asset,
    Body,
    Camera,
    Joint,
    JointKind,
    Material,
    Mesh,
    ObjectPlacement,
    Pose,
    Robot,
    Scene,
)


class Lone(Single):
    """The one world of a batch of one, opened for tests that reach into the simulator."""

    def __init__(self, robot: Robot, **options) -> None:
        super().__init__(Many(robot, num_worlds=1, **options))

    def __getattr__(self, name: str):
        return getattr(self.batch.worlds[0], name)


SIZE = 64
"""Height and width of the pictures of the shared worlds [pixels]."""
KINDS = (MujocoPhysics, Lone)
"""Every physics that has to hold what MuJoCo's does."""
WOOD = Material(name="wood", density=700.0, static_friction=0.6, dynamic_friction=0.5, restitution=0.3)

_ARM = """
<body name="{name}/carriage" pos="0 {y} 0.30">
  <joint name="{name}/x" type="slide" axis="1 0 0" range="-0.4 0.4" damping="50"/>
  <geom type="box" size="0.02 0.02 0.01" mass="0.5" contype="0" conaffinity="0"/>
  <body name="{name}/hand">
    <joint name="{name}/z" type="slide" axis="0 0 1" range="-0.3 0.3" damping="50"/>
    <geom type="cylinder" size="0.015 0.03" pos="0 0 0.0" mass="0.5" contype="0" conaffinity="0"/>
    <site name="{name}/tip" pos="0 0 -0.12" quat="0 1 0 0"/>
    <camera name="{name}/wrist" pos="0.1 0 0.05" xyaxes="0 -1 0 0.8 0 0.6" fovy="60"/>
    <body name="{name}/finger_l" pos="0 0 -0.1">
      <joint name="{name}/finger_l" type="slide" axis="0 1 0" range="0 0.04" damping="5"/>
      <geom type="box" size="0.01 0.005 0.03" pos="0 0.005 -0.02" mass="0.05"
        friction="1 0.005 0.0001" condim="4" solref="0.004 1"/>
    </body>
    <body name="{name}/finger_r" pos="0 0 -0.1">
      <joint name="{name}/finger_r" type="slide" axis="0 1 0" range="-0.04 0" damping="5"/>
      <geom type="box" size="0.01 0.005 0.03" pos="0 -0.005 -0.02" mass="0.05"
        friction="1 0.005 0.0001" condim="4" solref="0.004 1"/>
    </body>
  </body>
</body>"""

_DRIVE = """
<position name="{name}/x" joint="{name}/x" kp="2000" dampratio="1"/>
<position name="{name}/z" joint="{name}/z" kp="2000" dampratio="1"/>
<position name="{name}/grip" tendon="{name}/grip" kp="600" kv="20" ctrlrange="0 0.08" forcerange="-30 30"/>"""

_TENDON = """
<fixed name="{name}/grip"><joint joint="{name}/finger_l" coef="1"/><joint joint="{name}/finger_r" coef="-1"/></fixed>"""

_EQUALITY = """
<joint joint1="{name}/finger_l" joint2="{name}/finger_r" polycoef="0 -1 0 0 0" solref="0.004 1"/>"""

_SIDES = ({"name": "left", "y": 0.2}, {"name": "right", "y": -0.2})


def gantry() -> Robot:
    """Two hands on rails, fingers driven through a tendon as on real parallel grippers."""
    parts = {key: "".join(text.format(**side) for side in _SIDES) for key, text in
             {"arms": _ARM, "drives": _DRIVE, "tendons": _TENDON, "equalities": _EQUALITY}.items()}  # fmt: skip
    mjcf = f"""<mujoco><option timestep="0.01"/><worldbody>
      <camera name="head" pos="-0.5 0 0.6" xyaxes="0 -1 0 0.7 0 0.7"/><light pos="0 0 2"/>{parts["arms"]}</worldbody>
      <actuator>{parts["drives"]}</actuator><tendon>{parts["tendons"]}</tendon><equality>{parts["equalities"]}</equality>
      <keyframe><key name="home"/></keyframe></mujoco>"""
    arms = tuple(
        Arm(
            name=name,
            joints=(f"{name}/x", f"{name}/z"),
            site=f"{name}/tip",
            home=(0.0, 0.1),
            gripper_joints=(f"{name}/finger_l", f"{name}/finger_r"),
            gripper_open=0.08,
        )
        for name in ("left", "right")
    )
    cameras = (Camera(name="head", fovy=60.0), Camera(name="left/wrist", fovy=70.0), Camera(name="right/wrist", fovy=70.0))
    return Robot(name="gantry", mjcf=mjcf, arms=arms, cameras=cameras)


def box_body(name, size, *, density=None, mass=None, material=WOOD, color=(0.7, 0.7, 0.7, 1.0), pose=None) -> Body:
    mesh = trimesh.creation.box(extents=size)
    volume = float(np.prod(size))
    mass = mass if mass is not None else volume * (density or material.density)
    x, y, z = size
    inertia = tuple(float(mass / 12 * value) for value in (y * y + z * z, x * x + z * z, x * x + y * y))
    shape = Mesh(vertices=np.array(mesh.vertices), faces=np.array(mesh.faces, np.int32))
    return Body(
        name=name,
        mass=float(mass),
        center_of_mass=(0.0, 0.0, 0.0),
        diagonal_inertia=inertia,
        principal_axes=(1.0, 0.0, 0.0, 0.0),
        visual=shape,
        hulls=(shape,),
        material=material,
        color=color,
        body_pose=pose or Pose(position=(0.0, 0.0, z / 2)),
    )


def block(size=(0.04, 0.04, 0.04), **kwargs) -> Asset:
    """A wooden block; its frame is under its centre, on the table."""
    return Asset(name="block", category="block", bodies=(box_body("block", size, **kwargs),))


def switch(friction=0.05, damping=0.01) -> Asset:
    """A bolted box with a heavy lever that turns about Y: gravity pulls it, joint friction holds it."""
    base = box_body("base", (0.06, 0.06, 0.04), color=(0.2, 0.2, 0.25, 1.0))
    lever = box_body("lever", (0.01, 0.02, 0.08), mass=0.05, color=(0.9, 0.6, 0.1, 1.0), pose=Pose(position=(0.0, 0.0, 0.09)))
    joints = (
        Joint(name="mount", kind=JointKind.FIXED, parent="", child="base"),
        Joint(
            name="hinge",
            kind=JointKind.REVOLUTE,
            parent="base",
            child="lever",
            axis=(0.0, 1.0, 0.0),
            anchor=(0.0, 0.0, -0.04),
            lower=-0.6,
            upper=0.6,
            damping=damping,
            friction=friction,
        ),
    )
    return Asset(name="switch", category="switch", bodies=(base, lever), joints=joints)


def placed(role, asset, x=0.0, y=0.0, z=0.0, quaternion=(1.0, 0.0, 0.0, 0.0), **kwargs) -> ObjectPlacement:
    return ObjectPlacement(role=role, asset=asset, pose=Pose(position=(x, y, z), quaternion=quaternion), **kwargs)


def scene(*objects, seed=7, **kwargs) -> Scene:
    return Scene(seed=seed, task="test", instruction="do it", objects=objects, **kwargs)
