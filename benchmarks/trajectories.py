"""How many trajectories a core streams in the time in which it streamed one before: the whole worker, scene to ring slot.

    python benchmarks/trajectories.py [--quick] [--json] [--before REVISION] [--tasks TASK ...]

Two processes play the same numbers in turns, and each says how much processor time it took. One is what stands here. The other is
another revision of this repository, or, when none is named, this one with the pictures drawn by the ray caster, as every stream's
were before there was a rasteriser: then all that is streamed but the pictures must be the same bytes.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import harness

ASKED = ("turn_switch", "place_mouse_pad")
_ROOT = Path(__file__).parent.parent
_WORKER = """
import hashlib, json, sys, time
from embodichain.config import WorldConfig
from embodichain.expand.visual import VisualConfig
from embodichain.prepare import prepare
from embodichain.ring.ring import Ring
from embodichain.stages import RolloutStage, SceneStage, produce
from embodichain.types import RingSpec
options = json.loads(sys.argv[1])
world = prepare(WorldConfig(width=128, height=128, visual=VisualConfig(enabled=True), **options), lambda name, done, total: None)
spec = getattr(world, "stream_spec", world.trajectory_spec)
ring = Ring.create(RingSpec(trajectory=spec, num_slots=1, max_reads=1))
stage = RolloutStage(world, ring, worker=0, epoch=0)
scenes = SceneStage(world)
print(json.dumps("ready"), flush=True)
for line in sys.stdin:
    began = time.process_time()
    fate = produce(int(line), scenes, stage, timeout_s=0.0).fate
    seconds, digest = time.process_time() - began, ""
    if fate == "published":
        with ring.sample(1, timeout_s=0.0) as batch:
            played = hashlib.blake2b()
            for name in ("action", "state", "success"):
                if name in batch[0]:
                    played.update(batch[0][name].tobytes())
            digest = played.hexdigest()
    print(json.dumps([str(fate), seconds, digest]), flush=True)
stage.close()
ring.close()
"""


def measure(tasks: Sequence[str], episodes: int, before: str = "") -> dict[str, Any]:
    """`trajectories_over_before` by task: processor time a published trajectory took before ÷ what it takes here."""
    with _revision(before) as tree:
        return {"before": before or "raycast", "trajectories_over_before": {task: _ratio(task, tree, episodes) for task in tasks}}


def _ratio(task: str, tree: Path | None, episodes: int) -> dict[str, Any]:
    """One task's, over so many numbers that are published in both; the first of them compiles and does not count."""
    now = _worker(_ROOT, {"tasks": [task]})
    then = _worker(tree or _ROOT, {"tasks": [task]} | ({} if tree else {"painter": "raycast"}))
    ratios, same, number = [], 0, 0
    try:
        while len(ratios) <= episodes and number < 5 * (episodes + 1):
            (fate, seconds, digest), (fate_then, seconds_then, digest_then) = _play(now, number), _play(then, number)
            number += 1
            if fate == fate_then == "published":
                ratios.append(seconds_then / seconds)
                same += digest == digest_then
    finally:
        for worker in (now, then):
            worker.stdin.close()
            worker.wait()
    if tree is None and same != len(ratios):
        raise SystemExit(f"{task}: {len(ratios) - same} of {len(ratios)} trajectories differ in more than their pictures")
    counted = ratios[1:]
    return {
        "median": round(statistics.median(counted), 2),
        "spread": [round(min(counted), 2), round(max(counted), 2)],
        "episodes": len(counted),
        "same_but_pictures": same,
        "numbers": number,
    }


def _worker(tree: Path, options: Mapping[str, Any]) -> Any:
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    worker = subprocess.Popen(
        [sys.executable, "-c", _WORKER, json.dumps(options)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=tree,
    )
    assert worker.stdout is not None
    _answer(worker)
    return worker


def _play(worker: Any, number: int) -> Any:
    worker.stdin.write(f"{number}\n")
    worker.stdin.flush()
    return _answer(worker)


def _answer(worker: Any) -> Any:
    line = worker.stdout.readline()
    if not line:
        raise SystemExit(f"a worker ended with {worker.wait()}; what it said is above")
    return json.loads(line)


@contextmanager
def _revision(name: str) -> Iterator[Path | None]:
    """Another revision of this repository in a temporary folder; None for no name."""
    if not name:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="embodichain-before-") as folder:
        tree = Path(folder) / "tree"
        made = subprocess.run(
            ["git", "-C", str(_ROOT), "worktree", "add", "--detach", str(tree), name], capture_output=True, text=True, check=False
        )
        if made.returncode:
            raise SystemExit(f"there is no revision {name!r} here: {made.stderr.strip().splitlines()[-1]}")
        try:
            yield tree
        finally:
            subprocess.run(["git", "-C", str(_ROOT), "worktree", "remove", "--force", str(tree)], check=False)


def main() -> None:
    """Parses the command line, measures, prints."""
    parser = harness.parser(__doc__, "fewer episodes")
    parser.add_argument("--before", default="", help="a revision of this repository to play against (a commit, a tag)")
    parser.add_argument("--tasks", nargs="+", default=ASKED, help="whose episodes are played")
    options = parser.parse_args()
    harness.give(measure(options.tasks, 6 if options.quick else 30, options.before), options)


if __name__ == "__main__":
    main()
