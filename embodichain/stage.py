"""The stage of a stream: the assets of its scenes, so that a scene can be sent to another process in a few bytes."""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodichain.errors import ConfigError, SceneError
from embodichain.expand.size import resized
from embodichain.types import Asset, Robot, Scene

__all__ = ["Stage"]

_LENGTH_BYTES = 4
_NUMPY = {("numpy", "dtype"), ("numpy._core.multiarray", "scalar")}
"""NumPy types that a scene may contain."""


class Stage:
    """Writes scenes with their assets by name and size, and reads them again as far as cameras are concerned.

    A scene that was read looks bitwise the same as the one written. It has neither colliders nor grasps, so its worlds compile in a
    third to three quarters of the time. Masses, friction and drives are those of the catalogue: it is for drawing, and not for
    simulation.
    """

    def __init__(self, robot: Robot, assets: Sequence[Asset]) -> None:
        """Raises ConfigError when two assets have the same content hash."""
        self._assets = {asset.content_hash: _seen(asset) for asset in assets}
        if len(self._assets) < len(assets):
            names = sorted(asset.name for asset in assets)
            raise ConfigError(f"assets of a stage are told apart by their content hash, and some of {names} have the same")
        digest = hashlib.blake2b("\0".join((robot.content_hash, *sorted(self._assets))).encode(), digest_size=8)
        self.key = int.from_bytes(digest.digest(), "little")
        """64-bit hash of robot and assets. A scene written on one stage cannot be read on another."""

    def write(self, scene: Scene, out: NDArray[np.uint8]) -> None:
        """Writes a scene into a zero-padded field; raises SceneError for an asset of another stage, and when it does not fit."""
        packed = io.BytesIO()
        _Writer(packed, self._assets).dump(scene)
        data = packed.getbuffer()
        if _LENGTH_BYTES + len(data) > len(out):
            raise SceneError(
                f"scene {scene.seed} of {scene.task!r} takes {len(data)} bytes and a reel has room for {len(out) - _LENGTH_BYTES}: "
                "give it fewer objects or grains, or draw its pictures while it is played (camera='snapshots')"
            )
        out[:_LENGTH_BYTES] = np.frombuffer(len(data).to_bytes(_LENGTH_BYTES, "little"), np.uint8)
        out[_LENGTH_BYTES : _LENGTH_BYTES + len(data)] = data
        out[_LENGTH_BYTES + len(data) :] = 0

    def read(self, data: NDArray[np.uint8], key: int) -> Scene:
        """The scene that was written on the stage with this `key`; raises SceneError when that is another stage."""
        if key != self.key:
            raise SceneError(
                f"a scene of stage {key:016x} came to stage {self.key:016x}: workers and darkroom need the same robot and assets"
            )
        length = int.from_bytes(data[:_LENGTH_BYTES].tobytes(), "little")
        return _Reader(io.BytesIO(data[_LENGTH_BYTES : _LENGTH_BYTES + length].tobytes()), self).load()

    def asset(self, content_hash: str, scale: float) -> Asset:
        """The visible part of an asset at a scale; raises SceneError when the stage has none of that hash."""
        found = self._assets.get(content_hash)
        if found is None:
            raise SceneError(f"this stage has no asset {content_hash!r}; it has {len(self._assets)} others")
        return _at_size(found, scale)


def _seen(asset: Asset) -> Asset:
    """An asset without the parts that no camera sees."""
    return replace(asset, bodies=tuple(replace(body, hulls=(), surfaces=()) for body in asset.bodies), affordances={}, apart=())


@lru_cache(maxsize=256)
def _at_size(asset: Asset, scale: float) -> Asset:
    """One object for each asset and size, so that values cached for it serve all scenes that show it."""
    return resized(asset, scale / asset.scale)


class _Writer(pickle.Pickler):
    """Pickles a scene, with assets replaced by their identities."""

    def __init__(self, file: io.BytesIO, known: dict[str, Asset]) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self._known = known

    def persistent_id(self, obj: object) -> tuple[str, float] | None:
        """Called for every part of a scene."""
        if not isinstance(obj, Asset):
            return None
        if obj.content_hash not in self._known:
            raise SceneError(
                f"asset {obj.name!r} is none of the {len(self._known)} of this stage: its scene cannot be told to others; make the "
                "stage of all assets that scenes have"
            )
        return obj.content_hash, obj.scale


class _Reader(pickle.Unpickler):
    """Unpickles a scene and refuses every other class, because bytes in shared memory must not choose what code is run."""

    def __init__(self, file: io.BytesIO, stage: Stage) -> None:
        super().__init__(file)
        self._stage = stage

    def persistent_load(self, pid: Any) -> Asset:
        """The asset with that identity."""
        return self._stage.asset(*pid)

    def find_class(self, module_name: str, global_name: str) -> Any:
        """Allows only the classes of scenes."""
        if (module_name, global_name) in _NUMPY:
            return super().find_class(module_name, global_name)
        if module_name.startswith("embodichain.types.") and "." not in global_name:
            found = super().find_class(module_name, global_name)
            if isinstance(found, type) and found.__module__ == module_name:
                return found
        raise SceneError(f"a scene holds a {module_name}.{global_name}, which is no part of one: it was not written by a stage")
