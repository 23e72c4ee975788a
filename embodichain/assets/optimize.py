"""The chain from a messy source to a simulation-ready asset: read this first.

source → repair → frame → simplify → collision → physical → articulate → usd → preview → validate → grasp. Every asset lands in a
folder of its own, complete or not at all, and what is returned was read back from its USD file: what is
shipped is what is simulated.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path

import embodichain
from embodichain.assets import articulate, source, stages, worker
from embodichain.assets.mess import MessConfig
from embodichain.errors import AssetError, ConfigError, unknown
from embodichain.types import Asset, Pose

Progress = Callable[[int, int, str], None]
"""Called with assets done, assets in all, and the name of the one that was just finished."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetsConfig:
    """A catalogue: how many instances of each procedural family, and the seed of their parameters."""

    counts: Mapping[str, int] = field(
        default_factory=lambda: {"mug": 2, "bowl": 2, "block": 3, "switch": 2, "pad": 2, "bottle": 1, "mouse": 2}
    )
    seed: int = 0
    jobs: int = 0
    """Processes; 0 is one per core, at most 4."""

    def __post_init__(self) -> None:
        for category, count in self.counts.items():
            if category not in source.categories():
                raise unknown("asset category", category, source.categories())
            if count < 0:
                raise ConfigError(f"count of {category!r} must not be negative, got {count}")
        if not 0 <= self.seed < 2**31:
            raise ConfigError(f"seed of the catalogue must be 0..{2**31 - 1}, got {self.seed}")

    @property
    def instances(self) -> tuple[tuple[str, int], ...]:
        """(category, seed) of every asset, in order."""
        return tuple((category, self.seed * 1000 + i) for category, count in self.counts.items() for i in range(count))


def build_catalog(config: AssetsConfig, out_dir: Path, progress: Progress | None = None) -> tuple[Asset, ...]:
    """Builds what is missing of a catalogue under `out_dir` and returns all of it, in the order of the configuration.

    Raises:
        AssetError: an asset was refused, or `out_dir` cannot be written.
    """
    instances = config.instances
    found: dict[tuple[str, int], Asset] = {}
    for category, seed in instances:
        asset = cached(category, seed, out_dir)
        if asset is not None:
            found[category, seed] = asset
            if progress:
                progress(len(found), len(instances), asset.name)
    missing = [instance for instance in instances if instance not in found]
    jobs = min(config.jobs or min(4, len(os.sched_getaffinity(0))), len(missing))
    if jobs <= 1:
        for instance in missing:
            found[instance] = build(*instance, out_dir)
            if progress:
                progress(len(found), len(instances), found[instance].name)
    else:
        # The slowest families first, so that no process ends long after the others.
        missing.sort(
            key=lambda instance: _SLOWEST_FIRST.index(instance[0]) if instance[0] in _SLOWEST_FIRST else len(_SLOWEST_FIRST)
        )
        pool = ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"), initializer=worker.use_one_core)
        try:
            futures = {pool.submit(worker.build_file, *instance, out_dir): instance for instance in missing}
            for future in as_completed(futures):
                instance = futures[future]
                found[instance] = _read(future.result())
                if progress:
                    progress(len(found), len(instances), found[instance].name)
        except BrokenProcessPool as error:
            raise AssetError(f"build: a process died, out of memory perhaps; {jobs} ran at once, try fewer jobs") from error
        finally:
            pool.shutdown(cancel_futures=True)
    return tuple(found[instance] for instance in instances)


_SLOWEST_FIRST = ("mug", "bowl", "bottle", "switch", "mouse")


def build(category: str, seed: int, out_dir: Path) -> Asset:
    """One instance of a family, made imperfect and optimised into `out_dir/<category>/<name>/<name>.usd`, or read back.

    Raises:
        AssetError: a stage refused it, or `out_dir` cannot be written.
        ConfigError: no family has this name.
    """
    if category not in source.categories():
        raise unknown("asset category", category, source.categories())
    asset = cached(category, seed, out_dir)
    if asset is not None:
        return asset
    start = time.perf_counter()
    messy = source.procedural(category, seed, MessConfig())
    return optimize(messy, out_dir, key=content_key(category, seed), started=start)


def optimize(
    raw: source.Source, out_dir: Path, *, key: str, config: stages.ChainConfig | None = None, started: float | None = None
) -> Asset:
    """Runs the chain on a source and delivers the asset atomically; `key` is what later calls find it by.

    Raises:
        AssetError: a stage refused the source, the result fails validation, or `out_dir` cannot be written.
    """
    config = config or stages.ChainConfig()
    started = time.perf_counter() if started is None else started
    record = stages.Record()
    carried = {joint.child for joint in raw.joints if joint.parent}
    bodies, lowered = [], {}
    for part in raw.parts:
        body, lowered[part.name] = stages.build_body(part, config, record, resting=part.name not in carried)
        bodies.append(body)
    joints = record.stage("articulate", "", {"joints": len(raw.joints)}, lambda: _articulated(bodies, raw)) if raw.joints else ()
    asset = Asset(
        name=raw.name,
        category=raw.category,
        bodies=tuple(bodies),
        joints=joints,
        affordances={name: (body, _lowered(pose, lowered[body])) for name, (body, pose) in raw.affordances.items()},
        licence=raw.licence,
        source=raw.origin,
    )
    from embodichain.assets.deliver import deliver  # brings pxr, which only writing and reading files needs

    return deliver(asset, raw, out_dir, key, record, started)


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


def cached(category: str, seed: int, out_dir: Path) -> Asset | None:
    """The finished asset, if it was built with these parameters by this engine and its file is unharmed."""
    name = f"{category}_{seed:03d}"
    file = out_dir / category / name / f"{name}.usd"
    sidecar = file.with_suffix(".json")
    try:
        report = json.loads(sidecar.read_text())
        if report["key"] != content_key(category, seed) or report["usd_sha256"] != hashlib.sha256(file.read_bytes()).hexdigest():
            return None
    except (OSError, ValueError, KeyError):
        return None
    return _read(file)


def _read(file: Path) -> Asset:
    from embodichain.assets import usd  # brings pxr, which nothing else here needs

    return usd.read(file)


def content_key(category: str, seed: int, config: stages.ChainConfig | None = None) -> str:
    """Hash of everything that decides an instance: family, seed, settings and the code of this package."""
    settings = asdict(config or stages.ChainConfig())
    text = json.dumps([category, seed, settings, asdict(MessConfig()), embodichain.__version__, _code_digest()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def _code_digest() -> str:
    """Hash of this package's code and tables: an asset of an older engine is built again."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.glob("*")):
        if file.suffix in (".py", ".json"):
            digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()
