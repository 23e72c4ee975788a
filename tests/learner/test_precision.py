"""The memory computes in float32 whatever the rest of the model computes in, and by tensor cores where that is asked for."""

import pytest
import torch
from learner_parts import SMALL, trajectory

from learner.backbone.layers import Rotation
from learner.data.config import DataConfig
from learner.data.dataset import MemorySource, RingDataset
from learner.memory.config import Recompute, TttConfig
from learner.memory.precision import tensor_cores
from learner.memory.ttt import TttLayer, Written, scan
from learner.training.config import LearnerConfig, Precision
from learner.training.module import AgentModule, RingDataModule, fit


def in_tf32() -> bool:
    return torch.backends.cuda.matmul.allow_tf32


@pytest.mark.parametrize("scan_steps", [0, 2])
def test_a_scan_under_autocast_is_to_the_bit_one_without(scan_steps):
    torch.manual_seed(0)
    layer, shape = TttLayer(24, 2, TttConfig()), (2, 4, 2, 5)
    written = Written(torch.randn(*shape, 12), torch.randn(*shape, 12), 0.1 * torch.rand(*shape, 1))
    asks, actions = torch.randn(2, 3, 2, 7, 12), torch.randn(2, 3, 2, 4, 12)
    found = []
    for half in (False, True):
        layer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            assert (torch.randn(2, 2) @ torch.randn(2, 2)).dtype == (torch.bfloat16 if half else torch.float32)
            state, reads, action_reads = scan(layer.initial(), written, asks, actions, 3, Recompute(scan_steps=scan_steps))
        torch.stack([*reads]).square().sum().backward()
        found.append([*state[:4], *reads, *action_reads, layer.w1.grad, layer.b2.grad])
    for exact, half in zip(*found, strict=True):
        assert exact.dtype == half.dtype == torch.float32
        assert exact.detach().numpy().tobytes() == half.detach().numpy().tobytes()


def test_a_layer_in_half_precision_reads_its_memory_in_full():
    torch.manual_seed(0)
    layer = TttLayer(24, 2, TttConfig())
    frames, turned = torch.randn(1, 3, 5, 24), Rotation(torch.ones(5, 12), torch.zeros(5, 12))
    with torch.autocast("cpu", torch.bfloat16):
        asks = layer.queries(frames, turned)
    assert asks.dtype == torch.float32, "what memory is asked is float32: products with it would else be rounded"


def test_the_setting_of_the_process_is_given_back_whatever_happens():
    assert not in_tf32()
    with pytest.raises(ValueError, match="within"), tensor_cores():
        assert in_tf32()
        with tensor_cores(enabled=False):
            assert not in_tf32()
        assert in_tf32()
        raise ValueError("within")
    assert not in_tf32()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("precision", Precision)
def test_training_in_half_precision_takes_the_memory_to_the_tensor_cores(precision, tmp_path):
    config = LearnerConfig(agent=SMALL, data=DataConfig(batch_size=2, window=2), measure_batches=1, threads=1, precision=precision)
    data = RingDataModule(RingDataset(MemorySource([trajectory(number) for number in range(3)]), config.data))
    seen = []

    def on_step(step, values):
        seen.append(in_tf32())
        return False

    fit(AgentModule(config), data, steps=2, clip=1.0, checkpoint=tmp_path / "a", checkpoint_every=9, resume=False, on_step=on_step)
    assert seen == [precision is Precision.HALF] * 2 and not in_tf32()
