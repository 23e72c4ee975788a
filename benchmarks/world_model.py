"""Does a policy's world model predict the world, do its actions use the prediction, and does its memory influence success?

    python benchmarks/world_model.py [POLICY] [--quick] [--json] [--episodes N] [--shifts ...]

Frames of held-out expert episodes of the policy's own world are predicted 1, 2 and 4 chunks ahead; baselines are a copy of the
present frame and the best linear map of each latent (fitted on streamed episodes). Then each chunk is sampled given the true next
frame, the imagined one, the present one, and noise. Last the policy plays in closed loop, in held-out scenes in and out of
distribution; in tasks that need memory also with the memory emptied before every frame. POLICY is a run, a checkpoint, a policy
file, or builtin:NAME (default: builtin:turn_switch).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import harness
import numpy as np
import torch
from numpy.typing import NDArray

from embodichain.config import EncodeConfig
from embodichain.errors import EmbodiChainError
from embodichain.motion.action import ActionCodec
from embodichain.prepare import prepare
from embodichain.stages import RolloutStage, SceneStage
from embodichain.world import Split, World
from learner.data.batch import Batch
from learner.data.config import DataConfig
from learner.data.dataset import MemorySource, RingDataset
from learner.evaluation.config import SHIFTS, Shift
from learner.evaluation.episodes import Graded, PolicyPilot, episodes, scores
from learner.evaluation.held_out import held_out
from learner.inference.policy import Policy
from learner.inference.policy_file import load_agent
from learner.models.agent import Agent
from learner.models.clwm.inputs import Noise
from learner.models.clwm.model import Clwm
from learner.models.clwm.speculate import Sampler
from learner.models.foresight import AHEAD, LinearForecast, foresee
from learner.models.world_model import Seen
from learner.runs.config import encode_on_write
from learner.runs.locate import find

CHANCE = {"switch_as_it_was": 0.5, "put_block_back": 0.25}
"""Tasks that need memory, and the success rate of guessing without it."""
BATCH = 4


def play(world: World, split: Split, count: int) -> list[dict[str, NDArray]]:
    """Successful expert episodes, with encoded frames."""
    stage = RolloutStage(world, None, worker=0, epoch=0)  # type: ignore[arg-type]  # nothing is published
    scenes, found, number = SceneStage(world, split, stage.physics), [], 0
    with closing(stage):
        while len(found) < count:
            out, number = world.stream_spec.allocate(), number + 1
            try:
                outcome = stage.play(*scenes.step(number), out)
            except EmbodiChainError:
                continue
            if outcome.verdict.success:
                found.append({name: out[name] for name in out})
    return found


def batches(stored: Sequence[dict[str, NDArray]], *, opening: bool) -> Iterator[Batch]:
    """Batches of a few whole episodes."""
    for begin in range(0, len(stored), BATCH):
        part = stored[begin : begin + BATCH]
        yield RingDataset(MemorySource(part), DataConfig(batch_size=len(part), window=0)).draw().gather(opening=opening)


def foresight(
    agent: Agent, streamed: Sequence[dict[str, NDArray]], held: Sequence[dict[str, NDArray]], starts: int
) -> dict[str, Any]:
    """Errors of imagined frames and of the linear map ÷ errors of an unchanged frame, summed over held-out episodes."""
    linear, opening = LinearForecast(), agent.model.needs.opening
    for batch in batches(streamed, opening=opening):
        linear.add(agent.window(batch).latents_BTNC, batch.valid_BT.sum(dim=1))
    sums = {ahead: np.zeros(3) for ahead in AHEAD}
    for index, batch in enumerate(batches(held, opening=opening)):
        for seed in range(starts):
            for found in foresee(agent, batch, torch.Generator().manual_seed(1000 * index + seed), linear):
                sums[found.ahead] += (found.imagined, found.unchanged, found.linear or np.nan)
    ratio = {str(ahead): (imagined / unchanged, linear_ / unchanged) for ahead, (imagined, unchanged, linear_) in sums.items()}
    return {
        "imagined_over_unchanged": {ahead: round(float(pair[0]), 3) for ahead, pair in ratio.items()},
        "linear_over_unchanged": {ahead: round(float(pair[1]), 3) for ahead, pair in ratio.items()},
    }


@torch.no_grad()
def actions(agent: Agent, held: Sequence[dict[str, NDArray]]) -> dict[str, Any]:
    """Mean squared errors of chunks by the frame that Stage 2 was given, and how much noise in its place changes a chunk."""
    model = agent.model
    if not isinstance(model, Clwm):
        return {"chunk_change_by_noise": None, "action_error": None}
    squares: dict[str, float] = {}
    weights = 0.0
    moved = size = 0.0
    generator = torch.Generator().manual_seed(0)
    for batch in batches(held, opening=model.needs.opening):
        (_, grid), window = agent.encoded(batch), agent.window(batch)
        text, state, frames = model.read_text(window.text_BLC), model.empty(), window.latents_BTNC
        sampler, mask = Sampler(model, text, grid), batch.action_mask_BA.float()[:, None]
        for t in range(window.actions_BTKA.shape[1]):
            before = model.restart(state, int(agent.memory_span))
            executed = window.actions_BTKA[:, t - 1] if t and before is state else None
            state = model.observe(before, Seen(frames[:, t], window.proprio_BTA[:, t], executed), text, grid)
            noise: Noise = model.noise(frames[:, t], generator)
            imagined = model.decide(state, noise, text, grid).imagined_BNC
            assert imagined is not None
            nothing = torch.randn(imagined.shape, generator=generator)
            given = {"true": frames[:, t + 1], "imagined": imagined, "present": frames[:, t], "noise": nothing}
            chunks, wanted = {}, batch.imitate_BT[:, t].float()[:, None, None] * mask
            for name, frame in given.items():
                working, chunk = sampler.imagine(state.fork(), frame), noise.action_BKA[: len(frame)]
                for step in range(model.config.action_steps):
                    chunk = sampler.action(working, chunk, step)
                chunks[name] = chunk
                squares[name] = squares.get(name, 0.0) + float(((chunk - window.actions_BTKA[:, t]).square() * wanted).sum())
            weights += float(wanted.sum()) * chunk.shape[1]
            moved += float(((chunks["noise"] - chunks["imagined"]).square() * wanted).sum())
            size += float((chunks["imagined"].square() * wanted).sum())
    return {
        "chunk_change_by_noise": round((moved / size) ** 0.5, 4),
        "action_error": {name: round(total / weights, 5) for name, total in squares.items()},
    }


def success(agent: Agent, world: World, shift: Shift, count: int) -> dict[str, Any]:
    """Success rate of the policy on each task of a held-out set, with 95 % Wilson intervals."""
    held = held_out(world.config, shift, lambda *told: None)
    pilots = {"policy": lambda task, scene, physics: PolicyPilot(Policy(agent), ActionCodec(world.robot))}
    rows = [Graded.of(played, shift) for played in episodes(held, pilots, count)]
    return {
        row.task: {"rate": row.successes / row.episodes, "of": row.episodes, "interval": [row.low, row.high]}
        for row in scores(rows)
    }


def remembered(agent: Agent, world: World, count: int) -> dict[str, Any] | None:
    """Success on tasks that need memory, with it and with it emptied before every frame; None without such tasks."""
    needing = tuple(name for name in world.config.tasks if name in CHANCE)
    if not needing:
        return None
    only = prepare(replace(world.config, tasks=needing))
    span = agent.memory_span.clone()
    found: dict[str, Any] = {"with": success(agent, only, Shift.NONE, count)}
    agent.memory_span.fill_(1)
    found["emptied"] = success(agent, only, Shift.NONE, count)
    agent.memory_span.copy_(span)
    return found | {"chance": {name: CHANCE[name] for name in needing}}


def main() -> int:
    """Measures one policy and prints."""
    parser = harness.parser(__doc__, "4 episodes to foresee and 2 to play, in distribution alone")
    parser.add_argument("policy", nargs="?", default="builtin:turn_switch")
    parser.add_argument("--episodes", type=int, default=0, help="closed-loop episodes of each task and shift (default 50, quick 2)")
    parser.add_argument("--stored", type=int, default=0, help="held-out expert episodes (default 48, quick 4)")
    parser.add_argument("--shifts", nargs="*", default=None, choices=list(SHIFTS), help="default: all, quick: none")
    options = parser.parse_args()
    torch.set_num_threads(1)
    count, stored = (options.episodes or (2 if options.quick else 50)), (options.stored or (4 if options.quick else 48))
    asked = options.shifts if options.shifts is not None else ([] if options.quick else ["all"])
    shifts = [Shift.NONE, *dict.fromkeys(shift for name in asked for shift in SHIFTS[name])]
    trained = find(Path(options.policy))
    agent = load_agent(trained.checkpoint)
    world = prepare(replace(trained.world, encode=EncodeConfig()))
    encoding = prepare(replace(trained.world, encode=encode_on_write(agent.config.encoder)))
    streamed, held = play(encoding, Split.STREAM, 2 * stored), play(encoding, Split.HELD_OUT, stored)
    figures = {
        "policy": options.policy,
        **foresight(agent, streamed, held, starts=4),
        **actions(agent, held),
        "memory_success": remembered(agent, world, count),
        "success": {shift.value: success(agent, world, shift, count) for shift in shifts},
        "stored_episodes": len(held),
    }
    harness.give(figures, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
