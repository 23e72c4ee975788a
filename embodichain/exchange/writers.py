"""The formats that trajectories leave in, by name, and what every writer of one can do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, Self

from embodichain.registry import Registry

if TYPE_CHECKING:
    from embodichain.exchange.recorded import Recorded

__all__ = ["FORMATS", "DatasetWriter"]


class DatasetWriter(Protocol):
    """Writes one data set. Implementations: `LeRobotWriter`, `RobomimicWriter`, `RoboTwinWriter`.

    Made with (folder, layout, card, resume=False). Whatever kills its process, at most the episode under way is lost.
    """

    @property
    def num_episodes(self) -> int:
        """Episodes that are in the data set, those of earlier writers included."""
        ...

    @property
    def trajectory_ids(self) -> Sequence[int]:
        """Their packed ids, in order."""
        ...

    def add(self, recorded: Recorded) -> None:
        """Adds one episode; it is in the data set when this returns."""
        ...

    def close(self) -> None:
        """Finishes the data set."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *ended: object) -> None: ...


FORMATS: Registry[Callable[..., DatasetWriter]] = Registry(
    "format",
    "embodichain.formats",
    {
        "lerobot": "embodichain.exchange.lerobot_writer:LeRobotWriter",
        "robomimic": "embodichain.exchange.robomimic:RobomimicWriter",
        "robotwin": "embodichain.exchange.robotwin:RoboTwinWriter",
    },
    "`embodichain export --help` explains each",
)
"""Writers by the name of their format; installed distributions add others under `embodichain.formats`."""
