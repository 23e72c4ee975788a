import pytest
import torch
from learner_parts import GRID, exact_model, window
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from learner.models.clwm.config import NextFrame
from learner.models.clwm.flops import forward_flops
from learner.models.window import Extent
from learner.training.utilisation import peak_flops, utilisation


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"memory_every": 0},
        {"memory_every": 2},
        {"dim": 48, "ffn": 160, "heads": 4},
        {"action_draws": 3, "told_past": False, "glance": GRID.size},
        {"aim": GRID.cameras},
        {"memory_every": 0, "imagined": 3},
        {"memory_every": 0, "imagined": 9},
        {"next_frame": NextFrame.CHANGE, "see_imagined": True},
        {"memory_every": 0, "next_frame": NextFrame.CHANGE, "see_imagined": True, "glance": GRID.size},
    ],
)
def test_counted_flops_are_those_that_torch_counts(changes):
    model, w = exact_model(**changes), window(batch=3, steps=4)
    draws = model.draw(w, torch.Generator().manual_seed(0))
    whole, channels = torch.ones(3, 4, dtype=torch.bool), torch.ones(3, 30, dtype=torch.bool)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model.losses(w, draws, GRID, valid_BT=whole, imitate_BT=whole, action_mask_BA=channels)
    assert forward_flops(model.config, Extent(3, 4, GRID.size, 6, 3, 5)) == pytest.approx(counter.get_total_flops(), rel=0.01)


def test_a_device_without_a_known_peak_has_no_utilisation():
    assert peak_flops("cpu") is None
    config, extent = exact_model().config, Extent(3, 4, 8, 6, 3, 5)
    assert utilisation(forward_flops(config, extent), 1.0, None) is None
    assert utilisation(forward_flops(config, extent), 1.0, 3.0 * forward_flops(config, extent)) == pytest.approx(1.0)
    assert utilisation(forward_flops(config, extent), 0.5, 3.0 * forward_flops(config, extent), devices=4) == pytest.approx(0.5)
