"""`embodichain report`: writes a run's report again from its folder."""

from __future__ import annotations

import argparse
from pathlib import Path

from learner.records.run_folder import RunFolder
from learner.reporting.report import write_report


def main(arguments: list[str]) -> int:
    """`embodichain report RUN`."""
    parser = argparse.ArgumentParser(prog="embodichain report", description="Write report.html again from a run's folder.")
    parser.add_argument("run", type=Path, help="a run folder")
    print(write_report(RunFolder.open(parser.parse_args(arguments).run)))
    return 0
