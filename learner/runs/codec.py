"""Trains a codec on frames of the rendered stream, with a bounded number of reads."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from embodichain.errors import MotionError, RunError, SceneError
from embodichain.prepare import prepare
from embodichain.progress import Board
from embodichain.ring.ring import Ring
from embodichain.stages import RolloutStage, SceneStage
from embodichain.types import ACTION_DIM, RingSpec
from learner.codecs.catalog import make_codec
from learner.codecs.config import LatentSpec
from learner.codecs.fast import train_fast
from learner.codecs.motion import MotionExtractor, save_motion
from learner.codecs.vae import CHANNELS, Vae, save_vae
from learner.codecs.vae_training import psnr, shown, train_vae
from learner.codecs.vq import VqAutoencoder, save_vq
from learner.codecs.vq_training import train_motion, train_vq
from learner.models.config import NormalizerConfig
from learner.models.normalize import Measurement, Normalizer
from learner.records.run_folder import command_line
from learner.runs.frame_training import Told, learn, save_record
from learner.runs.frames_config import FastRunConfig, MotionRunConfig, VaeRunConfig, VqRunConfig
from learner.vision.camera_frames import CameraFrames


def train_autoencoder(config: VaeRunConfig) -> dict[str, Any]:
    """Trains and saves one image autoencoder; returns its record. Raises RunError when `config.out` holds one already.

    The last batch of the stream is held out, and the record contains its reconstruction quality for colours and depths.
    """
    vae, last = Vae(config.vae.seed), []

    def fit(frames: Iterator[CameraFrames], told: Told) -> int:
        last.append(next(frames))
        return train_vae(vae, frames, config.vae, told)

    record, ratios = learn(config, "autoencoder", config.vae.steps, "PSNR [dB]", fit)
    save_vae(vae, config.out)
    record["psnr_db"] = _late_mean(ratios)
    for views in last:
        for name, share in (("rgb", 0.0), ("depth", 1.0)):
            pictures = shown(views, share, torch.Generator(), vae.moments.weight)
            with torch.no_grad():
                record[f"kept_{name}_psnr_db"] = float(psnr(vae.decode(vae.encode(pictures)[0]), pictures))
    save_record(config.out, record)
    return record


def train_codes(config: VqRunConfig) -> dict[str, Any]:
    """Trains and saves a vector-quantised autoencoder; returns the record. Raises RunError when `config.out` holds one already."""
    model, used = VqAutoencoder(config.vq.seed), []

    def fit(frames: Iterator[CameraFrames], told: Told) -> int:
        def note(step: int, ratio: float, perplexity: float) -> bool:
            used.append(perplexity)
            return told(step, ratio)

        return train_vq(model, frames, config.vq, note)

    record, ratios = learn(config, "codes", config.vq.steps, "PSNR [dB]", fit)
    save_vq(model, config.out)
    record |= {"psnr_db": _late_mean(ratios), "perplexity": _late_mean(used)}
    record["idle_codes"] = int((model.quantizer.idle > model.quantizer.patience // 2).sum())
    save_record(config.out, record)
    return record


def train_extractor(config: MotionRunConfig) -> dict[str, Any]:
    """Trains and saves a motion extractor; returns the record. Raises RunError when `config.out` holds one already."""
    codec = make_codec(config.encoder)
    rows, columns = codec.grid(config.world.height, config.world.width)
    extractor = MotionExtractor(CHANNELS * config.motion.merge**2, rows, columns, config.motion.seed)
    moved: list[float] = []

    def fit(frames: Iterator[CameraFrames], told: Told) -> int:
        def note(step: int, ratio: float, share: float) -> bool:
            moved.append(share)
            return told(step, ratio)

        return train_motion(extractor, codec, frames, config.motion, note)

    record, ratios = learn(config, "motion extractor", config.motion.steps, "error over standing still", fit)
    save_motion(extractor, config.out)
    record |= {"error_over_still": _late_mean(ratios), "motion_transferred": _late_mean(moved)}
    save_record(config.out, record)
    return record


def make_tokenizer(config: FastRunConfig) -> dict[str, Any]:
    """Makes and saves an action tokenizer from chunks of the stream, normalised by their own quantiles; returns the record."""
    measurement = Measurement(NormalizerConfig(), LatentSpec(1), ACTION_DIM)
    kept: list[tuple[torch.Tensor, torch.Tensor]] = []
    if (config.out / "fast.json").exists():
        raise RunError(f"{config.out} holds an action tokenizer already; choose another --out")
    began = time.monotonic()
    for trajectory in _played(config):
        chunks = int(trajectory["num_chunks"])
        actions = torch.from_numpy(trajectory["action"][:chunks].copy())[None]
        proprio = torch.from_numpy(trajectory["proprio"][: chunks + 1].copy())[None]
        kept.append((actions, proprio))
        measurement.add(
            action_BTKA=actions,
            proprio_BTA=proprio,
            action_mask_BA=torch.from_numpy(trajectory["action_mask"].copy())[None].bool(),
            latents_BTNC=torch.zeros(1, chunks + 1, 1, 1),
            valid_BT=torch.ones(1, chunks, dtype=torch.bool),
        )
        if sum(actions.shape[1] for actions, _ in kept) >= config.fast.chunks:
            break
    normalizer = Normalizer(NormalizerConfig(clip=config.fast.clip), LatentSpec(1), ACTION_DIM)
    normalizer.fit(measurement)
    rows = torch.cat([normalizer.actions(actions, proprio[:, :-1])[0] for actions, proprio in kept])[
        ..., list(config.fast.channels)
    ]
    found = [row.double().numpy() for row in rows]
    settings = config.fast
    tokenizer = train_fast(
        found, channels=len(settings.channels), scale=settings.scale, clip=settings.clip, chunk=config.world.chunk
    )
    tokenizer.save(config.out)
    lengths = [len(tokenizer.encode(row)) for row in found]
    errors = [float(np.sqrt(np.square(tokenizer.decode(tokenizer.encode(row)) - row).mean())) for row in found[:500]]
    record = {
        "command": " ".join(command_line()),
        "tasks": list(config.world.tasks),
        "seed": config.world.seed,
        "wall_s": round(time.monotonic() - began, 1),
        "interrupted": False,
        "trajectories": len(kept),
        "images": 0,
        "chunks": len(found),
        "tokens_p50": float(np.quantile(lengths, 0.5)),
        "tokens_p95": float(np.quantile(lengths, 0.95)),
        "tokens_max": max(lengths),
        "rmse": float(np.mean(errors)),
    }
    save_record(config.out, record)
    return record


def _played(config: FastRunConfig) -> Iterator[Mapping[str, Any]]:
    """Yields successful expert episodes, played in this process; each is valid only until the next."""
    with Board() as board:
        world = prepare(config.world, board.update)
        spec = RingSpec(trajectory=world.trajectory_spec, num_slots=1, max_reads=1, min_ready=1)
        with Ring.create(spec) as ring:
            scenes, stage = SceneStage(world), RolloutStage(world, ring, worker=0, epoch=0)
            try:
                for number in itertools.count():
                    out = world.trajectory_spec.allocate()
                    try:
                        outcome = stage.play(*scenes.step(number), out)
                    except (MotionError, SceneError):
                        continue  # the scene cannot be sampled, or the expert finds no plan in it: take the next
                    if outcome.verdict.success:
                        board.update("play", number + 1, 0, "for their chunks")
                        yield out
            finally:
                stage.close()


def _late_mean(values: list[float]) -> float | None:
    return float(np.mean(values[-50:])) if values else None
