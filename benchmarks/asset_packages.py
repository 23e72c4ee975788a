"""Robot and object descriptions of other projects, downloaded as packages into a cache; and the converter to compare with."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from embodichain.assets.reading.references import references

PACKAGES = {
    "pybullet": "pybullet==3.2.7",
    "robosuite": "robosuite==1.5.2",
    "metaworld": "metaworld==3.1.1",
    "dm_control": "dm_control==1.0.50",
}
"""Packages that contain descriptions of robots and objects, as requirements for pip."""
FOLDERS = (
    "pybullet/pybullet_data/random_urdfs",
    "pybullet/pybullet_data",
    "robosuite/robosuite/models/assets/objects",
    "robosuite/robosuite/models/assets/robots",
    "robosuite/robosuite/models/assets/grippers",
    "metaworld/metaworld/assets/sawyer_xyz",
    "dm_control/dm_control/suite",
)
"""Folders in these packages whose files each describe one whole object or robot."""
PEER = "urdf-usd-converter==0.3.4"
_ENVIRONMENT = Path(__file__).parents[1] / ".venv-assets-peer"
_LIMIT_S = 600.0


def fetched(cache: Path, names: Sequence[str] = tuple(PACKAGES)) -> list[Path]:
    """The folders of `FOLDERS` that the named packages have, each downloaded once; raises CalledProcessError without a network."""
    for name in names:
        if (cache / name).is_dir():
            continue
        wheels = cache / "wheels"
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(wheels), PACKAGES[name]]
        subprocess.run(command, check=True, timeout=_LIMIT_S)
        (wheel,) = wheels.glob(f"{name}-*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(cache / f"{name}.part")
        (cache / f"{name}.part").rename(cache / name)
    return [cache / folder for folder in FOLDERS if folder.split("/")[0] in names and (cache / folder).is_dir()]


def textured(cache: Path) -> Iterator[Path]:
    """OBJ files below a folder that have a texture whose image exists, sorted."""
    for file in sorted(cache.rglob("*.obj")):
        if any(other.suffix.lower() in (".png", ".jpg", ".jpeg") for other in references(file)) and b"\nvt " in file.read_bytes():
            yield file


def peer() -> Path | None:
    """The Python of an environment with `urdf-usd-converter`, created when missing; None when it cannot be created."""
    python = _ENVIRONMENT / "bin" / "python"
    if python.exists() and _has_peer(python):
        return python
    try:
        subprocess.run([sys.executable, "-m", "venv", str(_ENVIRONMENT)], check=True, timeout=_LIMIT_S)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", PEER], check=True, timeout=_LIMIT_S)
    except (subprocess.SubprocessError, OSError):
        return None
    return python if _has_peer(python) else None


def _has_peer(python: Path) -> bool:
    return subprocess.run([str(python), "-c", "import urdf_usd_converter"], capture_output=True, check=False).returncode == 0


def converted(python: Path, file: Path, out: Path) -> list[Path]:
    """USD files that the converter makes of a URDF file; empty when it fails."""
    done = subprocess.run(
        [str(python), "-m", "urdf_usd_converter", str(file), str(out)], capture_output=True, check=False, timeout=_LIMIT_S
    )
    return sorted(out.glob("*.usd*")) if done.returncode == 0 else []


def jointed(file: Path) -> bool:
    """Whether a description has movable joints."""
    return bool(re.search(rb"type=[\"'](revolute|prismatic|continuous)[\"']|<joint\s", file.read_bytes()))
