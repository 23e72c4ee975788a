"""Maps a missing package to the extra that brings it: a data team installs `embodichain[assets]` and no learner."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from embodichain.errors import ConfigError

__all__ = [
    "EXTRAS",
    "MissingExtra",
    "explained",
]

EXTRAS: dict[str, tuple[str, ...]] = {
    "assets": (
        "PIL",
        "collada",
        "jinja2",
        "lxml",
        "manifold3d",
        "mujoco",
        "mujoco_warp",
        "networkx",
        "numba",
        "packaging",
        "pxr",
        "scipy",
        "trimesh",
        "warp",
    ),
    "sim": ("av", "gymnasium", "matplotlib", "msgpack", "psutil", "ray"),
    "exchange": ("h5py", "pyarrow", "viser"),
    "learn": ("cattrs", "pytorch_lightning", "safetensors", "tensorboard", "tokenizers", "torch", "transformers", "tyro"),
    "serve": ("websockets",),
    "cluster": ("fastapi", "fsspec", "pandas", "requests", "uvicorn"),
}
"""Modules that each extra of `pyproject.toml` installs. Every extra contains those above it, since learning needs simulation."""


class MissingExtra(ConfigError):
    """Something that was requested needs a package that is not installed; the message names the extra that brings it."""


@contextmanager
def explained(extra: str = "") -> Iterator[None]:
    """Turns the failed import of an optional package into a MissingExtra; any other failure passes unchanged.

    `extra` is the one that everything inside the block needs, if known; else the smallest that brings the package is named.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        homes = [name for name, modules in EXTRAS.items() if module in modules]
        if not homes:
            raise
        wanted = max(homes[0], extra or homes[0], key=list(EXTRAS).index)
        raise MissingExtra(f"{module} is not installed: pip install 'embodichain[{wanted}]'") from error
