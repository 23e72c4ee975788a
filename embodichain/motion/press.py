"""Press: pushes straight down on something with closed fingers."""

from __future__ import annotations

from embodichain.motion.hand import Hand, Waypoint, moved
from embodichain.motion.skills import Skill, follow
from embodichain.types import Pose, WorldState

_ABOVE, _SPEED = 0.03, 0.05
_FINGER_BELOW = 0.010
"""How far closed fingers reach beyond the tip [m]."""


def press(hand: Hand, state: WorldState, top: Pose, depth: float) -> Skill:
    """Comes down on the point `top` (Z into it), goes `depth` [m] further, and draws back the same way.

    Raises MotionError when the hand has no way there.
    """
    onto = moved(top, (0.0, 0.0, _FINGER_BELOW - depth))
    above = moved(onto, (0.0, 0.0, _ABOVE + depth))
    approach, down = hand.legs([Waypoint(pose=above, straight=False), Waypoint(pose=onto, speed=_SPEED)])
    state = yield from follow(hand, state, approach, opening=0.0)
    state = yield from follow(hand, state, down)
    return (yield from follow(hand, state, hand.retrace(down)))
