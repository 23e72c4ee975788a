"""Recipes: functions that return one complete configuration. Those in `catalog` are available on the command line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from embodichain.assets.chain.config import AssetsConfig, PoolConfig
from embodichain.config import EncodeConfig, WorldConfig
from embodichain.expand.physical import PhysicalConfig
from embodichain.expand.visual import VisualConfig
from embodichain.recovery.config import MISALIGNED, RecoveryConfig
from embodichain.tasks import TASKS
from learner.codecs.config import EncoderConfig
from learner.data.config import DataConfig
from learner.evaluation.config import EvaluateConfig
from learner.memory.config import Recompute
from learner.models.clwm import sizes as clwm
from learner.models.config import AgentConfig, NormalizerConfig
from learner.models.cowvla import sizes as cowvla
from learner.models.families import family_of
from learner.models.family import ModelConfig
from learner.models.lingbot_va import sizes as lingbot_va
from learner.models.lingbot_va.config import Weighting
from learner.models.x_wam import sizes as x_wam
from learner.runs.config import RingConfig, RunConfig, StreamConfig, TrainConfig, encode_on_write
from learner.training.config import LearnerConfig, Matrices, OptimizerConfig, Parallel, Precision
from learner.vision.config import BUILTIN


def tiny_cpu() -> RunConfig:
    """The demo: two tasks with recovery, two workers, a tiny world model; about six minutes on two cores."""
    return RunConfig(
        recipe="tiny_cpu",
        out=Path("runs/tiny_cpu"),
        world=WorldConfig(recovery=RecoveryConfig(probability=0.2), visual=VisualConfig(enabled=True), assets=AssetsConfig()),
        learner=LearnerConfig(agent=AgentConfig(encoder=EncoderConfig(source=BUILTIN))),
    )


def seconds_cpu() -> RunConfig:
    """The whole pipeline in well under a minute: for trying a change, not for learning anything."""
    base = tiny_cpu()
    return replace(
        base,
        recipe="seconds_cpu",
        out=Path("runs/seconds_cpu"),
        ring=replace(base.ring, num_slots=16, min_ready=2),
        train=replace(base.train, steps=12, checkpoint_every=6),
        evaluate=replace(base.evaluate, episodes=1),
    )


def metaworld_cpu() -> RunConfig:
    """Streams a task of Meta-World, trains on it and evaluates by the task's own success criterion; minutes, so it learns little.

    Other tasks are chosen by --tasks metaworld:NAME or robosuite:NAME. Their commands are already displacements of the hand, so no
    channel is made relative to the measured state.
    """
    base = tiny_cpu()
    agent = replace(base.learner.agent, normalizer=NormalizerConfig(relative_joints=False, relative_positions=False))
    return replace(
        base,
        recipe="metaworld_cpu",
        out=Path("runs/metaworld_cpu"),
        world=WorldConfig(tasks=("metaworld:reach-v3",), horizon=32),
        stream=replace(base.stream, workers=1),
        learner=replace(base.learner, agent=agent),
    )


def turn_switch_cpu() -> RunConfig:
    """A policy for one task on two cores. The worker encodes frames with the built-in encoder; the learner reads latents only.

    The model has no memory, because a single frame suffices for this task; therefore history noise is off. It is not given the
    previous chunk, because it would continue that instead of looking. Actions are conditioned on pooled features of each frame and
    on image moments: where the segmenter finds the switch now, and where it was in the first frame, before an arm hid it. The
    action loss weighs more than that of the imagined frame. Its flow times are shifted towards noise, where the observation
    decides, and it measures the error of the predicted chunk. Only one of the four frames in a window is imagined. A quarter of the
    windows begin at the start of their episode, where an arm is chosen. In most episodes the hand wanders off the lever and
    returns; on the expert's direct path the state alone would tell the goal. Muon optimises the matrices and needs only three
    quarters of the steps. The policy executes the mean of eight sampled chunks.
    """
    encoder = EncoderConfig(source=BUILTIN, merge=2, segmenter=BUILTIN)
    cameras, grid = 3, 128 // encoder.patch // encoder.merge
    model = replace(
        clwm.tiny(),
        layers=4,
        memory_every=0,
        history_noise_prob=0.0,
        told_place=True,
        told_past=False,
        glance=cameras * grid * grid,
        aim=cameras,
        action_weight=5.0,
        action_shift=2.0,
        action_falloff=2.0,
        action_draws=2,
        proprio_noise=0.02,
        imagined=1,
        video_steps=2,
        action_steps=4,
        action_samples=8,
    )
    return RunConfig(
        recipe="turn_switch_cpu",
        out=Path("runs/turn_switch_cpu"),
        world=WorldConfig(
            tasks=("turn_switch",),
            painter="raycast",  # whose pictures the policy that ships has learned from
            width=128,
            height=128,
            horizon=32,
            assets=AssetsConfig(counts={"switch": 2}),
            recovery=RecoveryConfig(
                probability=0.9,
                astray=0.85,
                astray_again=0.6,
                stray_aside=0.07,
                stray_above=(0.0, 0.08),
                max_attempts=5,
                kinds=MISALIGNED,
            ),
            encode=encode_on_write(encoder),
        ),
        stream=StreamConfig(workers=1),
        ring=RingConfig(num_slots=128, max_reads=25, min_ready=24),
        learner=LearnerConfig(
            agent=AgentConfig(encoder=encoder, normalizer=NormalizerConfig(cameras=cameras), model=model),
            data=DataConfig(batch_size=16, window=4, openings=0.25, timeout_s=600.0),
            optimizer=OptimizerConfig(rate=3e-3, warmup_steps=100, matrices=Matrices.MUON),
            threads=1,
        ),
        train=TrainConfig(steps=3400),
        evaluate=EvaluateConfig(episodes=50),
    )


def _sister(recipe: str, model: ModelConfig, *, window: int, steps: int, depth: bool = False, codec: str = "vae") -> RunConfig:
    """Another model family on the stream of `turn_switch_cpu`: same scenes, optimiser and hints, but latents that can be decoded.

    Pictures are drawn by the rasteriser, which is several times as fast as the ray caster.
    """
    base = turn_switch_cpu()
    encoder = EncoderConfig(codec=codec, source=BUILTIN, merge=2, segmenter=BUILTIN)
    agent = replace(base.learner.agent, encoder=encoder, model=model)
    data = replace(base.learner.data, window=window)
    return replace(
        base,
        recipe=recipe,
        out=Path("runs") / recipe,
        world=replace(base.world, painter="raster", encode=encode_on_write(encoder), depth=depth),
        learner=replace(base.learner, agent=agent, data=data),
        train=replace(base.train, steps=steps),
    )


def lingbot_va_cpu() -> RunConfig:
    """LingBot-VA on turn_switch, on two cores: one causal sequence of frames and actions.

    Windows have two chunks, as the task needs no memory and attention over long windows is slow; inference looks back as far. Hints
    and loss weights of actions are those of `turn_switch_cpu`. A chunk of the model has one frame, like a chunk of the stream.
    """
    model = replace(
        lingbot_va.tiny(),
        glance=48,
        aim=3,
        most_frames=1,
        span=4,
        action_weight=5.0,
        action_shift=2.0,
        action_weighting=Weighting.FALLOFF,
        proprio_noise=0.02,
    )
    return _sister("lingbot_va_cpu", model, window=2, steps=2400)


def x_wam_cpu() -> RunConfig:
    """X-WAM on turn_switch, on two cores: predicts two frames, 32 actions and their states at once, with the depth of every frame.

    Hints and loss weights of actions are those of `turn_switch_cpu`. Up to a quarter of a decision may be given by the one before.
    """
    model = replace(
        x_wam.tiny(),
        depth=1,
        glance=48,
        aim=3,
        action_weight=5.0,
        proprio_noise=0.02,
        prefix=8,
        video_steps=8,
        action_steps=5,
    )
    return _sister("x_wam_cpu", model, window=model.frames, steps=2400, depth=True)


def cowvla_cpu() -> RunConfig:
    """CoWVLA on turn_switch, on two cores: keyframes as discrete codes, a query for the motion that follows, actions as tokens.

    Four of the eight frames of a window are steps of the sequence, because each needs a whole clip of five frames as the target of
    its motion. Hints as in `turn_switch_cpu`.
    """
    model = replace(cowvla.tiny(), glance=48, aim=3, proprio_noise=0.02)
    return _sister("cowvla_cpu", model, window=7, steps=2400, codec="vq")


_CAMERAS = 3
_STRAYING = RecoveryConfig(
    probability=0.9, astray=0.5, astray_again=0.3, stray_aside=0.07, stray_above=(0.0, 0.08), max_attempts=5, kinds=MISALIGNED
)
"""In many episodes the hand wanders off its goal and returns; on the expert's direct path the state alone would tell the goal. The
share is not larger, because the direction of wandering is random, and no frame can predict it."""


def _world_model_cpu(name: str, world: WorldConfig, *, steps: int = 4000) -> RunConfig:
    """Common settings of the world models for two cores: latents as wide as the model, and memory along whole episodes.

    The worker encodes frames with the built-in encoder. Latents have 90 whitened channels and six image moments of objects, as many
    channels as the model is wide. Actions attend to the imagined frame, in half of the steps to one that the model samples itself,
    and get pooled features of both frames. The action loss weighs more than that of frames. Its flow times are shifted towards
    noise, where the observation decides, and it measures the error of the predicted chunk. Actions are not given the previous
    chunk, because the model would continue that instead of looking. There is one memory, in the third of four blocks. Muon
    optimises the matrices. The policy executes the mean of eight sampled chunks, and imagines frames in one step. Each trajectory
    is read five times, because one worker produces more than the learner needs. Looks, sizes and physics are randomised for every
    episode, and each category has 24 instances.
    """
    encoder = EncoderConfig(source=BUILTIN, merge=2, segmenter=BUILTIN)
    grid = 128 // encoder.patch // encoder.merge
    model = replace(
        clwm.tiny(),
        layers=4,
        memory_every=3,
        history_noise_prob=0.25,
        told_place=True,
        told_past=False,
        glance=_CAMERAS * grid * grid,
        action_weight=3.0,
        action_shift=2.0,
        action_falloff=2.0,
        action_draws=2,
        proprio_noise=0.02,
        video_steps=1,
        action_steps=4,
        action_samples=8,
    )
    world = replace(
        world,
        width=128,
        height=128,
        horizon=40,
        visual=VisualConfig(enabled=True),
        physical=PhysicalConfig(enabled=True),
        encode=encode_on_write(encoder),
    )
    return RunConfig(
        recipe=name,
        out=Path(f"runs/{name}"),
        world=world,
        stream=StreamConfig(workers=1),
        ring=RingConfig(num_slots=128, max_reads=5, min_ready=24),
        learner=LearnerConfig(
            agent=AgentConfig(encoder=encoder, normalizer=NormalizerConfig(cameras=_CAMERAS, channels=90, exact=True), model=model),
            data=DataConfig(batch_size=4, window=0, timeout_s=600.0),
            optimizer=OptimizerConfig(rate=3e-3, warmup_steps=100, matrices=Matrices.MUON),
            measure_batches=24,
            threads=1,
        ),
        train=TrainConfig(steps=steps),
        evaluate=EvaluateConfig(episodes=50),
    )


def turn_any_switch_cpu() -> RunConfig:
    """A world model that turns switches of many shapes and looks, for two cores."""
    assets = AssetsConfig(counts={"switch": 24})
    return _world_model_cpu("turn_any_switch_cpu", WorldConfig(tasks=("turn_switch",), assets=assets, recovery=_STRAYING))


def turn_fresh_switch_cpu() -> RunConfig:
    """`turn_any_switch_cpu` without a catalogue: switches are made while the run goes on, and each serves four scenes at most."""
    base = turn_any_switch_cpu()
    pool = PoolConfig(live=4, new_per_scene=0.25, most_scenes=4)
    return replace(
        base,
        recipe="turn_fresh_switch_cpu",
        out=Path("runs/turn_fresh_switch_cpu"),
        world=replace(base.world, assets=replace(base.world.assets, pool=pool)),
    )


def switch_as_it_was_cpu() -> RunConfig:
    """A world model for a task that needs memory: the right action depends on what was seen more than twenty frames ago."""
    assets = AssetsConfig(counts={"switch": 24})
    return _world_model_cpu("switch_as_it_was_cpu", WorldConfig(tasks=("switch_as_it_was",), assets=assets))


def put_block_back_cpu() -> RunConfig:
    """A world model that must remember for twenty seconds on which of four marks a block stood."""
    assets = AssetsConfig(counts={"mark": 24, "block": 24, "button_panel": 24})
    base = _world_model_cpu("put_block_back_cpu", WorldConfig(tasks=("put_block_back",), assets=assets))
    return replace(base, world=replace(base.world, horizon=80))


def switches_cpu() -> RunConfig:
    """One policy for both switch tasks; the instruction tells which one to do."""
    assets = AssetsConfig(counts={"switch": 24})
    world = WorldConfig(tasks=("turn_switch", "switch_as_it_was"), assets=assets, recovery=_STRAYING)
    return _world_model_cpu("switches_cpu", world, steps=6800)


def place_mouse_pad_cpu() -> RunConfig:
    """A world model for one pick and place, for two cores."""
    assets = AssetsConfig(counts={"mouse": 24, "pad": 24})
    recovery = RecoveryConfig(probability=0.5)
    return _world_model_cpu("place_mouse_pad_cpu", WorldConfig(tasks=("place_mouse_pad",), assets=assets, recovery=recovery))


def law_cpu() -> RunConfig:
    """For measuring the Efficiency Law with many short runs: `turn_switch_cpu` with small pictures and short windows, one core.

    The ring is small, so that K and not the initial content of the ring decides how much a run reads. Latents are projected onto as
    many whitened channels as the model is wide. The loss is measured at intervals on held-out episodes, on the same windows in
    every run. `min_span` is so large that action channels that hardly move in the first episodes are not scaled up; otherwise the
    loss would depend on which episodes came first.
    """
    base = turn_switch_cpu()
    size = 96
    encoder = base.learner.agent.encoder
    grid = size // encoder.patch // encoder.merge
    agent = replace(
        base.learner.agent,
        normalizer=NormalizerConfig(cameras=_CAMERAS, channels=90, min_span=0.4),
        model=replace(base.learner.agent.model, glance=_CAMERAS * grid * grid),
    )
    data = replace(base.learner.data, window=2)
    return replace(
        base,
        recipe="law_cpu",
        out=Path("runs/law_cpu"),
        world=replace(base.world, painter="raster", width=size, height=size),
        ring=replace(base.ring, num_slots=32, max_reads=50, min_ready=24),
        learner=replace(base.learner, agent=agent, data=data, measure_batches=4, foresight_every=0, loggers=()),
        train=replace(base.train, steps=300, checkpoint_every=100, measure_every=50),
        evaluate=replace(base.evaluate, episodes=10, measured=32),
    )


PAPER_BATCH = 128
"""Trajectories in a training step of the paper."""


def pretrain() -> RunConfig:
    """The pre-training of the paper, for a machine with GPUs: every task, AdamW at 1e-4, a global batch of 128 by accumulation.

    Give a Wan2.2-TI2V-5B folder as `learner.backbone`, UMT5-XXL as `learner.agent.text.source` and DINOv3-base as
    `learner.agent.encoder.source`; with r ranks (`train.ranks`) set `learner.accumulate` to 128 / (r x `learner.data.batch_size`).
    """
    base = tiny_cpu()
    tasks = tuple(name for name in TASKS if name != "counting")
    agent = AgentConfig(encoder=EncoderConfig(source=BUILTIN), normalizer=NormalizerConfig(exact=True), model=clwm.wan5b())
    data = DataConfig(batch_size=1, window=0)
    return replace(
        base,
        recipe="pretrain",
        out=Path("runs/pretrain"),
        world=replace(
            base.world,
            tasks=tasks,
            width=256,
            height=256,
            physical=PhysicalConfig(enabled=True),
            assets=AssetsConfig(counts=dict.fromkeys(base.world.assets.counts, 24)),
        ),
        ring=replace(base.ring, num_slots=512, max_reads=10),
        learner=LearnerConfig(
            agent=agent,
            data=data,
            optimizer=OptimizerConfig(rate=1e-4, warmup_steps=1000, memory_rate=1.0),
            precision=Precision.HALF,
            recompute=Recompute(blocks=True, scan_steps=8),
            parallel=Parallel.FSDP,
            accumulate=PAPER_BATCH // data.batch_size,
        ),
        train=replace(base.train, steps=40_000, checkpoint_every=1000),
    )


def finetune() -> RunConfig:
    """The fine-tuning of the paper: as `pretrain`, on one task, at a rate of 1e-5 for 40,000 steps, tenfold for memory layers."""
    base = pretrain()
    learner = replace(base.learner, optimizer=OptimizerConfig(rate=1e-5, warmup_steps=100, memory_rate=10.0))
    return replace(
        base,
        recipe="finetune",
        out=Path("runs/finetune"),
        world=replace(base.world, tasks=("turn_switch",)),
        learner=learner,
    )


def counting(config: RunConfig) -> RunConfig:
    """Turns a run into a test on self-verifying data: every byte of every read is checked; each trajectory is read exactly K times.

    The stream ends, the ring is read empty, and no policy is evaluated, as the data show no tasks. The model is the smallest of its
    family, because the pipeline is under test.
    """
    learner = config.learner
    model = family_of(learner.agent.model).smallest()
    learner = replace(learner, agent=replace(learner.agent, model=model), data=replace(learner.data, window=2), measure_batches=2)
    return replace(
        config,
        recipe=f"{config.recipe} (counting)",
        out=config.out.with_name(config.out.name + "_counting"),
        world=replace(config.world, physics="counting", tasks=("counting",), horizon=12, encode=EncodeConfig()),
        stream=replace(config.stream, limit=config.stream.limit or 64),
        ring=replace(config.ring, max_reads=min(config.ring.max_reads, 10), num_slots=16, min_ready=2),
        learner=learner,
        train=replace(config.train, steps=10_000_000, verify=True),
        evaluate=replace(config.evaluate, episodes=0),
    )
