"""The folder of derived data."""

from __future__ import annotations

import os
from pathlib import Path

from embodichain.errors import ConfigError

__all__ = ["cache_dir"]


def cache_dir() -> Path:
    """The folder of derived data (assets, reachability tables): $EMBODICHAIN_CACHE or ~/.cache/embodichain.

    Raises ConfigError when neither is known, as for a user of a container who has no home.
    """
    if told := os.environ.get("EMBODICHAIN_CACHE"):
        return Path(told)
    try:
        return Path.home() / ".cache" / "embodichain"
    except RuntimeError as error:
        raise ConfigError(f"there is no home folder for derived data ({error}): set EMBODICHAIN_CACHE to a folder") from error
