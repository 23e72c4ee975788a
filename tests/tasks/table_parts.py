"""Box-built assets of the tasks that lay, sort, cook and pour, and cheats that graders of carried objects must all see."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scene_parts as parts
import trimesh
from staging import Stage

from embodichain.motion.hand import Hand, Waypoint, moved
from embodichain.motion.skills import follow
from embodichain.scenes.reach import ReachTable
from embodichain.scenes.sample import SceneSampler
from embodichain.types import Asset, Pose, WorldState
from embodichain.types.poses import turn


def block(edge: float) -> Asset:
    return Asset(
        name=f"block_{round(1000 * edge)}",
        category="block",
        bodies=(parts.body("body", parts.box((edge, 0.95 * edge, 0.9 * edge), (0, 0, 0.45 * edge)), mass=600 * edge**3),),
        affordances={"grasp": ("body", Pose(position=(0.0, 0.0, 0.45 * edge), quaternion=parts.DOWN))},
        content_hash=f"block{edge}",
    )


def sampler_of(assets: list[Asset], cache_dir: Path) -> SceneSampler:
    return SceneSampler(parts.ROBOT, assets, ReachTable.load_or_build(parts.ROBOT, parts.COARSE, cache_dir=cache_dir))


def let_go(stage: Stage) -> None:
    """Every hand that is out opens at once."""
    for hand in Hand.all_of(stage.physics.robot, stage.state):
        if not hand.at_home:
            stage.step(hand.step(opening=hand.open).command)


def carried(role: str, height: float) -> Callable[[WorldState], bool]:
    """The object is off the table, at some height."""
    return lambda state: state.object_poses[role].position[2] > height and not state.touching(f"{role}/", "table")


def drop(stage: Stage, task, role: str, height: float) -> None:
    """The expert lifts the object, the hand opens in the air."""
    stage.expert(task, until=carried(role, height))
    let_go(stage)
    stage.hold(1.0)


def throw(stage: Stage, task, role: str, height: float) -> None:
    """The expert lifts the object, the hand opens, and the object flies off."""
    stage.expert(task, until=carried(role, height))
    let_go(stage)
    stage.hold(0.04)
    stage.qvel(role)[:3] = (0.3, 0.2, 1.0)
    stage.hold(1.0)


def shove(stage: Stage, role: str, half: float, distance: float = 0.06) -> None:
    """A closed hand pushes the object over the table."""
    x, y, _ = stage.state.object_poses[role].position
    heading = np.array((-x, -y)) / max(math.hypot(x, y), 1e-6)
    down = Pose(quaternion=(0.0, 0.0, 1.0, 0.0))
    behind = Pose(position=(x - half * heading[0], y - half * heading[1], 0.02), quaternion=down.quaternion)
    hand = min(Hand.all_of(stage.physics.robot, stage.state), key=lambda hand: hand.travel(behind))
    raised = moved(behind, (0.0, 0.0, 0.08))
    ahead = moved(behind, (distance * heading[0], distance * heading[1], 0.0))
    path = hand.route([Waypoint(pose=raised, straight=False), Waypoint(pose=behind), Waypoint(pose=ahead)])
    play(stage, follow(hand, stage.state, path, opening=0.0))
    play(stage, follow(hand, stage.state, hand.route([Waypoint(pose=moved(ahead, (0.0, 0.0, 0.08)))])))


def play(stage: Stage, motion) -> None:
    """A cheat's own motion."""
    try:
        step = next(motion)
        while True:
            step = motion.send(stage.step(step.command))
    except StopIteration:
        pass


def put(stage: Stage, role: str, x: float, y: float, yaw: float = 0.0, z: float = 0.0) -> None:
    """The object is suddenly elsewhere, upright."""
    stage.qpos(role)[:3] = (x, y, z)
    stage.qpos(role)[3:] = turn((0.0, 0.0, 1.0), yaw)
    stage.qvel(role)[:] = 0.0


def cylinder(radius: float, height: float, z: float) -> trimesh.Trimesh:
    """A cylinder that stands on the height `z`."""
    return trimesh.creation.cylinder(
        radius=radius, height=height, sections=32, transform=trimesh.transformations.translation_matrix((0, 0, z + height / 2))
    )


def plate(radius: float = 0.08) -> Asset:
    return Asset(
        name=f"plate_{round(1000 * radius)}",
        category="plate",
        bodies=(parts.body("body", cylinder(radius, 0.018, 0.0), mass=0.25),),
        affordances={"center": ("body", Pose(position=(0.0, 0.0, 0.018), quaternion=parts.DOWN))},
        content_hash=f"plate{radius}",
    )


def cutlery(category: str, length: float = 0.17) -> Asset:
    """A bar with a broad end towards +X."""
    handle = parts.box((length, 0.013, 0.014), (0, 0, 0.007))
    head = parts.box((0.03, 0.026, 0.004), (length / 2 - 0.015, 0, 0.002))
    return Asset(
        name=f"{category}_{round(1000 * length)}",
        category=category,
        bodies=(parts.body("body", handle, head, mass=0.04),),
        affordances={"grasp": ("body", Pose(position=(-0.03, 0.0, 0.011), quaternion=parts.DOWN))},
        content_hash=f"{category}{length}",
    )


def pan(inner: float = 0.062, height: float = 0.05) -> Asset:
    wall, sides = 0.004, 16
    width = 2 * (inner + wall) * math.tan(math.pi / sides)
    pieces = [cylinder(inner + wall, 0.003, 0.0)]
    for k in range(sides):
        piece = parts.box((wall, width, height), (inner + wall / 2, 0.0, height / 2))
        piece.apply_transform(trimesh.transformations.rotation_matrix(2 * math.pi * k / sides, (0, 0, 1)))
        pieces.append(piece)
    return Asset(
        name="pan_62",
        category="pan",
        bodies=(parts.body("body", *pieces, mass=0.3),),
        affordances={
            "center": ("body", Pose(position=(0.0, 0.0, 0.003), quaternion=parts.DOWN)),
            "lid_seat": ("body", Pose(position=(0.0, 0.0, height), quaternion=parts.DOWN)),
        },
        content_hash=f"pan{inner}",
    )


def lid(ring: float = 0.056) -> Asset:
    pieces = (cylinder(ring, 0.006, 0.0), cylinder(0.074, 0.003, 0.006), cylinder(0.014, 0.026, 0.009))
    return Asset(
        name="lid_56",
        category="lid",
        bodies=(parts.body("body", *pieces, mass=0.15),),
        affordances={
            "grasp": ("body", Pose(position=(0.0, 0.0, 0.026), quaternion=parts.DOWN)),
            "fit": ("body", Pose(position=(0.0, 0.0, 0.006), quaternion=parts.DOWN)),
        },
        content_hash=f"lid{ring}",
    )
