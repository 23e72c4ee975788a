"""Writes H.264 MP4 files that play in any browser."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

FOR_PEOPLE: Mapping[str, str] = {"crf": "20", "preset": "fast"}
"""Options of x264 for videos to watch."""


def write_video(
    path: Path, frames: Iterable[NDArray[np.uint8]], *, fps: float, options: Mapping[str, str] = FOR_PEOPLE, threads: int = 0
) -> Path:
    """Writes RGB frames, each uint8 [h, w, 3] with even h and w, as a video of `fps` frames per second; returns `path`.

    `options` are those of x264; with `threads` 0 it chooses their number. The file appears only when it is complete.

    Raises ValueError when there is no frame.
    """
    partial = path.with_name(path.name + ".partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with av.open(str(partial), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = None
        for image in frames:
            if stream is None:
                stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
                stream.height, stream.width = image.shape[:2]
                stream.pix_fmt = "yuv420p"
                stream.options = dict(options)
                stream.thread_count = threads
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
            count += 1
        if stream is not None:
            container.mux(stream.encode())
    if count == 0:
        partial.unlink(missing_ok=True)
        raise ValueError(f"no frames to write to {path}")
    partial.replace(path)
    return path


def mosaic(cameras: NDArray[np.uint8], *, scale: int = 1) -> NDArray[np.uint8]:
    """The pictures of all cameras side by side: uint8 [C, h, w, 3] to [h * scale, C * w * scale, 3], nearest neighbour."""
    row = np.concatenate(list(cameras), axis=1)
    return row.repeat(scale, axis=0).repeat(scale, axis=1)
