"""`embodichain export lerobot|robomimic|robotwin`: episodes in other people's formats, from scenes or from a running job."""

from __future__ import annotations

import shlex
import signal
import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING

from embodichain.command_line import Parser, existing, natural
from embodichain.commands.kinds import robot
from embodichain.errors import ConfigError
from embodichain.exchange.writers import FORMATS
from embodichain.lines import strict_json
from embodichain.types import CHUNK, LEDGER_FILE, RING_FILE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from embodichain.config import WorldConfig
    from embodichain.exchange.card import AssetOrigin
    from embodichain.exchange.recorded import DatasetLayout, Recorded
    from embodichain.exchange.sources import Told
    from embodichain.exchange.writers import DatasetWriter
    from embodichain.progress import Board

_SCENES = ("seed", "size", "chunk", "painter", "visual", "physical", "recovery")
"""Options that apply only to scenes, not to a running job."""
_SECONDS = 20.48
"""Longest duration of an episode [s], as in a run: 64 chunks of 16 commands at 50 Hz."""


def export(arguments: list[str]) -> int:
    """Writes a data set in the format of the first argument; returns 130 after Ctrl-C or SIGTERM, with a complete data set."""
    form, *rest = arguments
    parser = _parser(form)
    options = parser.parse(rest)
    _check(parser, options)
    begin = FORMATS.get(form)  # first, so that a missing package is reported before anything long begins
    _check_folder(begin, options)
    if options.dry_run:
        return _plan(form, options)
    from embodichain.exchange.sources import Told
    from embodichain.progress import Board

    told, interrupted, began = Told(), False, time.monotonic()
    with Board(quiet=options.json) as board, _Stop() as stop, ExitStack() as stack:
        writer, recorded, between = _open(begin, options, told, board, stop, stack)
        before = writer.num_episodes
        try:
            try:
                _write(writer, recorded, between, options, stop)
            finally:
                with stop.held():
                    stack.close()
        except KeyboardInterrupt:
            interrupted = True
    report = {
        "format": form,
        "out": str(options.out),
        "episodes": writer.num_episodes,
        "new_episodes": writer.num_episodes - before,
        "refused": sum(told.refused.values()),
        "reasons": dict(told.refused),
        "reads": told.reads,
        "seen_before": told.seen_before,
        "interrupted": interrupted,
        "wall_s": round(time.monotonic() - began, 2),
    }
    if options.json:
        print(strict_json(report))
    else:
        print(f"{report['episodes']} episodes in {options.out}, {report['new_episodes']} of them new, {report['refused']} refused")
    return 130 if interrupted else 0


def _parser(form: str) -> Parser:
    parser = Parser(
        f"export {form}",
        "Episodes that succeeded, with pictures, commands, words and provenance, from scenes played on the spot (--task) or from "
        "the ring of a running job (--run), as one more reader under its bound. Each episode is written whole or not at all.",
    )
    add = parser.add_argument
    add("-o", "--out", type=Path, required=True, help="the data set's folder")
    add(
        "-n",
        "--count",
        type=int,
        default=50,
        help="episodes wanted in the data set (default 50); 0: as many as the job makes",
    )
    add("--task", nargs="+", metavar="TASK", default=[], help="play scenes of these tasks, see `embodichain list`")
    add("--run", type=existing, help="the folder of a run that is going on")
    add("--robot", type=robot, help="a name from `embodichain list`, or a robot's file; by default the run's, or dual_piper")
    add("--seed", type=natural, default=0, help="decides the scenes, as a run's --seed")
    add("--size", type=int, default=128, help="edge of a picture [pixels] (default 128)")
    add("--chunk", type=int, default=1, help=f"commands in a row: 1 takes a picture for each; a stream has {CHUNK} (default 1)")
    add("--painter", default="raster", help="what draws: raster, or raycast, which is slower and softer (default raster)")
    add("--visual", action="store_true", help="with visual expansion")
    add("--physical", action="store_true", help="with physical expansion")
    add("--recovery", type=float, default=0.0, help="how often an episode is provoked into a failure (default 0)")
    add("--licence", default="", help="of the data set as a whole, as the Hub spells it; by default that of its assets")
    add("--resume", action="store_true", help="go on with the data set in --out")
    add("--dry-run", action="store_true", help="say what would be written")
    add("--json", action="store_true", help="print one JSON object")
    return parser


def _check(parser: Parser, options: Namespace) -> None:
    from embodichain import tasks

    if bool(options.task) == (options.run is not None):
        raise ConfigError("say where episodes come from: --task TASK for scenes, or --run RUN for a running job; one of them")
    if options.count < 0 or (not options.count and options.task):
        raise ConfigError(f"--count must be at least 1 with --task, and not negative, got {options.count}")
    if options.run is not None and (played := [name for name in _SCENES if getattr(options, name) != parser.get_default(name)]):
        raise ConfigError(f"--{played[0]} says how scenes are played, and --run plays none: leave it out, or use --task")
    for name in options.task:
        tasks.check(name)


def _check_folder(kind: Callable[..., DatasetWriter], options: Namespace) -> None:
    """Raises ConfigError for episodes or a folder that the format cannot take, before anything long has begun."""
    layout = _layout(options)
    if check := getattr(kind, "check", None):
        check(options.out, layout, resume=options.resume)


def _layout(options: Namespace) -> DatasetLayout:
    """The layout of the episodes that these options ask for; raises an error for an unusable world or run."""
    from embodichain import robots
    from embodichain.exchange.recorded import DatasetLayout

    if options.task:
        from embodichain.world import check_names

        config = _world(options)
        robot, _ = check_names(config)
        return DatasetLayout.of(robot, config.trajectory_spec(robot))
    from embodichain.ring.stats import Observer

    named, path, _ = _running(options.run)
    return DatasetLayout.of(robots.get(options.robot or named), Observer.open(path).spec.trajectory)


def _plan(form: str, options: Namespace) -> int:
    source = f"scenes of {', '.join(options.task)}" if options.task else f"the ring of {options.run}"
    if options.json:
        plan = {"dry_run": True, "format": form, "source": source, "episodes": options.count, "out": str(options.out)}
        print(strict_json(plan))
    else:
        print(f"{options.count or 'all'} episodes from {source} would go to {options.out} as {form}")
    return 0


class _Stop:
    """Ctrl-C and SIGTERM end the program at once. Within `held`, the first one waits for the block's end, a second one does not."""

    def __init__(self) -> None:
        self._asked = False
        self._depth = 0

    def __enter__(self) -> _Stop:
        self._before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        wait = self._depth and not self._asked
        self._asked = True
        if not wait:
            raise KeyboardInterrupt

    @contextmanager
    def held(self) -> Iterator[None]:
        """Delays a signal until the outermost such block ends, which then raises KeyboardInterrupt."""
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
        if not self._depth:
            self.check()

    def check(self) -> None:
        """Raises KeyboardInterrupt after a signal."""
        if self._asked:
            raise KeyboardInterrupt


def _write(
    writer: DatasetWriter, recorded: Iterator[Recorded], between: Callable[[], None], options: Namespace, stop: _Stop
) -> None:
    """Copies episodes from the source to the data set until there are enough."""
    while not options.count or writer.num_episodes < options.count:
        # A draw from a ring uses up a read, so a drawn episode is always written; an unfinished scene costs nothing.
        with nullcontext() if options.task else stop.held():
            episode = next(recorded, None)
            if episode is None:
                return
            with stop.held():
                writer.add(episode)
                between()


def _open(
    kind: Callable[..., DatasetWriter], options: Namespace, told: Told, board: Board, stop: _Stop, stack: ExitStack
) -> tuple[DatasetWriter, Iterator[Recorded], Callable[[], None]]:
    """The data set, the source of its episodes, and a function that is called between episodes; `stack` closes the first two."""
    from embodichain.exchange.card import Card, sources_of
    from embodichain.exchange.recorded import DatasetLayout
    from embodichain.exchange.sources import from_ring, from_scenes
    from embodichain.types import TrajectoryId

    def begin(layout: DatasetLayout, sources: Mapping[str, AssetOrigin]) -> DatasetWriter:
        command = shlex.join(["embodichain", *sys.argv[1:]])
        card = Card(layout=layout, command=command, licence=options.licence, sources=sources)
        return stack.enter_context(kind(options.out, layout, card, resume=options.resume))

    def between() -> None:
        """Called before each scene and each look at the ring: shows the progress, and raises after a signal."""
        done, refused = writer.num_episodes, sum(told.refused.values())
        board.update("episodes", done, options.count or done + 1, f"{refused} refused" if options.task else f"{told.reads} reads")
        stop.check()

    if options.task:
        from embodichain.prepare import prepare

        config = _world(options)
        world = prepare(config, board.update)
        writer = begin(DatasetLayout.of(world.robot, world.trajectory_spec), sources_of(world.assets))
        numbers = [TrajectoryId.unpack(packed).sequence for packed in writer.trajectory_ids]
        return writer, from_scenes(world, max(numbers, default=-1) + 1, told, between), between
    from embodichain import robots
    from embodichain.ring.open import attach_ring

    named, path, rings = _running(options.run)
    ring = stack.enter_context(attach_ring(path))
    body = robots.get(options.robot or named)
    writer = begin(DatasetLayout.of(body, ring.spec.trajectory), _sources(options.run / "assets"))
    board.say(
        f"reading along in {path}" + (f", the first of {rings} rings: what is in the others is not read" if rings > 1 else "")
    )
    return writer, from_ring(ring, body, options.run / LEDGER_FILE, writer.trajectory_ids, told, between), between


def _world(options: Namespace) -> WorldConfig:
    from embodichain.config import WorldConfig
    from embodichain.expand.physical import PhysicalConfig
    from embodichain.expand.visual import VisualConfig
    from embodichain.recovery.config import RecoveryConfig
    from embodichain.robots import get

    name = options.robot or "dual_piper"
    return WorldConfig(
        robot=name,
        painter=options.painter,
        tasks=tuple(options.task),
        width=options.size,
        height=options.size,
        chunk=options.chunk,
        horizon=max(1, round(_SECONDS * get(name).control_hz / max(options.chunk, 1))),
        seed=options.seed,
        recovery=RecoveryConfig(probability=options.recovery),
        visual=VisualConfig(enabled=options.visual),
        physical=PhysicalConfig(enabled=options.physical),
    )


def _running(run: Path) -> tuple[str, Path, int]:
    """The robot of a run, the path of its first ring, and how many rings it has; raises ConfigError when the run is not running."""
    import yaml

    from embodichain.ring.stats import Observer

    note, config = run / RING_FILE, run / "config.yaml"
    path = Path(note.read_text(encoding="utf-8").strip()) if note.exists() else None
    # The file of a killed run's ring remains until somebody removes it.
    alive = path is not None and path.exists() and config.exists() and Observer.open(path).witness.owner_alive()
    if path is None or not alive:
        raise ConfigError(
            f"{run} has no ring now: it is no run, or not going on; export while it runs, or play scenes of its tasks (--task)"
        )
    saved = yaml.safe_load(config.read_text(encoding="utf-8"))
    return str(saved["world"]["robot"]), path, int(saved.get("train", {}).get("nodes", 1))


def _sources(assets: Path) -> dict[str, AssetOrigin]:
    """The provenance in the records beside a run's assets, by content hash."""
    from embodichain.exchange.card import AssetOrigin
    from embodichain.exchange.files import read_json

    found = {}
    for path in sorted(assets.glob("*/*.json")):
        values = read_json(path)
        if isinstance(values, dict) and "content_hash" in values:
            found[values["content_hash"]] = AssetOrigin(
                name=values["name"], category=values["category"], licence=values["licence"], origin=values["source"]
            )
    return found
