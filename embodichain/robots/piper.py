"""The built-in dual-arm platform: two 6-DoF arms of the Agilex Piper class on a table, built from primitive geometry.

Kinematics are the published modified Denavit-Hartenberg parameters of the Piper (Agilex user manual, in the convention of Craig,
Introduction to Robotics, 3rd ed., section 3.4). Masses, gains and force limits are typical of that class; the shapes are our own.
"""

from __future__ import annotations

import math

import numpy as np

from embodichain.types import Arm, Camera, Robot, Vec3

# Per joint: alpha_{i-1} [deg], a_{i-1} [m], d_i [m], theta offset [deg], lower [rad], upper [rad].
_DH = (
    (0.0, 0.0, 0.123, 0.0, -2.618, 2.618),
    (-90.0, 0.0, 0.0, -172.22, 0.0, 3.14),
    (0.0, 0.28503, 0.0, -102.78, -2.967, 0.0),
    (90.0, -0.02198, 0.25075, 0.0, -1.745, 1.745),
    (-90.0, 0.0, 0.0, 0.0, -1.22, 1.22),
    (90.0, 0.0, 0.091, 0.0, -2.0944, 2.0944),
)
# Per joint: stiffness [N m/rad], servo damping [N m s/rad], torque limit [N m], armature [kg m^2], joint damping [N m s/rad].
_DRIVE = (
    (1600.0, 60.0, 60.0, 0.08, 2.0),
    (1600.0, 60.0, 60.0, 0.08, 2.0),
    (1200.0, 36.0, 60.0, 0.05, 1.5),
    (300.0, 6.0, 15.0, 0.012, 0.4),
    (300.0, 6.0, 15.0, 0.012, 0.4),
    (150.0, 2.5, 15.0, 0.006, 0.2),
)
FINGER_REACH = 0.136
"""Distance [m] from the flange (frame 6) to the point between the pads."""
GRIPPER_OPEN = 0.07
"""Widest opening between the pads [m]."""
GRIPPER_SQUEEZE = 0.01
"""How far below zero the commanded opening may go [m]: a wall of 3 mm is then held with 26 N instead of 6."""
# The wrist bends only 1.22 rad, so a gripper that points straight down needs a sloping forearm, and that needs a raised base.
_PEDESTAL = 0.22
_BASE_X = -0.20
_BASE_Y = 0.30
# Grippers point straight down beside the working area, fingers along X, outside the head camera's view of that area.
_HOME = {"left": (0.448, 1.704, -0.887, 0.0, 0.841, 0.448), "right": (-0.448, 1.704, -0.887, 0.0, 0.841, -0.448)}

# The camera sees the table from its near edge to its far edge, and 0.6 m of its width where the working area begins.
_HEAD_FOVY = 44.0

_LIGHT, _GREY, _DARK, _RUBBER, _ACCENT = (
    "0.86 0.87 0.89 1",
    "0.5 0.51 0.54 1",
    "0.18 0.19 0.22 1",
    "0.1 0.1 0.11 1",
    "0.16 0.42 0.72 1",
)

# Geoms by body, in DH frames. "shell" collides, "trim" is only visible.
_GEOMS = {
    "base": f"""
      <geom class="shell" type="cylinder" size="0.045" fromto="0 0 0 0 0 {_PEDESTAL}" rgba="{_DARK}" mass="2"/>
      <geom class="trim" type="cylinder" size="0.07" fromto="0 0 0 0 0 0.012" rgba="{_DARK}"/>
      <geom class="shell" type="cylinder" size="0.05" fromto="0 0 {_PEDESTAL} 0 0 {_PEDESTAL + 0.06}" rgba="{_LIGHT}" mass="1"/>""",
    "link1": f"""
      <geom class="shell" type="cylinder" size="0.042" fromto="0 0 -0.062 0 0 -0.01" rgba="{_ACCENT}" mass="0.4"/>
      <geom class="shell" type="capsule" size="0.042" fromto="0 -0.022 0 0 0.022 0" rgba="{_LIGHT}" mass="0.31"/>""",
    "link2": f"""
      <geom class="shell" type="capsule" size="0.032" fromto="0 0 0 0.28503 0 0" rgba="{_LIGHT}" mass="1.17"/>
      <geom class="trim" type="cylinder" size="0.036" fromto="0.28503 0 -0.036 0.28503 0 0.036" rgba="{_ACCENT}"/>
      <geom class="trim" type="cylinder" size="0.0335" fromto="0.10 0 0 0.18 0 0" rgba="{_DARK}"/>""",
    "link3": f"""
      <geom class="shell" type="capsule" size="0.028" fromto="0 0 0 -0.02198 -0.17 0" rgba="{_LIGHT}" mass="0.5"/>""",
    "link4": f"""
      <geom class="shell" type="capsule" size="0.026" fromto="0 0 -0.065 0 0 -0.012" rgba="{_DARK}" mass="0.38"/>
      <geom class="trim" type="cylinder" size="0.027" fromto="0 -0.032 0 0 0.032 0" rgba="{_ACCENT}"/>""",
    "link5": f"""
      <geom class="shell" type="capsule" size="0.025" fromto="0 0 0 0 -0.055 0" rgba="{_LIGHT}" mass="0.383"/>""",
    "link6": f"""
      <geom class="trim" type="cylinder" size="0.029" fromto="0 0 -0.012 0 0 0.03" rgba="{_DARK}"/>
      <geom class="shell" type="box" size="0.022 0.05 0.026" pos="0 0 0.052" rgba="{_LIGHT}" mass="0.4"/>
      <geom class="trim" type="box" size="0.0225 0.035 0.004" pos="0 0 0.076" rgba="{_ACCENT}"/>""",
}


def _numbers(*values: float) -> str:
    return " ".join(f"{value:.16g}" for value in values)


def look_at(eye: Vec3, target: Vec3) -> str:
    """The `pos` and `xyaxes` attributes of an upright MJCF camera at `eye` [m] that looks at `target` [m]."""
    forward = np.subtract(target, eye) / np.linalg.norm(np.subtract(target, eye))
    right = np.cross(forward, (0.0, 0.0, 1.0))
    right /= np.linalg.norm(right)
    return f'pos="{_numbers(*eye)}" xyaxes="{_numbers(*right, *np.cross(right, forward))}"'


def _finger(arm: str, side: str, sign: int) -> str:
    return f"""
    <body name="{arm}/finger_{side}" pos="0 0 {FINGER_REACH}" gravcomp="1">
      <joint name="{arm}/finger_{side}" class="finger" axis="0 {sign} 0"/>
      <geom name="{arm}/pad_{side}" class="pad" type="box" size="0.011 0.004 0.014" pos="0 {sign * 0.004} -0.004"/>
      <geom class="shell" type="box" size="0.010 0.004 0.031" pos="0 {sign * 0.012} -0.024" rgba="{_GREY}" mass="0.02"/>
    </body>"""


def _arm(arm: str, y: float) -> str:
    """The nested bodies of one arm, its base standing on the table at (_BASE_X, y)."""
    text = f'<body name="{arm}/base" pos="{_numbers(_BASE_X, y, 0.0)}">{_GEOMS["base"]}'
    for index, (alpha, a, d, offset, lower, upper) in enumerate(_DH):
        half_alpha, half_theta = math.radians(alpha) / 2, math.radians(offset) / 2
        lift = _PEDESTAL if index == 0 else 0.0
        position = _numbers(a, -math.sin(2 * half_alpha) * d, math.cos(2 * half_alpha) * d + lift)
        ca, sa, ct, st = math.cos(half_alpha), math.sin(half_alpha), math.cos(half_theta), math.sin(half_theta)
        armature, damping = _DRIVE[index][3:]
        text += f"""
    <body name="{arm}/link{index + 1}" pos="{position}" quat="{_numbers(ca * ct, sa * ct, -sa * st, ca * st)}" gravcomp="1">
      <joint name="{arm}/joint{index + 1}" axis="0 0 1" range="{lower} {upper}" armature="{armature}" damping="{damping}"/>"""
        text += _GEOMS[f"link{index + 1}"]
    text += f"""
      <site name="{arm}/tip" pos="0 0 {FINGER_REACH}" size="0.004" group="4"/>
      <geom class="trim" type="box" size="0.028 0.012 0.005" pos="-0.045 0 0.052" rgba="{_DARK}"/>
      <geom class="trim" type="box" size="0.009 0.022 0.012" pos="-0.075 0 0.058" quat="0.966 0 0.259 0" rgba="{_DARK}"/>
      <camera name="{arm}_wrist" pos="-0.068 0 0.072" xyaxes="0 1 0 0.86 0 -0.51" fovy="75"/>"""
    return text + _finger(arm, "l", 1) + _finger(arm, "r", -1) + "</body>" * (len(_DH) + 1)


def _actuators(arm: str) -> str:
    text = "".join(
        f'<position name="{arm}/joint{i + 1}" joint="{arm}/joint{i + 1}" kp="{kp}" kv="{kv}" forcerange="{-limit} {limit}"'
        f' ctrlrange="{lower} {upper}"/>\n'
        for i, ((kp, kv, limit, _, _), (_, _, _, _, lower, upper)) in enumerate(zip(_DRIVE, _DH, strict=True))
    )
    return text + (
        f'<position name="{arm}/gripper" tendon="{arm}/gripper" kp="2000" kv="60" forcerange="-30 30"'
        f' ctrlrange="{-GRIPPER_SQUEEZE} {GRIPPER_OPEN}"/>\n'
    )


def _mjcf() -> str:
    arms = ("left", "right")
    legs = "".join(
        f'<geom class="trim" type="box" size="0.025 0.025 0.33" pos="{x} {y} -0.37" rgba="{_DARK}"/>'
        for x in (-0.31, 0.31)
        for y in (-0.56, 0.56)
    )
    return f"""<mujoco model="dual_piper">
  <compiler angle="radian" autolimits="true"/>
  <option timestep="0.002" integrator="implicitfast" cone="elliptic" impratio="10"/>
  <default>
    <default class="shell"><geom condim="3" friction="0.6 0.005 0.0001" solref="0.008 1"/></default>
    <default class="trim"><geom contype="0" conaffinity="0" mass="0" group="1"/></default>
    <default class="pad">
      <geom condim="4" friction="1.2 0.02 0.0001" solref="0.005 1" solimp="0.95 0.99 0.001" priority="1" mass="0.01"
            rgba="{_RUBBER}"/>
    </default>
    <default class="finger"><joint type="slide" range="0 {GRIPPER_OPEN / 2}" armature="0.1" damping="10"/></default>
  </default>
  <worldbody>
    <geom name="floor" type="plane" size="3 3 0.1" pos="0 0 -0.7" rgba="0.36 0.38 0.41 1"/>
    <body name="table">
      <geom name="table" type="box" size="0.35 0.6 0.02" pos="0 0 -0.02" rgba="0.62 0.55 0.47 1" friction="0.7 0.005 0.0001"/>
      {legs}
    </body>
    <camera name="head" {look_at((-0.45, 0.0, 0.75), (-0.02, 0.0, 0.0))} fovy="{_HEAD_FOVY}"/>
    {_arm("left", _BASE_Y)}
    {_arm("right", -_BASE_Y)}
  </worldbody>
  <contact>
    {"".join(f'<exclude body1="{arm}/base" body2="{arm}/{link}"/>' for arm in arms for link in ("link1", "link2"))}
    {"".join(f'<exclude body1="{arm}/{a}" body2="{arm}/{b}"/>' for arm in arms for a, b in _NEIGHBOURS)}
  </contact>
  <tendon>
    {"".join(_tendon(arm) for arm in arms)}
  </tendon>
  <equality>
    {"".join(f'<joint joint1="{a}/finger_l" joint2="{a}/finger_r" polycoef="0 1 0 0 0" solref="0.005 1"/>' for a in arms)}
  </equality>
  <actuator>
{_actuators("left")}{_actuators("right")}  </actuator>
</mujoco>
"""


# Pairs that touch by construction but are not parent and child.
_NEIGHBOURS = (("link3", "link5"), ("link4", "link6"))


def _tendon(arm: str) -> str:
    joints = "".join(f'<joint joint="{arm}/finger_{side}" coef="1"/>' for side in "lr")
    return f'<fixed name="{arm}/gripper">{joints}</fixed>'


def dual_piper() -> Robot:
    """Two Piper-class arms on pedestals 0.22 m high at x = -0.20, y = ±0.30 m facing +X; a table, a head and two wrist cameras."""
    return Robot(
        name="dual_piper",
        mjcf=_mjcf(),
        arms=tuple(
            Arm(
                name=arm,
                joints=tuple(f"{arm}/joint{i + 1}" for i in range(len(_DH))),
                site=f"{arm}/tip",
                home=_HOME[arm],
                gripper_joints=(f"{arm}/finger_l", f"{arm}/finger_r"),
                gripper_open=GRIPPER_OPEN,
                gripper_squeeze=GRIPPER_SQUEEZE,
            )
            for arm in ("left", "right")
        ),
        cameras=(Camera(name="head", fovy=_HEAD_FOVY), Camera(name="left_wrist", fovy=75.0), Camera(name="right_wrist", fovy=75.0)),
    )
