"""How much of a task's placements a robot reaches, by random draws of them: known before any scene is laid out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np

from embodichain.motion.frames import affordance
from embodichain.protocols import Task
from embodichain.types import Asset, ObjectRequest, Pose, Robot
from embodichain.types.poses import compose, yaw_pose

Reaching = Callable[[Pose], Collection[str]]
"""Names of the arms that reach a pose of the tip."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleReach:
    """The reach over one role of a task: the share of drawn placements that each arm reaches, and that some allowed arm reaches."""

    role: str
    affordances: tuple[str, ...]
    draws: int
    arms: dict[str, float]
    any_arm: float


def coverage(task: Task, robot: Robot, assets: Sequence[Asset], reaching: Reaching, *, draws: int = 40) -> tuple[RoleReach, ...]:
    """Draws placements from the task's ranges, as the sampler does before it moves objects apart, and asks which arms reach them.

    Objects that stand on others are left out: they are reached where those are. So are categories without an asset.
    """
    rng = np.random.default_rng(0)
    everything = {arm.name for arm in robot.arms}
    counts: dict[str, dict[str, int]] = {}
    affordances: dict[str, tuple[str, ...]] = {}
    for _ in range(draws):
        for wanted in task.request(rng).objects:
            fitting = [asset for asset in assets if asset.category == wanted.category]
            if wanted.onto is not None or not wanted.reach or not fitting:
                continue
            asset = fitting[int(rng.integers(len(fitting)))]
            arms = _reached(wanted, asset, rng, reaching, everything)
            tally = counts.setdefault(wanted.role, dict.fromkeys((*sorted(everything), "", "drawn"), 0))
            affordances[wanted.role] = wanted.reach
            tally["drawn"] += 1
            for arm in arms:
                tally[arm] += 1
            tally[""] += bool(arms & (set(wanted.arms) or everything))
    return tuple(
        RoleReach(
            role=role,
            affordances=affordances[role],
            draws=tally["drawn"],
            arms={arm: tally[arm] / tally["drawn"] for arm in sorted(everything)},
            any_arm=tally[""] / tally["drawn"],
        )
        for role, tally in counts.items()
    )


def _reached(wanted: ObjectRequest, asset: Asset, rng: np.random.Generator, reaching: Reaching, everything: set[str]) -> set[str]:
    """The arms that reach every affordance of a random placement."""
    x, y, yaw = (float(rng.uniform(*limits)) for limits in (wanted.x, wanted.y, wanted.yaw))
    arms = set(everything)
    for name in wanted.reach:
        frame = affordance(asset, name, yaw_pose(x, y, 0.0, yaw), wanted.joint_positions)
        arms &= set(reaching(compose(frame, Pose(position=(0.0, 0.0, -wanted.standoff)))))
    return arms


def beyond_reach(found: Sequence[RoleReach], robot: Robot) -> tuple[str, ...]:
    """What the robot reaches in no drawn placement, each with the remedy."""
    x, y, z = robot.world_from_base.position
    return tuple(
        f"no arm of robot {robot.name!r} that may take it reaches {' and '.join(one.affordances)} of {one.role!r} in any of "
        f"{one.draws} placements: its base stands at ({x:.2f}, {y:.2f}, {z:.2f}) m; put the arms nearer to the table's centre"
        for one in found
        if one.any_arm == 0.0 and one.draws >= 8
    )
