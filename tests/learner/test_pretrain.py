import pytest
import torch

from embodichain.errors import ConfigError
from learner.codecs.config import EncoderConfig, PretrainConfig
from learner.codecs.dino import Encoder
from learner.codecs.masked_autoencoding import MaskedAutoencoder, patch_waves, pretrain
from learner.vision.camera_frames import CameraFrames

SMALL = EncoderConfig(dim=24, layers=2, heads=2)
QUICK = PretrainConfig(steps=30, decoder_dim=32, warmup_steps=5, rate=5e-3, bf16=False)


def scenes(count: int, seed: int = 0) -> torch.Tensor:
    """Bright squares somewhere on dark ground, uint8 [count, 64, 64, 3]."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.full((count, 64, 64, 3), 60, dtype=torch.uint8)
    for image, (row, column) in zip(images, torch.randint(0, 48, (count, 2), generator=generator).tolist(), strict=True):
        image[row : row + 16, column : column + 16] = 220
    return images


def test_all_patches_seen_gives_the_encoders_own_tokens():
    encoder, images = Encoder(SMALL), scenes(3)
    everything = torch.arange(16).expand(3, -1)
    torch.testing.assert_close(encoder.tokens_of(encoder.pixels(images), everything), encoder(images[:, None]))


def test_order_of_the_seen_patches_changes_nothing():
    encoder, pixels = Encoder(SMALL), Encoder(SMALL).pixels(scenes(2))
    order = torch.tensor([3, 9, 0, 14])
    straight, turned = (encoder.tokens_of(pixels, o.expand(2, -1)) for o in (order, order.flip(0)))
    torch.testing.assert_close(straight, turned.flip(1))


def test_hidden_patches_are_invisible_to_the_encoder():
    encoder, images = Encoder(SMALL), scenes(2)
    other = images.clone()
    other[:, :16, :16] = 255
    seen = torch.arange(1, 16).expand(2, -1)
    assert torch.equal(encoder.tokens_of(encoder.pixels(images), seen), encoder.tokens_of(encoder.pixels(other), seen))
    assert not torch.equal(encoder(images[:, None]), encoder(other[:, None]))


def test_training_lowers_the_error_changes_the_encoder_and_leaves_it_frozen():
    encoder, errors = Encoder(SMALL), []
    before = {name: p.clone() for name, p in encoder.named_parameters()}
    made = pretrain(
        encoder,
        (CameraFrames(scenes(16, seed)) for seed in range(100)),
        QUICK,
        lambda _, loss, hidden: errors.append(loss) or False,
    )
    assert made == len(errors) == 30
    assert sum(errors[-5:]) < 0.7 * sum(errors[:5])
    changed = {name for name, p in encoder.named_parameters() if not torch.equal(p, before[name])}
    assert changed == set(before) - {"vit.embeddings.mask_token"}
    assert not any(p.requires_grad for p in encoder.parameters())


def test_the_same_seed_trains_the_same_encoder():
    one, same = Encoder(SMALL), Encoder(SMALL)
    for encoder in (one, same):
        torch.randn(3)  # the global generator must not matter
        pretrain(encoder, iter([CameraFrames(scenes(4)), CameraFrames(scenes(4, 1))]), QUICK, lambda *_: False)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))


def test_the_callback_ends_the_training():
    assert pretrain(Encoder(SMALL), iter([CameraFrames(scenes(2))] * 9), QUICK, lambda step, *_: step == 3) == 3


def test_an_error_on_bare_ground_counts_no_more_than_its_contrast_floor():
    encoder = Encoder(SMALL)
    model = MaskedAutoencoder(encoder, QUICK, rows=4, columns=4)
    with torch.no_grad():
        model.leave.weight.zero_()
        model.leave.bias.zero_()
        flat = torch.full((1, 64, 64, 3), 124, dtype=torch.uint8)
        channels = encoder.pixels(flat)[0, :, 0, 0]
        contrast = channels.repeat_interleave(256).var()  # of a patch: its three channels differ, its places do not
        expected = channels.square().mean() / (contrast + QUICK.contrast_floor)
        torch.testing.assert_close(model(CameraFrames(flat), torch.Generator()).hidden, expected)


def test_waves_of_a_patch_are_orthonormal():
    waves = patch_waves(16).double()
    torch.testing.assert_close(waves @ waves.T / 256, torch.eye(6, dtype=torch.float64), atol=0.02, rtol=0.0)


def test_moments_tell_how_much_of_a_patch_a_thing_covers_and_around_which_point():
    model = MaskedAutoencoder(Encoder(SMALL), QUICK, rows=4, columns=4, segmentation=True)
    kinds = torch.zeros(1, 64, 64, dtype=torch.uint8)
    kinds[0, 20:24, 28:32] = 3  # in patch 5, rows 4 to 7 and columns 12 to 15 of it
    views = CameraFrames(scenes(1), segmentation=kinds)
    _, things = model.moments(views, model.encoder.pixels(views.rgb), torch.tensor([[5, 10]]))
    robot, thing, colours = things.values.unflatten(-1, (5, 6))[0].split([1, 1, 3], dim=1)
    share = 16 / 256
    right, down = 12 / 16, -4 / 16  # its centre from that of the patch, in half sides
    expected = share * torch.tensor([1.0, 3**0.5 * right, 3**0.5 * down])
    torch.testing.assert_close(thing[0, 0, :3], expected)
    assert not robot.any() and not thing[1].any() and not colours[1].any()


def readable(encoder: Encoder) -> float:
    """Share of the variance of where a square lies that a linear map reads from the tokens of its own patches, summed."""
    images = scenes(400, seed=99)
    rows = (images[..., 0] > 100).float()
    places = torch.stack([(rows.sum(2) * torch.arange(64)).sum(1), (rows.sum(1) * torch.arange(64)).sum(1)], dim=1) / 256
    tokens = torch.cat([encoder(part[:, None]) for part in images.split(100)]).flatten(1).double()
    inputs = torch.cat([tokens, torch.ones(400, 1)], dim=1)
    seen, asked = inputs[:300], inputs[300:]
    weights = torch.linalg.solve(seen.T @ seen + torch.eye(inputs.shape[1]).double(), seen.T @ places[:300].double())
    error = (asked @ weights - places[300:]).square().mean(dim=0)
    return float(1.0 - (error / places[300:].var(dim=0)).mean())


def test_tokens_asked_for_moments_say_places_to_linear_maps():
    asked, not_asked = Encoder(SMALL), Encoder(SMALL)
    for encoder, weight in ((asked, 10.0), (not_asked, 0.0)):
        config = PretrainConfig(steps=120, decoder_dim=32, warmup_steps=5, rate=5e-3, moment_weight=weight)
        pretrain(encoder, (CameraFrames(scenes(16, seed)) for seed in range(120)), config, lambda *_: False)
    assert 1.0 - readable(asked) < 0.7 * (1.0 - readable(not_asked))


@pytest.mark.parametrize("wrong", [{"mask_share": 1.0}, {"steps": 0}, {"contrast_floor": 0.0}, {"decoder_dim": 33}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ConfigError, match="pretraining needs"):
        PretrainConfig(**wrong)


def test_merging_puts_the_tokens_of_a_square_side_by_side():
    plain, merged = Encoder(SMALL), Encoder(EncoderConfig(dim=24, layers=2, heads=2, merge=2))
    images = scenes(2)[:, None]
    tokens, squares = plain(images), merged(images)
    assert squares.shape == (2, 4, 4 * 24) and merged.latent_dim == 96 and merged.grid(64, 64) == (2, 2)
    square = squares[0, 3].reshape(2, 2, 24)  # the lower right one
    for row in range(2):
        for column in range(2):
            torch.testing.assert_close(square[row, column], tokens[0, (2 + row) * 4 + 2 + column])
    with pytest.raises(ConfigError, match="cannot be merged"):
        merged.grid(48, 64)


def test_the_builtin_encoder_is_trained_small_and_reproducible_from_its_record():
    encoder = Encoder(EncoderConfig(source="builtin"))
    assert not encoder.is_random and encoder.latent_dim == 96 and encoder.patch == 16
    latents = encoder(scenes(2)[:, None])
    assert latents.isfinite().all() and latents.std() > 0.1
