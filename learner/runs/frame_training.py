"""Shared by all trainings on single camera frames of the rendered stream: drawing frames, progress, the record of the training."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch

from embodichain.errors import RingTimeout, RunError
from embodichain.prepare import prepare
from embodichain.progress import Board
from embodichain.ring.ring import Ring
from embodichain.types import RingSpec
from learner.records.interrupt import Interrupt
from learner.records.run_folder import command_line
from learner.runs.engines import open_engine
from learner.runs.frames_config import FramesConfig
from learner.vision.camera_frames import CameraFrames


class FrameStream:
    """Batches of trajectories x images single camera frames, with depth and segmentation if present, drawn from a ring."""

    def __init__(self, ring: Ring, engine: Any, config: FramesConfig) -> None:
        self._ring, self._engine, self._config = ring, engine, config
        self._rng = np.random.default_rng(config.world.seed)
        self.wait_s = 0.0
        """Time spent waiting for trajectories [s]."""

    def __iter__(self) -> Iterator[CameraFrames]:
        """Endless while the engine runs; raises the engine's error, or RingTimeout."""
        poll_s = 0.0 if self._config.stream.engine == "serial" else 0.1
        began = time.monotonic()
        while True:
            state = self._rng.bit_generator.state
            try:
                lease = self._ring.acquire(self._config.trajectories, poll_s, rng=self._rng)
            except RingTimeout:
                self._rng.bit_generator.state = state
                if self._engine.exhausted:
                    return
                if time.monotonic() - began > self._config.timeout_s:
                    raise
                self._engine.feed()
                continue
            self.wait_s += time.monotonic() - began
            try:
                views = self._views([self._pick(lease[i]) for i in range(len(lease))])
            finally:
                lease.release()
            yield views
            began = time.monotonic()

    def _pick(self, trajectory: Any) -> dict[str, np.ndarray]:
        """Draws images of one trajectory, without repetition if it has enough; or clips, if configured."""
        frames = int(trajectory["num_chunks"]) + 1
        if self._config.clip > 1:
            return self._pick_clips(trajectory, frames)
        present = {name: trajectory[name][:frames] for name in CameraFrames._fields if name in trajectory}
        count = frames * present["rgb"].shape[1]
        chosen = self._rng.choice(count, self._config.images, replace=self._config.images > count)
        return {name: array.reshape(count, *array.shape[2:])[chosen] for name, array in present.items()}

    def _pick_clips(self, trajectory: Any, frames: int) -> dict[str, np.ndarray]:
        """Draws clips of one camera each from a trajectory; a trajectory that is too short repeats its last frame."""
        rgb, length = trajectory["rgb"], self._config.clip
        found = []
        for _ in range(self._config.images):
            start, camera = self._rng.integers(max(1, frames - length + 1)), self._rng.integers(rgb.shape[1])
            found.append(rgb[np.minimum(start + np.arange(length), frames - 1), camera])
        return {"rgb": np.stack(found)}

    @staticmethod
    def _views(picked: list[dict[str, np.ndarray]]) -> CameraFrames:
        return CameraFrames(**{name: torch.from_numpy(np.concatenate([part[name] for part in picked])) for name in picked[0]})


Told = Callable[[int, float], bool]
"""Called after every step with its number and a figure of quality; returns True to end the training."""


def learn(
    config: FramesConfig, what: str, steps: int, figure: str, train: Callable[[Iterator[CameraFrames], Told], int]
) -> tuple[dict[str, Any], list[float]]:
    """Streams frames into `train`, which must call its second argument after each step; shows the mean figure of 50 steps.

    Returns the record of the training, and the figure of every step. Raises RunError when `config.out` holds weights already.
    """
    if (config.out / "model.safetensors").exists():
        raise RunError(f"{config.out} holds weights already; choose another --out for this {what}")
    config.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(config.threads)
    interrupt, figures = Interrupt(), []
    began, cpu = time.monotonic(), time.process_time()
    with ExitStack() as stack:
        board = stack.enter_context(Board())
        world = prepare(config.world, board.update)
        spec = RingSpec(
            trajectory=world.trajectory_spec,
            num_slots=config.ring.num_slots,
            max_reads=config.ring.max_reads,
            full_policy=config.ring.full_policy,
            min_ready=config.ring.min_ready,
        )
        ring = stack.enter_context(Ring.create(spec))
        engine = stack.enter_context(open_engine(world, ring, config.stream, board))
        frames = FrameStream(ring, engine, config)

        def told(step: int, value: float) -> bool:
            engine.check()
            figures.append(value)
            board.update(f"train {what}", step, steps, f"{figure} {np.mean(figures[-50:]):.3f}")
            if step % 50 == 0:
                board.say(f"step {step}: {figure} {np.mean(figures[-50:]):.4f}")
            return interrupt.requested

        with interrupt.graceful():
            made = train(iter(frames), told)
        timings, published = engine.report.timings, engine.report.published
    record = {
        "command": " ".join(command_line()),
        "tasks": list(config.world.tasks),
        "seed": config.world.seed,
        "steps": made,
        "images": made * config.trajectories * config.images,
        "trajectories": published,
        "max_reads": config.ring.max_reads,
        "wall_s": round(time.monotonic() - began, 1),
        "learner_cpu_s": round(time.process_time() - cpu, 1),
        "worker_s": round(timings.physics_s + timings.render_s + timings.pilot_s + timings.write_s, 1),
        "wait_s": round(frames.wait_s, 1),
        "interrupted": interrupt.requested,
    }
    return record, figures


def save_record(folder: Path, record: dict[str, Any]) -> None:
    """Writes training.json beside the weights."""
    (folder / "training.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
