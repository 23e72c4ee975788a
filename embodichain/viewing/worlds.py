"""The exhibits of robots, scenes and episodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from embodichain.episode import Episode, Snapshots
from embodichain.motion.action import ActionCodec
from embodichain.physics import pieces
from embodichain.physics.mujoco import MujocoPhysics
from embodichain.rollout import ExpertPilot, drive
from embodichain.stages import SceneStage
from embodichain.types import Failed, Pose, Robot, Scene, Segment, WorldState
from embodichain.viewing.exhibit import Exhibit, Layer, ShownMesh, Slider, Timeline
from embodichain.world import World

_COLLIDER = (0.90, 0.45, 0.30, 1.0)
_AROUND = ("world", "table")
_UNSEEN = 16
"""Size of pictures that are not used [pixels]."""
_STRONGEST = 6
"""Number of contacts listed for a moment, those with the largest forces."""


def of_robot(robot: Robot) -> Exhibit:
    """A robot at its table, with sliders for joints and grippers."""
    physics = MujocoPhysics(robot, width=_UNSEEN, height=_UNSEEN)
    home = physics.reset(Scene(seed=0, task="", instruction="", objects=()))
    names = [name for arm in robot.arms for name in (*arm.joints, f"{arm.name} gripper")]
    limits = pieces.limits(physics.world)

    def posed(positions: Mapping[str, float]) -> Mapping[str, Pose]:
        pieces.place(physics.world, np.array([positions[name] for name in names]))
        return _poses(physics)

    return Exhibit(
        title=robot.name,
        facts={
            "arms": ", ".join(f"{arm.name} ({len(arm.joints)} joints)" for arm in robot.arms),
            "cameras": ", ".join(camera.name for camera in robot.cameras) or "none",
            "control": f"{robot.control_hz} Hz",
        },
        parts=_parts(physics),
        around=_AROUND,
        posed=posed,
        sliders=[
            Slider(name=name, lower=float(low), upper=float(high), start=float(np.clip(at, low, high)))
            for name, (low, high), at in zip(names, limits, home.measured, strict=True)
        ],
    )


def of_scene(robot: Robot, scene: Scene) -> Exhibit:
    """The initial state of a scene; raises SceneError when it cannot be built."""
    physics = MujocoPhysics(robot, width=_UNSEEN, height=_UNSEEN)
    physics.reset(scene)
    start = _poses(physics)
    return Exhibit(title=scene.task, facts=_facts(scene), parts=_parts(physics), around=_AROUND, posed=lambda positions: start)


def of_episode(world: World, number: int) -> Exhibit:
    """Plays scene `number` of the stream with its task's expert, bit-identical to a worker.

    Raises SceneError or MotionError, for the same reason as in the stream, if the scene or its plan is impossible.
    """
    physics = MujocoPhysics(world.robot, width=world.config.width, height=world.config.height, painter=world.config.painter)
    task, scene = SceneStage(world, physics=physics).step(number)
    spec, grader = world.trajectory_spec, task.grader(scene)
    out, cameras = spec.allocate(), tuple(camera.name for camera in world.robot.cameras)
    played = Episode(
        scene,
        ExpertPilot(task, scene, physics, np.random.default_rng(scene.seed)),
        grader,
        ActionCodec(world.robot),
        Snapshots(physics.render),
        out,
        spec,
    )
    states: list[WorldState] = []
    poses: list[NDArray[np.float64]] = []
    contacts: list[NDArray[np.float64]] = []
    for state in drive(physics, scene, played):
        states.append(state)
        poses.append(pieces.poses(physics.world))
        contacts.append(pieces.contacts(physics.world))
    outcome = played.finish()
    frames = outcome.num_chunks + 1
    shown = np.minimum(np.arange(len(states)) // spec.chunk, frames - 1)
    segments = [Segment(int(value)) for value in out["segment"][: outcome.num_chunks]]
    first = _poses(physics, poses[0])
    return Exhibit(
        title=f"{scene.task}, scene {number}",
        facts=_facts(scene) | {"verdict": outcome.verdict.reason, "mishaps": _mishaps(outcome.failed)},
        parts=_parts(physics),
        around=_AROUND,
        posed=lambda positions: first,
        timeline=Timeline(
            time_s=np.array([state.time_s for state in states]),
            poses=np.stack(poses),
            contacts=contacts,
            notes=[_note(state, segments[min(chunk, len(segments) - 1)]) for state, chunk in zip(states, shown, strict=True)],
            cameras=cameras,
            pictures=out["rgb"][:frames],
            shown=shown,
        ),
    )


def _poses(physics: MujocoPhysics, values: NDArray[np.float64] | None = None) -> dict[str, Pose]:
    values = pieces.poses(physics.world) if values is None else values
    return {
        name: Pose(position=(x, y, z), quaternion=(w, i, j, k))
        for name, (x, y, z, w, i, j, k) in zip(pieces.names(physics.world), values.tolist(), strict=True)
    }


def _parts(physics: MujocoPhysics) -> list[ShownMesh]:
    names = pieces.names(physics.world)
    parts = [
        ShownMesh(frame=names[piece.body], layer=Layer.LOOKS, mesh=piece.mesh, color=piece.color)
        for piece in pieces.looks(physics.world)
    ]
    return parts + [
        ShownMesh(frame=names[piece.body], layer=Layer.HULLS, mesh=piece.mesh, color=_COLLIDER)
        for piece in pieces.colliders(physics.world)
    ]


def _facts(scene: Scene) -> dict[str, str]:
    return {
        "instruction": scene.instruction,
        "seed": str(scene.seed),
        "objects": ", ".join(f"{placed.role}: {placed.asset.name}" for placed in scene.objects),
        "licences": ", ".join(sorted({placed.asset.licence or "none stated" for placed in scene.objects})),
    } | {name: f"{value:.4g}" for name, value in scene.expansion.items()}


def _mishaps(failed: Sequence[Failed]) -> str:
    return ", ".join(f"{one.mishap}{' (provoked)' if one.provoked else ''}" for one in failed) or "none"


def _note(state: WorldState, segment: Segment) -> str:
    pressing = sorted((contact for contact in state.contacts if contact.force > 0.0), key=lambda one: -one.force)
    rows = [f"| {contact.first} | {contact.second} | {contact.force:.1f} |" for contact in pressing[:_STRONGEST]]
    table = "\n".join(["| touches | | N |", "|---|---|---:|", *rows]) if rows else "nothing touches"
    return f"**{segment.name.lower()}**\n\n{table}"
