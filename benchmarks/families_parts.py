"""The cells of `families.py` that look inside a policy, and the toy model on which noise rules are compared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import dct, idct
from torch import Tensor, nn

from embodichain.assets.chain.config import AssetsConfig
from embodichain.config import WorldConfig
from embodichain.episode import NoPictures, Replay
from embodichain.errors import LearnerError
from embodichain.expand.visual import VisualConfig, redraw
from embodichain.motion.action import ActionCodec
from embodichain.prepare import prepare
from embodichain.protocols import Physics
from embodichain.ring.ring import Ring
from embodichain.rollout import ExpertPilot, drive, rollout
from embodichain.stages import RolloutStage, SceneStage
from embodichain.types import CHUNK, RingSpec, Scene
from embodichain.types.scenes import Wander
from embodichain.world import Split
from learner.backbone.grid import Grid
from learner.codecs.catalog import make_codec
from learner.codecs.config import EncoderConfig, LatentSpec
from learner.codecs.depth import depth_of, disparity
from learner.codecs.fast import load_fast
from learner.codecs.motion import FRAMES, load_motion
from learner.codecs.vae import VaeCodec
from learner.codecs.vq_training import latents_of
from learner.evaluation.config import Shift
from learner.evaluation.held_out import held_out
from learner.inference.policy_file import load_agent
from learner.models.agent import Agent
from learner.models.config import NormalizerConfig
from learner.models.cowvla.config import TWO_ARMS
from learner.models.lingbot_va.model import LingbotVa
from learner.models.normalize import Measurement, Normalizer
from learner.models.world_model import Mode, Prefix, Seen
from learner.models.x_wam.config import NoiseRule, XwamConfig
from learner.models.x_wam.model import Xwam
from learner.models.x_wam.noise import draw_levels, paths
from learner.runs.locate import find
from learner.vision.config import BUILTIN

COMMITTED = 4
"""Commands of the previous chunk that still run when a late decision takes effect."""


def expert_episodes(path: Path, count: int, *, depth: bool = False) -> Iterator[dict[str, Any]]:
    """Expert episodes in `count` held-out scenes of a policy's world, as arrays without padding."""
    world = held_out(replace(find(path).world, depth=depth), Shift.NONE, lambda *_: None).world
    spec = RingSpec(trajectory=world.trajectory_spec, num_slots=1, max_reads=1, min_ready=1)
    with Ring.create(spec) as ring:
        stage, scenes, made, number = RolloutStage(world, ring, worker=0, epoch=0), SceneStage(world), 0, 0
        while made < count:
            out = world.trajectory_spec.allocate()
            outcome = stage.play(*scenes.step(10_000_000 + number), out)
            number += 1
            if outcome.verdict.success:
                made += 1
                frames = outcome.num_chunks + 1
                yield {
                    "frames": frames,
                    "rgb": out["rgb"][:frames],
                    "proprio": out["proprio"][:frames],
                    "action": out["action"],
                } | ({"depth": out["depth"][:frames]} if depth else {})
        stage.close()


def seen_by(agent: Agent, episode: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor, Grid]:
    """Normalised latents [F, N, C], states [F, A] and chunks [F - 1, K, A] of an episode, and the grid of the latents."""
    rgb = torch.from_numpy(np.ascontiguousarray(episode["rgb"]))
    proprio = torch.from_numpy(episode["proprio"])
    actions = torch.from_numpy(episode["action"][: len(rgb) - 1])
    latents = agent.normalizer.latents(torch.cat([agent.encoder(part) for part in rgb.split(8)]))
    return latents, agent.normalizer.proprio(proprio), agent.normalizer.actions(actions, proprio[:-1]), agent.grid(rgb)


@torch.inference_mode()
def stand_ins(path: Path, scenes: int) -> dict[str, Any]:
    """Error of the surrogate of the next frame along expert episodes, by its kind, ÷ that of an unchanged frame.

    Naive: the frame imagined by the previous decision, which itself started from such a frame. Grounded: forward dynamics from the
    real past and the running chunk.
    """
    agent = load_agent(find(path).checkpoint)
    model = agent.model
    assert isinstance(model, LingbotVa)
    errors: dict[str, list[float]] = {"naive": [], "grounded": [], "unchanged": []}
    for number, episode in enumerate(expert_episodes(path, scenes)):
        latents, proprio, actions, grid = seen_by(agent, episode)
        generator = torch.Generator().manual_seed(number)
        text, state, ahead, executed = model.read_text(agent.text(["turn the switch on"])), model.empty(), None, None
        for t in range(len(latents) - 1):
            state = model.observe(state, Seen(latents[t : t + 1], proprio[t : t + 1], executed), text, grid)
            executed, noise = actions[t : t + 1], model.noise(latents[:1], generator)
            blank = Seen(latents[t : t + 1], proprio[t : t + 1], executed, {})
            grounded = model.foresee(state, blank, noise, text, grid, Mode("grounded", 1.0))
            decision = model.decide(state if ahead is None else ahead, noise, text, grid)
            imagined = decision.imagined_BNC
            assert imagined is not None
            stand_in = Seen(imagined, proprio[t + 1 : t + 2], executed, decision.extras)
            ahead = model.observe(state, stand_in, text, grid)
            if t:
                truth = latents[t + 1 : t + 2]
                for name, guess in (
                    ("naive", imagined),
                    ("grounded", grounded.latents_BNC),
                    ("unchanged", latents[t : t + 1]),
                ):
                    errors[name].append(float((guess - truth).square().mean()))
    means = {name: float(np.mean(values)) for name, values in errors.items()}
    return {
        "grounded_over_naive": round(means["grounded"] / means["naive"], 3),
        "naive_over_unchanged": round(means["naive"] / means["unchanged"], 3),
        "grounded_over_unchanged": round(means["grounded"] / means["unchanged"], 3),
        "frames": len(errors["naive"]),
    }


@torch.inference_mode()
def depth_branch(path: Path, scenes: int) -> dict[str, Any]:
    """Effect of the depth branch on actions, and its depth errors: of the present frame, and of imagined frames."""
    agent = load_agent(find(path).checkpoint)
    model, codec = agent.model, agent.encoder
    assert isinstance(model, Xwam) and isinstance(codec, VaeCodec)
    change, errors = 0.0, {"now": [], "next": [], "unchanged": [], "codec": []}
    for number, episode in enumerate(expert_episodes(path, scenes, depth=True)):
        latents, proprio, _, grid = seen_by(agent, episode)
        truth = depth_of(disparity(torch.from_numpy(np.ascontiguousarray(episode["depth"]))))
        text = model.read_text(agent.text(["turn the switch on"]))
        opening = model.observe(model.empty(), Seen(latents[:1], proprio[:1], None), text, grid)
        for t in range(0, len(latents) - 1, 4):
            state = model.observe(opening, Seen(latents[t : t + 1], proprio[t : t + 1], None), text, grid)
            noise = model.noise(latents[:1], torch.Generator().manual_seed(1000 * number + t))
            on, off = (model.dream(state, noise, text, grid, depth=depth) for depth in (True, False))
            change = max(change, float((on.actions_BHA - off.actions_BHA).abs().max()))
            told = _depths(agent, codec, on.extras["depth"], grid)[0]
            known = _depths(agent, codec, agent.normalizer.latents(codec.depth_latents(truth[t : t + 1])), grid)
            for name, guess, real in (
                ("now", told[0], truth[t]),
                ("next", told[1], truth[t + 1]),
                ("unchanged", truth[t], truth[t + 1]),
                ("codec", known[0], truth[t]),
            ):
                errors[name].append(float(((guess - real).abs() / real).mean()))
    return {"change_of_actions": change} | {f"absrel_{name}": round(float(np.mean(values)), 4) for name, values in errors.items()}


def _depths(agent: Agent, codec: VaeCodec, latents: Tensor, grid: Grid) -> Tensor:
    """Depths [m] of normalised latents."""
    cameras = agent.config.normalizer.cameras
    mean, std = agent.normalizer.latent_mean, agent.normalizer.latent_std
    apart = latents.unflatten(-2, (cameras, -1)) if cameras else latents
    raw = apart * (std[:, None] if cameras else std) + (mean[:, None] if cameras else mean)
    return codec.decode_depth(raw.flatten(-3, -2) if cameras else raw, *grid)


@torch.no_grad()
def chunking(path: Path, scenes: int) -> dict[str, Any]:
    """Error of new chunks on the committed actions of the previous one, on expert frames: free, guided, and conditioned."""
    agent = load_agent(find(path).checkpoint)
    model = agent.model
    assert isinstance(model, Xwam)
    errors: dict[str, list[float]] = {"none": [], "guided": [], "prefix": []}
    jumps: dict[str, list[float]] = {"none": [], "guided": [], "prefix": []}
    for number, episode in enumerate(expert_episodes(path, scenes)):
        latents, proprio, _, grid = seen_by(agent, episode)
        measured = torch.from_numpy(episode["proprio"])
        text = model.read_text(agent.text(["turn the switch on"]))
        state = model.observe(model.empty(), Seen(latents[:1], proprio[:1], None), text, grid)
        before = None
        for t in range(len(latents) - 1):
            state = model.observe(state, Seen(latents[t : t + 1], proprio[t : t + 1], None), text, grid)
            noise = model.noise(latents[:1], torch.Generator().manual_seed(1000 * number + t))
            free = model.decide(state, noise, text, grid)
            if before is not None:
                left = agent.normalizer.physical_actions(before.actions_BHA[:, CHUNK:], measured[t - 1 : t])
                prefix = Prefix(agent.normalizer.actions(left, measured[t : t + 1]), COMMITTED)
                found = {"none": free}
                for mode in model.late_modes:
                    found[mode] = model.decide_from(state, noise, prefix, text, grid, Mode(mode, 1.0))
                mask = agent.normalizer.action_mask
                for name, decision in found.items():
                    gap = (decision.actions_BHA[:, :COMMITTED] - prefix.actions_BHA[:, :COMMITTED])[..., mask]
                    errors[name].append(float(gap.square().mean().sqrt()))
                    seam = decision.actions_BHA[:, COMMITTED] - prefix.actions_BHA[:, COMMITTED - 1]
                    jumps[name].append(float(seam[..., mask].abs().max()))
            before = free
    means = {name: float(np.mean(values)) for name, values in errors.items() if values}
    return {
        "guided_over_none": round(means["guided"] / means["none"], 3),
        **{f"error_{name}": round(value, 4) for name, value in means.items()},
        **{f"jump_{name}": round(float(np.mean(values)), 4) for name, values in jumps.items() if values},
    }


def random_chunks(count: int = 300) -> dict[str, Any]:
    """Decodes random tokens, constrained to the length of a chunk: number of malformed chunks, and of tokens used."""
    fast, rng = load_fast(BUILTIN), np.random.default_rng(0)
    malformed, lengths = 0, []
    for _ in range(count):
        left, tokens = fast.num_symbols, []
        while left > 0:
            tokens.append(int(np.where(fast.allowed(left), rng.normal(size=len(fast.lengths)), -np.inf).argmax()))
            left -= int(fast.lengths[tokens[-1]])
        try:
            malformed += not np.isfinite(fast.decode(tokens)).all()
        except LearnerError:
            malformed += 1
        lengths.append(len(tokens))
    return {"malformed": malformed, "tokens_p50": float(np.quantile(lengths, 0.5))}


def noise_rules(steps: int = 2500, seeds: int = 2) -> dict[str, Any]:
    """Error of the sampled video given its action, for a video of 8 numbers, an action of 2, and four hidden modes.

    Each noise rule trains the same small network; all are sampled as in inference: actions are clean after a fifth of the steps.
    """
    found: dict[str, list[float]] = {rule.value: [] for rule in NoiseRule}
    for seed in range(seeds):
        for rule in NoiseRule:
            found[rule.value].append(_toy(rule, steps, seed))
    means = {name: float(np.mean(values)) for name, values in found.items()}
    return {
        "ans_over_decoupled": round(means["ans"] / means["decoupled"], 3),
        "ans_over_synchronous": round(means["ans"] / means["synchronous"], 3),
        **{f"video_error_{name}": [round(value, 4) for value in values] for name, values in found.items()},
    }


def _toy(rule: NoiseRule, steps: int, seed: int) -> float:
    config = XwamConfig(rule=rule, shift=5.0, video_steps=50, action_steps=10)
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(2, 8, generator=torch.Generator().manual_seed(99)) / 2**0.5
    corners = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Linear(12, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU(), nn.Linear(128, 10)
    )
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)

    def video_of(action: Tensor) -> Tensor:
        return torch.tanh(2.0 * action @ mixing)

    for _ in range(steps):
        action = corners[torch.randint(0, 4, (256,), generator=generator)] + 0.1 * torch.randn(256, 2, generator=generator)
        video = video_of(action)
        level_v, level_a, taught = (x.float() for x in draw_levels(config, 256, generator))
        noise_v, noise_a = torch.randn(256, 8, generator=generator), torch.randn(256, 2, generator=generator)
        point_v = video + level_v[:, None] * (noise_v - video)
        point_a = action + level_a[:, None] * (noise_a - action)
        out = net(torch.cat([point_v, point_a, level_v[:, None], level_a[:, None]], dim=1))
        error_v = (out[:, :8] - (video - noise_v)).square().mean(dim=1)
        error_a = (out[:, 8:] - (action - noise_a)).square().mean(dim=1)
        loss = error_v.mean() + (error_a * taught).sum() / taught.sum().clamp_min(1.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        levels_v, levels_a = (x.float() for x in paths(config))
        video, action = torch.randn(2000, 8, generator=generator), torch.randn(2000, 2, generator=generator)
        for now, after in zip(range(50), range(1, 51), strict=True):
            told = torch.stack([levels_v[now], levels_a[now]]).expand(2000, -1)
            out = net(torch.cat([video, action, told], dim=1))
            video = video + (levels_v[now] - levels_v[after]) * out[:, :8]
            action = action + (levels_a[now] - levels_a[after]) * out[:, 8:]
        return float((video - video_of(action)).square().mean().sqrt())


@torch.no_grad()
def motion_swaps(pairs: int) -> dict[str, Any]:
    """The motion of one clip decoded with the structure of another, against the rendered truth.

    Each pair replays the commands of two experts in one scene, from the same pose of the robot: clip A in one look, clip B in
    another. The truth is B's run in A's look, for looks change no physics. A swap is right when the clip decoded from A's structure
    and B's motion is nearer to the truth than clip A and than clip B are. The latents are those of the built-in codecs, at 128².
    """
    config = WorldConfig(tasks=("turn_switch",), width=128, height=128, horizon=32, assets=AssetsConfig(counts={"switch": 2}))
    world = prepare(config, lambda *_: None)
    cameras = tuple(camera.name for camera in world.robot.cameras)
    codec, extractor = make_codec(EncoderConfig(codec="vae", source=BUILTIN, merge=2)), load_motion(BUILTIN)
    physics, runs, scenes = world.make_physics(), [], SceneStage(world, Split.HELD_OUT)
    stage = RolloutStage(world, None, worker=0, epoch=0, physics=physics)  # type: ignore[arg-type]  # nothing is published
    out, number = world.trajectory_spec.allocate(), 0
    while len(runs) < max(4, round(pairs**0.5)):
        task, scene = scenes.step(number)
        number += 1
        if stage.play(task, scene, out).verdict.success:
            runs.append((scene, out["action"][:FRAMES].copy()))
    rng, found = np.random.default_rng(0), []
    for _ in range(pairs):
        one, other = rng.choice(len(runs), 2, replace=False)
        (scene, here), (_, there) = runs[one], runs[other]
        dressed = redraw(scene, rng, VisualConfig(enabled=True), cameras)
        dressed = replace(dressed, looks=replace(dressed.looks, wander=Wander()))  # a look is fixed in a clip
        clip_a, clip_b, truth = (
            latents_of(codec, _clip(physics, stage.codec, shown, actions), extractor.shape)
            for shown, actions in ((scene, here), (dressed, there), (scene, there))
        )
        moved = extractor.apart(clip_b)
        swapped = extractor.together(extractor.apart(clip_a)._replace(across=moved.across, down=moved.down))
        rebuilt = extractor.together(extractor.apart(truth))
        found.append([float((clip - truth).square().mean()) for clip in (swapped, clip_a, clip_b, rebuilt)])
    physics.close()
    swap, own, donor, best = np.array(found).T
    return {
        "transferred": float(np.mean((swap < own) & (swap < donor))),
        "nearer_than_structure": float(np.mean(swap < own)),
        "nearer_than_donor": float(np.mean(swap < donor)),
        "pairs": pairs,
        "error_over_structure": round(float(swap.mean() / own.mean()), 3),
        "rebuilt_over_structure": round(float(best.mean() / own.mean()), 3),
    }


def _clip(physics: Physics, codec: ActionCodec, scene: Scene, actions: NDArray[np.float32]) -> Tensor:
    """The clip [cameras, 5, h, w, 3] of frames before each of four chunks that are replayed, and after them."""
    size = physics.robot.cameras
    frames = np.zeros((FRAMES, len(size), 128, 128, 3), np.uint8)
    for step, _ in enumerate(drive(physics, scene, Replay(codec, actions[: FRAMES - 1]))):
        if step % CHUNK == 0:
            physics.render(frames[step // CHUNK])
    return torch.from_numpy(frames.swapaxes(0, 1).copy())


def fingertips(chunks: int, scales: tuple[float, ...] = (20.0, 30.0, 40.0)) -> dict[str, Any]:
    """Distance [mm] between the fingertips that experts command on turn_switch and those of their chunks as action tokens.

    Merging symbols to tokens loses nothing, so only the rounding of the coefficients counts, at any scale.
    """
    config = WorldConfig(tasks=("turn_switch",), assets=AssetsConfig(counts={"switch": 2}), horizon=32, seed=11)
    world = prepare(config, lambda *_: None)
    fast, physics, codec = load_fast(BUILTIN), world.make_physics(), ActionCodec(world.robot)
    spec, scenes = world.trajectory_spec, SceneStage(world, physics=physics)
    measurement = Measurement(NormalizerConfig(), LatentSpec(1), spec.action_dim)
    out, played, number = spec.allocate(), [], 0
    while sum(len(actions) for actions, _ in played) < chunks:
        task, scene = scenes.step(number)
        pilot = ExpertPilot(task, scene, physics, np.random.default_rng(scene.seed))
        outcome = rollout(physics, codec, scene, pilot, task.grader(scene), out, spec, shutter=NoPictures())
        number += 1
        if outcome.verdict.success:
            count = outcome.num_chunks
            played.append((torch.tensor(out["action"][:count]), torch.tensor(out["proprio"][: count + 1])))
            measurement.add(
                action_BTKA=played[-1][0][None],
                proprio_BTA=played[-1][1][None],
                action_mask_BA=torch.tensor(out["action_mask"])[None].bool(),
                latents_BTNC=torch.zeros(1, count + 1, 1, 1),
                valid_BT=torch.ones(1, count, dtype=torch.bool),
            )
    physics.close()
    normalizer = Normalizer(NormalizerConfig(clip=fast.clip), LatentSpec(1), spec.action_dim)
    normalizer.fit(measurement)
    channels, errors = list(TWO_ARMS), {scale: [] for scale in scales}
    for actions, proprio in played:
        wanted = codec.encode(codec.decode(actions.numpy()))
        normalised = normalizer.actions(actions[None], proprio[None, :-1])[0]
        for scale in scales:
            told = normalised.clone()
            bounded = told[..., channels].clamp(-fast.clip, fast.clip).double().numpy()
            coefficients = np.asarray(dct(bounded, axis=1, norm="ortho"))
            told[..., channels] = torch.tensor(idct(np.rint(coefficients * scale) / scale, axis=1, norm="ortho")).float()
            physical = normalizer.physical_actions(told[None], proprio[None, :-1])[0].numpy()
            off = codec.encode(codec.decode(physical)) - wanted
            errors[scale] += [1e3 * np.linalg.norm(off[..., tip : tip + 3], axis=-1).ravel() for tip in (0, 7)]
    found = {scale: np.concatenate(parts) for scale, parts in errors.items()}
    return {
        "chunks": sum(len(actions) for actions, _ in played),
        **{f"p50_mm_scale_{scale:g}": round(float(np.quantile(values, 0.5)), 2) for scale, values in found.items()},
        **{f"p99_mm_scale_{scale:g}": round(float(np.quantile(values, 0.99)), 2) for scale, values in found.items()},
    }
