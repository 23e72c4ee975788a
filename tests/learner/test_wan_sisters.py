"""A checkpoint of Wan's naming fills the other families' backbones too, and what they add to it begins from it."""

import pytest
import torch
from test_wan import DIM, FFN, FREQUENCIES, HEADS, LAYERS, TEXT, checkpoint, renamed, write

from learner.codecs.config import LatentSpec
from learner.models.lingbot_va.config import LingbotConfig
from learner.models.lingbot_va.model import LingbotVa
from learner.models.x_wam.config import XwamConfig
from learner.models.x_wam.model import Xwam

SIZES = {"dim": DIM, "heads": HEADS, "ffn": FFN, "layers": LAYERS, "time_frequencies": FREQUENCIES}


@pytest.mark.parametrize("naming", [dict, renamed])
def test_every_tensor_of_the_backbone_is_filled_and_copies_begin_as_their_sources(tmp_path, naming):
    write(tmp_path, naming(checkpoint()))
    for model in (
        LingbotVa(LingbotConfig(**SIZES), latents=LatentSpec(6), text_dim=TEXT),
        Xwam(XwamConfig(**SIZES, depth=1), latents=LatentSpec(6), text_dim=TEXT),
    ):
        report = model.load_backbone(tmp_path)
        assert not report.unfilled and set(report.unused.values()) == {"belongs to Wan's VAE"}
        assert torch.equal(model.blocks[0].output.weight.double(), checkpoint()["blocks.0.self_attn.o.weight"].float().double())
        assert torch.equal(model.video_time.embed[0].weight, model.action_time.embed[0].weight)
    for one, two in zip(model.blocks[-1].parameters(), model.depth_blocks[0].parameters(), strict=True):
        assert torch.equal(one, two) and one is not two


def test_a_narrow_stream_begins_from_rows_and_columns_at_a_stride_and_its_outputs_keep_their_size(tmp_path):
    write(tmp_path, checkpoint())
    model = LingbotVa(LingbotConfig(**SIZES, dual=DIM // 2), latents=LatentSpec(6), text_dim=TEXT)
    model.load_backbone(tmp_path)
    wide, narrow = model.layers[0]
    x = torch.randn(4096, DIM, generator=torch.Generator().manual_seed(0))
    ratio = narrow.text_query(x[:, : DIM // 2]).std() / wide.text_query(x).std()
    assert 0.9 < ratio < 1.1, "resampling smoothly would halve it"
    step = torch.arange(DIM // 2) * 2
    assert torch.allclose(narrow.text_query.weight, wide.text_query.weight[step][:, step] * 2**0.5)
    assert narrow.query_key_value.weight.shape == (3 * DIM, DIM // 2) and narrow.output.weight.shape == (DIM // 2, DIM)
