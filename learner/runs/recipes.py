"""A run is a recipe: a function that returns one complete configuration. Add one here and it is on the command line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from embodichain.assets.chain.config import AssetsConfig
from embodichain.config import EncodeConfig, WorldConfig
from embodichain.expand.visual import VisualConfig
from embodichain.recovery.config import MISALIGNED, RecoveryConfig
from learner.codecs.config import EncoderConfig
from learner.data.config import DataConfig
from learner.evaluation.config import EvaluateConfig
from learner.models.clwm import sizes as clwm
from learner.models.config import AgentConfig, NormalizerConfig
from learner.models.cowvla import sizes as cowvla
from learner.models.families import family_of
from learner.models.family import ModelConfig
from learner.models.lingbot_va import sizes as lingbot_va
from learner.models.lingbot_va.config import Weighting
from learner.models.x_wam import sizes as x_wam
from learner.runs.config import RingConfig, RunConfig, StreamConfig, TrainConfig, encode_on_write
from learner.training.config import LearnerConfig, Matrices, OptimizerConfig
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
    """The whole pipe in well under a minute: for trying a change, not for learning anything."""
    base = tiny_cpu()
    return replace(
        base,
        recipe="seconds_cpu",
        out=Path("runs/seconds_cpu"),
        ring=replace(base.ring, num_slots=16, min_ready=2),
        train=replace(base.train, steps=12, checkpoint_every=6),
        evaluate=replace(base.evaluate, episodes=1),
    )


def turn_switch_cpu() -> RunConfig:
    """A policy for one task on two cores: the worker encodes with the built-in encoder, the learner sees latents alone.

    The model has no memory, for a frame says all that this task asks; so all its frames are clean, and the chunk before is kept
    from it: it would go on as before instead of looking. Actions see each frame at a glance and aim: the segmenter tells where the
    switch is seen now, and where it was seen in the first frame, before an arm hid it. They weigh more than the imagined frame,
    and their flow times lie nearer to noise, where only the observation can help; they are judged by the chunk that they point to.
    Of the four frames of a window one is imagined; a quarter of the windows begin with their episode, where an arm is chosen. In
    most episodes the hand strays from the lever and comes back: on the expert's own way the state alone tells where it leads.
    Muon moves the matrices: it gets as far in three quarters of the steps. The policy plays the mean of eight chunks.
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
    """Another family on the stream of `turn_switch_cpu`: its scenes, its optimiser and its hints, but latents that decode.

    Pictures are drawn by the rasteriser, several times as fast as by rays.
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

    Windows of two chunks, for the task asks for no memory and attention over a long one costs; inference looks as far back. Actions
    are told of each frame at a glance, aim, and count as in `turn_switch_cpu`. Chunks hold one frame, as the robot's are.
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
    """X-WAM on turn_switch, on two cores: two frames, 32 actions and their states at once, with the depth of every frame.

    Hints and weight of the actions as in `turn_switch_cpu`. A quarter of the decision may go on from the one before.
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
    """CoWVLA on turn_switch, on two cores: keyframes as codes, a query for the motion that follows, actions as tokens.

    Of the eight frames of a window four are steps of the sequence: each is followed by a whole clip of five, whose motion is asked
    for. Hints as in `turn_switch_cpu`.
    """
    model = replace(cowvla.tiny(), glance=48, aim=3, proprio_noise=0.02)
    return _sister("cowvla_cpu", model, window=7, steps=2400, codec="vq")


def counting(config: RunConfig) -> RunConfig:
    """The same run on self-verifying data: every read is checked byte by byte, every trajectory must be read exactly K times.

    The stream ends, the ring is read empty, and nothing is evaluated: there is no world to succeed in. The model is the smallest of
    its family, so that the pipe is what is tested.
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
