import pytest
import torch

from embodichain.errors import ConfigError
from learner.codecs.config import LatentSpec
from learner.models.clwm.family import CLWM
from learner.models.clwm.model import Clwm
from learner.models.clwm.sizes import SIZES


def on_paper(name: str, *, latent_dim: int = 768, text_dim: int = 4096) -> Clwm:
    """The model without its memory: shapes only."""
    with torch.device("meta"):
        return Clwm(CLWM.size(name), latents=LatentSpec(latent_dim), text_dim=text_dim)


def count(*modules) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def test_wan5b_has_the_parameters_of_wan_2_2_ti2v_5b():
    """4,999,787,712 in its release, of which its first layer has 592,896 and its last 596,160: they belong to its VAE."""
    model = on_paper("wan5b")
    assert count(model.blocks, model.text_in, model.video_time) == 4_999_787_712 - 592_896 - 596_160
    config = model.config
    assert (config.layers, config.dim, config.heads, config.dim // config.heads, config.ffn) == (30, 3072, 24, 128, 14336)
    assert config.time_frequencies == 256 and len(config.memory_blocks) == 30


def test_the_memory_of_wan5b_takes_379_mb_a_state():
    model = on_paper("wan5b")
    state = sum(layer.initial().size_bytes for layer in model.memories)
    assert state == 30 * 4 * 24 * (2 * 128 * 512 + 512 + 128) and 378e6 < state < 380e6


@pytest.mark.parametrize(("name", "millions"), [("tiny", 0.72), ("small", 37), ("base", 143), ("wan5b", 6300)])
def test_sizes_are_what_their_descriptions_say(name, millions):
    text_dim = 4096 if name == "wan5b" else 64
    assert count(on_paper(name, latent_dim=96 if name == "tiny" else 768, text_dim=text_dim)) / 1e6 == pytest.approx(
        millions, rel=0.02
    )


def test_an_unknown_size_lists_those_that_exist():
    with pytest.raises(ConfigError, match=", ".join(sorted(SIZES))):
        CLWM.size("huge")
