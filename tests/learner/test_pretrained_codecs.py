"""SigLIP and Emu3's autoencoder, from small checkpoints that transformers saved: the same numbers, every weight accounted for."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers
from learner_parts import SMALL
from safetensors.torch import load_file, save_file

from embodichain.errors import ConfigError
from learner.codecs.catalog import make_codec
from learner.codecs.config import EncoderConfig
from learner.models.agent import Agent
from learner.models.cowvla.config import CowvlaConfig

TOWER = {
    "hidden_size": 12,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 16,
}
WORDS = {
    "hidden_size": 12,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "vocab_size": 20,
    "projection_size": 12,
}
BOOK = {
    "codebook_size": 40,
    "base_channels": 32,
    "channel_multiplier": [1, 1],
    "num_res_blocks": 1,
    "attn_resolutions": [1],
    "hidden_size": 32,
}


def pictures(size: int = 32, count: int = 2) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 255, (count, 1, size, size, 3), np.uint8))


def values(images: torch.Tensor) -> torch.Tensor:
    return (images[:, 0].float() / 127.5 - 1.0).permute(0, 3, 1, 2)


def spoil(folder, change) -> None:
    """Changes the tensors of a saved checkpoint."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.fixture(params=["the tower", "the whole model"])
def siglip(request, tmp_path):
    torch.manual_seed(0)
    if request.param == "the tower":
        transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**TOWER)).save_pretrained(tmp_path)
    else:
        config = transformers.SiglipConfig(text_config=WORDS, vision_config=TOWER)
        transformers.SiglipModel(config).save_pretrained(tmp_path)
    return tmp_path


@pytest.fixture
def emu3(tmp_path):
    torch.manual_seed(0)
    autoencoder = transformers.Emu3VQVAE(transformers.Emu3VQVAEConfig(**BOOK))
    torch.nn.init.normal_(autoencoder.quantize.embedding.weight)  # codes as far apart as in a trained book
    autoencoder.save_pretrained(tmp_path)
    return tmp_path


def test_tokens_of_siglip_are_those_of_its_library(siglip):
    codec = make_codec(EncoderConfig(codec="siglip", source=str(siglip)))
    theirs = transformers.SiglipVisionModel.from_pretrained(siglip).eval()
    for size in (32, 48):
        with torch.no_grad():
            expected = theirs(pixel_values=values(pictures(size)), interpolate_pos_encoding=True).last_hidden_state
        torch.testing.assert_close(codec(pictures(size)), expected, rtol=1e-5, atol=1e-5)
        assert codec.latent_shape(size, size) == (size // 16, size // 16, 12)
    assert not codec.is_random and not any(p.requires_grad for p in codec.parameters())
    with pytest.raises(ConfigError, match="cannot be decoded"):
        codec.decode(codec(pictures()), 1, 2, 2)


def test_codes_of_emu3_are_those_of_its_library_and_survive_half_precision_and_decoding(emu3):
    codec = make_codec(EncoderConfig(codec="emu3", source=str(emu3)))
    theirs = transformers.Emu3VQVAE.from_pretrained(emu3).eval()
    images = pictures(16, 3)
    with torch.no_grad():
        expected = torch.stack(theirs.encode(values(images), torch.tensor([[16, 16]] * 3)).image_tokens)
        shown = ((theirs.decode(expected) + 1.0) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1)
    latents = codec(images)
    assert len(expected.unique()) > 3 and codec.num_codes == 40
    assert torch.equal(codec.codes_of(latents), expected.flatten(1))
    assert torch.equal(codec.codes_of(latents.half()), expected.flatten(1)), "encoded on write"
    assert torch.equal(codec.decode(latents.half(), 1, 8, 8)[:, 0], shown)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("quantize.embedding.weight"), "missing quantize.embedding.weight"),
        (lambda w: w.update({"odd.weight": torch.zeros(2)}), "unexpected odd.weight"),
        (lambda w: w.update({"quant_conv.conv.bias": torch.zeros(7)}), r"quant_conv.conv.bias: \[7\] instead of \[4\]"),
    ],
)
def test_weights_that_are_missing_too_many_or_of_another_shape_are_named(emu3, change, message):
    spoil(emu3, change)
    with pytest.raises(ConfigError, match=message) as caught:
        make_codec(EncoderConfig(codec="emu3", source=str(emu3)))
    assert "Emu3VQVAE" in str(caught.value) and "give a local folder" in str(caught.value)


def test_a_tower_with_weights_of_nothing_known_is_refused(siglip):
    spoil(siglip, lambda w: w.update({"odd.weight": torch.zeros(2)}))
    with pytest.raises(ConfigError, match=r"unexpected odd.weight"):
        make_codec(EncoderConfig(codec="siglip", source=str(siglip)))


def test_neither_has_weights_of_its_own_and_codes_are_not_merged(tmp_path, emu3):
    for codec in ("siglip", "emu3"):
        with pytest.raises(ConfigError, match=f"{codec} has no built-in weights"):
            make_codec(EncoderConfig(codec=codec))
        with pytest.raises(ConfigError, match="cannot be loaded"):
            make_codec(EncoderConfig(codec=codec, source=str(tmp_path / "nothing")))
    with pytest.raises(ConfigError, match=r"set encoder.merge 1, got 2"):
        make_codec(EncoderConfig(codec="emu3", source=str(emu3), merge=2))


def test_a_model_of_codes_takes_a_codec_with_a_book_of_its_size(emu3):
    codec = EncoderConfig(codec="emu3", source=str(emu3))
    model = CowvlaConfig(dim=24, layers=1, heads=2, ffn=32, codes=40, motion=False)
    made = Agent(replace(SMALL, encoder=codec, model=model))
    assert made.encoder.num_codes == made.model.code_out.out_features == 40
    with pytest.raises(ConfigError, match=r"a book of 512, that of the codec 'emu3' has 40: set learner.agent.model.codes 40"):
        Agent(replace(SMALL, encoder=codec, model=replace(model, codes=512)))
