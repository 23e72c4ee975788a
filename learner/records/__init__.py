"""The files of runs: run folders, weight files, plain configurations; and interruption by signals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embodichain.lazy import public

if TYPE_CHECKING:
    from learner.records.files import append_line, write_whole
    from learner.records.plain import load_yaml, structured
    from learner.records.run_folder import RunFolder, versions

__all__ = [
    "RunFolder",
    "append_line",
    "load_yaml",
    "structured",
    "versions",
    "write_whole",
]

__getattr__, __dir__ = public(
    __name__,
    dict.fromkeys(["append_line", "write_whole"], "files")
    | dict.fromkeys(["load_yaml", "structured"], "plain")
    | dict.fromkeys(["RunFolder", "versions"], "run_folder"),
)
