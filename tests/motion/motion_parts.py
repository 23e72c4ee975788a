"""A block on the table and what drives skills through real physics, shared by the tests of motions."""

import numpy as np

from embodichain.motion.hand import Hand
from embodichain.physics.mujoco import MujocoPhysics
from embodichain.robots import dual_piper
from embodichain.types import Asset, Body, Material, Mesh, ObjectPlacement, Pose, Scene, WorldState

ROBOT = dual_piper()
DOWN = (0.0, 0.0, 1.0, 0.0)
EDGE = 0.04


def block() -> Asset:
    half = EDGE / 2
    corners = np.array([[x, y, z] for x in (-half, half) for y in (-half, half) for z in (0.0, EDGE)])
    faces = [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4]]
    shape = Mesh(vertices=corners, faces=np.array([*faces, [1, 5, 7], [1, 7, 3]], np.int32))
    wood = Material(name="wood", density=700.0, static_friction=0.6, dynamic_friction=0.5, restitution=0.3)
    body = Body(
        name="body",
        mass=0.05,
        center_of_mass=(0.0, 0.0, half),
        diagonal_inertia=(1.3e-5, 1.3e-5, 1.3e-5),
        principal_axes=(1.0, 0.0, 0.0, 0.0),
        visual=shape,
        hulls=(shape,),
        material=wood,
    )
    return Asset(name="block", category="block", bodies=(body,))


SCENE = Scene(
    seed=0,
    task="none",
    instruction="",
    objects=(ObjectPlacement(role="block", asset=block(), pose=Pose(position=(0.05, 0.1, 0.0))),),
)


class Drive:
    """Real physics under skills; every command is kept."""

    def __init__(self, physics: MujocoPhysics) -> None:
        self.physics = physics
        self.state = physics.reset(SCENE)
        self.hands = Hand.all_of(ROBOT, self.state)
        self.left, self.right = self.hands
        self.commands = [self.state.measured.copy()]

    def __call__(self, skill) -> WorldState:
        try:
            step = next(skill)
            while True:
                self.commands.append(step.command)
                self.state = self.physics.step(step.command)
                step = skill.send(self.state)
        except StopIteration as stop:
            return stop.value if isinstance(stop.value, WorldState) else self.state


def above(height: float, x: float = 0.05, y: float = 0.1) -> Pose:
    return Pose(position=(x, y, height), quaternion=DOWN)
