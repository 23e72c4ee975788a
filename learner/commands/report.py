"""`embodichain report`: rewrites the report of a run from the files in its folder."""

from __future__ import annotations

from embodichain.command_line import Parser
from embodichain.lines import strict_json
from learner.commands.kinds import run_folder


def main(arguments: list[str]) -> int:
    """`embodichain report RUN`."""
    parser = Parser("report", "Write report.html again from a run's folder.")
    parser.add_argument("run", type=run_folder, help="a run folder")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse(arguments)
    from learner.records.run_folder import RunFolder
    from learner.reporting.report import write_report

    written = write_report(RunFolder.open(options.run))
    print(strict_json({"report": str(written)}) if options.json else written)
    return 0
