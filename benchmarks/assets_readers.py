"""How much of what public URDF files say do readers of URDF know?

    python benchmarks/assets_readers.py CACHE [--quick] [--json]

Packages are downloaded by name into CACHE when they are missing. Every URDF file in them is read, of the thousand random objects
every 25th: by our reader and by MuJoCo's compiler, with meshes, and by yourdfpy and urdf-parser-py, without, in an environment of
their own. `read` counts the files that a reader accepts. `forgotten` counts elements, attributes and texts of accepted files that
are gone when a library writes the file again: what it forgets, nobody can keep or list as dropped. MuJoCo writes no URDF.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import asset_packages
import harness
import mujoco

from embodichain.assets.reading.urdf import read_urdf
from embodichain.errors import AssetError

_EVERY = 25
_REQUIRED = ("yourdfpy==0.0.60", "urdf-parser-py==0.0.4")
_ENVIRONMENT = Path(__file__).parents[1] / ".venv-urdf-readers"
_SCRIPT = Path(__file__).parent / "peers" / "urdf_readers.py"
_LIMIT_S = 600.0


def described(cache: Path) -> list[Path]:
    """The URDF files of the packages: all that stand alone, and of the random objects every 25th."""
    found = sorted(cache.rglob("*.urdf"))
    alone = [file for file in found if "random_urdfs" not in file.parts]
    return [*alone, *[file for file in found if "random_urdfs" in file.parts][::_EVERY]]


def ours(file: Path) -> bool:
    """Whether our reader accepts a file, with its meshes."""
    try:
        read_urdf(file)
    except AssetError:
        return False
    return True


def by_mujoco(file: Path) -> bool:
    """Whether MuJoCo's compiler accepts a file."""
    try:
        mujoco.MjSpec.from_file(str(file)).compile()
    except ValueError:
        return False
    return True


def by_libraries(files: list[Path]) -> dict[str, Any]:
    """Figures of the libraries; raises CalledProcessError where their environment cannot be made."""
    python = _ENVIRONMENT / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(_ENVIRONMENT)], check=True, timeout=_LIMIT_S)
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", *_REQUIRED], check=True, timeout=_LIMIT_S)
    told = subprocess.run(
        [str(python), str(_SCRIPT)], input="\n".join(map(str, files)), text=True, capture_output=True, check=True, timeout=_LIMIT_S
    )
    return json.loads(told.stdout.splitlines()[-1])


def main() -> None:
    arguments = harness.parser(__doc__, "every tenth file")
    arguments.add_argument("cache", type=Path)
    options = arguments.parse_args()
    asset_packages.fetched(options.cache)
    files = described(options.cache)[:: 10 if options.quick else 1]
    figures = {"files": len(files), "ours": {"read": sum(map(ours, files))}, "mujoco": {"read": sum(map(by_mujoco, files))}}
    harness.give(figures | by_libraries(files), options)


if __name__ == "__main__":
    main()
