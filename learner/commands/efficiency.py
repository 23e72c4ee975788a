"""`embodichain efficiency RUN RUN ...`: fits the loss of several runs as a power law of their experience throughput E."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

from embodichain.command_line import Parser, ending, existing
from embodichain.errors import ConfigError, unknown
from embodichain.lines import strict_json
from learner.evaluation.config import MEASURES


def main(arguments: list[str]) -> int:
    """`embodichain efficiency`."""
    parser = Parser("efficiency", "Fit the Efficiency Law across runs.")
    parser.add_argument("runs", type=existing, nargs="+", help="run folders: four or more, with at least three different E")
    parser.add_argument("--mix", action="store_true", help="fit runs of different recipes as if they were of one")
    parser.add_argument("--measure", default="loss", help=f"what should fall with E: {', '.join(MEASURES)}")
    parser.add_argument("--picture", type=ending(".svg"), help="where to draw it, an SVG file")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    options = parser.parse(arguments)
    if options.measure not in MEASURES:
        raise unknown("measure", options.measure, MEASURES)
    import numpy as np

    from learner.records.run_folder import RunFolder
    from learner.reporting.efficiency import draw, fit_efficiency, point

    options.runs = _runs(options.runs, mix=options.mix)
    points = [point(RunFolder.open(path), options.measure) for path in options.runs]
    law = fit_efficiency(*zip(*points, strict=True), rng=np.random.default_rng(0))
    if options.picture is not None:
        options.picture.write_text(draw(points, law, options.measure), encoding="utf-8")
    if options.json:
        rows = [{"run": str(path), "experience": e, options.measure: y} for path, (e, y) in zip(options.runs, points, strict=True)]
        print(strict_json({**asdict(law), "threshold": law.threshold(), "runs": rows}))
        return 0
    for path, (experience, value) in sorted(zip(options.runs, points, strict=True), key=lambda row: row[1]):
        print(f"{path.name:<32} E {experience:10.1f}   {options.measure} {value:8.4f}   fit {float(law.loss(experience)):8.4f}")
    low, high = law.floor_interval
    print(f"{options.measure} = {law.floor:.3f} + {law.scale:.4g} E^-{law.exponent:.3f}; floor {low:.3f} to {high:.3f} (95%)")
    print(f"within 5% of the floor above E = {law.threshold():,.0f}")
    return 0


def _runs(paths: list[Path], *, mix: bool) -> list[Path]:
    """Keeps the paths that are run folders and warns about the others; raises ConfigError if the runs have several recipes."""
    from learner.records.plain import load_yaml
    from learner.records.run_folder import RunFolder

    found: dict[str, list[Path]] = {}
    for path in paths:
        config = RunFolder(path=path).config
        if not config.exists():
            print(f"embodichain efficiency: {path} is no run folder and is left out", file=sys.stderr)
            continue
        found.setdefault(str(load_yaml(config).get("recipe", "unknown")), []).append(path)
    if not found:
        raise ConfigError(f"none of {', '.join(map(str, paths))} is a run folder")
    if len(found) > 1 and not mix:
        counts = ", ".join(f"{len(mine)} of {recipe}" for recipe, mine in found.items())
        raise ConfigError(f"runs of different recipes obey different laws: {counts}; give those of one recipe, or say --mix")
    return [path for path in paths if any(path in mine for mine in found.values())]
