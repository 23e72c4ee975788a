"""The data set card: contents, how they were made, the assets used, and the licence. It is the README of the data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from embodichain import __version__
from embodichain.exchange.recorded import DatasetLayout
from embodichain.types import Asset, TrajectoryInfo

__all__ = ["AssetOrigin", "Card", "sources_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetOrigin:
    """Where an asset comes from."""

    name: str
    category: str
    licence: str
    origin: str


def sources_of(assets: tuple[Asset, ...]) -> dict[str, AssetOrigin]:
    """Sources of assets by content hash, the key under which a trajectory names its assets."""
    return {
        asset.content_hash: AssetOrigin(name=asset.name, category=asset.category, licence=asset.licence, origin=asset.source)
        for asset in assets
    }


@dataclass(slots=True, kw_only=True)
class Card:
    """Counts the episodes and the assets in them, and makes the README of the data set."""

    layout: DatasetLayout
    command: str
    """The command line that made the data set."""
    licence: str = ""
    """Licence of the whole data set; empty: that of its assets where all have the same, else "other"."""
    sources: Mapping[str, AssetOrigin] = field(default_factory=dict)
    episodes: int = 0
    used: Counter[str] = field(default_factory=Counter)
    """Number of episodes in which each asset occurs, by content hash."""
    tasks: Counter[str] = field(default_factory=Counter)
    physics: Counter[str] = field(default_factory=Counter)
    recovered: int = 0

    def add(self, info: TrajectoryInfo) -> None:
        """Takes in one episode's provenance."""
        self.episodes += 1
        self.tasks[info.task] += 1
        self.physics[info.physics] += 1
        self.used.update(set(info.assets.values()))
        self.recovered += info.recovered

    @property
    def licence_id(self) -> str:
        """Licence as the Hugging Face Hub spells it: lower case, "other" when assets have different licences or state none."""
        found = {self.sources[used].licence if used in self.sources else "" for used in self.used}
        return (self.licence or (found.pop() if len(found) == 1 else "") or "other").lower()

    def text(self, contents: Sequence[str], *, tags: Sequence[str] = ()) -> str:
        """The whole README; `contents` are lines that describe a row, or a demonstration, of the format."""
        rows = [self._row(digest, count) for digest, count in sorted(self.used.items())]
        unknown = sum(digest not in self.sources for digest in self.used)
        lines = [
            "---",
            f"license: {self.licence_id}",
            "task_categories:",
            "- robotics",
            "tags:",
            *(f"- {tag}" for tag in tags),
            "- EmbodiChain",
            "- simulation",
            *(["configs:", "- config_name: default", "  data_files: data/*/*.parquet"] if "LeRobot" in tags else []),
            "---",
            "",
            f"# {', '.join(sorted(self.tasks)) or 'No episode yet'}",
            "",
            f"{self.episodes} simulated episodes of {self.layout.robot}, each judged a success by its task's grader;",
            f"{self.recovered} of them contain a failed attempt and its recovery. Made by EmbodiChain {__version__} with",
            "",
            f"    {self.command}",
            "",
            "| task | episodes |",
            "|---|---|",
            *(f"| {task} | {count} |" for task, count in sorted(self.tasks.items())),
            "",
            "## What it holds",
            "",
            *contents,
            "",
            "## Provenance and licences",
            "",
            f"Physics: {', '.join(sorted(self.physics)) or '-'}. Each episode's provenance is kept with it: its scene's seed, the",
            "content hashes of its assets and what was drawn for it, which is enough to simulate it again.",
            "",
            "| asset | kind | licence | source | content hash | episodes |",
            "|---|---|---|---|---|---|",
            *rows,
        ]
        if unknown:
            lines += ["", f"Of {unknown} assets no licence is known here: ask whoever made them before you pass the data set on."]
        return "\n".join(lines) + "\n"

    def _row(self, digest: str, count: int) -> str:
        source = self.sources.get(digest)
        if source is None:
            return f"| unknown | | unknown | | `{digest}` | {count} |"
        return f"| {source.name} | {source.category} | {source.licence or 'unknown'} | {source.origin} | `{digest}` | {count} |"
