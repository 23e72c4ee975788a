"""The chain from a messy source to a simulation-ready asset: read this first.

source → repair → frame → simplify → collision → physical → articulate → usd → preview → validate → grasp; a search, where asked
for, tries frame to articulate many ways. Every asset lands in a folder of its own, complete or not at all, and what is returned was
read back from its USD file: what is shipped is what is simulated.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import replace
from pathlib import Path

from embodichain.assets.chain import jobs, search, stages
from embodichain.assets.families import source
from embodichain.assets.geometry import articulate
from embodichain.errors import AssetError
from embodichain.types import Asset, Pose


def build(category: str, seed: int, out_dir: Path) -> Asset:
    """One instance of a family, made imperfect and optimised into `out_dir/<category>/<name>/<name>.usd`, or read back.

    Raises:
        AssetError: a stage refused it, or `out_dir` cannot be written.
        ConfigError: no family has this name.
    """
    job = jobs.ProceduralJob(category=category, seed=seed)
    return build_job(job, out_dir, config=stages.ChainConfig())


def build_job(job: jobs.Job, out_dir: Path, *, config: stages.ChainConfig, record: stages.Record | None = None) -> Asset:
    """The asset of a job: read back when it was finished before, else made; `record` is filled also when a stage refuses.

    Raises:
        AssetError: a stage refused it, or `out_dir` cannot be written.
        ConfigError: its source cannot be had.
    """
    key, file = jobs.key(job, config), jobs.file_of(job, out_dir)
    if unharmed(file, key):
        return read(file)
    start = time.perf_counter()
    record = record or stages.Record()
    raw = record.stage("source", "", {}, lambda: _sourced(job))
    return optimize(raw, out_dir, key=key, config=config, started=start, record=record)


def _sourced(job: jobs.Job) -> tuple[source.Source, dict[str, int]]:
    raw = replace(job.source(), name=job.name, category=job.category)
    return raw, {"parts": len(raw.parts), "joints": len(raw.joints), "faces": sum(len(part.mesh.faces) for part in raw.parts)}


def optimize(
    raw: source.Source,
    out_dir: Path,
    *,
    key: str,
    config: stages.ChainConfig | None = None,
    started: float | None = None,
    record: stages.Record | None = None,
) -> Asset:
    """Runs the chain on a source and delivers the asset atomically; `key` is what later calls find it by.

    Raises:
        AssetError: a stage refused the source, the result fails validation, or `out_dir` cannot be written.
    """
    config = config or stages.ChainConfig()
    started = time.perf_counter() if started is None else started
    record = record or stages.Record()
    raw = replace(raw, parts=tuple(stages.repaired(part, config, record) for part in raw.parts))
    score = None
    if config.search.budget:
        found = record.stage("search", "", {}, lambda: _searched(raw, config))
        asset, score = found.asset, search.summary(found)
        record.entries += found.record.entries
    else:
        asset = assembled(raw, config, record)
    from embodichain.assets.chain.package import deliver  # brings pxr, which only writing and reading files needs

    return deliver(asset, raw, out_dir, key, record, started, score)


def assembled(raw: source.Source, config: stages.ChainConfig, record: stages.Record) -> Asset:
    """The asset that a source of repaired solids becomes, in memory; raises AssetError when a stage refuses."""
    carried = {joint.child for joint in raw.joints if joint.parent}
    bodies, lowered = [], {}
    for part in raw.parts:
        body, lowered[part.name] = stages.build_body(part, config, record, resting=part.name not in carried)
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


def _searched(raw: source.Source, config: stages.ChainConfig) -> tuple[search.Found, dict[str, float]]:
    def assemble(turned: source.Source, settings: stages.ChainConfig) -> tuple[Asset, stages.Record]:
        record = stages.Record()
        return assembled(turned, settings, record), record

    found = search.search(raw, config, config.search, assemble)
    return found, {"tried": found.tried, "plain": found.plain.total, "total": found.score.total}


def _articulated(bodies: list, raw: source.Source) -> tuple[tuple, dict[str, float]]:
    joints = articulate.hold(bodies, raw.joints)
    overlaps = articulate.self_contact(bodies, joints)
    if overlaps:
        pairs = ", ".join(f"{first} and {second}" for first, second in overlaps)
        raise AssetError(f"articulate: colliders of {pairs} overlap within the range of a joint; leave a gap between the parts")
    return joints, {f"friction_{joint.name}": joint.friction for joint in joints if joint.friction}


def _lowered(pose: Pose, distance: float) -> Pose:
    x, y, z = pose.position
    return replace(pose, position=(x, y, z - distance))


def unharmed(file: Path, key: str) -> bool:
    """Whether `file` is a finished asset of this key whose bytes are those that were delivered."""
    try:
        report = json.loads(file.with_suffix(".json").read_text())
        return bool(report["key"] == key and report["usd_sha256"] == hashlib.sha256(file.read_bytes()).hexdigest())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def cached(category: str, seed: int, out_dir: Path) -> Asset | None:
    """The finished asset, if it was built with these parameters by this engine and its file is unharmed."""
    job = jobs.ProceduralJob(category=category, seed=seed)
    file = jobs.file_of(job, out_dir)
    return read(file) if unharmed(file, jobs.key(job, stages.ChainConfig())) else None


def read(file: Path) -> Asset:
    """The asset in a USD file."""
    from embodichain.assets.usd import files as usd  # brings pxr, which nothing else here needs

    return usd.read(file)
