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


def test_a_checkpoint_that_the_library_saved_fills_them_and_they_compute_what_it_computes(tmp_path):
    diffusers = pytest.importorskip("diffusers", reason="needs diffusers: pip install 'embodichain[wan]'")
    torch.manual_seed(0)
    theirs = diffusers.WanTransformer3DModel(
        num_attention_heads=HEADS,
        attention_head_dim=DIM // HEADS,
        in_channels=4,
        out_channels=4,
        text_dim=TEXT,
        freq_dim=FREQUENCIES,
        ffn_dim=FFN,
        num_layers=LAYERS,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
    )
    theirs.save_pretrained(tmp_path / "transformer")
    words, tokens = torch.randn(1, 3, TEXT), torch.randn(1, 5, DIM)
    for model in (
        LingbotVa(LingbotConfig(**SIZES), latents=LatentSpec(6), text_dim=TEXT),
        Xwam(XwamConfig(**SIZES), latents=LatentSpec(6), text_dim=TEXT),
    ):
        report = model.load_backbone(tmp_path)
        assert not report.unfilled and set(report.unused.values()) == {"belongs to Wan's VAE"}
        with torch.no_grad():
            assert torch.allclose(model.text_in(words), theirs.condition_embedder.text_embedder(words), atol=1e-6)
            for mine, other in zip(model.blocks, theirs.blocks, strict=True):
                out = mine.contract(torch.nn.functional.gelu(mine.expand(tokens), approximate="tanh"))
                assert torch.allclose(out, other.ffn(tokens), atol=1e-6)
                keys, values = mine.text_key_value(tokens).chunk(2, dim=-1)
                assert torch.allclose(mine.text_key_norm(keys), other.attn2.norm_k(other.attn2.to_k(tokens)), atol=1e-5)
                assert torch.allclose(values, other.attn2.to_v(tokens), atol=1e-6)
