"""Networks on single camera frames: pretrained encoders, the segmenter, linear probes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embodichain.lazy import public

if TYPE_CHECKING:
    from learner.vision.camera_frames import CameraFrames
    from learner.vision.config import SegmenterConfig
    from learner.vision.pretrained import load_dinov3, load_umt5, new_dinov3
    from learner.vision.probe import Probe, ProbeConfig
    from learner.vision.segmenter import Segmenter, load_segmenter, save_segmenter, train_segmenter

__all__ = [
    "CameraFrames",
    "Probe",
    "ProbeConfig",
    "Segmenter",
    "SegmenterConfig",
    "load_dinov3",
    "load_segmenter",
    "load_umt5",
    "new_dinov3",
    "save_segmenter",
    "train_segmenter",
]

__getattr__, __dir__ = public(
    __name__,
    dict.fromkeys(["CameraFrames"], "camera_frames")
    | dict.fromkeys(["SegmenterConfig"], "config")
    | dict.fromkeys(["load_dinov3", "load_umt5", "new_dinov3"], "pretrained")
    | dict.fromkeys(["Probe", "ProbeConfig"], "probe")
    | dict.fromkeys(["Segmenter", "load_segmenter", "save_segmenter", "train_segmenter"], "segmenter"),
)
