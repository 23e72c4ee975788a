"""`embodichain asset`: build, validate, diff, gallery, referee, query, schema. Each imports its room only when it is called."""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embodichain.command_line import Parser, existing, natural
from embodichain.errors import ConfigError
from embodichain.lines import strict_json

if TYPE_CHECKING:
    from embodichain.assets.chain.batch import JobOutcome, Listener
    from embodichain.assets.chain.jobs import Job
    from embodichain.assets.chain.settings import ChainConfig
    from embodichain.assets.usd.usd_contents import Issue
    from embodichain.progress import JobBoard
    from embodichain.types import Asset

_MOST = 100_000  # instances of a family in one batch
_VARIED = ("scale", "material", "collision", "support")
_PICTURES = (".png", ".jpg", ".jpeg", ".webp")
_SUFFIXES = (".usd", ".usda", ".usdc")


def main(arguments: list[str]) -> int:
    """`embodichain asset build|validate|diff|gallery|referee|query|schema`."""
    parser = Parser("asset", "Simulation-ready USD assets.")
    commands = parser.subcommands()
    _build_options(commands.add_parser("build", help="make assets: repaired, decomposed, weighed, validated; 1 when any fails"))
    sub = commands.add_parser("validate", help="check USD files on paper, in physics and by public validators; 1 when any fails")
    sub.add_argument("paths", nargs="+", type=existing, metavar="PATH", help="USD files, or folders that hold some")
    sub.add_argument("--own", action="store_true", help="our own checks alone, even where the public validators are installed")
    sub.add_argument("--public", action="store_true", help="fail when a public validator is not installed")
    sub.add_argument("--lifts", action="store_true", help="also lift by every grasp again that is said to hold")
    sub = commands.add_parser("diff", help="what changed between two assets, or two folders of them; 1 when anything did")
    sub.add_argument("first", type=existing, metavar="A")
    sub.add_argument("second", type=existing, metavar="B")
    sub = commands.add_parser("gallery", help="write contact sheet, gallery and licence list of a folder of assets again")
    sub.add_argument("folder", type=existing, metavar="OUT")
    sub = commands.add_parser(
        "referee",
        help="build a file, read source and asset by other programs, and compare; 1 when any differ, or nothing is comparable",
    )
    sub.add_argument("sources", nargs="+", type=existing, metavar="SRC", help="URDF, MJCF, USD or mesh files")
    sub.add_argument("--licence", default="", help="of the files (default: as stands beside each, else unknown)")
    sub.add_argument("--no-play", dest="play", action="store_false", help="leave out Newton, whose first use compiles for minutes")
    sub = commands.add_parser("query", help="list delivered assets by what their reports say")
    sub.add_argument("folder", type=existing, metavar="OUT")
    sub.add_argument("terms", nargs="*", metavar="KEY=VALUE", help="such as category=mug licence=MIT mass<0.5 joints>0")
    commands.add_parser("schema", help="print the JSON Schema of the sidecars")
    for command in commands.parsers:
        command.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse(arguments)
    commands_by_name = {"build": _build, "validate": _validate, "diff": _diff, "gallery": _gallery, "schema": _schema}
    commands_by_name |= {"referee": _referee, "query": _query}
    return commands_by_name[options.command](options)


def _build_options(build: argparse.ArgumentParser) -> None:
    build.add_argument(
        "sources", nargs="+", metavar="SRC", help="FAMILY or FAMILY:N (`embodichain list`), `all`, a file or folder, a prompt"
    )
    build.add_argument("-o", "--out", type=Path, required=True, help="where <category>/<name>/<name>.usd go")
    build.add_argument("--seed", type=natural, default=0, help="of procedural parameters and of the search (default 0)")
    build.add_argument("--jobs", type=int, default=0, help="processes; 0 is one per core, at most 4")
    build.add_argument("--resume", action="store_true", help="keep assets that are finished and would come out the same")
    build.add_argument("--dry-run", action="store_true", help="say what would be built, and write nothing")
    build.add_argument("--clean", action="store_true", help="procedural meshes as designed, not broken as generators do")
    build.add_argument("--no-gallery", action="store_true", help="leave out contact sheet and gallery")
    build.add_argument("--hull-cost", type=float, default=0.003, metavar="SHARE", help="of the volume, that one more hull saves")
    build.add_argument("--trim", action="store_true", help="cut colliders of curved walls back to halfway into their hollow")
    build.add_argument("--search", type=natural, default=0, metavar="N", help="try N ways and deliver the one of the best score")
    build.add_argument("--search-over", default=",".join(_VARIED), metavar="WHAT", help="of %(default)s (all by default)")
    known = build.add_argument_group("what is known of files and of what generators make")
    known.add_argument("--licence", default="", help="SPDX identifier, or `unknown`; files without one are refused")
    known.add_argument("--category", default="", help="kind of thing: decides plausible sizes")
    known.add_argument("--material", default="", help="a name of the material table (default abs)")
    known.add_argument("--size", dest="size_m", type=float, default=0.0, metavar="M", help="longest side")
    known.add_argument("--mass", dest="mass_kg", type=float, default=0.0, metavar="KG", help="of the whole")
    known.add_argument("--wall", dest="wall_m", type=float, default=0.0, metavar="M", help="thickness of open surfaces")
    known.add_argument("--keep-pose", action="store_true", help="leave what does not stand as it lies")
    known.add_argument("--label", dest="labels", action="append", default=[], metavar="WORD", help="another name of what it is")
    known.add_argument("--author", default="", help="who made it")
    known.add_argument("--title", default="", help="what its author calls it")
    known.add_argument("--url", default="", help="where it comes from")
    known.add_argument("--attribution", default="", metavar="TEXT", help="how its author wants to be named")
    known.add_argument("--up", default="", metavar="AXIS", help="x, y, z or one of them negative")
    known.add_argument("--unit", default="", help="of the file's lengths: m, cm, mm, in")
    hook = build.add_argument_group("external generator; SRC are prompts or pictures then (docs/generators.md)")
    hook.add_argument("--generator", default="", metavar="URL", help="asked by POST, answers with binary glTF")
    hook.add_argument("--generator-command", default="", metavar="LINE", help="run as 'program {prompt} {out}'")
    hook.add_argument("--generator-timeout", type=float, default=600.0, metavar="S", help="for one answer (default 600)")
    hook.add_argument("--generator-max-mb", type=float, default=256.0, metavar="MB", help="of one answer (default 256)")
    build.add_argument("--timeout", type=float, default=900.0, metavar="S", help="for an asset, less waiting for a core (900)")


def _build(options: argparse.Namespace) -> int:
    wanted = _jobs(options)
    from embodichain.assets.chain import batch
    from embodichain.assets.chain.candidates import SearchConfig
    from embodichain.assets.chain.settings import ChainConfig
    from embodichain.assets.geometry.collision import CollisionConfig

    config = batch.BatchConfig(jobs=options.jobs, resume=options.resume, timeout_s=options.timeout)
    over = tuple(name for name in options.search_over.split(",") if name)
    collision = CollisionConfig(hull_cost=options.hull_cost, trim=options.trim)
    chain = ChainConfig(collision=collision, search=SearchConfig(budget=options.search, seed=options.seed, over=over))
    left = [{"file": str(file), "reason": reason} for file, reason in options.skipped.items()]
    if options.dry_run:
        outcomes = _read_ahead(wanted, batch.plan(wanted, options.out, config, chain), chain)
        rows = [
            {"name": o.name, "category": o.category, "file": str(o.file), "would": _WOULD[o.state], "reason": o.reason}
            for o in outcomes
        ]
        lines = [f"{r['would']:<7}{r['name']:<24}{r['reason'] or r['file']}" for r in rows]
        lines += [f"skip   {entry['file']}: {entry['reason']}" for entry in left]
        _say(options, {"dry_run": True, "assets": rows, "skipped": left}, "\n".join(lines))
        return 0
    from embodichain.assets.chain.running import RunningReport
    from embodichain.progress import JobBoard

    batch.check_writable(options.out)
    running = RunningReport(options.out, options.skipped)
    with JobBoard("assets", len(wanted), quiet=options.json) as board, contextlib.closing(running):
        outcomes = batch.run(wanted, options.out, config, chain, listener=_both(running, _shown(board)))
    written = _published(options, outcomes, pictures=not options.no_gallery)
    failed = sum(outcome.state == "failed" for outcome in outcomes)
    if options.json:
        from embodichain.assets.chain.publish import rows

        told = {"assets": rows(outcomes), "failed": failed, "skipped": left}
        print(strict_json(told | {"written": [str(path) for path in written]}))
    else:
        _tables(outcomes)
        if options.skipped:
            print(f"{len(options.skipped)} files make no asset of their own; report.json says why")
        print("\n".join(str(path) for path in written))
    return 1 if failed else 0


def _read_ahead(wanted: Sequence[Job], outcomes: Sequence[JobOutcome], chain: ChainConfig) -> list[JobOutcome]:
    """The outcomes of a plan, in which files that reading or a cheap check shows to be unusable have failed already."""
    from dataclasses import replace

    from embodichain.assets.chain.foreign_stages import foreseen
    from embodichain.assets.reading.files import FileJob
    from embodichain.errors import EmbodiChainError

    found = []
    for job, outcome in zip(wanted, outcomes, strict=True):
        if outcome.state == "waiting" and isinstance(getattr(job, "job", job), FileJob):
            try:
                foreseen(job.source(), chain)
            except EmbodiChainError as error:
                outcome = replace(outcome, state="failed", reason=str(error))
        found.append(outcome)
    return found


def _both(*listeners: Listener) -> Listener:
    def tell(outcome: JobOutcome) -> None:
        for listener in listeners:
            listener(outcome)

    return tell


def _published(options: argparse.Namespace, outcomes: Sequence[JobOutcome], *, pictures: bool) -> tuple[Path, ...]:
    from embodichain.assets.chain.publish import publish
    from embodichain.progress import Board

    folder = options.out if options.command == "build" else options.folder
    with Board(quiet=options.json) as board:
        skipped = getattr(options, "skipped", {})
        return publish(folder, outcomes, pictures=pictures, progress=board.update, skipped=skipped)


def _gallery(options: argparse.Namespace) -> int:
    from embodichain.assets.chain.publish import finished

    if not finished(options.folder):
        raise ConfigError(f"no delivered asset under {options.folder}; `embodichain asset build` makes some")
    written = [str(path) for path in _published(options, (), pictures=True)]
    _say(options, {"written": written}, "\n".join(written))
    return 0


def _referee(options: argparse.Namespace) -> int:
    import tempfile
    from dataclasses import replace

    from embodichain.assets.chain import newton_witness, optimize, referee, settings
    from embodichain.assets.reading.files import FileJob, facts_of
    from embodichain.assets.reading.folder import items
    from embodichain.errors import AssetError

    rows, upheld = list[dict[str, Any]](), True
    if newton_witness.installed() and options.play and not options.json:
        print(newton_witness.COMPILES, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for source in options.sources:
            for item in items(source):
                known = facts_of(source)
                job = FileJob(path=source, facts=replace(known, licence=options.licence or known.licence or "unknown"), item=item)
                try:
                    asset = optimize.build_job(job, Path(folder), config=settings.ChainConfig())
                    found = referee.referee(source, asset, play_newton=options.play)
                except AssetError as error:
                    rows.append({"file": source.name, "refused": str(error), "agreed": False})
                    found = []
                rows += [{"file": source.name, **asdict(one), "state": one.state, "agreed": one.agreed} for one in found]
                upheld = upheld and referee.upheld(found)
    lines = [
        row["refused"] if "refused" in row else f"{'  ' if row['agreed'] else '! '}{row['of']:<20}{row['what']:<36}"
        + "".join(f"{'-' if row[side] is None else format(row[side], '.6g'):>14}" for side in ("source", "usd", "mujoco", "newton"))
        for row in rows
    ]  # fmt: skip
    head = f"  {'':<56}{'source':>14}{'pxr':>14}{'MuJoCo':>14}{'Newton':>14}"
    _say(options, {"verdicts": rows, "remarks": newton_witness.remarks()}, "\n".join([head, *lines, *newton_witness.remarks()]))
    return 0 if upheld else 1


def _query(options: argparse.Namespace) -> int:
    from embodichain.assets.chain.publish import query

    found = query(options.folder, options.terms)
    lines = [f"{row['name']:<28}{row['category']:<16}{row['mass']:>9.3f} kg  {row['licence']:<14}{row['file']}" for row in found]
    _say(options, {"assets": found}, "\n".join(lines))
    return 0


def _schema(options: argparse.Namespace) -> int:
    from embodichain.assets.chain.sidecar import schema

    print(json.dumps(schema(), indent=None if options.json else 1))
    return 0


def _diff(options: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from embodichain.assets.chain.compare import compare

    changes = compare(options.first, options.second)
    if options.json:
        print(strict_json({"changes": [asdict(change) for change in changes]}))
    elif changes:
        table = Table("asset", "what", "before", "after", "change")
        for change in changes:
            relative = "" if change.relative is None else f"{change.relative:.2%}"
            table.add_row(*map(escape, (change.asset, change.what, _short(change.before), _short(change.after))), relative)
        Console().print(table)
    else:
        print("no difference")
    return 1 if changes else 0


def _short(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_short, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


_WOULD = {"kept": "keep", "waiting": "build", "failed": "refuse"}


def _jobs(options: argparse.Namespace) -> tuple[Job, ...]:
    """The jobs for the sources on the command line, in order; `options.skipped` gets each file that makes none, with the reason."""
    options.skipped = {}
    external = bool(options.generator or options.generator_command)
    named = {} if external else {entry: _families(entry) for entry in options.sources}
    from embodichain.assets.chain import jobs

    wanted: list[Job] = []
    for entry in options.sources:
        if external:
            wanted.append(_generated(options, entry))
            continue
        families, count = named[entry]
        if not families:
            wanted += _from_files(options, Path(entry))
            continue
        seeds = range(options.seed * 1000, options.seed * 1000 + count)
        for family in families:
            wanted += [jobs.ProceduralJob(category=family, seed=seed, clean=options.clean) for seed in seeds]
    return jobs.unique(wanted)


def _families(entry: str) -> tuple[tuple[str, ...], int]:
    """The procedural families that a source names and the number of each: FAMILY, FAMILY:N, `all`; none for a file or folder.

    A family may also be given as package.module:function, with the number after a second colon.
    """
    from embodichain.assets.families import FAMILIES
    from embodichain.registry import is_reference

    family, _, count = entry.rpartition(":") if entry.rpartition(":")[2].isdecimal() else (entry, "", "1")
    first, colon, _ = family.partition(":")
    if not 1 <= int(count) <= _MOST or (colon and (first in FAMILIES or first == "all")):
        raise ConfigError(f"{entry!r}: the count after the colon must be 1 to {_MOST}, as in {first}:3")
    if family == "all":
        return FAMILIES.names(), int(count)
    if family in FAMILIES or (is_reference(family) and not Path(entry).exists()):
        return (family,), int(count)
    if Path(entry).exists() or "/" in entry or "." in entry:
        return (), 0
    FAMILIES.check(family)  # raises when there is no such family
    return (family,), int(count)


def _facts(options: argparse.Namespace) -> dict[str, Any]:
    """The facts about sources that the command line states, by field of `FileFacts`."""
    words = ("licence", "category", "material", "size_m", "mass_kg", "wall_m", "keep_pose", "author", "title", "url")
    given = {name: getattr(options, name) for name in (*words, "attribution", "up", "unit")} | {"labels": tuple(options.labels)}
    return {name: value for name, value in given.items() if value}


def _from_files(options: argparse.Namespace, path: Path) -> list[Job]:
    from dataclasses import replace

    from embodichain.assets.chain.looking import Looker
    from embodichain.assets.reading.files import FileFacts, FileJob, facts_of
    from embodichain.assets.reading.folder import survey
    from embodichain.errors import EmbodiChainError

    said = _facts(options)
    FileFacts(**said)  # raises for a fault of the command line here, instead of once for each file
    wanted: list[Job] = []
    file_name, _, item = (str(path), "", "") if path.exists() else str(path).partition("#")  # a file's own name may hold one
    found, looker = survey(Path(file_name) if item else path), Looker()
    options.skipped |= dict(found.skipped)
    for file in found.files:
        try:
            facts = replace(facts_of(file), **said) if said else None
        except EmbodiChainError:
            facts = None  # the job will meet the same fault, and only it fails
        wanted += [FileJob(path=file, facts=facts, item=name) for name in ((item,) if item else looker.items(file))]
    return wanted


def _generated(options: argparse.Namespace, entry: str) -> Job:
    from embodichain.assets.reading.files import FileFacts
    from embodichain.assets.reading.generated import GeneratedJob
    from embodichain.assets.reading.generator import GenerateRequest, GeneratorConfig

    picture = Path(entry) if Path(entry).suffix.lower() in _PICTURES else None
    return GeneratedJob(
        request=GenerateRequest(prompt="" if picture else entry, image=picture, seed=options.seed),
        generator=GeneratorConfig(
            url=options.generator,
            command=options.generator_command,
            timeout_s=options.generator_timeout,
            max_bytes=int(options.generator_max_mb * 2**20),
            licence=options.licence,
        ),
        facts=FileFacts(**{name: value for name, value in _facts(options).items() if name != "licence"}),
    )


def _tables(outcomes: Sequence[JobOutcome]) -> None:
    """Prints what was built, and why the rest was not."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from embodichain.assets.usd import files as usd

    console = Console()
    table = Table("asset", "", "mass", "bodies", "seconds", box=None, pad_edge=False)
    for outcome in outcomes:
        if outcome.state != "failed":
            asset = usd.read(outcome.file)
            mass = f"{sum(body.mass for body in asset.bodies):.3f} kg"
            table.add_row(outcome.name, outcome.state, mass, str(len(asset.bodies)), f"{outcome.seconds:.1f}")
    console.print(table, soft_wrap=True)
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    if failed:
        table = Table("failed", "reason", title=f"{len(failed)} of {len(outcomes)} assets failed", title_justify="left")
        for outcome in failed:
            table.add_row(escape(outcome.name), escape(outcome.reason))
        console.print(table)


def _shown(board: JobBoard) -> Listener:
    def show(outcome: JobOutcome) -> None:
        if outcome.state == "building":
            board.working(outcome.name, outcome.stage)
        else:
            board.ended(outcome.name, outcome.state, outcome.reason)

    return show


def _say(options: argparse.Namespace, values: dict[str, Any], text: str) -> None:
    print(strict_json(values) if options.json else text)


def _files(paths: Sequence[Path]) -> list[Path]:
    """The USD files among the paths and below them."""
    files: list[Path] = []
    for path in paths:
        below = sorted(p for p in path.rglob("*") if p.suffix in _SUFFIXES and not _is_layer(p))
        found = below if path.is_dir() else [path]
        if not found or not all(p.exists() for p in found):
            raise ConfigError(f"no USD file at {path}; give a .usd, .usda or .usdc file, or a folder that holds some")
        files += found
    return list(dict.fromkeys(files))


def _is_layer(path: Path) -> bool:
    """Whether a file is a payload layer of an interface in the folder above it."""
    return path.parent.name == "payload" and any(other.suffix in _SUFFIXES for other in path.parent.parent.iterdir())


def _validate(options: argparse.Namespace) -> int:
    from embodichain.assets.physical import grasp
    from embodichain.assets.physical import simulated_checks as behave
    from embodichain.assets.usd import files as usd
    from embodichain.assets.usd import usd_contents as facts
    from embodichain.assets.usd import validate, validators
    from embodichain.errors import AssetError
    from embodichain.progress import Board

    files = _files(options.paths)
    public = () if options.own else validators.installed()
    if options.public and set(public) != set(validators.PUBLIC):
        missing = ", ".join(sorted(set(validators.PUBLIC) - set(public)))
        raise ConfigError(f"public validators not installed: {missing}; {validators.INSTALL}")
    verdicts: dict[str, dict[str, list[Issue]]] = {"on paper": {}, "in physics": {}}
    if options.lifts:
        verdicts["lifts"] = {}
    with Board(quiet=options.json) as board:
        for number, path in enumerate(files, 1):
            board.update("validate", number, len(files), path.name)
            verdicts["on paper"][str(path)] = found = validate.check(path)
            if found:
                continue  # a file that fails the checks on paper is not simulated
            try:
                asset = usd.read(path) if validate.is_ours(usd.inspect(path)) else _from_elsewhere(path)
                verdicts["in physics"][str(path)] = behave.check(asset)
                if options.lifts:
                    verdicts["lifts"][str(path)] = grasp.check(asset, usd.lift_rates(path))
            except AssetError as error:
                verdicts["in physics"][str(path)] = [facts.Issue(check="simulate", prim="/", message=str(error))]
        for number, name in enumerate(public, 1):
            board.update("public validators", number, len(public), name)
            verdicts[name] = validators.check(name, files)
    failing = [str(path) for path in files if any(found.get(str(path)) for found in verdicts.values())]
    if options.json:
        issues = {
            str(path): [{"by": by, **asdict(issue)} for by, found in verdicts.items() for issue in found.get(str(path), [])]
            for path in files
        }
        told = {"files": issues, "checked_by": list(verdicts), "failed": len(failing)}
        print(strict_json(told | {"passed": len(files) - len(failing)}))
    else:
        _verdict_table(files, verdicts)
        absent = [] if options.own else sorted(set(validators.PUBLIC) - set(public))
        if absent:
            print(f"not installed, so not asked: {', '.join(absent)} ({validators.INSTALL})")
        print(f"{len(files) - len(failing)} of {len(files)} assets pass")
    return 1 if failing else 0


def _from_elsewhere(path: Path) -> Asset:
    """The asset in a USD file that somebody else wrote, in memory, as the file states it."""
    from embodichain.assets.chain import foreign_stages, optimize, record, settings
    from embodichain.assets.reading.files import FileFacts, from_file

    config, told = settings.ChainConfig(), record.Record()
    raw = from_file(path, FileFacts(licence="unknown", keep_pose=True))
    return optimize.assembled(foreign_stages.prepared(raw, config, told), config, told)


def _verdict_table(files: Sequence[Path], verdicts: dict[str, dict[str, list[Issue]]]) -> None:
    """Prints one row for each file with a column for each judge, and below the table every fault."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    table = Table("asset", *verdicts)
    mark: Callable[[list[Issue] | None], str] = lambda found: (  # noqa: E731
        "-" if found is None else f"[red]{len(found)} faults" if found else "[green]ok"
    )
    for path in files:
        table.add_row(escape(path.stem), *(mark(found.get(str(path))) for found in verdicts.values()))
    console.print(table)
    for path in files:
        for by, found in verdicts.items():
            for issue in found.get(str(path), []):
                print(f"{path}\n  {by}: {issue.check} at {issue.prim}: {issue.message}")
