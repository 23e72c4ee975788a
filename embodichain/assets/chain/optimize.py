"""The chain from a faulty source to a simulation-ready asset. Read this file first.

source → repair → frame → simplify → collision → physical → articulate → usd → preview → validate → grasp. Parts read from a file
go through `foreign_stages` and `posture` instead of frame, because their stated values are kept. A search, if requested, tries
the stages from frame to articulate in many variants. Each asset gets a folder of its own, which appears complete or not at all.
Each asset that is returned was read back from its USD file, and that file is the one that is simulated.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from embodichain.assets.chain import finished, foreign_stages, jobs, part_stages, posture, search, settings
from embodichain.assets.chain import record as record_room
from embodichain.assets.families import parts as parts_room
from embodichain.assets.geometry import articulate
from embodichain.errors import AssetError
from embodichain.types import Asset, Pose


def build(category: str, seed: int, out_dir: Path) -> Asset:
    """Builds one instance of a family with typical mesh faults into `out_dir/<category>/<name>/<name>.usd`, or reads it back.

    Raises:
        AssetError: a stage refused it, or `out_dir` cannot be written.
        ConfigError: no family has this name.
    """
    job = jobs.ProceduralJob(category=category, seed=seed)
    return build_job(job, out_dir, config=settings.ChainConfig())


def build_job(job: jobs.Job, out_dir: Path, *, config: settings.ChainConfig, record: record_room.Record | None = None) -> Asset:
    """Builds the asset of a job, or reads back a finished one; `record` is filled even when a stage refuses.

    Raises:
        AssetError: a stage refused it, or `out_dir` cannot be written.
        ConfigError: its source is not available.
    """
    key, file = jobs.key(job, config), jobs.file_of(job, out_dir)
    if finished.unharmed(file, key):
        return finished.read(file)
    start = time.perf_counter()
    record = record or record_room.Record()
    raw = record.stage("source", "", {}, lambda: _sourced(job))
    return optimize(raw, out_dir, key=key, config=config, started=start, record=record, shelf=job.category)


def _sourced(job: jobs.Job) -> tuple[parts_room.Source, dict[str, int]]:
    raw = job.source()
    raw = replace(raw, name=job.name, category=raw.category if raw.foreign else job.category)
    return raw, {"parts": len(raw.parts), "joints": len(raw.joints), "faces": sum(len(part.mesh.faces) for part in raw.parts)}


def optimize(
    raw: parts_room.Source,
    out_dir: Path,
    *,
    key: str,
    config: settings.ChainConfig | None = None,
    started: float | None = None,
    record: record_room.Record | None = None,
    shelf: str = "",
) -> Asset:
    """Runs the chain on a source and delivers the asset atomically; later calls find it by `key`.

    `shelf` names the folder above the asset's own. A job knows it before the source is read; by default it is the category.

    Raises:
        AssetError: a stage refused the source, the result failed validation, or `out_dir` cannot be written.
    """
    config = config or settings.ChainConfig()
    started = time.perf_counter() if started is None else started
    record = record or record_room.Record()
    if raw.foreign:
        raw = _standing(foreign_stages.prepared(raw, config, record), record)
    else:
        raw = replace(raw, parts=tuple(part_stages.repaired(part, config, record) for part in raw.parts))
    score = None
    if config.search.budget:
        found = record.stage("search", "", {}, lambda: _searched(raw, config))
        asset, score = found.asset, search.summary(found)
        record.entries += found.record.entries
        record.fidelity += found.record.fidelity
    else:
        asset = assembled(raw, config, record)
    from embodichain.assets.chain.package import deliver  # imports pxr, which only reading and writing files needs

    return deliver(asset, raw, finished.shelf(out_dir, shelf or raw.category, raw.name), key, record, started, score)


def assembled(raw: parts_room.Source, config: settings.ChainConfig, record: record_room.Record) -> Asset:
    """The asset made from a source of repaired solids, in memory; raises AssetError when a stage refuses."""
    if raw.foreign:
        return _kept(raw, config, record)
    carried = {joint.child for joint in raw.joints if joint.parent}
    bodies, lowered = [], {}
    for part in raw.parts:
        body, lowered[part.name] = part_stages.build_body(part, config, record, resting=part.name not in carried)
        bodies.append(body)
    joints = record.stage("articulate", "", {"joints": len(raw.joints)}, lambda: _articulated(bodies, raw)) if raw.joints else ()
    return Asset(
        name=raw.name,
        category=raw.category,
        bodies=tuple(bodies),
        joints=joints,
        affordances={name: (body, _lowered(pose, lowered[body])) for name, (body, pose) in raw.affordances.items()},
        licence=raw.licence,
        source=raw.origin,
    )


def _kept(raw: parts_room.Source, config: settings.ChainConfig, record: record_room.Record) -> Asset:
    """The asset made from a file: its joints are kept as stated, and overlapping pairs of colliders at joints are excluded."""
    bodies = []
    for part in raw.parts:
        body, record.solids[part.name] = foreign_stages.build_body(part, config, record)
        bodies.append(body)
    apart = raw.apart
    if raw.joints:
        before = {"joints": len(raw.joints)}
        apart += record.stage("articulate", "", before, lambda: foreign_stages.set_apart(bodies, raw, record))
    return Asset(
        name=raw.name,
        category=raw.category,
        bodies=tuple(bodies),
        joints=raw.joints,
        affordances=raw.affordances,
        licence=raw.licence,
        source=raw.origin,
        apart=apart,
    )


def _standing(raw: parts_room.Source, record: record_room.Record) -> parts_room.Source:
    """The source in the pose in which it will stand. Doing this before colliders are made is cheap."""

    def work() -> tuple[parts_room.Source, dict[str, str]]:
        stood, row = posture.laid(raw)
        record.fidelity += [row] if row else []
        return stood, {"pose": row.reason if row else "as in its file"}

    return record.stage("posture", "", {"parts": len(raw.parts)}, work)


def _searched(raw: parts_room.Source, config: settings.ChainConfig) -> tuple[search.Found, dict[str, float]]:
    def assemble(turned: parts_room.Source, settings: settings.ChainConfig) -> tuple[Asset, record_room.Record]:
        record = record_room.Record()
        return assembled(turned, settings, record), record

    found = search.search(raw, config, config.search, assemble)
    return found, {"tried": found.tried, "plain": found.plain.total, "total": found.score.total}


def _articulated(bodies: list, raw: parts_room.Source) -> tuple[tuple, dict[str, float]]:
    joints = articulate.hold(bodies, raw.joints)
    overlaps = articulate.self_contact(bodies, joints)
    if overlaps:
        pairs = ", ".join(f"{first} and {second}" for first, second in overlaps)
        raise AssetError(f"articulate: colliders of {pairs} overlap within the range of a joint; leave a gap between the parts")
    return joints, {f"friction_{joint.name}": joint.friction for joint in joints if joint.friction}


def _lowered(pose: Pose, distance: float) -> Pose:
    x, y, z = pose.position
    return replace(pose, position=(x, y, z - distance))


def cached(category: str, seed: int, out_dir: Path) -> Asset | None:
    """The finished asset if this version built it with these parameters and its file is unharmed; otherwise None."""
    job = jobs.ProceduralJob(category=category, seed=seed)
    file = jobs.file_of(job, out_dir)
    return finished.read(file) if finished.unharmed(file, jobs.key(job, settings.ChainConfig())) else None
