"""Draws the pictures of many frames of a scene at once on a GPU, into memory on that GPU, or on Warp's CPU device.

It repeats the rasteriser's work with the kernels of `warp.drawing` and `warp.shading`: the same triangles, shadow maps and shading.
Pixels are equal except where the order of triangles decides. Everything is enqueued on one stream without waiting.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary

import numpy as np
import warp as wp

from embodichain.errors import ConfigError
from embodichain.physics.raster.views import casters
from embodichain.physics.warp import drawing, shading
from embodichain.physics.warp.begin import start_warp

if TYPE_CHECKING:  # a machine that only draws needs no MuJoCo
    from embodichain.physics.raster.rasteriser import Rasteriser
    from embodichain.physics.raster.shot import Shot

__all__ = ["WarpDevice", "open_card"]

_BATCH = 32
"""Most frames that are drawn at once. A frame of three cameras at 128 x 128 takes 0.4 MB, plus 0.6 MB for each light."""


def open_card(kind: str, ordinal: int = 0) -> WarpDevice:
    """The device for drawing into a ring on a device of this kind ("cuda", or "delayed", which is in host memory).

    Raises ConfigError when Warp finds no such GPU.
    """
    start_warp()
    if kind != "cuda":
        return WarpDevice(wp.get_device("cpu"))
    if not wp.is_cuda_available() or ordinal >= len(wp.get_cuda_devices()):
        raise ConfigError(
            f"pictures cannot be drawn on GPU {ordinal}: Warp {wp.__version__} finds {len(wp.get_cuda_devices())} here (a driver "
            "is missing, or Warp was built without CUDA); choose stream.darkroom host, which draws on a CPU"
        )
    return WarpDevice(wp.get_cuda_device(ordinal))


class WarpDevice:
    """One device of Warp with its own stream. Owned by one thread."""

    def __init__(self, device: Any) -> None:
        self._device = device
        self._stream = wp.Stream(device) if device.is_cuda else None
        self._shapes: WeakKeyDictionary[Rasteriser, dict[str, Any]] = WeakKeyDictionary()
        self._scratch: dict[tuple[int, ...], tuple[Any, Any, Any]] = {}
        self._held: list[tuple[Any, list[Any]]] = []
        """Inputs of running kernels with the event that ends their use; freed earlier, their memory might be overwritten."""

    @property
    def stream(self) -> int | None:
        """The handle of the stream (`cudaStream_t`); None on a CPU, where kernels run synchronously."""
        return None if self._stream is None else int(self._stream.cuda_stream)

    def draw(self, shot: Shot, out: Mapping[str, Any]) -> None:
        """Draws a shot into `rgb` [F, C, h, w, 3], and into `depth` [F, C, h, w] and `segmentation` if `out` has them.

        The arrays are on this device and support DLPack. Frames beyond those of the shot are cleared. Kernels are only enqueued.
        """
        if self._stream is None:
            with wp.ScopedDevice(self._device):
                self._draw(shot, out, [])
            return
        with wp.ScopedStream(self._stream, sync_enter=False):
            held: list[Any] = []
            self._draw(shot, out, held)
            event = self._stream.record_event()
        self._held = [(passed, kept) for passed, kept in self._held if not passed.is_complete]
        self._held.append((event, held))

    def _draw(self, shot: Shot, out: Mapping[str, Any], held: list[Any]) -> None:
        cameras, height, width, _ = shot.painter.shape
        frames = len(shot.exposures)
        shapes, poses = self._shapes_of(shot.painter), _poses(shot)
        pictures = {name: self._flat(out.get(name), kind) for name, kind in _KINDS.items()}
        held += [shapes, poses, pictures]
        for array in pictures.values():
            if array.shape[0] > frames:
                array[frames:].zero_()
        lights = shot.lamps.colour.shape[1]
        batch = min(_BATCH, frames)
        nearest, shown, maps = self._room(batch, batch * cameras, height, width, lights, shot.painter.lights.maps.shape[1])
        triangles = len(shapes["owner"])
        for start in range(0, frames, batch):
            count = min(batch, frames - start)
            views = (count * cameras, triangles)
            self._launch(drawing.no_shadow, maps.shape, [maps])
            solid = [shapes[name] for name in ("faces", "vertices", "planes", "owner")]
            shade = [poses[name] for name in ("mapped", "lamp_turns", "lamp_shifts")]
            self._launch(drawing.cast, (count, lights, triangles), [start, *solid, shapes["casts"], *shade, maps])
            self._launch(drawing.clear, (count * cameras, height, width), [1.0 / shot.painter.far, nearest, shown])
            seen = [poses[name] for name in ("seen", "turns", "shifts", "eyes", "scales", "dx", "dy")]
            for again in (False, True):
                self._launch(drawing.see, views, [again, start * cameras, *solid, *seen, nearest, shown])
            self._launch(
                shading.shade,
                (count * cameras, height, width),
                [
                    start,
                    cameras,
                    frames,
                    *(shapes[name] for name in ("faces", "vertices", "normals", "coordinates", "owner")),
                    *(poses[name] for name in ("labels", "paint", "surface")),
                    *(shapes[name] for name in ("texels", "levels")),
                    wp.vec3(*map(float, shot.ambient)),
                    wp.vec3(*map(float, shot.head)),
                    wp.vec3(*map(float, shot.painter.lights.background)),
                    *(poses[name] for name in ("seen", "turns", "shifts", "scales", "dx", "dy", "aims", "matrices")),
                    *(poses[name] for name in ("count", "colours", "mapped", "grain")),
                    maps,
                    *(poses[name] for name in ("gain", "whole", "amplitude", "moment")),
                    shown,
                    *(pictures[name] for name in _KINDS),
                ],
            )

    @staticmethod
    def _launch(kernel: Any, dim: tuple[int, ...], inputs: list[Any]) -> None:
        if all(dim):
            wp.launch(kernel, dim=dim, inputs=inputs)

    def _room(self, frames: int, views: int, height: int, width: int, lights: int, size: int) -> tuple[Any, Any, Any]:
        """Working memory for kernels, which use it one after another because they are on the same stream."""
        key = (frames, views, height, width, lights, size)
        if key not in self._scratch:
            self._scratch[key] = (
                wp.empty((views, height, width), dtype=cast(Any, wp.int32)),
                wp.empty((views, height, width), dtype=cast(Any, wp.int32)),
                wp.empty((frames, max(lights, 1), size, size), dtype=cast(Any, wp.int32)),
            )
        return self._scratch[key]

    def _shapes_of(self, painter: Rasteriser) -> dict[str, Any]:
        """A painter's triangles and textures on the device; they are copied there only once."""
        if painter not in self._shapes:
            solids, skins = painter.solids, painter.skins
            found = {
                "faces": wp.array(solids.faces, dtype=wp.uint32),
                "vertices": wp.array(np.ascontiguousarray(solids.vertices.T), dtype=wp.vec3),
                "planes": wp.array(solids.planes, dtype=wp.vec4),
                "owner": wp.array(solids.owner, dtype=wp.uint32),
                "casts": wp.array(casters(painter.lights, len(solids.geoms)), dtype=wp.uint8),
                "normals": wp.array(skins.normals, dtype=wp.vec3),
                "coordinates": wp.array(skins.coordinates, dtype=wp.vec2),
                "texels": wp.array(skins.texels, dtype=wp.vec4),
                "levels": wp.array(skins.levels, dtype=wp.vec3i),
            }
            self._shapes[painter] = found
        return self._shapes[painter]

    @staticmethod
    def _flat(array: Any, kind: Any) -> Any:
        """A field as [F, values of a frame]; an empty array if the trajectory does not have the field."""
        if array is None:
            return wp.empty((0, 0), dtype=kind)
        return wp.from_dlpack(array.reshape(array.shape[0], -1))  # arrays of Warp have at most four axes


_KINDS = {"rgb": wp.uint8, "depth": wp.float32, "segmentation": wp.uint8}


def _poses(shot: Shot) -> dict[str, Any]:
    """The arrays of a shot, copied to the device."""
    views, lamps, exposures = shot.views, shot.lamps, shot.exposures
    return {
        "dx": wp.array(views.dx, dtype=float),
        "dy": wp.array(views.dy, dtype=float),
        "scales": wp.array(views.scales, dtype=wp.vec4),
        "turns": wp.array(views.turns, dtype=wp.mat33),
        "shifts": wp.array(views.shifts, dtype=wp.vec3),
        "eyes": wp.array(views.eyes, dtype=wp.vec3),
        "seen": wp.array(views.seen, dtype=wp.uint8),
        "aims": wp.array(views.aims, dtype=wp.vec3),
        "matrices": wp.array(views.matrices, dtype=float),
        "count": wp.array(lamps.count, dtype=wp.int32),
        "colours": wp.array(lamps.colour, dtype=wp.vec3),
        "mapped": wp.array(lamps.mapped, dtype=wp.uint8),
        "grain": wp.array(lamps.texel, dtype=float),
        "lamp_turns": wp.array(lamps.turns, dtype=wp.mat33),
        "lamp_shifts": wp.array(lamps.shifts, dtype=wp.vec3),
        "labels": wp.array(shot.labels, dtype=wp.uint8),
        "paint": wp.array(shot.paint, dtype=float),
        "surface": wp.array(shot.surface, dtype=wp.vec4),
        "gain": wp.array(np.array([2.0**exposure.stops for exposure in exposures], np.float32), dtype=float),
        "whole": wp.array(np.array([exposure.gain for exposure in exposures], np.int64), dtype=wp.int64),
        "amplitude": wp.array(np.array([exposure.amplitude for exposure in exposures], np.int64), dtype=wp.int64),
        "moment": wp.array(np.array([exposure.key for exposure in exposures], np.uint64), dtype=wp.uint64),
    }
