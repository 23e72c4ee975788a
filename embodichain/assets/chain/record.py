"""The record of what each stage of the chain did to each part, for the report."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from embodichain.assets.families.parts import Kept
from embodichain.errors import EmbodiChainError
from embodichain.types import Mesh

Number = float | int | str

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class StageReport:
    """The result of one stage on one part: numbers before and after, and the time taken."""

    stage: str
    part: str
    seconds: float
    before: Mapping[str, Number] = field(default_factory=dict)
    after: Mapping[str, Number] = field(default_factory=dict)
    refused: str = ""
    """Why the stage refused the part; empty when it did not."""


@dataclass(slots=True)
class Record:
    """Collects the stage reports of one asset while it is built; `listener` is called with each stage and part as they begin."""

    entries: list[StageReport] = field(default_factory=list)
    listener: Callable[[str, str], None] | None = None
    fidelity: list[Kept] = field(default_factory=list)
    """Rows about stated values that stages had to change or drop."""
    solids: dict[str, Mesh] = field(default_factory=dict)
    """The closed solid of each part of a file, on which grasps are searched, because the visual mesh need not be closed."""

    def stage(
        self, stage: str, part: str, before: Mapping[str, Number], work: Callable[[], tuple[Result, Mapping[str, Number]]]
    ) -> Result:
        """Runs `work`, which returns its result and the numbers after it, and records both with the time taken.

        If it raises, the reason is recorded and the error raised again.
        """
        if self.listener:
            self.listener(stage, part)
        start = time.perf_counter()

        def enter(after: Mapping[str, Number], refused: str = "") -> None:
            seconds = round(time.perf_counter() - start, 4)
            self.entries.append(StageReport(stage=stage, part=part, seconds=seconds, before=before, after=after, refused=refused))

        try:
            result, after = work()
        except EmbodiChainError as error:
            enter({}, str(error))
            raise
        enter(after)
        return result
