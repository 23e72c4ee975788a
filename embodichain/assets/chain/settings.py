"""The settings of every stage of the chain."""

from __future__ import annotations

from dataclasses import dataclass, field

from embodichain.assets.chain.candidates import SearchConfig
from embodichain.assets.geometry.collision import CollisionConfig
from embodichain.assets.geometry.tolerances import RepairConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainConfig:
    """The settings of every stage. They are part of the content key of the assets built with them."""

    repair: RepairConfig = field(default_factory=RepairConfig)
    collision: CollisionConfig = field(default_factory=CollisionConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
