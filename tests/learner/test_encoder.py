import pytest
import torch
from learner_parts import SMALL as LEARNER
from transformers.models.dinov3_vit import DINOv3ViTConfig, DINOv3ViTModel

from embodichain.errors import ConfigError
from learner.codecs.config import EncoderConfig
from learner.codecs.dino import Encoder
from learner.data.config import DataConfig
from learner.data.dataset import MemorySource, RingDataset
from learner.training.config import LearnerConfig
from learner.training.module import AgentModule, RingDataModule, fit

SMALL = EncoderConfig(dim=24, layers=2, heads=2)


def frames(*lead: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (*lead, 2, 32, 48, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def test_latents_are_patch_tokens_without_class_and_registers():
    encoder, rgb = Encoder(SMALL), frames(2, 3)
    latents = encoder(rgb)
    assert latents.shape == (2, 3, 2 * 2 * 3, 24)
    pixels = (rgb[1, 2, 1].permute(2, 0, 1)[None].float() - encoder.pixel_mean) / encoder.pixel_std
    hidden = encoder.vit(pixel_values=pixels).last_hidden_state
    assert hidden.shape[1] == 1 + 4 + 6
    torch.testing.assert_close(latents[1, 2, 6:], hidden[0, 5:])


def test_the_encoder_stays_in_eval_mode_and_frozen():
    encoder = Encoder(SMALL)
    outer = torch.nn.Sequential(encoder)
    before = encoder(frames())
    outer.train()
    assert not any(module.training for module in encoder.modules())
    assert torch.equal(encoder(frames()), before)
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert not encoder(frames()).requires_grad


def test_random_weights_follow_from_the_seed_and_leave_the_global_generator_alone():
    state = torch.random.get_rng_state()
    one, same, other = Encoder(SMALL), Encoder(SMALL), Encoder(EncoderConfig(dim=24, layers=2, heads=2, seed=1))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(one(frames()), same(frames()))
    assert not torch.equal(one(frames()), other(frames()))
    assert one.is_random


def test_images_are_encoded_alike_in_one_pass_and_in_parts():
    whole, parts = Encoder(SMALL), Encoder(EncoderConfig(dim=24, layers=2, heads=2, max_images=3))
    torch.testing.assert_close(whole(frames(4)), parts(frames(4)))


def test_a_local_checkpoint_is_read_back_exactly(tmp_path):
    torch.manual_seed(3)
    config = DINOv3ViTConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, patch_size=8, num_register_tokens=4
    )
    saved = DINOv3ViTModel(config).eval()
    saved.save_pretrained(tmp_path)
    encoder = Encoder(EncoderConfig(source=str(tmp_path)))
    assert not encoder.is_random and encoder.latent_dim == 32 and encoder.patch == 8
    for mine, theirs in zip(encoder.vit.parameters(), saved.parameters(), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize(("name", "dim", "heads"), [("ViT-S", 384, 6), ("ViT-B", 768, 12), ("ViT-L", 1024, 16)])
@pytest.mark.parametrize("registers", [0, 4])
def test_released_widths_load_with_and_without_registers(name, dim, heads, registers, tmp_path):
    """One layer of each; patches are what is left behind class token and registers, whatever the configuration's default."""
    config = DINOv3ViTConfig(
        hidden_size=dim, intermediate_size=4 * dim, num_hidden_layers=1, num_attention_heads=heads, num_register_tokens=registers
    )
    saved = DINOv3ViTModel(config).eval()
    saved.save_pretrained(tmp_path)
    encoder = Encoder(EncoderConfig(source=str(tmp_path)))
    rgb = frames(1)[:, :1]
    pixels = (rgb[0].permute(0, 3, 1, 2).float() / 255 - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor(
        [0.229, 0.224, 0.225]
    ).view(3, 1, 1)
    with torch.no_grad():
        hidden = saved(pixel_values=pixels).last_hidden_state
    assert encoder.latent_dim == dim and encoder(rgb).shape == (1, 6, dim)
    torch.testing.assert_close(encoder(rgb)[0], hidden[0, 1 + registers :], rtol=1e-4, atol=1e-5)


def test_the_encoder_stays_in_eval_mode_under_lightning(trajectories, tmp_path):
    """Lightning calls train() on the whole module when a fit begins; in training mode positions would be rescaled at random."""
    modes = []
    dataset = RingDataset(MemorySource(trajectories), DataConfig(batch_size=2, window=2))
    module = AgentModule(LearnerConfig(agent=LEARNER, data=dataset.config, measure_batches=1, threads=1))
    forward = module.agent.encoder.vit.forward

    def look(*args, **kwargs):
        modes.append((module.training, module.agent.model.training, module.agent.encoder.vit.training))
        return forward(*args, **kwargs)

    module.agent.encoder.vit.forward = look
    fit(
        module,
        RingDataModule(dataset),
        steps=2,
        clip=1.0,
        checkpoint=tmp_path / "last.ckpt",
        checkpoint_every=9,
        resume=False,
        on_step=lambda step, values: False,
    )
    assert modes[-1] == (True, True, False), "the model trains, the encoder does not"
    assert not any(encoder for *_, encoder in modes) and len(modes) >= 3


def test_encoder_weights_that_do_not_fit_are_listed(tmp_path):
    saved = DINOv3ViTModel(DINOv3ViTConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2))
    saved.config.num_hidden_layers = 2
    saved.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=r"do not fit a DINOv3ViTModel: missing .*layer\.1"):
        Encoder(EncoderConfig(source=str(tmp_path)))
    saved.config.num_hidden_layers, saved.config.intermediate_size = 1, 48
    saved.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=r"instead of \["):
        Encoder(EncoderConfig(source=str(tmp_path)))


def test_unusable_settings_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="cannot be loaded"):
        Encoder(EncoderConfig(source=str(tmp_path / "nowhere")))
    with pytest.raises(ConfigError, match="not tiled by patches of 16"):
        Encoder(SMALL)(torch.zeros(1, 1, 40, 32, 3, dtype=torch.uint8))
    with pytest.raises(ConfigError, match="multiple of 4 x heads"):
        EncoderConfig(dim=30, heads=4)
