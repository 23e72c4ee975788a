"""Presses straight down on something with closed fingers."""

from __future__ import annotations

from embodichain.motion.hand import Hand, Waypoint, moved
from embodichain.motion.skills import Skill, follow
from embodichain.types import Pose, WorldState

_ABOVE, _SPEED = 0.03, 0.05


def press(hand: Hand, state: WorldState, top: Pose, depth: float) -> Skill:
    """Moves down onto the point `top` (its Z axis points into the surface), `depth` [m] further, and back the same way.

    Raises MotionError when the hand cannot get there.
    """
    onto = moved(top, (0.0, 0.0, hand.fingers.below - depth))
    above = moved(onto, (0.0, 0.0, _ABOVE + depth))
    approach, down = hand.legs([Waypoint(pose=above, straight=False), Waypoint(pose=onto, speed=_SPEED)])
    state = yield from follow(hand, state, approach, opening=0.0)
    state = yield from follow(hand, state, down)
    return (yield from follow(hand, state, hand.retrace(down)))
