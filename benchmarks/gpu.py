"""All measurements for a first GPU, stage by stage, in one command under nine minutes; figures are written after every stage.

    python benchmarks/gpu.py [STAGE ...] [--cpu] [--quick] [--json] [--out DIR]

Stages: ceilings (the GPU's peak rates), ring (its laws on the GPU; put against copy), gather (one launch per field against
stacking), ttt (the memory's scan in float32, TF32 and compiled, against float64), learner (step time, utilisation and memory by
size). Each runs in a process of its own with a time limit, so that a stage that fails or hangs loses only its own figures. A
figure whose check failed is not reported.

`--cpu` runs small versions without a GPU, to test this script, and adds what can be measured on a CPU: whether reels and darkroom
make the same images as snapshots (`reels_equal`), the cost of a darkroom over theirs (`darkroom_over_pictures`, processor time),
how many of the ray caster's modules compile for compute capability 9.0 (`sm90_modules_compiled`), the size of the pack of
`gpu_pack.py` (`pack_mib`), and whether worlds that MuJoCo Warp steps together earn the verdicts of MuJoCo C
(`warp_verdicts_equal`).
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

# ruff: noqa: E402 the package learner comes before the script of that name beside this one
HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path = [entry for entry in sys.path if Path(entry or ".").resolve() != HERE]
sys.path[:0] = [str(ROOT)]

import numpy as np
import torch
from torch import Tensor

sys.path.append(str(HERE))
from gpu_here import Figures, darkroom, pack, reels, sm90, worlds

LIMITS_S = {"ceilings": 25, "ring": 100, "gather": 30, "ttt": 100, "learner": 250}
"""Time limit of each stage [s], together under nine minutes; stages on a CPU have no limit."""
WITH_WARP_S = {"darkroom": 120}
"""The same of stages that need Warp, which comes in a second pack."""
ON_CPU = ("reels", "darkroom", "sm90", "pack", "worlds")
BESIDE = ("sm90", "pack", "worlds")
"""Stages that run beside the others on a CPU with two cores: they report no times by a clock that they share."""


def import_stages() -> None:
    """Imports all modules that the GPU stages use; `gpu_pack.py` finds out in this way what to pack."""
    for name in (
        "embodichain.ring.open",
        "embodichain.types",
        "learner.data.dataset",
        "learner.memory.precision",
        "learner.memory.ttt",
        "learner.models.clwm.flops",
        "learner.models.clwm.model",
        "learner.models.clwm.sizes",
        "learner.training.optimizer",
        "learner.training.utilisation",
        "pytest",
        "hypothesis",
    ):
        importlib.import_module(name)


# ------------------------------------------------------------------------------------------------------------- timing


def settle(device: str) -> None:
    """Waits until all work launched on the device has finished."""
    if device == "cuda":
        torch.cuda.synchronize()


def timed(act: Callable[[], object], device: str, repeats: int = 20) -> dict[str, float]:
    """Median and spread of the time of a call [s], after three calls to warm up."""
    for _ in range(3):
        act()
    settle(device)
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        act()
        settle(device)
        times.append(time.perf_counter() - began)
    low, _, high = statistics.quantiles(times, n=4) if len(times) > 2 else (min(times), 0.0, max(times))
    return {"s": statistics.median(times), "low_s": low, "high_s": high}


# ------------------------------------------------------------------------------------------------------------- stages


def ceilings(device: str, quick: bool) -> Figures:
    """Peak rates: copies on the device, bf16 matrix products, and copies from pinned memory."""
    small = device == "cpu"
    size = (1 << 24 if quick else 1 << 26) if small else 1 << 32
    source = torch.randint(0, 255, (size,), dtype=torch.uint8, device=device)
    target = torch.full_like(source, 7)
    copy = timed(lambda: target.copy_(source), device)
    assert torch.equal(target, source), "a copy is no copy"
    n = 512 if small else 8192
    a, b = (torch.randn(n, n, dtype=torch.bfloat16, device=device) for _ in range(2))
    product = torch.empty(n, n, dtype=torch.bfloat16, device=device)
    multiply = timed(lambda: torch.mm(a, b, out=product), device)
    rows = a[:4].float() @ b.float()
    assert torch.allclose(product[:4].float(), rows, rtol=2e-2, atol=0.5 * n**0.5 * 2**-7), "a product is no product"
    figures: Figures = {
        "copy_gb_s": 2e-9 * size / copy["s"],
        "bf16_tflops": 2e-12 * n**3 / multiply["s"],
        "copy": copy,
        "multiply": multiply,
        "versions": {"python": sys.version.split()[0], "torch": torch.__version__, "numpy": np.__version__},
    }
    if not small:
        pinned = torch.empty(1 << 28, dtype=torch.uint8, pin_memory=True)
        pageable = torch.empty(1 << 28, dtype=torch.uint8)
        there = torch.empty(1 << 28, dtype=torch.uint8, device=device)
        figures["host_to_device_pinned_gb_s"] = 1e-9 * 2**28 / timed(lambda: there.copy_(pinned, non_blocking=True), device)["s"]
        figures["host_to_device_pageable_gb_s"] = 1e-9 * 2**28 / timed(lambda: there.copy_(pageable), device)["s"]
        figures["name"] = torch.cuda.get_device_name()
        figures["memory_gib"] = torch.cuda.get_device_properties(0).total_memory / 2**30
        cupy = importlib.import_module("cupy")
        figures["driver"], figures["runtime"] = cupy.cuda.runtime.driverGetVersion(), cupy.cuda.runtime.runtimeGetVersion()
        figures["versions"]["cupy"] = cupy.__version__
    return figures


def made_ring(device: str, spec: Any) -> Any:
    """A ring on the GPU, or on the fake device."""
    from embodichain.ring.open import create_ring

    return create_ring(spec, "cuda" if device == "cuda" else "delayed")


def ring(device: str, quick: bool) -> Figures:
    """Checks the ring's laws on the device, then times publishing a slot against a bare copy of its bytes."""
    from embodichain.types import Field, RingSpec, TrajectorySpec

    tests = (
        ["tests/gpu/test_cuda_ring.py", "-m", "gpu"]
        if device == "cuda"
        else ["tests/ring/test_ring_device.py", "-k", "TestDelayed"]
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "addopts=", "--timeout", "60", *tests]
    began = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    laws = {word: int(count) for count, word in re.findall(r"(\d+) (passed|failed|error|skipped)", done.stdout)}
    out = os.environ.get("OUT")
    if out:
        Path(out, "ring-laws.log").write_text(done.stdout + done.stderr, encoding="utf-8")
    figures: Figures = {"laws": laws, "laws_s": time.perf_counter() - began}
    if done.returncode:
        figures["laws_failed"] = done.stdout.strip().splitlines()[-12:]
    for mib in (1, 9):
        words = mib << 17
        fields = (Field(name="content", shape=(words,), dtype="uint64"), Field(name="trajectory_id", shape=(), dtype="uint64"))
        source = np.random.default_rng(mib).integers(0, 1 << 63, words, dtype=np.uint64)
        spec = RingSpec(trajectory=TrajectorySpec(horizon=1, fields=fields), num_slots=4, max_reads=1)
        with made_ring(device, spec) as made:
            seconds, latencies = [], []
            for number in range(5 if quick else 23):
                began = time.perf_counter()
                slot = made.reserve()
                np.copyto(slot["content"], source)
                slot["trajectory_id"][()] = number
                middle = time.perf_counter()
                slot.publish()
                seconds.append(time.perf_counter() - began)
                latencies.append(time.perf_counter() - middle)
                with made.sample(1) as batch:
                    got = torch.from_dlpack(batch[0]["content"]).view(torch.uint8)
                    assert torch.equal(got.cpu(), torch.from_numpy(source).view(torch.uint8)), "the ring gave other bytes"
            put_s, publish_s = statistics.median(seconds[3:] or seconds), statistics.median(latencies[3:] or latencies)
        host = torch.from_numpy(source)
        there = torch.empty_like(host, device=device)
        if device == "cuda":
            host = host.pin_memory()
        copy_s = timed(lambda host=host, there=there: there.copy_(host, non_blocking=True), device)["s"]
        figures[f"put_over_copy_{mib}mib"] = copy_s / put_s
        figures[f"publish_over_copy_{mib}mib"] = copy_s / publish_s
        figures[f"publish_{mib}mib_us"] = 1e6 * publish_s
    return figures


def filled(made: Any) -> None:
    """Puts a trajectory of random numbers into every slot of a ring of camera trajectories."""
    from embodichain.types import write_text

    rng, spec = np.random.default_rng(0), made.spec.trajectory
    for number in range(made.spec.num_slots):
        with made.reserve() as slot:
            for field in spec.fields:
                values = rng.integers(0, 255, field.shape)
                slot[field.name][...] = values.astype(field.dtype) if field.dtype != "float16" else values / 256.0
            slot["num_chunks"][...], slot["trajectory_id"][...] = spec.horizon, number
            write_text(slot["instruction"], b"turn the switch on")


def gather(device: str, quick: bool) -> Figures:
    """Batches of windows by one launch per field, against one copy per window; also from a ring in host memory, pinned or not."""
    from dataclasses import replace

    from embodichain.types import RingSpec, camera_spec
    from learner.data.config import DataConfig
    from learner.data.dataset import RingDataset

    latents, slots, horizon = ((4, 4, 32), 8, 6) if device == "cpu" else ((8, 8, 1024), 64, 24)
    spec = camera_spec(cameras=3, height=64, width=64, horizon=horizon, latents=latents)
    with made_ring(device, RingSpec(trajectory=spec, num_slots=slots, max_reads=16_383)) as made:
        filled(made)
        dataset = RingDataset(made, DataConfig(batch_size=min(16, slots), window=4))
        leased = dataset.draw()
        stacked = replace(leased, slots=None)
        one, other = leased.gather(device), stacked.gather(device)
        for name in ("latents_BTvrcC", "proprio_BTA", "actions_BTKA"):
            mine, theirs = getattr(one, name), getattr(other, name)
            assert isinstance(mine, Tensor) and torch.equal(mine, theirs), f"{name} differs"
        assert one.latents_BTvrcC is not None
        repeats = 5 if quick else 30
        indexed, copied = (
            timed(lambda: leased.gather(device), device, repeats),
            timed(lambda: stacked.gather(device), device, repeats),
        )
        size = sum(x.numel() * x.element_size() for x in (one.latents_BTvrcC, one.proprio_BTA, one.actions_BTKA))
        leased.release()
    return {
        "gather_over_stack": copied["s"] / indexed["s"],
        "gather_gb_s": 2e-9 * size / indexed["s"],
        "gather": indexed,
        "stack": copied,
        "batch_mib": size / 2**20,
        **from_host(device, RingSpec(trajectory=spec, num_slots=slots, max_reads=16_383), repeats, size),
    }


def from_host(device: str, spec: Any, repeats: int, size: int) -> Figures:
    """Batches from a ring in host memory, pageable and page-locked: alone, and on a GPU during other work."""
    from contextlib import nullcontext

    from embodichain.ring.ring import Ring
    from learner.data.config import DataConfig
    from learner.data.copies import AtOnce, BesideWork, Cuda, page_locked
    from learner.data.dataset import RingDataset

    there = torch.device(device)
    ways: dict[str, tuple[Any, bool]] = {"at_once": (AtOnce(there), False)}
    if device == "cuda":
        ways |= {"pageable": (BesideWork(there), False), "pinned": (BesideWork(there), True)}
    figures: Figures = {}
    with Ring.create(spec) as made:
        filled(made)
        leased = RingDataset(made, DataConfig(batch_size=min(16, spec.num_slots), window=4)).draw()
        expected = leased.gather("cpu")
        for name, (copies, lock) in ways.items():
            with page_locked(made.readable, Cuda()) if lock else nullcontext():

                def send(copies: Any = copies) -> Any:
                    moving = copies.send(leased, opening=False, depth=False)
                    moving.has_left(wait=True)
                    return moving.arrive()

                for part, value in send().tensors.items():
                    assert torch.equal(value.cpu(), expected.tensors[part]), f"{part} came otherwise by {name}"
                figures[f"host_ring_{name}"] = (taken := timed(send, there.type, repeats)) | {"gb_s": 1e-9 * size / taken["s"]}
        leased.release()
    return figures


def ttt(device: str, quick: bool) -> Figures:
    """Forward and backward pass of the memory's scan by precision, with its error against float64."""
    from learner.memory.config import Recompute, TttConfig
    from learner.memory.precision import tensor_cores
    from learner.memory.ttt import FastWeights, TttLayer, Written, scan

    heads, width, tokens, steps = (2, 16, 9, 3) if device == "cpu" else (24, 128, 209, 5)
    torch.manual_seed(0)
    layer = TttLayer(heads * width, heads, TttConfig()).to(device)

    def made(*shape: int) -> Tensor:
        return torch.nn.functional.normalize(torch.randn(*shape, device=device), dim=-1)

    keys = made(1, steps, heads, tokens, width)
    written = Written(
        keys, keys + made(1, steps, heads, tokens, width), 0.001 * torch.rand(1, steps, heads, tokens, 1, device=device)
    )
    asks = made(1, steps - 1, heads, tokens, width)

    def run(w: Written, q: Tensor, state: FastWeights) -> Tensor:
        return torch.stack(scan(state, w, q, None, tokens, Recompute())[1])

    def backward(function: Callable[[Written, Tensor, FastWeights], Tensor]) -> None:
        layer.zero_grad(set_to_none=True)
        function(written, asks, layer.initial()).square().sum().backward()

    exact = TttLayer(heads * width, heads, TttConfig()).to(device).double()
    exact.load_state_dict(layer.state_dict())
    with torch.no_grad():
        truth = run(Written(*(part.double() for part in written)), asks.double(), exact.initial())
    figures: Figures = {"shape": {"heads": heads, "width": width, "tokens": tokens, "steps": steps}}
    kinds: dict[str, tuple[bool, Callable[[Written, Tensor, FastWeights], Tensor]]] = {"fp32": (False, run), "tf32": (True, run)}
    if device == "cuda":
        kinds["tf32_compiled"] = (True, torch.compile(run, dynamic=False))
    for name, (fast, function) in kinds.items():
        with tensor_cores(fast):
            with torch.no_grad():
                error = float((function(written, asks, layer.initial()) - truth).abs().max())
            assert error < (2e-3 if fast else 1e-4), f"{name} is {error:.1e} from float64"
            figures[name] = timed(lambda function=function: backward(function), device, 5 if quick else 20) | {"error": error}
    figures["tf32_over_fp32"] = figures["fp32"]["s"] / figures["tf32"]["s"]
    return figures


def learner(device: str, quick: bool) -> Figures:
    """A training step by size and batch: seconds, share of the peak, memory. Partial figures go to $OUT as they come."""
    sizes = [("tiny", 2)] if device == "cpu" else [("small", 32), ("base", 16), ("wan5b", 4), ("wan5b", 8), ("wan5b", 16)]
    figures: Figures = {}
    for name, batch in sizes:
        try:
            figures[f"{name}_b{batch}"] = training(name, batch, device, 3 if quick else 8)
        except torch.OutOfMemoryError as error:
            figures[f"{name}_b{batch}"] = {"failed": str(error).partition(".")[0]}
        if (out := os.environ.get("OUT")) is not None:
            Path(out, "learner.json").write_text(json.dumps(figures), encoding="utf-8")
        if device == "cuda":
            torch.cuda.empty_cache()
    return figures


def training(name: str, batch: int, device: str, repeats: int) -> Figures:
    """Training steps of one size in bf16, without the encoder; no figure is reported unless the loss falls."""
    from learner.backbone.grid import Grid
    from learner.codecs.config import LatentSpec
    from learner.memory.config import Recompute
    from learner.memory.precision import tensor_cores
    from learner.models.clwm.flops import forward_flops
    from learner.models.clwm.model import Clwm
    from learner.models.clwm.sizes import SIZES
    from learner.models.window import Extent, Window
    from learner.training.config import OptimizerConfig
    from learner.training.optimizer import adamw
    from learner.training.utilisation import peak_flops, utilisation

    huge = name == "wan5b"
    channels, grid, steps = (32, Grid(1, 2, 2), 2) if device == "cpu" else (768, Grid(2, 14, 14), 4)
    text = (512, 4096) if huge else (16, 64)
    torch.manual_seed(0)
    with torch.device(device):
        torch.set_default_dtype(torch.bfloat16 if huge else torch.float32)
        model = Clwm(SIZES[name](), latents=LatentSpec(channels), text_dim=text[1]).train()
        torch.set_default_dtype(torch.float32)
        window = Window(
            torch.randn(batch, steps + 1, grid.size, channels),
            torch.randn(batch, steps + 1, 30),
            torch.randn(batch, steps, 16, 30),
            torch.randn(batch, *text),
        )
        valid, mask = torch.ones(batch, steps, dtype=torch.bool), torch.ones(batch, 30, dtype=torch.bool)
    model.recompute = Recompute(blocks=huge)
    if device == "cuda" and not huge:
        model.compile_blocks()
    optimizer = adamw(OptimizerConfig(rate=1e-4), model)
    draws = model.draw(window, torch.Generator().manual_seed(0))

    def step() -> float:
        with torch.autocast(device, torch.bfloat16):
            losses = model.losses(window, draws, grid, valid_BT=valid, imitate_BT=valid, action_mask_BA=mask)
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
        return losses.total.item()

    with tensor_cores():
        first, times = [step() for _ in range(3)], []
        for _ in range(repeats):
            settle(device)
            began = time.perf_counter()
            last = step()
            times.append(time.perf_counter() - began)
    assert np.isfinite(last) and last < first[0], f"{name} does not learn: {first[0]:.3f}, then {last:.3f}"
    step_s, flops = statistics.median(times), forward_flops(SIZES[name](), Extent(batch, steps, grid.size, channels, *text))
    figures: Figures = {"step_s": step_s, "slowest_s": max(times), "tflops": 3e-12 * flops / step_s}
    if (mfu := utilisation(flops, step_s, peak_flops(device))) is not None:
        figures["mfu"] = mfu
    if device == "cuda":
        figures["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
        torch.cuda.reset_peak_memory_stats()
    return figures


STAGES: dict[str, Callable[[str, bool], Figures]] = {
    stage.__name__: stage for stage in (ceilings, ring, gather, ttt, learner, darkroom, reels, sm90, pack, worlds)
}


def main() -> None:
    """Runs each stage in a process of its own, stores its figures, prints all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=f"some of {', '.join(STAGES)}; all by default")
    parser.add_argument("--cpu", action="store_true", help="without a card: small, to test this, and what a CPU can say")
    parser.add_argument("--quick", action="store_true", help="fewer repeats and tasks")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--out", type=Path, help="where gpu.json goes (default $OUT, or build/gpu)")
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    options = parser.parse_args()
    device = "cpu" if options.cpu else "cuda"
    if options.stage:
        torch.set_num_threads(1 if options.cpu else torch.get_num_threads())
        print(json.dumps(STAGES[options.stage](device, options.quick)))
        return
    if unknown := [name for name in options.stages if name not in STAGES]:
        parser.error(f"no stage {unknown[0]!r}; available: {', '.join(STAGES)}")
    if device == "cuda" and not torch.cuda.is_available():
        parser.error("no CUDA device here: --cpu runs the stages small and without one")
    out = options.out or Path(os.environ.get("OUT") or ROOT / "build" / "gpu")
    out.mkdir(parents=True, exist_ok=True)
    figures: Figures = {}
    names = options.stages or (*LIMITS_S, *(ON_CPU if options.cpu else ()))
    beside = [name for name in names if name in BESIDE and options.cpu]
    lanes = [[name for name in names if name not in beside], beside]
    lock = threading.Lock()

    def run(lane: Sequence[str]) -> None:
        for name in lane:
            found = run_stage(name, options, out)
            with lock:
                figures[name] = found
                (out / "gpu.json").write_text(json.dumps(figures, indent=1), encoding="utf-8")
                if not options.json:
                    print(f"{name}: {json.dumps(found)}", flush=True)

    with ThreadPoolExecutor(len(lanes)) as pool:
        for done in [pool.submit(run, lane) for lane in lanes]:
            done.result()
    for name in ON_CPU:  # figures of the CPU stages also go to the top level
        figures |= {key: value for key, value in figures.get(name, {}).items() if not isinstance(value, dict) and key != "took_s"}
    if options.json:
        print(json.dumps(figures))
    if any("failed" in values for values in figures.values() if isinstance(values, dict)):
        raise SystemExit(1)


def run_stage(name: str, options: argparse.Namespace, out: Path) -> Figures:
    """Runs one stage in a process of its own."""
    flags = [flag for flag, given in (("--cpu", options.cpu), ("--quick", options.quick)) if given]
    command = [sys.executable, __file__, "--stage", name, *flags]
    began = time.perf_counter()
    limit = None if options.cpu else (LIMITS_S | WITH_WARP_S).get(name)
    try:
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            text=True,
            timeout=limit,
            check=False,
            cwd=ROOT,
            env={**os.environ, "OUT": str(out.resolve())},
        )
        figures = json.loads(done.stdout.splitlines()[-1]) if not done.returncode else {"failed": f"ended with {done.returncode}"}
    except subprocess.TimeoutExpired:
        figures = {"failed": f"not done after {limit} s"}
    return figures | {"took_s": round(time.perf_counter() - began, 1)}


if __name__ == "__main__":
    main()
