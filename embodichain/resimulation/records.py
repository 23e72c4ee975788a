"""Records of scenes: what it takes to make a scene again, pictures included, and the check that it is the same to the bit.

A record has no fixed size, so that a scene may have any number of objects. It names what made the scene by hashes: of the whole
configuration, of the robot, and of the engine's sources. Where one of these is another, a scene is not made at all.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embodichain import robots
from embodichain.config import WorldConfig
from embodichain.errors import EmbodiChainError, SceneError
from embodichain.protocols import Physics, Task
from embodichain.scenes.values import content_hash
from embodichain.stages import SceneStage
from embodichain.types import Origin, Scene, TrajectoryInfo
from embodichain.types.plain import from_plain
from embodichain.world import Split, World, config_hash, revision

__all__ = ["Rebuilt", "SceneRecord", "check_origin", "rebuild"]

FORMAT = 1
"""Version of record files; raised when older versions of this package could not read them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneRecord:
    """Everything needed to make a scene again, and to see that it is the same."""

    task: str
    seed: int
    instruction: str
    origin: Origin
    assets: Mapping[str, str]
    """Content hash by role."""
    scene_hash: str = ""
    """`scenes.values.content_hash` of the scene; empty where only a trajectory recorded it."""
    pictures_hash: str = ""
    """SHA-256 of the first picture of every camera; empty where nothing was drawn."""
    machine: str = ""
    """Kind of processor. Meshes may differ in their last bits between kinds, and with them everything."""
    format: int = FORMAT

    @classmethod
    def of(cls, world: World, number: int, scene: Scene, split: Split = Split.STREAM, *, physics: Physics) -> SceneRecord:
        """The record of scene `number` of a world, whose first pictures `physics` draws."""
        return cls(
            task=scene.task,
            seed=scene.seed,
            instruction=scene.instruction,
            origin=world.origin(number, split),
            assets={placement.role: placement.asset.content_hash for placement in scene.objects},
            scene_hash=content_hash(scene),
            pictures_hash=_digest(first_pictures(world, scene, physics)),
            machine=platform.machine(),
        )

    @classmethod
    def of_trajectory(cls, info: TrajectoryInfo) -> SceneRecord:
        """The record of a trajectory's scene; raises SceneError when the trajectory does not say where it comes from."""
        if info.origin is None:
            raise SceneError(
                f"the trajectory of scene {info.scene_seed} of {info.task!r} has no origin: it was recorded elsewhere, or by a "
                "version that kept none; make it again from its run with `embodichain trace`"
            )
        return cls(task=info.task, seed=info.scene_seed, instruction="", origin=info.origin, assets=info.assets)

    def write(self, path: Path) -> Path:
        """Writes the record as JSON; raises SceneError when it cannot be written."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise SceneError(f"cannot write the record to {path}: {error}") from error
        return path

    @classmethod
    def read(cls, path: Path) -> SceneRecord:
        """The record in a file that `write` wrote, or of the trajectory whose provenance (`TrajectoryInfo.text`) is in it.

        Raises SceneError for any other file.
        """
        try:
            text = path.read_text(encoding="utf-8")
            found = json.loads(text)
            if "scene_seed" in found and "worker" in found:
                return cls.of_trajectory(TrajectoryInfo.decode(text.encode()))
            record = cls(**{**found, "origin": Origin(**found["origin"])})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SceneError(
                f"{path} is no record of a scene ({type(error).__name__}: {error}); `embodichain scene sample` writes one beside "
                "each scene"
            ) from error
        if record.format != FORMAT:
            raise SceneError(f"{path} has format {record.format}, this version reads {FORMAT}: use the version that wrote it")
        return record


class Rebuilt(NamedTuple):
    """A scene that was made again: its task, itself, and the first picture of every camera, uint8 [C, h, w, 3]."""

    task: Task
    scene: Scene
    pictures: NDArray[np.uint8]


def check_origin(origin: Origin, *, any_revision: bool = False) -> WorldConfig:
    """The configuration of the world that a scene comes from, once it is certain that this engine would make the same world.

    With `any_revision` another engine may try, and the record's hashes decide whether the scene is the same.

    Raises SceneError that names each of configuration, robot and revision that differs, with what was recorded and what is here.
    """
    found: list[str] = []
    if origin.revision != revision() and not any_revision:
        found.append(
            f"revision: recorded {origin.revision}, here {revision()}; use the version that made it, or allow any revision"
        )
    config, reason = None, ""
    try:
        config = from_plain(WorldConfig, origin.world)
    except (ValueError, EmbodiChainError) as error:
        reason = str(error)
    if config is None or config_hash(config) != origin.world_hash:
        here = f"cannot be read here ({reason})" if config is None else f"its defaults make {config_hash(config)} of it here"
        found.append(f"configuration: recorded {origin.world_hash}, {here}")
    if config is not None:
        try:
            robot_hash = robots.get(config.robot).content_hash
        except EmbodiChainError as error:
            robot_hash = f"none ({error})"
        if robot_hash != origin.robot_hash:
            found.append(f"robot {config.robot!r}: recorded {origin.robot_hash}, here {robot_hash}")
    if found or config is None:
        raise SceneError(f"scene {origin.number} cannot be made again as it was: {'; '.join(found)}")
    return config


def rebuild(record: SceneRecord, world: World) -> Rebuilt:
    """The scene of a record in its world, which `prepare` makes of `check_origin(record.origin)`.

    Raises SceneError that names what is not as recorded: assets, the scene's values, or its pictures.
    """
    physics = world.make_physics()
    try:
        task, scene = SceneStage(world, Split(record.origin.split), physics).step(record.origin.number)
        pictures = first_pictures(world, scene, physics)
    finally:
        physics.close()
    made = SceneRecord(
        task=scene.task,
        seed=scene.seed,
        instruction=scene.instruction if record.instruction else "",
        origin=record.origin,
        assets={placement.role: placement.asset.content_hash for placement in scene.objects},
        scene_hash=content_hash(scene) if record.scene_hash else "",
        pictures_hash=_digest(pictures) if record.pictures_hash else "",
        machine=record.machine,
    )
    names = [entry.name for entry in fields(SceneRecord)]
    if wrong := [name for name in names if getattr(made, name) != getattr(record, name)]:
        told = "; ".join(f"{name}: recorded {getattr(record, name)}, made {getattr(made, name)}" for name in wrong)
        where = f", on {record.machine} then and on {platform.machine()} now" if record.machine else ""
        raise SceneError(f"scene {record.origin.number} of {record.task!r} is not what was recorded{where}: {told}")
    return Rebuilt(task, scene, pictures)


def first_pictures(world: World, scene: Scene, physics: Physics) -> NDArray[np.uint8]:
    """The picture of every camera before anything has moved, uint8 [C, h, w, 3]; none where the physics draws nothing."""
    config = world.config
    rgb = np.zeros((len(world.robot.cameras), config.height, config.width, 3), np.uint8)
    physics.reset(scene)
    physics.render(rgb)
    return rgb


def _digest(pictures: NDArray[np.uint8]) -> str:
    return hashlib.sha256(np.ascontiguousarray(pictures).tobytes()).hexdigest()
