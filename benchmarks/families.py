"""How do the families of world models compare on one stream, and does each show the effects that its paper claims?

    python benchmarks/families.py [--quick | --full] [--json] [--policy FAMILY=PATH ...] [--out FOLDER]

Cells (one measurement each), stored in FOLDER/cells.jsonl at once and not repeated by later runs:

judge/FAMILY[/MODE]   closed loop in held-out scenes of turn_switch: success with its 95% Wilson interval, progress, evaluations and
                      waiting time of the robot, error of imagined frames ÷ unchanged ones, jumps between chunks. Mode "late16"
                      is the synchronous policy whose chunks start 16 commands late, in simulated time.
state/FAMILY          bytes of the state at 10, 100, 1,000 frames; bytes a frame beyond 100
model/FAMILY          trained parameters, FLOPs of a training step a window
foresight             frames that stand in for the next observation: error of forward dynamics ÷ that of the last decision's frame
depth                 depth branch on and off: largest change of actions (0), and error of imagined depth
chunking              real-time chunking: error on the committed actions, guided ÷ without
tokens                chunks decoded from random logits with the constraint on symbols: malformed (0), and tokens of smooth chunks
motion                the motion of one clip decoded in another, against the rendered truth: share of swaps that are nearest to it
fingertips            distance of the fingertips of experts' chunks as action tokens from those commanded [mm]
noise                 a toy model of video and action, trained with each noise rule: error of the video given its action

One policy per family is measured, by default the built-in one: in 20 scenes and every mode, or, with --quick, in one scene and only
synchronously. --full also trains each family on turn_switch and on switch_as_it_was (one bit of memory; whoever forgets is right
half of the time), two seeds each, and judges them; every training and every cell is stored when it ends, and continued by the next
call. With --minutes no training begins after so many, and those that are missing are listed in `not_trained`.
"""

from __future__ import annotations

import itertools
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import harness
import numpy as np
import torch
from families_parts import COMMITTED, chunking, depth_branch, fingertips, motion_swaps, noise_rules, random_chunks, stand_ins

from embodichain import robots
from embodichain.motion.action import ActionCodec
from learner.codecs.config import SCALE
from learner.evaluation.config import Shift
from learner.evaluation.episodes import Graded, PolicyPilot, episodes, wilson
from learner.evaluation.held_out import held_out
from learner.inference.background import make_policy
from learner.inference.config import SaiConfig
from learner.inference.policy_file import load_agent
from learner.models.agent import Agent
from learner.models.window import Extent
from learner.models.world_model import Seen
from learner.records.shipped import SHIPPED_WEIGHTS
from learner.runs.locate import find

SHIPPED = {
    "clwm": "turn_switch",
    "lingbot_va": "turn_switch_lingbot_va",
    "x_wam": "turn_switch_x_wam",
    "cowvla": "turn_switch_cowvla",
}
"""Built-in policies by family."""
_MEMORY = "switch_as_it_was"
_OF_MEMORY = ("--tasks", _MEMORY, "--world.horizon", "40", "--learner.agent.model.aim", "0")
"""Without the image moments of the first frame, which would tell what has to be remembered."""
RECIPES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "turn_switch": {
        "clwm": ("turn_switch_cpu",),
        "lingbot_va": ("lingbot_va_cpu",),
        "x_wam": ("x_wam_cpu",),
        "cowvla": ("cowvla_cpu",),
    },
    _MEMORY: {
        "clwm": ("switch_as_it_was_cpu",),
        "lingbot_va": ("lingbot_va_cpu", *_OF_MEMORY),
        "x_wam": ("x_wam_cpu", *_OF_MEMORY),
        "cowvla": ("cowvla_cpu", *_OF_MEMORY),
    },
}
"""Recipe and options of the trainings of `--full`, by task and family."""
WAYS: Mapping[str, tuple[str, ...]] = {
    "clwm": ("late16", "video+action"),
    "lingbot_va": ("late16", "naive", "grounded"),
    "x_wam": ("late4", "guided", "prefix"),
}
"""Modes of inference other than the synchronous one, by family."""
Cell = Callable[[], dict[str, Any]]


class Cells:
    """Results by name, written to disk at once."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._log = folder / "cells.jsonl"
        rows = self._log.read_text(encoding="utf-8").splitlines() if self._log.exists() else []
        self.results: dict[str, dict[str, Any]] = {row["cell"]: row["result"] for row in map(json.loads, rows)}

    def run(self, name: str, cell: Cell) -> dict[str, Any]:
        """The result of a cell; computed unless it is stored."""
        if name not in self.results:
            began = time.monotonic()
            result = cell() | {"wall_s": round(time.monotonic() - began, 1)}
            self.results[name] = result
            with self._log.open("a", encoding="utf-8") as log:
                log.write(json.dumps({"cell": name, "result": result}) + "\n")
            print(f"{name}: {json.dumps(result)}", file=sys.stderr, flush=True)
        return self.results[name]


def judged(path: Path, scenes: int, way: str) -> dict[str, Any]:
    """Plays one policy in closed loop, in one mode of inference."""
    trained = find(path)
    agent = load_agent(trained.checkpoint)
    codec = ActionCodec(robots.get(trained.world.robot))
    delay = int(way.removeprefix("late")) if way.startswith("late") else 0
    ahead = None if way == "synchronous" or delay else SaiConfig(variant=way)
    waits: list[float] = []
    evaluations: list[int] = []
    pilots: list[PolicyPilot] = []

    def pilot(task: Any, scene: Any, physics: Any) -> PolicyPilot:
        policy = make_policy(agent, ahead, seed=scene.seed & 0xFFFF)
        act = policy.act

        def watched(*given: Any) -> Any:
            chunk = act(*given)
            assert policy.last is not None
            if given and policy.memory.steps > 1:
                waits.append(policy.last.blocking_s - policy.last.waited_s)
                evaluations.append(sum(policy.last.evaluations.values()))
            return chunk

        policy.act = watched  # type: ignore[method-assign]
        pilots.append(PolicyPilot(policy, codec, delay=delay))
        return pilots[-1]

    held = held_out(trained.world, Shift.NONE, lambda *_: None)
    rows = [Graded.of(episode, Shift.NONE) for episode in episodes(held, {"policy": pilot}, scenes)]
    successes = sum(row.success for row in rows)
    imagined = [(row.imagined_error, row.unchanged_error) for row in rows if row.imagined_error is not None]
    ratio = None if not imagined else sum(a or 0.0 for a, _ in imagined) / sum(b or 0.0 for _, b in imagined)
    jumps = [jump for one in pilots for jump in one.jumps]
    low, high = wilson(successes, len(rows))
    return {
        "success": successes / len(rows),
        "interval": [round(low, 3), round(high, 3)],
        "scenes": len(rows),
        "progress": round(statistics.fmean(row.progress for row in rows), 3),
        "blocking_evaluations": round(statistics.fmean(evaluations), 2),
        "blocking_ms_p50": round(1e3 * float(np.quantile(waits, 0.5)), 1),
        "blocking_ms_p99": round(1e3 * float(np.quantile(waits, 0.99)), 1),
        "imagined_over_unchanged": None if ratio is None else round(ratio, 3),
        "jump_p50": round(float(np.quantile(jumps, 0.5)), 4),
        "jump_p95": round(float(np.quantile(jumps, 0.95)), 4),
    }


@torch.inference_mode()
def state_bytes(agent: Agent, size: tuple[int, int]) -> dict[str, Any]:
    """Bytes of the state along an episode of noise, and bytes per frame after the first hundred."""
    model = agent.model
    height, width = size
    grid = agent.grid(torch.zeros(3, height, width, 3))
    latents = torch.randn(1, grid.size, agent.encoder.latent_dim)
    text, state = model.read_text(agent.text(["turn the switch on"])), model.empty()
    proprio, executed = torch.zeros(1, 30), None
    codes = agent.encoder.codes_of(latents) if model.needs.codes else None
    found = {}
    for frame in range(1, 1001):
        state = model.observe(
            model.restart(state, int(agent.memory_span)), Seen(latents, proprio, executed, codes_BN=codes), text, grid
        )
        executed = torch.zeros(1, agent.config.model.chunk, 30)
        if frame in (1, 2, 10, 100, 1000):
            found[str(frame)] = state.size_bytes
    return {"bytes": found, "state_bytes_slope": (found["1000"] - found["100"]) / 900.0}


def size_of(agent: Agent, size: tuple[int, int]) -> dict[str, Any]:
    """Number of trained parameters, and FLOPs of a training step on one window of two chunks."""
    grid = agent.grid(torch.zeros(3, *size, 3))
    extent = Extent(1, 2, grid.size, agent.encoder.latent_dim, agent.config.text.max_words, agent.text.dim)
    return {"parameters": agent.num_trained_parameters, "flops_a_window": agent.model.forward_flops(extent)}


def shipped(family: str) -> Path:
    """The built-in policy of a family."""
    return SHIPPED_WEIGHTS / "policies" / f"{SHIPPED[family]}.safetensors"


def trained(task: str, family: str, seed: int, folder: Path, until_s: float) -> Path | None:
    """A run of a family on a task, trained unless it exists; None if it does not, and the clock shows more than `until_s` [s]."""
    out = folder / f"{task}_{family}_{seed}"
    if not (out / "summary.json").exists():
        if time.monotonic() > until_s:
            return None
        resume = ["--resume"] if (out / "config.yaml").exists() else []
        fresh = [*RECIPES[task][family], "--seed", str(seed)]
        command = [sys.executable, "-m", "embodichain.cli", "run", "--out", str(out), "--episodes", "0"]
        subprocess.run([*command, *(resume or fresh)], check=True)
    return out


def measure(policies: Mapping[str, Path], cells: Cells, scenes: int, label: str = "", *, brief: bool = False) -> dict[str, Any]:
    """All cells of one policy per family; with `brief` only synchronous decisions and few episodes."""
    stored = 1 if brief else 4
    families: dict[str, Any] = {}
    for family, path in policies.items():
        found = find(path)
        size = (found.world.height, found.world.width)
        agent = load_agent(found.checkpoint)
        state = cells.run(f"state/{family}{label}", lambda agent=agent, size=size: state_bytes(agent, size))
        model = cells.run(f"model/{family}{label}", lambda agent=agent, size=size: size_of(agent, size))
        plain = cells.run(f"judge/{family}{label}", lambda path=path: judged(path, scenes, "synchronous"))
        kept = ("success", "interval", "blocking_evaluations", "imagined_over_unchanged")
        families[family] = {name: plain[name] for name in kept} | {
            "state_bytes_slope": state["state_bytes_slope"],
            "parameters": model["parameters"],
        }
        for way in () if brief else WAYS.get(family, ()):
            cells.run(f"judge/{family}/{way}{label}", lambda path=path, way=way: judged(path, scenes, way))
    figures: dict[str, Any] = {"families": families}
    if "lingbot_va" in policies:
        cell = cells.run(f"foresight{label}", lambda: stand_ins(policies["lingbot_va"], scenes=stored))
        figures["fdm_grounded_over_naive"] = cell["grounded_over_naive"]
    if "x_wam" in policies:
        cell = cells.run(f"depth{label}", lambda: depth_branch(policies["x_wam"], scenes=stored))
        figures["depth_on_changes_actions"] = cell["change_of_actions"]
        cell = cells.run(f"chunking{label}", lambda: chunking(policies["x_wam"], scenes=stored))
        figures["rtc_prefix_error_over_none"] = cell["guided_over_none"]
        figures["rtc_committed"] = COMMITTED
    seeds = 1 if brief else 2
    cell = cells.run(f"noise/{seeds} seeds", lambda: noise_rules(seeds=seeds))
    figures["ans_over_decoupled_video_error"] = cell["ans_over_decoupled"]
    count = 60 if brief else 500
    cell = cells.run(f"fingertips/{count} chunks", lambda: fingertips(count))
    figures["fast_fingertips_p99_mm"] = cell[f"p99_mm_scale_{SCALE:g}"]
    pairs = 20 if brief else 200
    figures["motion_transferred"] = cells.run(f"motion/{pairs} pairs", lambda: motion_swaps(pairs))["transferred"]
    figures["fast_malformed"] = cells.run("tokens", random_chunks)["malformed"]
    return figures


def main() -> None:
    """Parses the command line, measures, prints."""
    parser = harness.parser(__doc__, "1 scene with one policy a family, deciding synchronously")
    parser.add_argument("--full", action="store_true", help="train two seeds a family first, and play 50 scenes with each")
    parser.add_argument("--policy", nargs="+", default=[], metavar="FAMILY=PATH", help="policies other than those that ship")
    parser.add_argument("--out", type=Path, default=Path("runs/families"), help="folder of the cells")
    parser.add_argument("--minutes", type=float, default=math.inf, help="with --full, no training begins after so many")
    parser.add_argument("--scenes", type=int, help="held-out scenes a cell (default 20, 50 with --full, 1 with --quick)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cells = Cells(options.out)
    given = {name: Path(path) for name, _, path in (pair.partition("=") for pair in options.policy)}
    policies = {family: given.get(family, shipped(family)) for family in SHIPPED}
    policies = {family: path for family, path in policies.items() if path.exists()}
    scenes = options.scenes or (50 if options.full else 1 if options.quick else 20)
    figures = measure(policies, cells, scenes, label=f"/{scenes} scenes", brief=options.quick)
    if options.full:
        until_s = time.monotonic() + 60.0 * options.minutes
        missing = []
        for seed, task, family in itertools.product((0, 1), RECIPES, SHIPPED):
            run = trained(task, family, seed, options.out, until_s)
            if run is None:
                missing.append(f"{task} {family} seed {seed}")
            else:
                found = measure({family: run}, cells, options.scenes or 50, label=f"/{task}/seed {seed}")
                figures[f"{task} {family} seed {seed}"] = found["families"][family]
        figures["not_trained"] = missing
    harness.give(figures, options)


if __name__ == "__main__":
    main()
