"""`embodichain trace` finds what produced a training sample; `embodichain replay` simulates an episode again from its record."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embodichain.command_line import Parser, check_writable, ending, existing
from embodichain.lines import strict_json
from learner.commands.kinds import run_folder

if TYPE_CHECKING:
    from embodichain.resimulation import Resimulated
    from embodichain.world import World

_SAMPLES = (
    "which trajectory: its id (decimal or 0x...), WORKER/EPOCH/NUMBER, line:N of the ledger, or step:S or step:S:ROW for what "
    "training step S read"
)


def trace(arguments: list[str]) -> int:
    """`embodichain trace RUN SAMPLE`."""
    parser = Parser("trace", "From a sample of a run back to its scene, assets, licences and draws, and to a film of that episode.")
    parser.add_argument("run", type=run_folder, help="a run folder")
    parser.add_argument("sample", help=_SAMPLES)
    parser.add_argument("-o", "--out", type=Path, help="folder for record.json and episode.mp4 (default: RUN/traces/ID)")
    parser.add_argument("--no-film", action="store_true", help="write the record alone")
    parser.add_argument("--dry-run", action="store_true", help="find the sample and its reads, and simulate nothing")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse(arguments)
    from embodichain.progress import Board
    from embodichain.types import TrajectoryId
    from learner.records.files import write_whole
    from learner.records.run_folder import RunFolder
    from learner.runs.trace import find_sample, reads_of
    from learner.runs.trace import trace as made_of

    folder = RunFolder.open(options.run)
    packed = find_sample(folder, options.sample)
    identity, reads = TrajectoryId.unpack(packed), [asdict(read) for read in reads_of(folder, packed)]
    told: dict[str, Any] = {"id": packed, **asdict(identity), "reads": reads}
    if options.dry_run:
        print(strict_json(told) if options.json else f"{packed}: scene {identity.sequence}, read {len(reads)} times")
        return 0
    out = options.out or folder.path / "traces" / str(packed)
    check_writable(out)
    with Board(quiet=options.json) as board:
        record, world, again = made_of(folder, packed, board.update)
    write_whole(out / "record.json", json.dumps(record, indent=1))
    told |= record | {"record": str(out / "record.json")} | _film(options.no_film, out / "episode.mp4", world, again)
    told.pop("world")
    if options.json:
        print(strict_json(told))
        return 0
    print(f'{packed}: scene {record["number"]} of worker {identity.worker}, {record["task"]}: "{record["instruction"]}"')
    print(f"  {record['verdict']}, after {record['chunks']} chunks; read {len(reads)} times, at steps {_steps(reads)}")
    for role, asset in record["assets"].items():
        print(f"  {role:<12} {asset['name']}, {asset['licence'] or 'no licence stated'}, from {asset['source']}")
    for name, value in record["expansion"].items():
        print(f"  {name:<28} {value:.4g}")
    for name in ("record", "film"):
        if name in told:
            print(f"  {name}: {told[name]}")
    return 0


def replay(arguments: list[str]) -> int:
    """`embodichain replay RECORD`; returns 0 when the new episode equals the recorded one bit for bit, else 1."""
    parser = Parser("replay", "Simulate an episode again from its record, and say whether it is the same to the bit.")
    parser.add_argument("record", type=existing, help="record.json of `embodichain trace`")
    parser.add_argument("-o", "--out", type=ending(".mp4"), help="where to write a film of it, an MP4 file (default: none)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse(arguments)
    from embodichain.progress import Board
    from learner.runs.trace import replay as played_again

    if options.out is not None:
        check_writable(options.out.parent)
    with Board(quiet=options.json) as board:
        told, world, again = played_again(options.record, board.update)
    told |= _film(options.out is None, options.out, world, again)
    if options.json:
        print(strict_json(told))
    elif told["differing"]:
        print(f"scene {told['number']} of {told['task']} differs in {', '.join(told['differing'])}")
        print(f"  since then: {'; '.join(told['changed']) or 'nothing that the record knows of has changed'}")
    else:
        print(f"scene {told['number']} of {told['task']}: all {told['fields']} fields are the same to the bit")
    return 1 if told["differing"] else 0


def _film(without: bool, path: Path | None, world: World, again: Resimulated) -> dict[str, str]:
    """Writes a film unless told not to or the physics draws nothing; returns {"film": path}, or {} without a film."""
    if without or path is None or world.config.physics != "mujoco":
        return {}
    from learner.reporting.pictures import save_film

    path.parent.mkdir(parents=True, exist_ok=True)
    caption = f'scene {again.scene.seed} of {again.scene.task}: "{again.scene.instruction}"'
    save_film(path, world, again.scene, again.trajectory, caption)
    return {"film": str(path)}


def _steps(reads: list[dict[str, Any]]) -> str:
    steps = [str(read["step"]) for read in reads]
    return ", ".join(steps if len(steps) <= 8 else [*steps[:4], "...", *steps[-3:]]) or "none yet"
