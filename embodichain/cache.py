"""Where derived data is kept."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cache_dir"]


def cache_dir() -> Path:
    """Where derived data (assets, reachability tables) is kept: $EMBODICHAIN_CACHE or ~/.cache/embodichain."""
    return Path(os.environ.get("EMBODICHAIN_CACHE") or Path.home() / ".cache" / "embodichain")
