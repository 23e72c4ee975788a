"""What does training cost beyond the model's own arithmetic, and what does its memory cost compared with alternatives?

    python benchmarks/learner.py [--quick] [--json] [--device cuda]

In one run: training steps fed from a ring against the same steps on one batch in memory; a memory layer against a loop over tokens
and against causal softmax attention of the same width; state and peak memory of an agent that remembers 10,000 steps, against one
that caches keys and values. On a GPU also step time, model FLOPs utilisation and peak memory of the larger sizes.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import harness
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from embodichain.ring.ring import Ring
from embodichain.types import CHUNK, RingSpec, camera_spec, write_text
from learner.backbone.grid import Grid
from learner.backbone.layers import KeyValue, Rotation, attend, grid_positions, join, rotary
from learner.codecs.config import LatentSpec
from learner.data.config import DataConfig
from learner.data.dataset import RingDataset
from learner.memory.config import Recompute, TttConfig
from learner.memory.ttt import FastWeights, TttLayer, apply, loss, update
from learner.models.agent import Agent
from learner.models.clwm.draws import Draws
from learner.models.clwm.flops import forward_flops
from learner.models.clwm.model import Clwm
from learner.models.clwm.sizes import SIZES
from learner.models.config import AgentConfig
from learner.models.window import Extent, Window
from learner.models.world_model import Seen
from learner.training.config import OptimizerConfig
from learner.training.optimizer import adamw
from learner.training.utilisation import peak_flops, utilisation

HORIZON, SIDE, CAMERAS = 8, 64, 2
spawn = multiprocessing.get_context("spawn")


def fill(out: Any, number: int) -> None:
    """Fills in a trajectory determined by its number."""
    rng = np.random.default_rng(number)
    out["rgb"][...] = rng.integers(0, 255, out["rgb"].shape, dtype=np.uint8)
    out["proprio"][...] = 0.5 * rng.normal(size=out["proprio"].shape)
    out["action"][...] = out["proprio"][:HORIZON, None] + 0.2 * rng.normal(size=out["action"].shape)
    out["action_mask"][:] = 1
    out["segment"][...] = 0
    out["num_chunks"][...] = HORIZON
    out["trajectory_id"][...] = number
    write_text(out["instruction"], b"turn the switch on")
    write_text(out["info"], b"{}")


def publish(parent: int, path: Any, first: int, count: int) -> None:
    """A worker process that publishes trajectories."""
    harness.end_with(parent)
    with Ring.attach(path) as ring:
        for number in range(first, first + count):
            with ring.reserve(timeout_s=120.0) as slot:
                fill(slot, number)


def feeding(steps: int) -> dict[str, Any]:
    """Steps of the tiny model from a full ring against one batch in memory, alternating; then waiting times with a live worker."""
    spec = camera_spec(cameras=CAMERAS, height=SIDE, width=SIDE, horizon=HORIZON)
    config = DataConfig(batch_size=8, window=4, timeout_s=120.0)
    agent = Agent(AgentConfig())
    optimizer = adamw(OptimizerConfig(), agent)

    def step(batch: Any) -> None:
        optimizer.zero_grad()
        agent.losses(batch, torch.Generator().manual_seed(0)).total.backward()
        optimizer.step()

    with Ring.create(RingSpec(trajectory=spec, num_slots=32, max_reads=10_000)) as ring:
        for number in range(32):
            with ring.reserve() as slot:
                fill(slot, number)
        dataset = RingDataset(ring, config)
        leased = dataset.draw()
        kept, expected = leased.gather(), spec.allocate()
        for row, (number, start) in enumerate(zip(kept.trajectory_ids, kept.starts, strict=True)):
            fill(expected, number)
            assert kept.rgb_BThw3 is not None
            assert np.array_equal(kept.rgb_BThw3[row].numpy(), expected["rgb"][start : start + config.window + 1]), "other content"
        leased.release()
        measurement = agent.new_measurement()
        agent.measure(kept, measurement)
        agent.normalizer.fit(measurement)
        pairs = []
        for index in range(steps + 2):
            began = time.perf_counter()
            leased = dataset.draw()
            step(leased.gather())
            leased.release()
            middle = time.perf_counter()
            step(kept)
            ended = time.perf_counter()
            if index >= 2:
                pairs.append((middle - began, ended - middle))
    ring_s, memory_s = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(memory / ring for ring, memory in pairs)
    spread = statistics.quantiles([memory / ring for ring, memory in pairs], n=4)

    with Ring.create(RingSpec(trajectory=spec, num_slots=32, max_reads=10, min_ready=16)) as ring:
        draws = max(8, steps // 2)
        worker = spawn.Process(target=publish, args=(os.getpid(), ring.path, 0, draws * config.batch_size // 10 + 32), daemon=True)
        worker.start()
        dataset = RingDataset(ring, config)
        dataset.draw().release()
        began, waited = time.perf_counter(), dataset.wait_s
        for _ in range(draws):
            leased = dataset.draw()
            step(leased.gather())
            leased.release()
        wait_share = (dataset.wait_s - waited) / (time.perf_counter() - began)
        worker.terminate()
        worker.join()
    return {
        "ring_over_memory": ratio,
        "ring_over_memory_quartiles": [spread[0], spread[2]],
        "step_from_ring_s": ring_s,
        "step_from_memory_s": memory_s,
        "wait_share": wait_share,
        "samples_per_s": config.batch_size / ring_s,
    }


def rotation_of(tokens: int, width: int, dtype: torch.dtype = torch.float32) -> Rotation:
    """Rotary embedding for the tokens of a frame."""
    cos, sin = rotary(grid_positions(1, 1, tokens, 0.0), width)
    return Rotation(cos.to(dtype), sin.to(dtype))


def by_steps(layer: TttLayer, x: Tensor) -> Tensor:
    """Frames [B, T, N, D] through the layer one by one: each frame reads the memory of earlier frames, then is written."""
    rotation = rotation_of(x.shape[2], layer.width, x.dtype)
    writes, asks, state, reads = layer.writes(x, rotation, x.shape[2]), layer.queries(x, rotation), layer.initial(), []
    keys, values, rates = (part.unbind(1) for part in writes)
    for key, value, rate, ask in zip(keys, values, rates, asks.unbind(1), strict=True):
        reads.append(apply(state, ask))
        state = update(state, key, value, rate)
    return layer.gated(x, torch.stack(reads, dim=1))


def by_tokens(layer: TttLayer, x: Tensor) -> Tensor:
    """The same function in plain PyTorch: token after token, with the inner gradient by autograd."""
    rotation = rotation_of(x.shape[2], layer.width, x.dtype)
    writes, asks, state, reads = layer.writes(x, rotation, x.shape[2]), layer.queries(x, rotation), layer.initial(), []
    w1, b1, w2, b2 = (w.expand(x.shape[0], *w.shape[1:]) for w in state[:4])
    state = FastWeights(w1, b1, w2, b2, state.gain, state.shift)
    for t in range(x.shape[1]):
        tokens = [slice(n, n + 1) for n in range(x.shape[2])]
        reads.append(torch.cat([apply(state, asks[:, t, :, n]) for n in tokens], dim=-2))
        steps = [torch.zeros_like(w) for w in state[:4]]
        for n in tokens:
            inner = loss(state, writes.keys[:, t, :, n], writes.values[:, t, :, n]) * writes.rates[:, t, :, n, 0]
            found = torch.autograd.grad(inner.sum(), state[:4], create_graph=True)
            steps = [total + one for total, one in zip(steps, found, strict=True)]
        w1, b1, w2, b2 = (w - s for w, s in zip(state[:4], steps, strict=True))
        state = FastWeights(w1, b1, w2, b2, state.gain, state.shift)
    return layer.gated(x, torch.stack(reads, dim=1))


class SoftmaxAttention(torch.nn.Module):
    """Causal attention over all tokens so far, of the same width and heads."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = torch.nn.Linear(dim, 3 * dim)
        self.output = torch.nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Attention over frames, [B, T, N, D] to [B, T, N, D]."""
        flat = F.layer_norm(x, x.shape[-1:]).flatten(1, 2)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.query_key_value(flat).chunk(3, dim=-1))
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return x + self.output(out.transpose(1, 2).flatten(-2)).view_as(x)


def seconds(act: Callable[[], Tensor], parameters: Sequence[Tensor], repeats: int) -> float:
    """Median processor time of a forward and backward pass on one thread [s], which excludes other jobs of the machine."""
    times = []
    for _ in range(repeats):
        began = time.process_time()
        torch.autograd.grad(act().square().sum(), parameters, allow_unused=True)
        times.append(time.process_time() - began)
    return statistics.median(times)


def layers(lengths: tuple[int, ...], repeats: int, dim: int = 96, heads: int = 3, tokens: int = 16) -> dict[str, Any]:
    """A memory layer of the tiny model's width against the loop (32 steps) and against attention (by T)."""
    torch.manual_seed(0)
    layer, attention = TttLayer(dim, heads, TttConfig()), SoftmaxAttention(dim, heads)
    mine, theirs = list(layer.parameters()), list(attention.parameters())
    exact = TttLayer(dim, heads, TttConfig()).double()
    x = torch.randn(2, 3, tokens, dim, dtype=torch.float64)
    a, b = (torch.autograd.grad(f(exact, x).square().sum(), list(exact.parameters())) for f in (by_steps, by_tokens))
    for one, other in zip(a, b, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)  # the same function and the same gradients
    x = torch.randn(1, 32, tokens, dim)
    by_steps(layer, x)
    loop_s = seconds(lambda: by_tokens(layer, x), mine, max(1, repeats // 2))
    step_s = seconds(lambda: by_steps(layer, x), mine, repeats)
    ratios, timed = {}, {}
    for length in lengths:
        x = torch.randn(1, length, tokens, dim)
        again = max(1, repeats * 32 // length)
        ttt_s = seconds(lambda x=x: by_steps(layer, x), mine, again)
        attention_s = seconds(lambda x=x: attention(x), theirs, again)
        ratios[str(length)] = attention_s / ttt_s
        timed[str(length)] = {"ttt_s": ttt_s, "attention_s": attention_s}
    return {"ttt_over_loop": loop_s / step_s, "ttt_over_attention": ratios, "layer_s": timed}


def remember(parent: int, steps: tuple[int, ...], caching: bool, answers: Any) -> None:
    """Observes frames; puts (frames, bytes of state, peak of the process, processor time per frame [s]) at each of `steps`."""
    harness.end_with(parent)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = replace(SIZES["tiny"](), dim=48, layers=2, heads=3, ffn=96)  # slopes do not depend on the model's size
    model, grid = Clwm(config, latents=LatentSpec(96), text_dim=64).eval(), Grid(1, 4, 4)
    rows: list[tuple[int, int, int, float]] = []
    with torch.inference_mode():
        memory, text = model.empty(), model.read_text(torch.zeros(1, 4, 64))
        latents, proprio, chunk = torch.randn(1, grid.size, 96), torch.randn(1, 30), torch.randn(1, CHUNK, 30)
        for _ in range(3000):  # an earlier episode, until the allocator's pools are full
            memory = model.observe(memory, Seen(latents, proprio, chunk), text, grid)
        memory = model.empty()
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak, which a process inherits from its parent
        cache: list[KeyValue] = []
        began, before = time.process_time(), 0
        for step in range(1, steps[-1] + 1):
            memory = model.observe(memory, Seen(latents, proprio, chunk), text, grid)
            if caching:  # a transformer without a state would keep and read a growing cache
                cache = [join(old, new) for old, new in zip(cache, memory.context, strict=True)] if cache else list(memory.context)
                for entry in cache:
                    attend(entry.keys[..., -1:, :], entry)
            if step in steps:
                kept = memory.size_bytes + sum(x.numel() * x.element_size() for entry in cache for x in entry)
                status = Path("/proc/self/status").read_text()
                peak = 1024 * int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
                now = time.process_time()
                rows.append((step, kept, peak, (now - began) / (step - before)))
                began, before = now, step
    answers.put(rows)


def remembering(steps: tuple[int, ...], cached_steps: tuple[int, ...]) -> dict[str, Any]:
    """Growth of the state and of peak memory per step, each in a process of its own [bytes per step]."""
    found = {}
    for name, numbers in (("memory", steps), ("cache", cached_steps)):
        answers = spawn.Queue()
        process = spawn.Process(target=remember, args=(os.getpid(), numbers, name == "cache", answers), daemon=True)
        process.start()
        found[name] = np.array(answers.get(timeout=1800), np.float64)
        process.join()

    def slope(name: str, column: int) -> float:
        rows = found[name]
        return float(np.polyfit(rows[:, 0], rows[:, column], 1)[0])

    rows = found["memory"]
    return {
        "state_bytes": int(rows[0, 1]),
        "state_bytes_slope": slope("memory", 1) if len(set(rows[:, 1])) > 1 else 0.0,
        "peak_memory_slope": slope("memory", 2) if len(set(rows[:, 2])) > 1 else 0.0,
        "peak_memory_by_step": {str(int(step)): int(peak) for step, _, peak, _ in rows},
        "step_s_by_step": {str(int(step)): float(step_s) for step, *_, step_s in rows},
        "cache_state_bytes_slope": slope("cache", 1),
        "cache_peak_memory_slope": slope("cache", 2),
    }


def on_device(name: str, batch: int, steps: int, device: str, *, compiled: bool, half_weights: bool) -> dict[str, float]:
    """Step time, FLOPs utilisation and peak memory of one size, without the encoder, in bf16 arithmetic."""
    config, grid = SIZES[name](), Grid(2, 14, 14)
    text = (512, 4096) if name == "wan5b" else (16, 64)
    with torch.device(device):
        torch.set_default_dtype(torch.bfloat16 if half_weights else torch.float32)
        model = Clwm(config, latents=LatentSpec(768), text_dim=text[1]).train()
        torch.set_default_dtype(torch.float32)
        window = Window(
            torch.randn(batch, steps + 1, grid.size, 768),
            torch.randn(batch, steps + 1, 30),
            torch.randn(batch, steps, CHUNK, 30),
            torch.randn(batch, text[0], text[1]),
        )
        valid, mask = torch.ones(batch, steps, dtype=torch.bool), torch.ones(batch, 30, dtype=torch.bool)
    model.recompute = Recompute(blocks=name == "wan5b")
    if compiled:
        model.compile_blocks()
    optimizer = adamw(OptimizerConfig(rate=1e-4), model)
    draws: Draws = model.draw(window, torch.Generator().manual_seed(0))
    values: dict[str, float] = {}

    def step() -> float:
        with torch.autocast(device, torch.bfloat16):
            losses = model.losses(window, draws, grid, valid_BT=valid, imitate_BT=valid, action_mask_BA=mask)
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
        return losses.total.item()

    torch.cuda.reset_peak_memory_stats()
    with torch.no_grad(), torch.autocast(device, torch.bfloat16):
        model.velocities(window, draws, grid)
        torch.cuda.synchronize()
        began = time.perf_counter()
        model.velocities(window, draws, grid)
        torch.cuda.synchronize()
        values["forward_s"] = time.perf_counter() - began
    first = [step() for _ in range(3)]
    times = []
    for _ in range(8):
        began = time.perf_counter()
        last = step()
        times.append(time.perf_counter() - began)
    assert np.isfinite(last) and last < first[0], "it does not learn"
    step_s = statistics.median(times)
    extent = Extent(batch, steps, grid.size, 768, *text)
    mfu = utilisation(forward_flops(config, extent), step_s, peak_flops(device))
    peak = torch.cuda.max_memory_allocated() / 2**30
    values |= {"step_s": step_s, "peak_gib": peak, "tflops": 3e-12 * forward_flops(config, extent) / step_s}
    return values | ({} if mfu is None else {"mfu": mfu})


def main() -> None:
    parser = harness.parser(__doc__, "fewer repetitions")
    parser.add_argument("--device", default="cpu", help="cuda adds the sizes that need a GPU")
    options = parser.parse_args()
    torch.set_num_threads(1)
    values: dict[str, Any] = feeding(6 if options.quick else 40)
    values |= layers((32, 256, 2048), 2 if options.quick else 9)
    values |= remembering((10, 100, 1000, 2000 if options.quick else 10_000), (10, 100, 500 if options.quick else 1000))
    values["mfu"] = None
    if options.device.startswith("cuda"):
        sizes = {}
        for name, batch, steps in (("small", 32, 8), ("base", 16, 8), ("wan5b", 1, 4)):
            sizes[name] = on_device(name, batch, steps, "cuda", compiled=name != "wan5b", half_weights=name == "wan5b")
            torch.cuda.empty_cache()
        values |= {"device": torch.cuda.get_device_name(), "sizes": sizes, "mfu": sizes["base"].get("mfu")}
    harness.give(values, options)


if __name__ == "__main__":
    main()
