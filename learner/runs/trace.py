"""Traces a training sample back to its origin: scene, assets and their licences, random draws, and every read of it."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from embodichain import __version__
from embodichain.assets.chain import finished
from embodichain.config import WorldConfig
from embodichain.errors import RunError
from embodichain.prepare import prepare
from embodichain.resimulation import Resimulated, fingerprints, resimulate
from embodichain.ring.ledger import Event, load, read_indices
from embodichain.ring.proof import ledgers
from embodichain.types import TrajectoryId
from embodichain.types.plain import as_plain
from embodichain.world import Progress, World, config_hash, revision
from learner.records.plain import structured
from learner.records.run_folder import RunFolder
from learner.runs.old_names import world_as_then
from learner.runs.options import run_config

FORMAT = 1
"""Version of record files; raised when older versions of this package could not read them."""
_DECIDES = ("mujoco", "numba", "numpy")
"""Packages whose versions may change simulation results."""


@dataclass(frozen=True, kw_only=True)
class LedgerRead:
    """One read of a trajectory, from the ledger."""

    step: int
    read_index: int
    age_s: float
    time_s: float


def find_sample(folder: RunFolder, sample: str) -> int:
    """The packed id of the trajectory that `sample` names.

    `sample` is a packed id in decimal or as 0x..., WORKER/EPOCH/NUMBER, "line:N" for record N of the ledger (from 0), or "step:S"
    or "step:S:ROW" for a row of the batch of training step S (by default the first). Raises RunError, which says what there is, for
    anything else and for trajectories that the run neither published nor read.
    """
    records = _records(folder)
    of_trajectories = np.isin(records["event"], (Event.PUBLISH, Event.READ))
    if found := re.fullmatch(r"line:(\d+)", sample):
        line = int(found[1])
        if line >= len(records) or not of_trajectories[line]:
            raise RunError(f"line {line} of {folder.ledger} is no publication and no read: it has lines 0..{len(records) - 1}")
        return int(records["trajectory_id"][line])
    if found := re.fullmatch(r"step:(\d+)(?::(\d+))?", sample):
        step, row = int(found[1]), int(found[2] or 0)
        rows = records[(records["event"] == Event.READ) & (records["step"] == step)]
        if row >= len(rows):
            last = int(records["step"][records["event"] == Event.READ].max(initial=0))
            raise RunError(f"step {step} read {len(rows)} trajectories, row {row} is not among them; steps go to {last}")
        return int(rows["trajectory_id"][row])
    if found := re.fullmatch(r"(\d+)/(\d+)/(\d+)", sample):
        packed = TrajectoryId(worker=int(found[1]), epoch=int(found[2]), sequence=int(found[3])).pack()
    else:
        try:
            packed = int(sample, 0)
        except ValueError as error:
            raise RunError(f"{sample!r} names no sample: give an id, WORKER/EPOCH/NUMBER, line:N or step:S:ROW") from error
    if not (of_trajectories & (records["trajectory_id"] == packed)).any():
        known = np.unique(records["trajectory_id"][of_trajectories])
        some = ", ".join(_spelt(TrajectoryId.unpack(int(one))) for one in known[:3])
        raise RunError(f"the run has no trajectory {sample}: its ledger knows {len(known)}, as {some}")
    return packed


def _records(folder: RunFolder) -> NDArray[np.void]:
    """The records of all rings of a run, those of the first one first: no trajectory is in two of them."""
    return np.concatenate([load(book)[0] for book in ledgers(folder.path)])


def reads_of(folder: RunFolder, packed: int) -> list[LedgerRead]:
    """Every read of one trajectory, in order, including reads that a resume from a checkpoint undid."""
    records = _records(folder)
    rows = records[(records["event"] == Event.READ) & (records["trajectory_id"] == packed)]
    return [
        LedgerRead(step=int(row["step"]), read_index=int(index), age_s=float(row["age_s"]), time_s=float(row["time_s"]))
        for row, index in zip(rows, read_indices(rows), strict=True)
    ]


def trace(folder: RunFolder, packed: int, progress: Progress) -> tuple[dict[str, Any], World, Resimulated]:
    """Simulates a trajectory again; returns its record, its world, and the episode.

    Raises RunError when an asset differs from the one that the run used.
    """
    identity = TrajectoryId.unpack(packed)
    config = run_config(folder).world
    world = prepare(config, progress)
    again = resimulate(world, identity.sequence)
    _check_assets(folder, again)
    return record_of(config, world, again, identity), world, again


def record_of(config: WorldConfig, world: World, again: Resimulated, identity: TrajectoryId) -> dict[str, Any]:
    """Everything needed to simulate this episode again and to check that it is identical, as JSON values."""
    scene = again.scene
    assets = {
        placed.role: {
            "name": placed.asset.name,
            "content_hash": placed.asset.content_hash,
            "licence": placed.asset.licence,
            "source": placed.asset.source,
        }
        for placed in scene.objects
    }
    return {
        "format": FORMAT,
        "id": identity.pack(),
        "worker": identity.worker,
        "epoch": identity.epoch,
        "number": identity.sequence,
        "task": scene.task,
        "scene_seed": scene.seed,
        "instruction": scene.instruction,
        "verdict": again.outcome.verdict.reason,
        "chunks": again.outcome.num_chunks,
        "failed_attempts": [str(failed.mishap) for failed in again.outcome.failed],
        "assets": assets,
        "expansion": dict(scene.expansion),
        "robot_hash": world.robot.content_hash,
        "world_hash": config_hash(config),
        "revision": revision(),
        "versions": _versions(),
        "machine": platform.machine(),
        "fields": fingerprints(again.trajectory),
        "world": as_plain(config),
    }


class EpisodeRecord(NamedTuple):
    """The parts of a record file that determine the episode."""

    world: WorldConfig
    number: int
    fields: Mapping[str, str]
    """Fingerprint of every field of the trajectory."""
    whole: Mapping[str, Any]


def read_record(path: Path) -> EpisodeRecord:
    """Reads a record made by `record_of`; raises RunError for any other file."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        config = structured(WorldConfig, world_as_then(record["world"]))
        number, fields, format_ = int(record["number"]), dict(record["fields"]), record["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{path} is no record of an episode ({error}); `embodichain trace RUN SAMPLE -o FOLDER` writes one"
        ) from error
    if format_ != FORMAT:
        raise RunError(f"{path} has format {format_}, this version reads {FORMAT}: use the version that wrote it")
    return EpisodeRecord(config, number, fields, record)


def replay(path: Path, progress: Progress) -> tuple[dict[str, Any], World, Resimulated]:
    """Simulates the episode of a record file again. The returned summary lists fields that differ under "differing".

    Raises RunError for a file that is no record.
    """
    config, number, fields, record = read_record(path)
    world = prepare(config, progress)
    again = resimulate(world, number)
    now = fingerprints(again.trajectory)
    differing = sorted(name for name in {**fields, **now} if fields.get(name) != now.get(name))
    told = {"number": number, "task": again.scene.task, "instruction": again.scene.instruction, "fields": len(fields)}
    return told | {"differing": differing, "changed": _changed(record, world, again) if differing else []}, world, again


def _changed(record: Mapping[str, Any], world: World, again: Resimulated) -> list[str]:
    """Lists what has changed since a record was written, such as versions and assets, to explain differences."""
    found = []
    for role, asset in record.get("assets", {}).items():
        there = {placed.role: placed.asset.content_hash for placed in again.scene.objects}
        if there.get(role) != asset["content_hash"]:
            found.append(f"asset {asset['name']}")
    if record.get("robot_hash") != world.robot.content_hash:
        found.append("robot")
    if record.get("revision", revision()) != revision():
        found.append(f"revision {record['revision']} is {revision()}")
    now = _versions()
    found += [f"{name} {was} is {now.get(name)}" for name, was in record.get("versions", {}).items() if now.get(name) != was]
    if record.get("machine") != platform.machine():
        found.append(f"machine {record.get('machine')} is {platform.machine()}")
    return found


def _versions() -> dict[str, str]:
    """Versions of the packages that may change simulation results."""
    return {"embodichain": __version__, "python": platform.python_version()} | {name: version(name) for name in _DECIDES}


def _check_assets(folder: RunFolder, again: Resimulated) -> None:
    """Checks that the assets built now equal those saved with the run; raises RunError otherwise."""
    for placed in again.scene.objects:
        kept = folder.assets / placed.asset.name / f"{placed.asset.name}.usd"
        if kept.exists() and finished.digest(kept) != finished.digest(placed.asset.path):
            raise RunError(
                f"asset {placed.asset.name} is not what the run had ({kept}): use the version that the run was made with"
            )


def _spelt(identity: TrajectoryId) -> str:
    return f"{identity.worker}/{identity.epoch}/{identity.sequence}"
