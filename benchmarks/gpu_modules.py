"""Which of our own and the painter's Warp modules compile for a Hopper GPU on a machine without one?

    python benchmarks/gpu_modules.py [--quick] [--json] [--worlds] [--within S]

Modules are compiled to machine code for compute capability 9.0: first those of a darkroom on a card and of worlds on a GPU, which
are ours, then the ray caster's, which draws one picture here so that they are loaded, and with `--worlds` those of a control step
of MuJoCo Warp. Modules that fail are named, and our own kernels must hold no float64. This shows neither that a GPU can run the
result nor how fast it is.
"""

from __future__ import annotations

import importlib
import re
import tempfile
import time
from pathlib import Path
from typing import Any

import harness
import warp as wp

from embodichain.physics import render
from embodichain.physics.warp.begin import start_warp

ARCHITECTURE = 90
OURS = ("embodichain.physics.warp.drawing", "embodichain.physics.warp.shading", "embodichain.physics.warp.kernels")
"""Modules of our own kernels."""
_FLOAT64 = re.compile(r"\b(float64|double|wp::vec_t<\d+, *wp::float64>)\b")


def measure(quick: bool, *, worlds: bool = False, within_s: float | None = None) -> dict[str, Any]:
    """Number and size of compiled modules, and failures: our own, and those of the others that begin within `within_s` [s].

    With `quick` that is 5 s; else, if it is None, all are compiled.
    """
    within_s = 5.0 if quick and within_s is None else within_s
    start_warp()
    for name in OURS:
        importlib.import_module(name)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        found = [_compile(wp.get_module(name), Path(folder)) for name in OURS]
        render.warm_up()
        if worlds:
            _step()
        others = {kernel.module.name: kernel.module for kernel in _kernels() if kernel.module.name not in OURS}
        for _, module in sorted(others.items()):
            if within_s is not None and time.perf_counter() - began > within_s:
                break
            found.append(_compile(module, Path(folder)))
    return {
        "sm90_modules_compiled": sum(not why for _, _, why in found),
        "sm90_modules_known": len(OURS) + len(others),
        "sm90_ours_compiled": sum(not why for _, _, why in found[: len(OURS)]),
        "sm90_failed": {name: why for name, _, why in found if why},
        "sm90_kib": round(sum(size for _, size, _ in found) / 1024),
        "sm90_s": round(time.perf_counter() - began, 1),
    }


def _compile(module: Any, folder: Path) -> tuple[str, int, str]:
    """Name and size [bytes] of a compiled module, and why it did not compile; empty if it did."""
    there = folder / module.name
    try:
        wp.compile_aot_module(module, arch=ARCHITECTURE, module_dir=str(there), use_ptx=False)
    except Exception as error:  # any compiler error is a result here
        return module.name, 0, " ".join(str(error).split())[:200]
    size = sum(path.stat().st_size for path in there.rglob("*.cubin"))
    if not size:
        return module.name, 0, "nothing was written"
    if module.name in OURS and (line := _double(there)):
        return module.name, size, f"a float64 is left in a kernel: {line}"
    return module.name, size, ""


def _double(folder: Path) -> str:
    """A line of the generated source that computes in float64; empty if none does."""
    for source in folder.rglob("*.cu"):
        for line in source.read_text(encoding="utf-8").splitlines():
            if _FLOAT64.search(line):
                return line.strip()[:120]
    return ""


def _step() -> None:
    """Loads the modules of a control step of two worlds, by making one."""
    import gpu_worlds
    import numpy as np

    from embodichain.config import WorldConfig
    from embodichain.physics import make_batch
    from embodichain.prepare import prepare

    world = prepare(WorldConfig(tasks=("turn_switch",), width=16, height=16))
    _, scenes = gpu_worlds.scenes_of(world, 2)
    batch = make_batch("mujoco_warp", robot=world.robot, num_worlds=2, width=16, height=16)
    batch.load(range(2), scenes)
    batch.step(np.tile(world.robot.home, (2, 1)))
    batch.close()


def _kernels() -> list[Any]:
    """Kernels of all modules that this process has loaded."""
    import warp._src.context as context

    return [kernel for module in context.user_modules.values() for kernel in module.kernels.values()]


def main() -> None:
    """Parses the command line, measures, prints."""
    parser = harness.parser(__doc__, "our own, and those that begin within 5 s")
    parser.add_argument("--worlds", action="store_true", help="also the modules of a control step of MuJoCo Warp")
    parser.add_argument("--within", type=float, metavar="S", help="compile those that begin within so many seconds")
    options = parser.parse_args()
    harness.give(measure(options.quick, worlds=options.worlds, within_s=options.within), options)


if __name__ == "__main__":
    main()
