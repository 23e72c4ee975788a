"""Are data sets exported and imported without loss, and how fast are they written?

    python benchmarks/exchange.py [--quick] [--json] [--lerobot PYTHON]

lerobot_roundtrip_equal   episodes of turn_switch are simulated, written as a LeRobot v3 data set and read back: commands, measured
                          states, labels, instruction and provenance must be bitwise equal, images within 3 of 255 on average.
lost_after_kill           largest number of episodes lost by `kill -9` of an export from a ring: drawn according to the ledger and
                          not in the data set. The episodes in the data set are read back and compared.
frames_per_s_over_lerobot_writer   frames a second of our writer over the faster one of lerobot's two ways (PNG files, or encoding
                          as frames come), H.264, the same episodes in the same run. Ours encodes at crf 18, theirs at 30: better
                          pictures. It needs an environment with lerobot (`make bench-exchange` makes one); null without.
metaworld_steps_per_s_over_bare    control steps a second of processor time, of all processes together: scripted episodes of
                          Meta-World through our source, without pictures, over the same experts in Meta-World by itself (0.8
                          asked); the median of turns. Null without an environment that has it (`make bench-exchange` makes one).
gym_checker_warnings      warnings of gymnasium's own checker on every task's environment, two with --quick (target: 0).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from argparse import Namespace
from pathlib import Path
from typing import Any

import exchange_metaworld
import gymnasium
import harness
import numpy as np
from gymnasium.utils.env_checker import check_env

from embodichain.config import WorldConfig
from embodichain.environments import NAMESPACE
from embodichain.exchange.card import Card, sources_of
from embodichain.exchange.lerobot_reader import LeRobotFolder
from embodichain.exchange.lerobot_writer import LeRobotWriter
from embodichain.exchange.recorded import DatasetLayout, Recorded
from embodichain.exchange.sources import Told, from_scenes
from embodichain.motion.action import ActionCodec
from embodichain.prepare import prepare
from embodichain.ring.ledger import Event, Ledger, load
from embodichain.ring.ring import Ring
from embodichain.types import LEDGER_FILE, RING_FILE, RingSpec, write_text
from embodichain.world import World

_ROOT = Path(__file__).parents[1]
_LEROBOT = _ROOT / ".venv-exchange/bin/python"
_PICTURES_OFF = 3.0
"""Largest mean difference between images before and after video compression, of 255."""


def main() -> None:
    """Measures and prints."""
    parser = harness.parser(__doc__, "two episodes and one kill")
    parser.add_argument(
        "--foreign", type=Path, default=exchange_metaworld.python(), help="the interpreter of an environment with metaworld"
    )
    parser.add_argument("--lerobot", type=Path, default=_LEROBOT, help="the interpreter of an environment with lerobot")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        figures = data_sets(Path(place), options) | exchange_metaworld.steps(options.foreign, quick=options.quick)
        harness.give(figures | {"gym_checker_warnings": checked(quick=options.quick)}, options)


def checked(*, quick: bool) -> int:
    """Number of warnings of gymnasium's checker for the tasks' environments; the checker raises for errors."""
    names = [name for name in gymnasium.registry if name.startswith(f"{NAMESPACE}/")]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for name in names[:2] if quick else names:
            made = gymnasium.make(name, render_mode="rgb_array", width=32, height=32)
            check_env(made.unwrapped)
            made.close()
    for warning in said:
        print(warning.message, file=sys.stderr)
    return len(said)


def data_sets(place: Path, options: Namespace) -> dict[str, Any]:
    """Figures of data sets as files: round trip, losses, and speed of writing."""
    world = prepare(WorldConfig(tasks=("turn_switch",), painter="raster", width=128, height=128, chunk=1, horizon=1024))
    played = from_scenes(world, 0, Told(), lambda: None)
    episodes = [next(played) for _ in range(2 if options.quick else 4)]
    played.close()
    written, ours = write(world, place / "ours", [episodes[0], *episodes])
    equal, off = compare(world, place / "ours", [episodes[0], *episodes])
    kills = [lost(place / f"kill{number}", episodes[0], world) for number in range(1 if options.quick else 5)]
    theirs = stock_writer(place, options.lerobot, world, [episodes[0], *episodes])
    return {
        "lerobot_roundtrip_equal": equal,
        "pictures_off": round(off, 3),
        "lost_after_kill": max(kills),
        "kills": len(kills),
        "frames_per_s_over_lerobot_writer": round(ours / max(theirs.values()), 2) if theirs else None,
        "frames_per_s": round(ours, 1),
        "lerobot_frames_per_s": {name: round(value, 1) for name, value in theirs.items()},
        "frames": written,
    }


def write(world: World, folder: Path, episodes: list[Recorded]) -> tuple[int, float]:
    """Writes a data set; the frames and frames per second of all episodes but the first, which warms up."""
    layout = DatasetLayout.of(world.robot, world.trajectory_spec)
    card = Card(layout=layout, command="benchmarks/exchange.py", sources=sources_of(world.assets))
    with LeRobotWriter(folder, layout, card) as writer:
        writer.add(episodes[0])
        took = harness.seconds(lambda: [writer.add(episode) for episode in episodes[1:]])
    frames = sum(episode.num_frames for episode in episodes[1:])
    return frames, frames / took


def compare(world: World, folder: Path, episodes: list[Recorded]) -> tuple[bool, float]:
    """Whether everything but images is read back as written, and the mean difference of the images, of 255."""
    read, codec = LeRobotFolder(folder, world.robot, world.trajectory_spec), ActionCodec(world.robot)
    equal, off = read.num_episodes == len(episodes), 0.0
    for number, made in enumerate(episodes):
        back = Recorded.of(read.episode(number), codec)
        same = [
            np.array_equal(getattr(back, n), getattr(made, n)) for n in ("action", "action_pose", "state", "state_pose", "segment")
        ]
        equal &= all(same) and back.instruction == made.instruction and back.info == made.info
        off = max(off, float(np.abs(back.rgb.astype(np.int16) - made.rgb).mean()))
    return equal and off < _PICTURES_OFF, off


def lost(run: Path, episode: Recorded, world: World) -> int:
    """Kills an export from a ring; the number of episodes that were drawn and are not in the data set."""
    spec, codec, out = world.trajectory_spec, ActionCodec(world.robot), run / "out"
    run.mkdir()
    with Ring.create(RingSpec(trajectory=spec, num_slots=6, max_reads=4)) as ring:
        for number in range(6):
            with ring.reserve() as slot:
                for entry in spec.fields:
                    slot[entry.name][...] = 0
                chunks = episode.num_frames - 1
                slot["rgb"][: chunks + 1] = episode.rgb
                slot["action"][:chunks] = codec.encode(episode.action.astype(np.float64))
                slot["proprio"][: chunks + 1] = codec.encode(episode.state.astype(np.float64))
                slot["num_chunks"][()], slot["trajectory_id"][()] = chunks, number
                slot["action_mask"][:] = codec.mask
                write_text(slot["info"], episode.info.encode())
                write_text(slot["instruction"], episode.instruction.encode())
        (run / RING_FILE).write_text(str(ring.path))
        (run / "config.yaml").write_text(json.dumps({"world": {"robot": world.robot.name}}))
        with Ledger.open(run / LEDGER_FILE) as ledger:
            ledger.bound(4)
        command = [sys.executable, "-m", "embodichain.cli", "export", "lerobot", "--run", str(run), "-n", "0", "-o", str(out)]
        child = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(_ROOT)}, stderr=subprocess.DEVNULL)
        while not (out / "meta/info.json").exists() or json.loads((out / "meta/info.json").read_text())["total_episodes"] < 2:
            if child.poll() is not None:
                raise SystemExit(f"the export ended by itself with {child.returncode}")
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
        child.wait()
    records, _ = load(run / LEDGER_FILE)
    drawn = len(set(records["trajectory_id"][records["event"] == Event.READ].tolist()))
    kept = LeRobotFolder(out, world.robot, spec).num_episodes
    equal, _ = compare(world, out, [episode] * kept)
    if not equal:
        raise SystemExit("what a killed export left is not what was drawn")
    return drawn - kept


def stock_writer(place: Path, python: Path, world: World, episodes: list[Recorded]) -> dict[str, float]:
    """Frames per second of lerobot's writer, in an environment of its own; empty where there is none."""
    if not python.exists():
        return {}
    arrays: dict[str, Any] = {"count": len(episodes), "fps": world.robot.control_hz}
    arrays["cameras"] = [camera.name for camera in world.robot.cameras]
    for number, episode in enumerate(episodes):
        arrays |= {f"rgb_{number}": episode.rgb, f"state_{number}": episode.state}
    np.savez(place / "episodes.npz", **arrays)
    script = Path(__file__).parent / "peers/lerobot_writer.py"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}
    environment["HF_HOME"] = str(place / "hub")
    command = [str(python), str(script), str(place / "episodes.npz"), str(place / "theirs")]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if said.returncode:
        raise SystemExit(f"lerobot's writer failed: {said.stderr[-2000:]}")
    return json.loads(said.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
