"""The export formats by name, and the protocol of their writers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, Self

from embodichain.registry import Registry

if TYPE_CHECKING:
    from embodichain.exchange.recorded import Recorded

__all__ = ["FORMATS", "DatasetWriter"]


class DatasetWriter(Protocol):
    """Writes one data set. Implementations: `LeRobotWriter`, `RobomimicWriter`, `RoboTwinWriter`.

    Constructed with (folder, layout, card, resume=False), which raises ConfigError where it must not begin. If the class has a
    class method `check(folder, layout, resume=False)`, which raises the same and changes nothing, a dry run calls it. When its
    process dies, at most the unfinished episode is lost.
    """

    @property
    def num_episodes(self) -> int:
        """Episodes that are in the data set, those of earlier writers included."""
        ...

    @property
    def trajectory_ids(self) -> Sequence[int]:
        """Packed ids of all episodes in the data set, in order."""
        ...

    def add(self, recorded: Recorded) -> None:
        """Adds one episode; it is on disk and counted when this returns."""
        ...

    def close(self) -> None:
        """Writes what is still missing (such as the card); the data set is complete afterwards."""
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
"""Writers by format name; installed distributions add more under the entry-point group `embodichain.formats`."""
