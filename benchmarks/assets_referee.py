"""Do other programs read the same quantities from files of public packages and from the assets made of them?

    python benchmarks/assets_referee.py CACHE [--most N] [--folders NAME ...] [--keep FILE] [--json]

Packages are downloaded by name into CACHE when they are missing. Of each of their folders, `--most` descriptions (URDF, MJCF),
spread evenly, are built, every thing in them. The source is read and played by MuJoCo itself, the asset by pxr, MuJoCo and, where
it is installed, Newton (with `--play` it plays it too). A quantity of the source agrees when all who say something say the same to
1e-3, and pxr and MuJoCo both do; falls and slides are counted among them where the source was played, and all of them as `moves`.
A thing of which nothing was compared is `uncompared`. What does not agree is `explained` when the asset's fidelity table has a row
about that quantity of that body or joint that says what was changed. With `--keep`, every row is written to FILE at once, and a
later run of the same code judges only what has none.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import asset_packages
import harness

from embodichain.assets.chain import jobs, newton_witness, optimize, settings
from embodichain.assets.chain.referee import Agreement, Comparison, referee
from embodichain.assets.reading import folder
from embodichain.assets.reading.files import FileFacts, FileJob
from embodichain.errors import AssetError

_DESCRIBED = (".urdf", ".xml", ".mjcf")
SILENT = "the source states neither mass nor friction nor limits"
_LIMIT_S = 1800
"""Most processor time of one thing [s]; what takes longer counts as refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Results of one thing in a file: numbers of quantities compared and in agreement, and the others, explained or not."""

    file: str
    compared: int = 0
    agreed: int = 0
    explained: int = 0
    different: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    """Quantities that the source states and no reader finds in the asset under their names."""
    moves: int = 0
    moved: int = 0
    """Falls and slides, and how many of them came as the source's, or as mechanics has it."""
    refused: str = ""
    untold: tuple[str, ...] = ()
    """Why something could not be compared with the source, for example because MuJoCo cannot read the source."""


def rows(folders: Sequence[Path], most: int, out: Path, *, play: bool = False, kept: harness.Kept | None = None) -> Iterator[Row]:
    """A row for each thing in each file taken from the folders; with `play`, Newton plays the assets.

    Rows in `kept` are not made again.
    """
    for source in folders:
        files = [file for file in folder.survey(source).files if file.suffix.lower() in _DESCRIBED]
        for file in files[:: max(len(files) // most, 1)][:most]:
            for item in folder.items(file):
                name = f"{source.name}/{file.relative_to(source)}" + (f": {item}" if item else "")
                if kept is None:
                    yield judged(file, item, name, out, play=play)
                    continue
                key = json.dumps([name, play, jobs.code_digest()])
                if key not in kept.rows:
                    kept.add(key, asdict(judged(file, item, name, out, play=play)))
                made: dict[str, Any] = {
                    field: tuple(value) if isinstance(value, list) else value for field, value in kept.rows[key].items()
                }
                yield Row(**made)


def judged(file: Path, item: str, name: str, out: Path, *, play: bool = False) -> Row:
    """The row of one thing in a file, under a name."""
    job = FileJob(path=file, facts=FileFacts(licence="unknown"), item=item)
    try:
        with harness.limited(_LIMIT_S, AssetError):
            asset = optimize.build_job(job, out, config=settings.ChainConfig())
            found = referee(file, asset, play_newton=play)
    except AssetError as error:
        return Row(file=name, refused=str(error)[:100])
    told = json.loads(asset.path.with_suffix(".json").read_text(encoding="utf-8"))["fidelity"]
    changed = {(row["of"], row["what"]) for row in told if row["fate"] != "kept"}
    untold = [one for one in found if one.state is Agreement.NOT_COMPARED and not one.stated]
    verdicts = [one for one in found if one.compared or (one.state is Agreement.NOT_COMPARED and one.stated)]
    apart = [one for one in verdicts if not one.agreed]
    moves = [one for one in found if one.moving]
    silent = [one for one in apart if not {(of, what) for what in _causes(one.what) for of in (one.of, file.name)} & changed]
    return Row(
        file=name,
        compared=sum(one.compared for one in verdicts),
        agreed=len(verdicts) - len(apart),
        explained=len(apart) - len(silent),
        different=tuple(_said(one) for one in silent if one.state is not Agreement.LOST),
        lost=tuple(_said(one) for one in silent if one.state is Agreement.LOST),
        moves=len(moves),
        moved=sum(one.agreed for one in moves),
        untold=tuple(one.what for one in untold) if verdicts or untold else (SILENT,),
    )


def _causes(what: str) -> Sequence[str]:
    """Rows of the fidelity table that may explain a difference in a quantity."""
    first = what.split()[0]
    masses = ("mass", "centre of mass", "inertia", "inertia of meshes")
    touches = ("dimensions", "priority", "margin", "gap", "softness", "impedance", "groups")
    rubs = ("static friction", "dynamic friction", "dynamic friction of colliders", *(f"contact {what}" for what in touches))
    causes = {"mass": masses, "centre": masses, "inertia": masses, "friction": rubs, "friction,": rubs}
    return (causes | {"slide": rubs, "fall": ("gravity compensation",)}).get(first, ("limits", "joint"))


def _said(one: Comparison) -> str:
    ours = one.mujoco if one.moving else one.usd
    source, usd = ("-" if value is None else format(value, ".6g") for value in (one.source, ours))
    return f"{one.of} {one.what}: {source}, {usd} ({one.state})"


def main() -> None:
    arguments = harness.parser(__doc__, "two files of each folder")
    arguments.add_argument("cache", type=Path)
    arguments.add_argument("--most", type=int, default=6)
    arguments.add_argument("--play", action="store_true", help="let Newton play the assets, which compiles for minutes once")
    arguments.add_argument("--folders", nargs="*", default=[], help="names of the only folders to take files from")
    arguments.add_argument("--keep", type=Path, help="file of rows: what is there and not stale is not judged again")
    options = arguments.parse_args()
    folders = [place for place in asset_packages.fetched(options.cache) if not options.folders or place.name in options.folders]
    kept = harness.Kept(options.keep) if options.keep else None
    with TemporaryDirectory() as place:
        most = 2 if options.quick else options.most
        found = list(rows(folders, most, Path(place), play=options.play, kept=kept))
    if not options.json:
        print("| file | compared | agreed | explained | moves | different |\n|---|---|---|---|---|---|")
        for row in found:
            told = f"refused: {row.refused}" if row.refused else "; ".join([*row.different, *row.lost][:3]) or "-"
            told = told if row.compared or row.refused else f"nothing compared: {'; '.join(row.untold)}"
            print(f"| {row.file} | {row.compared} | {row.agreed} | {row.explained} | {row.moved} of {row.moves} | {told} |")
    figures = {
        "things": len(found), "refused": sum(bool(row.refused) for row in found), "compared": sum(row.compared for row in found),
        "agreed": sum(row.agreed for row in found), "explained": sum(row.explained for row in found),
        "different": sum(len(row.different) for row in found), "lost": sum(len(row.lost) for row in found),
        "uncompared": sum(not row.compared and not row.refused for row in found),
        "moves": sum(row.moves for row in found), "moved": sum(row.moved for row in found), "newton": newton_witness.installed(),
    }  # fmt: skip
    harness.give(figures, options)


if __name__ == "__main__":
    main()
