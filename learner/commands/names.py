"""`embodichain list`: every name that commands accept. Of what it lists it imports nothing but the lists of benchmarks' tasks."""

from __future__ import annotations

from embodichain.assets.families.catalog import FAMILIES as ASSETS
from embodichain.command_line import Parser
from embodichain.errors import ConfigError
from embodichain.exchange.writers import FORMATS
from embodichain.lines import strict_json
from embodichain.physics import BATCHES, PHYSICS
from embodichain.physics.painters import PAINTERS
from embodichain.registry import Registry
from embodichain.robots import ROBOTS
from embodichain.tasks import TASKS
from embodichain.tasks.benchmarks import BENCHMARKS, names
from learner.codecs.catalog import CODECS
from learner.models.families import FAMILIES as MODELS
from learner.runs.catalog import RECIPES


def main(arguments: list[str]) -> int:
    """`embodichain list`."""
    parser = Parser("list", "Every name that other commands accept.")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse(arguments)
    registries: dict[str, Registry] = {
        "recipes": RECIPES,
        "tasks": TASKS,
        "robots": ROBOTS,
        "physics": PHYSICS,
        "batches of worlds": BATCHES,
        "painters": PAINTERS,
        "codecs": CODECS,
        "model families": MODELS,
        "asset categories": ASSETS,
        "formats of export": FORMATS,
    }
    found = {kind: list(registry) for kind, registry in registries.items()}
    broken: list[str] = []
    for benchmark in BENCHMARKS:
        try:
            found[f"tasks of {benchmark}"] = list(names(benchmark))
        except ConfigError as error:  # one bad distribution must not hide the names of all others
            broken.append(str(error))
    if options.json:
        print(strict_json(found | ({"cannot be used": broken} if broken else {})))
        return 0
    widest = max(map(len, found))
    for kind, values in found.items():
        print(f"{kind + ':':<{widest + 2}}{', '.join(values)}")
    for registry in registries.values():
        for offer in registry.offers():
            print(f"{registry.kind} {offer.name!r} is added by {offer.distribution}")
    for fault in broken:
        print(f"cannot be used: {fault}")
    print("a robot may also be the path of an MJCF file; package.module:Name is taken wherever a name is")
    return 0
