"""What is remembered takes the same room however long an episode lasts."""

import multiprocessing
from pathlib import Path

import pytest
import torch

from learner.backbone.grid import Grid
from learner.codecs.config import LatentSpec
from learner.models.clwm.config import ClwmConfig
from learner.models.clwm.memory import LongTermMemory
from learner.models.clwm.model import Clwm
from learner.models.world_model import Seen

FRAMES = (10, 100, 1_000, 10_000)


def peak_bytes() -> int:
    """The largest resident size of this process so far."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


def watch(answers) -> None:
    """Observes frames; answers the state's and the process's largest size after some of them."""
    torch.set_num_threads(1)
    sizes = {"dim": 16, "layers": 1, "heads": 1, "ffn": 16, "memory_every": 1, "time_frequencies": 4, "max_cameras": 1}
    model, grid = Clwm(ClwmConfig(**sizes), latents=LatentSpec(4), text_dim=4), Grid(1, 1, 2)
    Path("/proc/self/clear_refs").write_text("5")  # a process inherits its parent's peak
    rows = []
    with torch.inference_mode():
        memory, text = model.empty(), model.read_text(torch.zeros(1, 2, 4))
        generator = torch.Generator().manual_seed(0)
        for frame in range(1, FRAMES[-1] + 1):
            latents, chunk = torch.randn(1, 2, 4, generator=generator), torch.randn(1, 16, 30, generator=generator)
            memory = model.observe(memory, Seen(latents, chunk[:, 0], chunk), text, grid)
            if frame in FRAMES:
                rows.append((memory.steps, memory.size_bytes, peak_bytes()))
    answers.put((rows, all(bool(x.isfinite().all()) for group in memory.weights for x in group)))


@pytest.mark.slow
def test_state_and_peak_memory_are_the_same_from_ten_to_ten_thousand_frames():
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    process = context.Process(target=watch, args=(answers,), daemon=True)
    process.start()
    rows, finite = answers.get(timeout=220)
    process.join()
    steps, states, peaks = zip(*rows, strict=True)
    assert steps == FRAMES and finite
    assert len(set(states)) == 1
    assert peaks[-1] - peaks[1] < 4 << 20, "a cache of this tiny model would have grown by 24 MB since frame 100"


def test_a_fork_shares_every_tensor():
    weights = torch.zeros(1)
    memory = LongTermMemory(weights=(), context=((weights, weights),), steps=3)  # type: ignore[arg-type]
    working = memory.fork()
    assert working.weights is memory.weights and working.context is memory.context and not working.imagined
