"""A task: touch the peg from above, and leave it where it stands."""

import numpy as np

from embodichain.errors import MotionError
from embodichain.motion import skills
from embodichain.motion.frames import affordance
from embodichain.motion.hand import Hand, Waypoint, moved
from embodichain.protocols import Expert
from embodichain.types import ObjectRequest, Robot, Scene, SceneRequest, Verdict, WorldState

_ABOVE = 0.05
_SPEED = 0.03
"""How fast the tip comes down [m/s]: whoever touches does not push."""


class TouchPeg:
    """One peg within reach of an arm."""

    name = "touch_peg"
    category = "peg"

    def request(self, rng: np.random.Generator) -> SceneRequest:
        """A peg somewhere, asked for in words."""
        peg = ObjectRequest(role="peg", category=self.category, reach=("top",), standoff=_ABOVE)
        return SceneRequest(instruction="Touch the peg.", objects=(peg,))

    def expert(self, scene: Scene, robot: Robot, state: WorldState, rng: np.random.Generator) -> Expert:
        """Closes the gripper, comes down on the peg and goes home."""
        peg = scene.object("peg")
        top = affordance(peg.asset, "top", peg.pose)
        hand, way = _way(Hand.all_of(robot, state), [moved(top, (0.0, 0.0, _ABOVE)), moved(top, (0.0, 0.0, -0.002))])
        state = yield from skills.set_opening(hand, state, 0.0)
        for joints in np.repeat(way, 3, axis=0):  # slowly: what is struck is pressed into the table
            if state.touching("robot/", "peg/"):
                break
            state = yield hand.step(joints)
        state = yield from skills.lift(hand, state, _ABOVE)
        yield from skills.go_home(hand, state)

    def grader(self, scene: Scene) -> "TouchGrader":
        """A fresh grader."""
        return TouchGrader()


class JustAPeg(TouchPeg):
    """The same with a family that no distribution has given a name."""

    name = "just_a_peg"
    category = "workshop.peg:peg"


class TouchGrader:
    """Success: a hand has touched the peg, and it still stands on the table."""

    def __init__(self) -> None:
        self.touched, self.stands = False, False

    def observe(self, state: WorldState) -> None:
        """Notes a touch."""
        self.touched |= state.touching("robot/", "peg/")
        self.stands = state.touching("peg/", "table")

    def pardon(self) -> None:
        """A touch before a failure does not count."""
        self.touched = False

    def verdict(self) -> Verdict:
        """Whether both hold."""
        good = self.touched and self.stands
        return Verdict(success=good, reason="touched" if good else "the peg was not touched, or it fell", progress=float(good))


def _way(hands: tuple[Hand, ...], poses: list) -> tuple[Hand, np.ndarray]:
    for hand in hands:
        try:
            return hand, hand.route(
                [Waypoint(pose=poses[0], straight=False), *(Waypoint(pose=pose, speed=_SPEED) for pose in poses[1:])]
            )
        except MotionError:
            continue
    raise MotionError("no arm reaches the peg from above")
