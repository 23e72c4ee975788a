"""The folder of derived data."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cache_dir"]


def cache_dir() -> Path:
    """The folder of derived data (assets, reachability tables): $EMBODICHAIN_CACHE or ~/.cache/embodichain."""
    return Path(os.environ.get("EMBODICHAIN_CACHE") or Path.home() / ".cache" / "embodichain")
