"""How long does a robot wait for its next chunk, and what does speculating cost in accuracy?

    python benchmarks/inference.py [--quick] [--json]

Three measurements in one run, on experience that the run makes itself:

sai_action_error   two tiny models are trained on the same expert episodes from the same weights with the same draws, one with noisy
                   history and one without. On held-out episodes each chunk is then sampled synchronously and speculatively from the
                   same memory and noise; the error is the RMS difference of the two, in normalised action units, for s_mid 0..1.
sai_blocking_over_sync   the robot's wait with half of both stages denoised in advance over the wait without, in alternating calls,
                   with nothing else running. Checked first: with the real observation as surrogate, both chunks are bitwise equal.
p50_ms, p99_ms     round trips of the real client (openpi-client) with a real server process, one per chunk of 0.32 s.

The wait is everything from the image to the chunk: encoding, memory update and denoising. The background thread denoises in advance
and computes what does not depend on observations (flow-time embeddings and modulations); a policy without a background computes
the latter during the call. `sai_blocking_over_sync_by_s_mid` at 0 shows the savings of the latter alone, with chunks bitwise equal
to the synchronous ones, and `sai_blocking_over_prepared` is the wait at s_mid 0.5 over that. `sai_processor_over_sync` is the
ratio in processor time of the waiting thread, which other load on the machine disturbs less.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import harness
import numpy as np
import torch
from numpy.typing import NDArray
from openpi_client.websocket_client_policy import WebsocketClientPolicy
from rich.progress import Progress
from torch import Tensor

from embodichain import robots
from embodichain.config import WorldConfig
from embodichain.errors import MotionError, SceneError
from embodichain.motion.action import ActionCodec
from embodichain.prepare import prepare
from embodichain.rollout import ExpertPilot, rollout
from embodichain.stages import SceneStage
from embodichain.types import CHUNK, CONTROL_HZ
from embodichain.world import Split, World
from learner.backbone.grid import Grid
from learner.inference.background import SpeculativePolicy
from learner.inference.config import SaiConfig
from learner.inference.policy import Policy
from learner.inference.policy_file import Setup, save_agent
from learner.models.agent import Agent
from learner.models.clwm.config import ClwmConfig
from learner.models.clwm.inputs import Noise
from learner.models.clwm.memory import LongTermMemory
from learner.models.clwm.speculate import Variant
from learner.models.config import AgentConfig
from learner.models.window import Window
from learner.models.world_model import Mode, Seen

TRAINED = ClwmConfig(dim=64, layers=2, heads=2, ffn=256, memory_every=1)
"""The model trained here, on the head camera alone: seconds on one core."""
SERVED = AgentConfig(model=ClwmConfig(video_steps=10, action_steps=20))
"""The model that is timed: the tiny one for CPUs with three cameras, with as many sampling steps as public policies use."""
S_MIDS = (0.0, 0.25, 0.5, 0.75, 1.0)
WAIT_S_MIDS = (0.0, 0.5, 0.6)
WINDOW, BATCH = 4, 8
PROMPT = "Turn the switch on."
Tell = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """A normalised expert episode, as the model sees it: latents [T + 1, N, C], proprio [T + 1, A], actions [T, K, A].

    `measured` is the proprio before normalisation, [T + 1, A].
    """

    latents: Tensor
    proprio: Tensor
    actions: Tensor
    measured: Tensor
    instruction: str


def play(world: World, split: Split, count: int, tell: Tell) -> list[Mapping[str, NDArray]]:
    """Expert episodes that succeeded."""
    physics, codec, spec = world.make_physics(), ActionCodec(world.robot), world.trajectory_spec
    stage = SceneStage(world, split, physics)
    found: list[Mapping[str, NDArray]] = []
    number = 0
    while len(found) < count:
        out = spec.allocate()
        number += 1
        try:
            task, scene = stage.step(number)
            pilot = ExpertPilot(task, scene, physics, np.random.default_rng(scene.seed))
            outcome = rollout(physics, codec, scene, pilot, task.grader(scene), out, spec)
        except (SceneError, MotionError):
            continue
        if outcome.verdict.success and outcome.num_chunks >= WINDOW:
            found.append(out)
            tell(f"episodes {split}", len(found), count)
    physics.close()
    return found


def fit_normalizer(agent: Agent, episodes: list[Mapping[str, NDArray]]) -> None:
    """Fits the agent's normalizer on whole episodes."""
    measurement = agent.new_measurement()
    for episode in episodes:
        chunks = int(episode["num_chunks"])
        measurement.add(
            action_BTKA=torch.from_numpy(episode["action"][None, :chunks]),
            proprio_BTA=torch.from_numpy(episode["proprio"][None, : chunks + 1]),
            action_mask_BA=torch.from_numpy(episode["action_mask"][None]),
            latents_BTNC=agent.encoder(torch.from_numpy(episode["rgb"][None, : chunks + 1, :1])),
            valid_BT=torch.ones(1, chunks, dtype=torch.bool),
        )
    agent.normalizer.fit(measurement)
    agent.memory_span.fill_(WINDOW)


def record(agent: Agent, episode: Mapping[str, NDArray]) -> Recorded:
    """Encodes an episode once, so that training only costs the model's time."""
    chunks = int(episode["num_chunks"])
    measured = torch.from_numpy(episode["proprio"][: chunks + 1])
    actions = torch.from_numpy(episode["action"][:chunks])
    return Recorded(
        latents=agent.normalizer.latents(agent.encoder(torch.from_numpy(episode["rgb"][: chunks + 1, :1]))),
        proprio=agent.normalizer.proprio(measured),
        actions=agent.normalizer.actions(actions, measured[:-1]),
        measured=measured,
        instruction=bytes(episode["instruction"]).rstrip(b"\0").decode(),
    )


def train(agent: Agent, episodes: list[Recorded], grid: Grid, steps: int, tell: Callable[[int, int], None]) -> float:
    """Trains by AdamW on random windows, the same for every model; returns the mean loss of the last tenth of the steps."""
    model = agent.model
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, betas=(0.9, 0.95), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps, pct_start=0.1)
    mask = agent.normalizer.action_mask.expand(BATCH, -1)
    whole = torch.ones(BATCH, WINDOW, dtype=torch.bool)
    losses = []
    for step in range(steps):
        picks = [episodes[i] for i in rng.integers(len(episodes), size=BATCH)]
        begins = [int(rng.integers(len(e.actions) - WINDOW + 1)) for e in picks]
        window = Window(
            latents_BTNC=torch.stack([e.latents[b : b + WINDOW + 1] for e, b in zip(picks, begins, strict=True)]),
            proprio_BTA=torch.stack([e.proprio[b : b + WINDOW + 1] for e, b in zip(picks, begins, strict=True)]),
            actions_BTKA=torch.stack([e.actions[b : b + WINDOW] for e, b in zip(picks, begins, strict=True)]),
            text_BLC=agent.text([e.instruction for e in picks]),
        )
        loss = model.losses(
            window, model.draw(window, generator), grid, valid_BT=whole, imitate_BT=whole, action_mask_BA=mask
        ).total
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
        tell(step + 1, steps)
    return statistics.fmean(losses[-max(1, steps // 10) :])


@torch.inference_mode()
def action_errors(agent: Agent, episodes: list[Recorded], grid: Grid) -> dict[str, dict[str, float]]:
    """RMS difference between speculative and synchronous chunks by variant and s_mid, over the channels that the robot has.

    All episodes run as one batch, as long as the shortest of them.
    """
    model, normalizer, clip = agent.model.eval(), agent.normalizer, agent.config.normalizer.clip
    horizon = min(len(episode.actions) for episode in episodes)
    latents, proprio, actions, measured = (
        torch.stack([getattr(episode, name)[:horizon] for episode in episodes])
        for name in ("latents", "proprio", "actions", "measured")
    )
    squares: dict[str, dict[str, list[float]]] = {variant.value: {f"{s:g}": [] for s in S_MIDS} for variant in Variant}
    generator = torch.Generator().manual_seed(0)
    text = model.read_text(agent.text([episode.instruction for episode in episodes]))
    memory, executed = model.empty(), None
    surrogate: LongTermMemory | None = None
    for t in range(horizon):
        if memory.steps >= WINDOW:
            memory, executed = model.empty(), None
        memory = model.observe(memory, Seen(latents[:, t], proprio[:, t], executed), text, grid)
        noise = Noise(torch.randn(latents[:, t].shape, generator=generator), torch.randn(actions[:, t].shape, generator=generator))
        decision = model.decide(memory, noise, text, grid)
        frame, chunk = decision.imagined_BNC, decision.actions_BHA
        assert frame is not None
        for variant in Variant if surrogate is not None else ():
            assert surrogate is not None
            for s_mid in S_MIDS:
                started = model.begin(surrogate, noise, text, grid, Mode(variant, s_mid))
                speculated = model.finish(memory, started, text, grid).actions_BHA
                difference = (speculated.clamp(-clip, clip) - chunk.clamp(-clip, clip))[..., normalizer.action_mask]
                squares[variant.value][f"{s_mid:g}"].append(float(difference.square().mean()))
        # The robot executes the recorded chunk, and the frame that the policy imagines for it is the surrogate observation.
        executed = actions[:, t]
        last = normalizer.physical_actions(executed, measured[:, t])[:, -1]
        base, done = (model.empty(), None) if memory.steps >= WINDOW else (memory, executed)
        surrogate = model.observe(base, Seen(frame, normalizer.proprio(last), done), text, grid)
    return {v: {s: round(float(np.sqrt(np.mean(values))), 4) for s, values in by.items()} for v, by in squares.items()}


def compare_histories(world: World, train_episodes: int, judge_episodes: int, steps: int, tell: Tell) -> dict[str, Any]:
    """Trains with and without noisy history and measures how speculation changes the chunks of each model."""
    streamed, unseen = play(world, Split.STREAM, train_episodes, tell), play(world, Split.HELD_OUT, judge_episodes, tell)
    errors: dict[str, dict[str, dict[str, float]]] = {}
    losses: dict[str, float] = {}
    for name, share in (("with", 0.5), ("without", 0.0)):
        agent = Agent(AgentConfig(model=replace(TRAINED, history_noise_prob=share)))
        fit_normalizer(agent, streamed)
        grid = agent.grid(torch.from_numpy(streamed[0]["rgb"][0, :1]))
        recorded = [record(agent, episode) for episode in streamed]
        losses[name] = train(agent, recorded, grid, steps, partial(tell, f"train {name} noisy history"))
        errors[name] = action_errors(agent, [record(agent, episode) for episode in unseen], grid)
        for by_mid in errors[name].values():
            assert by_mid["0"] == 0.0, "with nothing speculated the chunk is the synchronous one"
    both = Variant.VIDEO_ACTION.value
    return {
        "sai_action_error": {name: errors[name][both] for name in errors},
        "sai_action_error_video_only": {name: errors[name][Variant.VIDEO.value] for name in errors},
        "sai_action_error_with_over_without": round(errors["with"][both]["0.5"] / errors["without"][both]["0.5"], 3),
        "final_loss": {name: round(loss, 4) for name, loss in losses.items()},
    }


# ----------------------------------------------------------------------------------------------------------------- waiting


def fitted_agent() -> Agent:
    """The timed model with random weights and invented statistics, as time does not depend on their values."""
    agent = Agent(SERVED)
    agent.normalizer.fitted.fill_(True)
    agent.memory_span.fill_(WINDOW)
    return agent


def observations(count: int) -> list[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
    """Random images of three cameras, and random states that the robot can have; a server refuses others."""
    rng, limits = np.random.default_rng(0), ActionCodec(robots.get("dual_piper")).limits
    states = (limits.bounded(rng.normal(0, 0.1, 30).astype(np.float32)) for _ in range(count))
    return [(rng.integers(0, 255, (3, 64, 64, 3), dtype=np.uint8), state) for state in states]


def waits(calls: int, tell: Tell) -> dict[str, Any]:
    """Times from image to chunk [s], alternating synchronous and speculative calls, in one thread with an idle background.

    Ratios are of lower quartiles, because load of other processes only adds to both times.
    """
    agent = fitted_agent()
    speculative = {f"{s:g}": SpeculativePolicy(agent, SaiConfig(s_mid=s)) for s in WAIT_S_MIDS}
    policies = {"sync": Policy(agent), **speculative}
    frames = observations(calls + 3)
    for policy in policies.values():
        policy.begin(PROMPT)
    for index, (rgb, proprio) in enumerate(frames[:8]):
        chunk = policies["sync"].act(rgb, proprio)
        for policy in policies.values():
            if isinstance(policy, SpeculativePolicy):
                if index:
                    policy.expect(rgb, proprio)
                assert np.array_equal(policy.act(rgb, proprio), chunk), "with a perfect surrogate speculation changes nothing"
    for policy in policies.values():
        policy.begin(PROMPT)
    times: dict[str, list[float]] = {name: [] for name in policies}
    processor: dict[str, list[float]] = {name: [] for name in policies}
    evaluations: dict[str, int] = {}
    for index, (rgb, proprio) in enumerate(frames):
        for name, policy in policies.items():
            before, worked = time.perf_counter(), time.thread_time()
            policy.act(rgb, proprio)
            elapsed, worked = time.perf_counter() - before, time.thread_time() - worked
            assert policy.last is not None
            evaluations[name] = policy.last.evaluations["video"] + policy.last.evaluations["action"]
            if isinstance(policy, SpeculativePolicy):
                assert policy.settle(60.0)  # Phase 1 of its next chunk must not run during the others' calls
            if index >= 3:
                times[name].append(elapsed)
                processor[name].append(worked)
        if index >= 3:
            tell("wait for a chunk", index - 2, calls)
    for policy in policies.values():
        policy.close()
    quartile, worked = ({name: float(np.percentile(spent, 25)) for name, spent in by.items()} for by in (times, processor))
    ratios = {name: round(quartile[name] / quartile["sync"], 3) for name in speculative}
    return {
        "sai_blocking_over_sync": ratios["0.5"],
        "sai_blocking_over_sync_by_s_mid": ratios,
        "sai_blocking_over_prepared": round(quartile["0.5"] / quartile["0"], 3),
        "sai_processor_over_sync": {name: round(worked[name] / worked["sync"], 3) for name in speculative},
        "sai_denoising_over_sync": round(denoising_ratio(agent, calls), 3),
        "sai_evaluations_over_sync": evaluations["0.5"] / evaluations["sync"],
        "wait_ms": {name: round(1e3 * value, 2) for name, value in quartile.items()},
    }


@torch.inference_mode()
def denoising_ratio(agent: Agent, calls: int) -> float:
    """Time of Phase 2's integration over the full integration, without encoding and memory update; ratio of lower quartiles."""
    model = agent.model
    rgb, proprio = observations(1)[0]
    pixels = torch.from_numpy(rgb)[None]
    grid, text = agent.grid(pixels), model.read_text(agent.text([PROMPT]))
    latents = agent.normalizer.latents(agent.encoder(pixels))
    memory = model.observe(model.empty(), Seen(latents, torch.from_numpy(proprio)[None], None), text, grid)
    noise = Noise(torch.randn(latents.shape), torch.randn(1, 16, 30))
    begun, made = model.begin(memory, noise, text, grid, Mode("video+action", 0.5)), model.prepare(noise, grid)
    spent: tuple[list[float], list[float]] = ([], [])
    for _ in range(calls):
        for times, started, known in zip(spent, (begun, model.unbegun(noise)), (made, None), strict=True):
            before = time.perf_counter()
            model.finish(memory, started, text, grid, made=known)
            times.append(time.perf_counter() - before)
    return float(np.percentile(spent[0], 25) / np.percentile(spent[1], 25))


def round_trips(calls: int, sai: str, tell: Tell) -> tuple[float, float]:
    """Median and 99th percentile of the round trips of one real client to a real server process, call after call [ms]."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "policy.safetensors"
        agent = Agent(replace(SERVED, model=replace(SERVED.model, video_steps=4, action_steps=8)))
        agent.normalizer.fitted.fill_(True)
        save_agent(agent, path, Setup(robot="dual_piper", width=64, height=64))
        command = [
            sys.executable,
            "-m",
            "embodichain.cli",
            "serve",
            str(path),
            "--port",
            "0",
            "--json",
            "--threads",
            "1",
            "--sai",
            sai,
        ]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            client = WebsocketClientPolicy("127.0.0.1", json.loads(process.stdout.readline())["port"])
            cameras = client.get_server_metadata()["cameras"]
            spent = []
            for index, (rgb, proprio) in enumerate(observations(calls + 5)):
                request = {"images": dict(zip(cameras, rgb, strict=True)), "state": proprio, "prompt": PROMPT}
                before = time.perf_counter()
                reply = client.infer(request)
                elapsed = time.perf_counter() - before
                assert reply["actions"].shape == (16, 30) and np.isfinite(reply["actions"]).all()
                if index >= 5:
                    spent.append(1e3 * elapsed)
                    tell(f"round trips, speculation {sai}", index - 4, calls)
                time.sleep(CHUNK / CONTROL_HZ)  # the robot moves
        finally:
            process.terminate()
            process.wait(30)
    return round(float(np.percentile(spent, 50)), 2), round(float(np.percentile(spent, 99)), 2)


def main() -> None:
    """Parses the command line, measures, prints."""
    parser = harness.parser(__doc__, "less of everything")
    options = parser.parse_args()
    torch.set_num_threads(1)  # more threads would spin while other processes have the cores
    quick = options.quick
    with Progress(disable=options.json) as bars:
        tasks: dict[str, Any] = {}

        def tell(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=total)
            bars.update(tasks[name], completed=done, total=total)

        world = prepare(WorldConfig(tasks=("turn_switch",), width=48, height=48), tell)
        result = compare_histories(world, 12 if quick else 96, 2 if quick else 48, 20 if quick else 1000, tell)
        result |= waits(3 if quick else 60, tell)
        result["p50_ms"], result["p99_ms"] = round_trips(8 if quick else 300, "off", tell)
        result["p50_ms_speculative"], result["p99_ms_speculative"] = round_trips(8 if quick else 300, "video+action", tell)
    harness.give(result, options)


if __name__ == "__main__":
    main()
