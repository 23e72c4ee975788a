"""A physics: MuJoCo's, seen without shadows."""

from embodichain.physics.mujoco import MujocoPhysics
from embodichain.types import Robot


class StillPhysics(MujocoPhysics):
    """The reference physics in a room without a lamp that throws shadows."""

    def __init__(self, robot: Robot, *, width: int, height: int) -> None:
        super().__init__(robot, width=width, height=height, shadows=False)
