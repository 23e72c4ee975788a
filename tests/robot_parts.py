"""Robots of our own making, as MJCF text: arms of the common kinds with grippers of the common kinds, from primitive shapes.

An arm is a list of modified Denavit-Hartenberg rows (Craig): alpha [deg], a [m], d [m], and the limits of its joint [rad].
"""

import math

SEVEN = (  # of the class of a seven-joint collaborative arm
    (0, 0.0, 0.333, -2.9, 2.9),
    (-90, 0.0, 0.0, -1.76, 1.76),
    (90, 0.0, 0.316, -2.9, 2.9),
    (90, 0.0825, 0.0, -3.07, -0.07),
    (-90, -0.0825, 0.384, -2.9, 2.9),
    (90, 0.0, 0.0, -0.02, 3.75),
    (90, 0.088, 0.0, -2.9, 2.9),
)
SEVEN_HOME = (0.0, -0.785, 0.0, -2.356, 0.0, 1.571, 0.785)
SIX = (  # of the class of a six-joint industrial arm with three parallel axes
    (0, 0.0, 0.1625, -3.1, 3.1),
    (90, 0.0, 0.0, -3.1, 3.1),
    (0, -0.425, 0.0, -3.1, 3.1),
    (0, -0.3922, 0.1333, -3.1, 3.1),
    (90, 0.0, 0.0997, -3.1, 3.1),
    (-90, 0.0, 0.0996, -3.1, 3.1),
)
SIX_HOME = (0.0, -1.571, 1.571, -1.571, -1.571, 0.0)


def arm(name, rows, position, yaw_deg, tool, radius=0.035):
    """Nested bodies of an arm that ends in `tool`, the text of what its last body carries."""
    x, y, z = position
    text = f'<body name="{name}_base" pos="{x} {y} {z}" euler="0 0 {math.radians(yaw_deg)}">'
    text += '<geom type="cylinder" size="0.06 0.03" pos="0 0 0.03"/>'
    for index, (alpha, a, d, low, high) in enumerate(rows):
        angle = math.radians(alpha)
        place = f"{a} {-math.sin(angle) * d} {math.cos(angle) * d}"
        text += f'<body name="{name}_link{index + 1}" pos="{place}" euler="{angle} 0 0">'
        text += f'<joint name="{name}_joint{index + 1}" axis="0 0 1" range="{low} {high}" armature="0.1" damping="1"/>'
        if index + 1 < len(rows):
            alpha_next, a_next, d_next = rows[index + 1][:3]
            turn = math.radians(alpha_next)
            end = (a_next, -math.sin(turn) * d_next, math.cos(turn) * d_next)
            if math.hypot(*end) > 0.05:
                text += f'<geom type="capsule" size="{radius}" fromto="0 0 0 {end[0]} {end[1]} {end[2]}" mass="1.5"/>'
            else:
                text += f'<geom type="sphere" size="{radius}" mass="0.6"/>'
    return text + tool + "</body>" * (len(rows) + 1)


def servos(name, rows):
    return "".join(f'<position joint="{name}_joint{i + 1}" kp="1500" kv="120" forcerange="-90 90"/>' for i in range(len(rows)))


def slides(name, *, low=0.0, high=0.04, flange=0.1, pad=(0.01, 0.004, 0.02), meet=0.0):
    """A hand with two sliding fingers, whose pads meet where each joint is at `meet` [m]: text, actuators, couplings."""
    x, y, z = pad
    fingers = "".join(
        f'<body name="{name}_finger_{side}" pos="0 0 {flange + 0.06}">'
        f'<joint name="{name}_slide_{side}" type="slide" axis="0 {sign} 0" range="{low} {high}" armature="0.1" damping="10"/>'
        f'<geom type="box" size="{x} {y} {z}" pos="0 {sign * (y - meet)} {z}" mass="0.03" friction="1.2 0.02 0.0001" condim="4"/>'
        "</body>"
        for side, sign in (("a", 1), ("b", -1))
    )
    palm = f'<geom type="box" size="0.03 0.07 0.03" pos="0 0 {flange + 0.03}" mass="0.4"/>'
    actuators = "".join(f'<position joint="{name}_slide_{side}" kp="2000" forcerange="-30 30"/>' for side in "ab")
    return palm + fingers, actuators, ""


CRANK, SPREAD, SHUT = 0.057, 0.55, 0.8
"""Length of a crank [m], its angle when open and how far it turns to close [rad]."""


def linkage(name, *, drive="tendon", coupled=True, flange=0.1):
    """A hand of two parallelogram linkages: text, actuators, couplings. A position of 0 is open, and about 0.8 rad closed.

    `drive` is "tendon" for one actuator on both cranks, "joint" for one on the first alone, "each" for one on each.
    """
    across, along = CRANK * math.sin(SPREAD), CRANK * math.cos(SPREAD)
    text, loops = "", ""
    for side, sign in (("a", 1), ("b", -1)):
        joint = 'armature="0.002" damping="0.02"'
        end = f"0 {sign * across} {along}"
        text += f"""
        <body name="{name}_crank_{side}" pos="0 {sign * 0.03} {flange + 0.05}">
          <joint name="{name}_driver_{side}" axis="{sign} 0 0" range="0 {SHUT + 0.05}" {joint}/>
          <geom type="capsule" size="0.006" fromto="0 0 0 {end}" mass="0.03" contype="0" conaffinity="0"/>
          <body name="{name}_finger_{side}" pos="{end}">
            <joint name="{name}_follower_{side}" axis="{sign} 0 0" {joint}/>
            <geom type="box" size="0.011 0.004 0.0225" pos="0 {-sign * 0.012} 0.0225" mass="0.03" friction="1.2 0.02 0.0001"
              condim="4"/>
          </body>
        </body>
        <body name="{name}_bar_{side}" pos="0 {sign * 0.013} {flange + 0.05}">
          <joint name="{name}_parallel_{side}" axis="{sign} 0 0" {joint}/>
          <geom type="capsule" size="0.004" fromto="0 0 0 {end}" mass="0.02" contype="0" conaffinity="0"/>
        </body>"""
        loops += f'<connect body1="{name}_finger_{side}" body2="{name}_bar_{side}" anchor="0 {-sign * 0.017} 0"/>'
    if coupled:
        loops += f'<joint joint1="{name}_driver_b" joint2="{name}_driver_a" polycoef="0 1 0 0 0"/>'
    actuators = {
        "tendon": f'<position tendon="{name}_split" kp="40" kv="2" forcerange="-4 4" ctrlrange="0 0.85"/>',
        "joint": f'<position joint="{name}_driver_a" kp="40" kv="2" forcerange="-4 4" ctrlrange="0 0.85"/>',
        "each": "".join(f'<position joint="{name}_driver_{s}" kp="40" kv="2" forcerange="-2 2" ctrlrange="0 0.85"/>' for s in "ab"),
        "none": "",
    }[drive]
    palm = f'<geom type="box" size="0.03 0.045 0.025" pos="0 0 {flange + 0.025}" mass="0.5"/>'
    return palm + text, actuators, loops


def robot(arms, cameras='<camera name="front" pos="0.62 0 0.72" xyaxes="0 1 0 -0.72 0 0.65" fovy="50"/>'):
    """MJCF of arms, each (name, rows, position, yaw [deg], home, (text, actuators, couplings) of its hand)."""
    bodies, actuators, couplings, tendons, excludes = "", "", "", "", ""
    home = []
    for name, rows, position, yaw_deg, posture, (tool, motors, loops) in arms:
        bodies += arm(name, rows, position, yaw_deg, tool)
        actuators += servos(name, rows) + motors
        couplings += loops
        for first in range(1, len(rows)):  # links that touch by construction
            for second in range(first + 2, min(first + 4, len(rows) + 1)):
                excludes += f'<exclude body1="{name}_link{first}" body2="{name}_link{second}"/>'
        if f"{name}_split" in motors:
            both = "".join(f'<joint joint="{name}_driver_{side}" coef="0.5"/>' for side in "ab")
            tendons += f'<fixed name="{name}_split">{both}</fixed>'
        home += [*posture, *[0.0] * tool.count("<joint ")]
    return f"""<mujoco model="made"><compiler angle="radian" eulerseq="xyz" autolimits="true"/>
      <default><geom condim="3"/></default>
      <worldbody>{cameras}{bodies}</worldbody>
      <contact>{excludes}</contact><tendon>{tendons}</tendon><equality>{couplings}</equality><actuator>{actuators}</actuator>
      <keyframe><key name="home" qpos="{" ".join(map(str, home))}"/></keyframe></mujoco>"""
