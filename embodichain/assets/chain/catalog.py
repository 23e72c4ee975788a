"""The catalogue of procedural assets for a run: built once, kept on disk, and read back from its files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from embodichain.assets.chain import batch, finished, jobs
from embodichain.assets.chain.config import AssetsConfig
from embodichain.errors import AssetError
from embodichain.types import Asset

Progress = Callable[[int, int, str], None]
"""Called with the number of finished assets, the number of all assets, and the name of the one just finished."""

_SLOWEST_FIRST = ("mug", "bowl", "bottle", "switch", "mouse")


def build_catalog(config: AssetsConfig, out_dir: Path, progress: Progress | None = None) -> tuple[Asset, ...]:
    """Builds the missing assets of a catalogue under `out_dir`; returns all of its assets in the order of the configuration.

    Raises:
        AssetError: an asset was refused, or `out_dir` cannot be written.
    """
    wanted = tuple(jobs.ProceduralJob(category=category, seed=seed) for category, seed in config.instances)
    total, done = len(wanted), 0

    def listener(outcome: batch.Outcome) -> None:
        nonlocal done
        if outcome.state in ("built", "kept"):
            done += 1
            if progress:
                progress(done, total, outcome.name)

    # Slow families come first, so that no process finishes long after the others.
    order = {category: rank for rank, category in enumerate(_SLOWEST_FIRST)}
    slowest_first = sorted(wanted, key=lambda job: order.get(job.category, 99))
    for outcome in batch.run(slowest_first, out_dir, batch.BatchConfig(jobs=config.jobs), listener=listener):
        if outcome.state == "failed":
            raise AssetError(f"{outcome.name}: {outcome.reason}")
    return tuple(finished.read(jobs.file_of(job, out_dir)) for job in wanted)
