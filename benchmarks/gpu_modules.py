"""Which of the painter's Warp modules compile for a Hopper GPU on a machine without one?

    python benchmarks/gpu_modules.py [--quick] [--json]

The ray caster draws one picture here, so that its modules are loaded; each is then compiled to machine code for compute capability
9.0. Modules that fail are named. This shows neither that a GPU can run the result nor how fast it is.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import harness
import warp as wp

from embodichain.physics import render

ARCHITECTURE = 90


def measure(quick: bool) -> dict[str, Any]:
    """Number and size of compiled modules, and failures; with `quick` as many modules as begin within 5 s."""
    render.warm_up()
    compiled, failed, size, began = [], {}, 0, time.perf_counter()
    modules = sorted({kernel.module.name: kernel.module for kernel in _kernels()}.items())
    with tempfile.TemporaryDirectory() as folder:
        for name, module in modules:
            if quick and time.perf_counter() - began > 5.0:
                break
            try:
                wp.compile_aot_module(module, arch=ARCHITECTURE, module_dir=str(Path(folder) / name), use_ptx=False)
            except Exception as error:  # any compiler error is a result here
                failed[name] = " ".join(str(error).split())[:200]
                continue
            made = sum(path.stat().st_size for path in (Path(folder) / name).rglob("*.cubin"))
            if made:
                compiled.append(name)
                size += made
            else:
                failed[name] = "nothing was written"
    return {
        "sm90_modules_compiled": len(compiled),
        "sm90_modules_known": len(modules),
        "sm90_failed": failed,
        "sm90_kib": round(size / 1024),
        "sm90_s": round(time.perf_counter() - began, 1),
    }


def _kernels() -> list[Any]:
    """Kernels of all modules that this process has loaded."""
    import warp._src.context as context

    return [kernel for module in context.user_modules.values() for kernel in module.kernels.values()]


def main() -> None:
    """Parses the command line, measures, prints."""
    options = harness.parser(__doc__, "those that begin within 5 s").parse_args()
    harness.give(measure(options.quick), options)


if __name__ == "__main__":
    main()
