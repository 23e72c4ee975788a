"""Assets that are made while a run goes on: which instance one is, and what it became."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from embodichain.types.assets import Asset


class Instance(NamedTuple):
    """Which asset of a pool: its category, whether it is of held-out scenes, and its number among those."""

    category: str
    held_out: bool
    index: int

    def __str__(self) -> str:
        return f"{self.category}/{'held_out/' if self.held_out else ''}{self.index}"


class Fresh(NamedTuple):
    """An instance that is made: the asset, and why the sources that came before in its place were refused."""

    instance: Instance
    asset: Asset
    refused: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """What is told of an instance that a scene drew: what it became, whose it is, and what was refused in its place before."""

    instance: str
    name: str
    category: str
    licence: str
    source: str
    content_hash: str
    refused: tuple[str, ...] = ()

    @classmethod
    def of(cls, fresh: Fresh) -> Drawn:
        """The same without the asset itself."""
        asset = fresh.asset
        return cls(
            instance=str(fresh.instance),
            name=asset.name,
            category=asset.category,
            licence=asset.licence,
            source=asset.source,
            content_hash=asset.content_hash,
            refused=fresh.refused,
        )
