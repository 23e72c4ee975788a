"""Packs what a bare GPU machine lacks for `benchmarks/gpu.py` into two packs of at most 46 MB: `make gpu-pack`.

    python benchmarks/gpu_pack.py [--json] [--out .gpu] [--warp]

The stages are imported here; the packages that they load and `gpu_machine.txt` does not list go into `.gpu/a/site.tar.xz`. They
must be pure Python, because the GPU machine has another version of Python. The archive is tested by unpacking it elsewhere and
importing the stages with only the listed packages and the archive. On the GPU machine, in this repository: `bash .gpu/a/run.sh`.

With `--warp`, which takes minutes, Warp travels too, one half in each pack: `.gpu/b` has the other half and the load of the stage
`darkroom`. There: `bash .gpu/a/run.sh`, then on the same machine `bash .gpu/b/run.sh`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

MOST_BYTES = 46_000_000
"""Largest size of a pack: a machine reached by single commands accepts this much with each, besides this repository."""
ROOT = Path(__file__).resolve().parent.parent
STAGES = "ceilings ring gather ttt learner"
_OURS = ("__editable__", "_distutils_hack", "_sysconfigdata")
"""Prefixes of modules that belong to the environment, not to a program."""
_RUN = """#!/bin/bash
# One command on a bare GPU machine, under nine minutes: unpacks what it lacks and measures. Figures come to $OUT/gpu.json.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
export OUT=${OUT:-$here/out} PYTHONUNBUFFERED=1
echo "$(cat "$here/site.sha256")  $here/site.tar.xz" | sha256sum --check --quiet
site=$(mktemp -d)
tar -xJf "$here/site.tar.xz" -C "$site"
cd "$here/../.."
export PYTHONPATH="$PWD:$site"
exec python3 benchmarks/gpu.py %s --out "$OUT" --json
"""
_KEEP = """
# For the second pack, which comes alone with another command.
store=${EMBODICHAIN_PACKS:-/opt/embodichain-packs}
mkdir -p "$store" && cp "$here/warp.part1" "$here/site.tar.xz" "$store/"
"""
_RUN_B = """#!/bin/bash
# After .gpu/a/run.sh on the same machine: joins the halves of Warp and measures what draws with it. Figures come to $OUT/gpu.json.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
export OUT=${OUT:-$here/out} PYTHONUNBUFFERED=1
store=${EMBODICHAIN_PACKS:-/opt/embodichain-packs}
site=$(mktemp -d)
tar -xJf "$store/site.tar.xz" -C "$site" || { echo "run .gpu/a/run.sh on this machine first" >&2; exit 2; }
stages="darkroom"
if cat "$store/warp.part1" "$here/warp.part2" > "$site/warp.tar.xz" 2>/dev/null \\
    && echo "$(cat "$here/warp.sha256")  $site/warp.tar.xz" | sha256sum --check --quiet; then
    tar -xJf "$site/warp.tar.xz" -C "$site"
else
    echo "half of Warp is missing or broken: run .gpu/a/run.sh here first; measuring what needs no Warp" >&2
    stages="ring learner"
fi
rm -f "$site/warp.tar.xz"
cd "$here/../.."
export PYTHONPATH="$PWD:$site"
exec python3 benchmarks/gpu.py $stages --out "$OUT" --json
"""
_LIST = """
import sys
sys.path.insert(0, {benchmarks!r})
import gpu
gpu.import_stages()
print("\\n".join(sorted({{name.partition(".")[0] for name in sys.modules}})))
"""
_ALONE = """
import importlib.abc, sys
allowed = set({allowed!r}) | set(sys.stdlib_module_names)
class Bare(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in allowed and not name.startswith({ours!r}):
            raise ModuleNotFoundError(f"No module named {{name!r}} on a bare GPU machine", name=name)
sys.meta_path.insert(0, Bare())
sys.path[:0] = [{site!r}, {root!r}, {benchmarks!r}]
import gpu
gpu.import_stages()
print("alone")
"""


def known() -> set[str]:
    """Names of the modules that the GPU machine has."""
    lines = (ROOT / "benchmarks" / "gpu_machine.txt").read_text(encoding="utf-8").splitlines()
    return {line for line in lines if line and not line.startswith("#")}


def missing() -> dict[str, Path]:
    """Top-level modules that the stages import and the machine lacks, with their paths here. Raises SystemExit for binaries."""
    benchmarks = str(ROOT / "benchmarks")
    listed = _python(_LIST.format(benchmarks=benchmarks)).split()
    there = known() | set(sys.stdlib_module_names) | {"embodichain", "learner", "__main__", "gpu", "gpu_here", "harness"}
    found: dict[str, Path] = {}
    for entry in map(Path, sys.path):
        for name in listed:
            if name in there or name in found or "site-packages" not in entry.parts or name.startswith(_OURS):
                continue
            if (entry / name).is_dir():
                found[name] = entry / name
            elif (entry / f"{name}.py").exists():
                found[name] = entry / f"{name}.py"
    for name, path in found.items():
        if path.is_dir() and (binaries := list(path.rglob("*.so"))):
            raise SystemExit(f"{name} has compiled parts ({binaries[0].name}): for this Python only: add its wheel by hand")
    return found


def pack(folder: Path) -> dict[str, float]:
    """Writes `folder`/a, tests it and returns its size. Raises SystemExit when something is missing or it is too large."""
    here = folder / "a"
    here.mkdir(parents=True, exist_ok=True)
    archive, parts = here / "site.tar.xz", missing()
    with tarfile.open(archive, "w:xz") as tar:
        for name, path in sorted(parts.items()):
            tar.add(path, arcname=path.name, filter=lambda entry: None if "__pycache__" in entry.name else entry)
            print(f"{name}: {path}", file=sys.stderr)
    (here / "site.sha256").write_text(hashlib.sha256(archive.read_bytes()).hexdigest(), encoding="utf-8")
    (here / "run.sh").write_text(_RUN % STAGES, encoding="utf-8")
    if (size := sum(path.stat().st_size for path in here.iterdir())) > MOST_BYTES:
        raise SystemExit(f"the pack has {size / 1e6:.1f} MB, {MOST_BYTES / 1e6:.0f} MB are allowed: the largest part is to blame")
    prove(archive, set(parts))
    return {"pack_mib": round(size / 2**20, 2)}


def pack_warp(folder: Path) -> dict[str, float]:
    """Adds Warp and the load of the darkroom to the packs; returns their sizes. Raises SystemExit when one is too large."""
    import gpu_darkroom
    import gpu_warp

    first, second = folder / "a", folder / "b"
    second.mkdir(parents=True, exist_ok=True)
    digest = gpu_warp.cut(gpu_warp.packed(), first / "warp.part1", second / "warp.part2", MOST_BYTES)
    (second / "warp.sha256").write_text(digest, encoding="utf-8")
    gpu_darkroom.write(second / "load")
    run = (first / "run.sh").read_text(encoding="utf-8")
    (first / "run.sh").write_text(run.replace("export OUT", f"{_KEEP.strip()}\nexport OUT", 1), encoding="utf-8")
    (second / "run.sh").write_text(_RUN_B, encoding="utf-8")
    sizes = {one.name: sum(path.stat().st_size for path in one.rglob("*") if path.is_file()) for one in (first, second)}
    for name, size in sizes.items():
        if size > MOST_BYTES:
            raise SystemExit(f"pack {name} has {size / 1e6:.1f} MB, {MOST_BYTES / 1e6:.0f} MB are allowed")
    return {f"pack_{name}_mib": round(size / 2**20, 2) for name, size in sizes.items()}


def prove(archive: Path, names: set[str]) -> None:
    """Imports the stages with only the machine's packages and the unpacked archive; raises SystemExit when one is missing."""
    with tempfile.TemporaryDirectory() as site:
        with tarfile.open(archive) as tar:
            tar.extractall(site, filter="data")
        if absent := names - {path.stem for path in Path(site).iterdir()}:
            raise SystemExit(f"the pack lacks {sorted(absent)}")
        allowed = sorted(known() | names | {"embodichain", "learner", "gpu", "gpu_here", "harness", "__main__"})
        _python(_ALONE.format(allowed=allowed, site=site, root=str(ROOT), benchmarks=str(ROOT / "benchmarks"), ours=_OURS))


def _python(program: str) -> str:
    """Output of a program in a fresh interpreter; raises SystemExit with its last line of errors when it fails."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"the stages cannot be imported: {done.stderr.strip().splitlines()[-1]}")
    return done.stdout


def main() -> None:
    """Parses the command line, packs, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--warp", action="store_true", help="pack Warp too, in two packs; takes minutes")
    parser.add_argument("--out", type=Path, default=ROOT / ".gpu", help="where packs go")
    options = parser.parse_args()
    figures = pack(options.out)
    if options.warp:
        figures |= pack_warp(options.out)
    print(json.dumps(figures) if options.json else f"{options.out}/a: {figures['pack_mib']} MiB; there: bash .gpu/a/run.sh")


if __name__ == "__main__":
    main()
