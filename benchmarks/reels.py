"""Images rendered after an episode against images rendered during it: are the bytes the same, and what do they cost?

    python benchmarks/reels.py [--quick] [--json] [--tasks TASK ...]

The same scene numbers are played with camera=snapshots, with camera=reels and through a darkroom, with all kinds of expansion and
provoked failures in half of the episodes. All fields of all trajectories are compared bitwise before any time is reported. Times
are processor time; `darkroom_over_pictures` is the time of a darkroom, which sets up every scene again, over that of snapshots.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any

import harness

from embodichain.config import WorldConfig
from embodichain.darkroom_stage import DarkroomStage
from embodichain.errors import SceneError
from embodichain.expand.physical import PhysicalConfig
from embodichain.expand.visual import VisualConfig
from embodichain.prepare import prepare
from embodichain.recovery.config import RecoveryConfig
from embodichain.ring.ring import Ring
from embodichain.stages import Fate, RolloutStage, SceneStage
from embodichain.tasks import TASKS
from embodichain.types import RingSpec
from embodichain.types.reels import CameraMode, reel_spec

ALL = tuple(name for name in TASKS.built_in if name != "counting")
QUICK = ("turn_switch", "place_mouse_pad")


def measure(quick: bool, tasks: Sequence[str] = ()) -> dict[str, Any]:
    """Figures by task and in total; when any byte differs, `reels_equal` is False and no times are reported."""
    by_task = {task: compare(task, 3 if quick else 12) for task in tasks or (QUICK if quick else ALL)}
    figures: dict[str, Any] = {"reels_equal": all(found["equal"] for found in by_task.values()), "by_task": by_task}
    if figures["reels_equal"]:
        for name in ("darkroom_over_pictures", "reels_over_snapshots"):
            figures[name] = round(statistics.median(found[name] for found in by_task.values()), 3)
        figures["pictures_spared"] = round(statistics.mean(found["pictures_spared"] for found in by_task.values()), 3)
    return figures


def compare(task: str, episodes: int) -> dict[str, Any]:
    """Plays each scene number of one task in all three ways; `pictures_spared` is the share of frames in failed episodes."""
    config = WorldConfig(
        tasks=(task,),
        painter="raster",
        width=128,
        height=128,
        visual=VisualConfig(enabled=True),
        physical=PhysicalConfig(enabled=True),
        recovery=RecoveryConfig(probability=0.5),
    )
    world = prepare(config)
    spec, scenes = world.stream_spec, SceneStage(world)
    rings = [Ring.create(RingSpec(trajectory=t, num_slots=1, max_reads=1)) for t in (spec, spec, reel_spec(spec), spec)]
    stages = [RolloutStage(world, ring, worker=0, epoch=0, camera=camera) for ring, camera in zip(rings, CameraMode, strict=False)]
    darkroom = DarkroomStage(world, rings[2], rings[3])
    spent: dict[str, float] = dict.fromkeys((*CameraMode, "developed"), 0.0)
    drawn = dict.fromkeys(CameraMode, 0)
    equal, kept, number = True, 0, 0
    try:
        while kept < episodes and number < 5 * episodes:
            try:
                chosen, scene = scenes.step(number)
            except SceneError:
                number += 1
                continue
            fates = []
            times: dict[str, float] = {}
            for camera, stage in zip(CameraMode, stages, strict=True):
                began = time.process_time()
                produced = stage.step(number, chosen, scene, timeout_s=0.0)
                times[camera] = time.process_time() - began
                drawn[camera] += produced.timings.frames
                fates.append(Fate.PUBLISHED if produced.fate is Fate.EXPOSED else produced.fate)
            began = time.process_time()
            developed = darkroom.step(timeout_s=0.0)
            times["developed"] = time.process_time() - began
            equal &= len(set(fates)) == 1 and (developed is not None) == (fates[0] is Fate.PUBLISHED)
            if fates[0] is Fate.PUBLISHED:
                equal &= same(rings, [field.name for field in spec.fields])
                if kept >= 0 and number > 0:  # the first one compiled
                    for name, seconds in times.items():
                        spent[name] += seconds
                kept += 1
            elif number > 0:
                for camera in CameraMode:
                    spent[camera] += times[camera]
            number += 1
    finally:
        darkroom.close()
        for stage in stages:
            stage.close()
        for ring in rings:
            ring.close()
    # The darkroom's worker renders nothing, so its time is the simulation time that all three share.
    pictures = spent[CameraMode.SNAPSHOTS] - spent[CameraMode.DARKROOM]
    return {
        "equal": equal,
        "episodes": number,
        "published": kept,
        "darkroom_over_pictures": round(spent["developed"] / pictures, 3),
        "reels_over_snapshots": round(spent[CameraMode.REELS] / spent[CameraMode.SNAPSHOTS], 3),
        "pictures_spared": round(1.0 - drawn[CameraMode.REELS] / max(drawn[CameraMode.SNAPSHOTS], 1), 3),
    }


def same(rings: Sequence[Ring], names: Sequence[str]) -> bool:
    """Whether the trajectories in the three rings are bitwise equal; uses a read of each."""
    with rings[0].sample(1, timeout_s=0.0) as a, rings[1].sample(1, timeout_s=0.0) as b, rings[3].sample(1, timeout_s=0.0) as c:
        return all(a[0][n].tobytes() == b[0][n].tobytes() == c[0][n].tobytes() for n in names)


def main() -> None:
    """Parses the command line, measures, prints."""
    parser = harness.parser(__doc__, "two tasks, three episodes each")
    parser.add_argument("--tasks", nargs="+", choices=ALL, help="whose episodes are played")
    options = parser.parse_args()
    harness.give(measure(options.quick, options.tasks or ()), options)


if __name__ == "__main__":
    main()
