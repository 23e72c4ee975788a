"""Assets that are made while a run goes on: the identity of an instance, and the asset made for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from embodichain.types.assets import Asset


class Instance(NamedTuple):
    """One asset of a pool: its category, whether the pool is that of held-out scenes, and its number in that pool."""

    category: str
    held_out: bool
    index: int

    def __str__(self) -> str:
        return f"{self.category}/{'held_out/' if self.held_out else ''}{self.index}"


class Fresh(NamedTuple):
    """An instance that has been made: the asset, and why the sources tried before in its place were refused."""

    instance: Instance
    asset: Asset
    refused: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """The record of an instance that a scene drew: the asset's identity, licence and source, and what was refused in its place."""

    instance: str
    name: str
    category: str
    licence: str
    source: str
    content_hash: str
    refused: tuple[str, ...] = ()

    @classmethod
    def of(cls, fresh: Fresh) -> Drawn:
        """The record of `fresh`, which leaves out the asset itself."""
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
