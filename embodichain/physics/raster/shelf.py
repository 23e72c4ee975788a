"""The textures of a process's scenes with their mipmaps: as many as fit on one shelf, which all its rasterisers share."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from embodichain.errors import SceneError
from embodichain.physics.decor.textures import SIZE, texture
from embodichain.types.settings import NUM_TEXTURES

__all__ = ["SHELF", "Shelf"]

_LEVELS = 8
_TEXELS = sum((SIZE >> level) ** 2 for level in range(_LEVELS))


class Shelf:
    """Room for `places` textures; the one that was not used for longest makes room for another.

    The address space of all places is reserved at once, and 4 MB of memory are taken by each that is filled. For one thread.
    """

    def __init__(self, places: int = 24) -> None:
        self.texels: NDArray[np.float32] = np.empty((places * _TEXELS, 3), np.float32)
        self.levels = np.zeros((NUM_TEXTURES, _LEVELS, 3), np.int32)
        """As in `parts.Skins`, by the number of a texture; of textures that are not on the shelf it holds nothing of use."""
        self._places = places
        self._kept: OrderedDict[int, int] = OrderedDict()

    def hold(self, numbers: Collection[int]) -> None:
        """Makes sure that these textures are on the shelf; raises SceneError when they are too many, or one is unknown."""
        if len(numbers) > self._places:
            raise SceneError(f"a scene has {len(numbers)} textures of the library, and at most {self._places} can be drawn")
        for number in numbers:
            if number in self._kept:
                self._kept.move_to_end(number)
        for number in numbers:
            if number not in self._kept:
                pixels = texture(number)  # an unknown number is refused here, before anything makes room for it
                place = self._kept.popitem(last=False)[1] if len(self._kept) == self._places else len(self._kept)
                self._fill(place, number, pixels)
                self._kept[number] = place

    def _fill(self, place: int, number: int, pixels: NDArray[np.uint8]) -> None:
        level = pixels.astype(np.float32) * np.float32(1.0 / 255.0)
        start = place * _TEXELS
        for depth in range(_LEVELS):
            size = SIZE >> depth
            self.texels[start : start + size * size] = level.reshape(-1, 3)
            self.levels[number, depth] = (start, size, size)
            start += size * size
            # Four shifted views: the mean over two axes of a reshaped array takes ten times as long.
            level = (level[::2, ::2] + level[1::2, ::2] + level[::2, 1::2] + level[1::2, 1::2]) * np.float32(0.25)


SHELF = Shelf()
"""The shelf of this process."""
