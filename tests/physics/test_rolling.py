"""Laws of rolling friction: what rolls on steel comes to rest as its lever arm says, everything else rolls on as before."""

import math
from dataclasses import replace

import numpy as np
import pytest
import trimesh
from physics_parts import WOOD, block, box_body, gantry, placed, scene

from embodichain.physics.build import ROLLING_ARMS
from embodichain.physics.mujoco import MujocoPhysics
from embodichain.types import Asset, Mesh, Pose

RADIUS, LENGTH, MASS, SPEED, GRAVITY = 0.02, 0.06, 0.3, 0.10, 9.81


def roller(material: str) -> Asset:
    """A cylinder that lies on the table, its axis along Y."""
    mesh = trimesh.creation.cylinder(radius=RADIUS, height=LENGTH, sections=256)
    mesh.apply_transform(trimesh.transformations.rotation_matrix(math.pi / 2, (1.0, 0.0, 0.0)))
    shape = Mesh(vertices=np.array(mesh.vertices), faces=np.array(mesh.faces, np.int32))
    across, along = MASS * (3 * RADIUS**2 + LENGTH**2) / 12, MASS * RADIUS**2 / 2
    body = box_body(
        "body", (0.04, 0.06, 0.04), mass=MASS, material=replace(WOOD, name=material), pose=Pose(position=(0.0, 0.0, RADIUS))
    )
    body = replace(body, diagonal_inertia=(across, along, across), visual=shape, hulls=(shape,))
    return Asset(name="roller", category="roller", bodies=(body,))


def rolled(physics: MujocoPhysics, material: str, seconds: float) -> tuple[float, float]:
    """How far a roller that starts at `SPEED` gets [m], and how fast it is then [m/s]."""
    physics.reset(scene(placed("roller", roller(material), -0.05)))
    for _ in range(10):
        physics.step(physics.robot.home)
    start = physics.world.data.qpos[physics.world.objects[0].free_qpos[0]]
    first = physics.world.objects[0].free_qvel[0]
    physics.world.data.qvel[first : first + 6] = (SPEED, 0.0, 0.0, 0.0, SPEED / RADIUS, 0.0)
    for _ in range(round(50 * seconds)):
        state = physics.step(physics.robot.home)
    return state.object_poses["roller"].position[0] - start, float(np.linalg.norm(state.object_velocities["roller"][:3]))


def test_a_steel_roller_comes_to_rest_where_its_lever_arm_says_and_a_wooden_one_rolls_on() -> None:
    physics = MujocoPhysics(gantry(), width=16, height=16)
    # m a r = f m g - I a / r with I = m r^2 / 2: a = f g / (1.5 r).
    deceleration = ROLLING_ARMS["steel"] * GRAVITY / (1.5 * RADIUS)
    way, speed = rolled(physics, "steel", 1.5)
    assert speed < 0.005
    assert way == pytest.approx(SPEED**2 / (2 * deceleration), rel=0.25)
    assert rolled(physics, "wood", 0.6)[1] > 0.7 * SPEED


def test_a_shape_of_steel_and_one_of_wood_never_share_a_compiled_model() -> None:
    physics = MujocoPhysics(gantry(), width=16, height=16)
    wood, steel = rolled(physics, "wood", 0.6), rolled(physics, "steel", 0.6)
    assert rolled(physics, "wood", 0.6) == wood and rolled(MujocoPhysics(gantry(), width=16, height=16), "steel", 0.6) == steel
    assert wood != steel


def test_blocks_stand_on_steel_as_on_wood() -> None:
    physics = MujocoPhysics(gantry(), width=16, height=16)
    slab = block((0.08, 0.08, 0.02), material=replace(WOOD, name="steel"), density=7850.0)
    physics.reset(scene(placed("slab", slab), placed("block", block(), 0.0, 0.0, 0.02)))
    for _ in range(50):
        state = physics.step(physics.robot.home)
    assert abs(state.object_poses["block"].position[2] - 0.04) < 5e-4
