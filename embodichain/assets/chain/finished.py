"""Finished assets: checks that a file is complete and unharmed, and reads it back."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from embodichain.types import Asset


def unharmed(file: Path, key: str) -> bool:
    """Whether `file` is a finished asset with this key whose bytes are the delivered ones."""
    try:
        report = json.loads(file.with_suffix(".json").read_text())
        return bool(report["key"] == key and report["usd_sha256"] == digest(file))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def digest(file: Path) -> str:
    """Hash over the hashes of a USD file, of the layers of its payload, and of its textures; raises OSError."""
    found = hashlib.sha256()
    pictures = (picture for picture in (file.parent / "textures").glob("*") if picture.is_file())
    for layer in (file, *sorted((file.parent / "payload").glob("*.usd?")), *sorted(pictures)):
        found.update(hashlib.sha256(layer.read_bytes()).digest())
    return found.hexdigest()


def read(file: Path) -> Asset:
    """Reads the asset in a USD file."""
    from embodichain.assets.usd import files as usd  # imports pxr, which nothing else here needs

    return usd.read(file)


def shelf(out_dir: Path, category: str, name: str) -> Path:
    """The folder above an asset's own folder: named after its category if its name contains that, otherwise after its name."""
    return out_dir / (category if category and category in name else name)
