"""Meta-World's fifty tasks, with instructions in words, each with the scripted expert of Meta-World."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from embodichain.physics.foreign.state import EnvironmentState
from embodichain.tasks.foreign.task import ForeignTask

_LIMIT = 500
"""Control steps of an episode of Meta-World."""
_WORDS = {
    "assembly-v3": "Pick up the wrench nut and put it onto the peg.",
    "basketball-v3": "Drop the ball into the basket.",
    "bin-picking-v3": "Move the puck from one bin into the other.",
    "box-close-v3": "Put the lid onto the box.",
    "button-press-topdown-v3": "Press the button down from above.",
    "button-press-topdown-wall-v3": "Reach over the wall and press the button down.",
    "button-press-v3": "Press the button.",
    "button-press-wall-v3": "Reach around the wall and press the button.",
    "coffee-button-v3": "Press the button of the coffee machine.",
    "coffee-pull-v3": "Pull the mug away from the coffee machine.",
    "coffee-push-v3": "Push the mug under the coffee machine.",
    "dial-turn-v3": "Turn the dial.",
    "disassemble-v3": "Take the wrench nut off the peg.",
    "door-close-v3": "Close the door.",
    "door-lock-v3": "Lock the door.",
    "door-open-v3": "Open the door.",
    "door-unlock-v3": "Unlock the door.",
    "drawer-close-v3": "Close the drawer.",
    "drawer-open-v3": "Open the drawer.",
    "faucet-close-v3": "Turn the faucet off.",
    "faucet-open-v3": "Turn the faucet on.",
    "hammer-v3": "Hammer the screw into the wall.",
    "hand-insert-v3": "Put the gripper into the hole.",
    "handle-press-side-v3": "Press the handle down from the side.",
    "handle-press-v3": "Press the handle down.",
    "handle-pull-side-v3": "Pull the handle up from the side.",
    "handle-pull-v3": "Pull the handle up.",
    "lever-pull-v3": "Pull the lever up.",
    "peg-insert-side-v3": "Put the peg into the hole from the side.",
    "peg-unplug-side-v3": "Pull the peg out to the side.",
    "pick-out-of-hole-v3": "Take the puck out of the hole.",
    "pick-place-v3": "Pick up the puck and bring it to the goal.",
    "pick-place-wall-v3": "Pick up the puck and bring it over the wall to the goal.",
    "plate-slide-back-side-v3": "Slide the plate out of the goal, to the side.",
    "plate-slide-back-v3": "Slide the plate back out of the goal.",
    "plate-slide-side-v3": "Slide the plate into the goal, to the side.",
    "plate-slide-v3": "Slide the plate into the goal.",
    "push-back-v3": "Pull the block back to the goal.",
    "push-v3": "Push the puck to the goal.",
    "push-wall-v3": "Push the puck around the wall to the goal.",
    "reach-v3": "Reach the goal.",
    "reach-wall-v3": "Reach the goal behind the wall.",
    "shelf-place-v3": "Put the block onto the shelf.",
    "soccer-v3": "Push the ball into the goal.",
    "stick-pull-v3": "Pull the box with the stick.",
    "stick-push-v3": "Push the box with the stick.",
    "sweep-into-v3": "Sweep the puck into the hole.",
    "sweep-v3": "Sweep the block off the table.",
    "window-close-v3": "Close the window.",
    "window-open-v3": "Open the window.",
}


def tasks() -> dict[str, Callable[[], ForeignTask]]:
    """Every task by its name in Meta-World."""
    return {
        name: partial(ForeignTask, f"metaworld:{name}", instruction=words, limit=_LIMIT, begin=_theirs)
        for name, words in _WORDS.items()
    }


def _theirs() -> Callable[[EnvironmentState], NDArray[np.float64]]:
    """The benchmark's own expert, which depends on the state alone."""
    return lambda state: state.expert
