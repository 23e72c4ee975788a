"""Model FLOPs utilisation: the arithmetic of training steps relative to the peak of the device.

As in Chowdhery et al. 2022 ("PaLM", appendix B): multiplications and additions of matrix products and attention; the backward pass
counts as twice the forward pass; recomputation and the frozen encoder are not counted.
"""

from __future__ import annotations

import torch

PEAK_BF16 = {  # dense bf16 tensor-core FLOP/s in the vendors' data sheets, by a part of the device's name; the first match counts
    "B200": 2.25e15,
    "H200": 989.5e12,
    "GH200": 989.5e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989.5e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L40": 181e12,
    "L4": 121e12,
    "A10G": 70e12,
    "A10": 125e12,
    "RTX 4090": 165.2e12,
    "V100": 125e12,
}


def peak_flops(device: torch.device | str) -> float | None:
    """Dense bf16 FLOP/s of a device; None for CPUs and for devices that the table does not know."""
    if torch.device(device).type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in PEAK_BF16.items() if part in name), None)


def utilisation(forward_flops: float, step_s: float, peak: float | None, devices: int = 1) -> float | None:
    """Share of the peak of `devices` devices that a training step of `step_s` seconds with these forward FLOPs reaches.

    None if the peak is unknown.
    """
    return None if peak is None else 3.0 * forward_flops / (step_s * peak * devices)
