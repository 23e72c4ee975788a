import math

import pytest
import torch

from embodichain.errors import ConfigError, LearnerError
from learner.codecs.config import EncoderConfig
from learner.codecs.dino import Encoder
from learner.vision.camera_frames import CameraFrames
from learner.vision.config import SegmenterConfig
from learner.vision.segmenter import MOMENTS, Fit, Segmenter, image_moments, load_segmenter, save_segmenter, train_segmenter


def ellipse(x: float, y: float, long: float, short: float, angle: float, size: int = 128) -> torch.Tensor:
    """A filled ellipse [1, size, size], its centre and half axes where the picture's edges are at -1 and 1."""
    at = (torch.arange(size) + 0.5) * 2 / size - 1
    down, across = torch.meshgrid(at - y, at - x, indexing="ij")
    u, v = across * math.cos(angle) + down * math.sin(angle), down * math.cos(angle) - across * math.sin(angle)
    return ((u / long).square() + (v / short).square() <= 1).float()[None]


def scenes(count: int, seed: int = 0) -> CameraFrames:
    """Bright squares somewhere on dark ground, 64 x 64 pixels, and which pixels they are."""
    generator = torch.Generator().manual_seed(seed)
    rgb = torch.randint(0, 60, (count, 64, 64, 3), dtype=torch.uint8, generator=generator)
    shown = torch.ones(count, 64, 64, dtype=torch.uint8)
    for image, labels, (row, column) in zip(
        rgb, shown, torch.randint(0, 48, (count, 2), generator=generator).tolist(), strict=True
    ):
        image[row : row + 16, column : column + 16] = 220
        labels[row : row + 16, column : column + 16] = 4
    return CameraFrames(rgb=rgb, segmentation=shown)


@pytest.mark.parametrize(("x", "y", "angle"), [(0.3, -0.2, 0.4), (-0.5, 0.4, -1.1), (0.0, 0.0, 2.0)])
def test_moments_of_an_ellipse_are_those_on_paper(x, y, angle):
    long, short = 0.3, 0.15
    area, cx, cy, radius, cosine, sine = image_moments(ellipse(x, y, long, short, angle))[0].tolist()
    assert area == pytest.approx(math.sqrt(math.pi * long * short / 4), rel=0.01)
    assert (cx, cy) == pytest.approx((x, y), abs=0.004), "a quarter of a pixel"
    assert radius == pytest.approx(math.sqrt(long**2 + short**2) / 2, rel=0.02)
    longer = (long**2 - short**2) / (long**2 + short**2)
    assert (cosine, sine) == pytest.approx((longer * math.cos(2 * angle), longer * math.sin(2 * angle)), abs=0.02)


def test_a_picture_without_objects_says_zero_and_doubt_all_over_it_moves_nothing():
    assert (image_moments(torch.zeros(2, 32, 32)) == 0).all()
    shown = ellipse(-0.6, 0.5, 0.2, 0.1, 0.3)
    doubtful = shown.clamp_min(0.001)  # in all a fifteenth of the thing's own area: unsquared it would draw the centre by 0.04
    torch.testing.assert_close(image_moments(doubtful), image_moments(shown), atol=0.01, rtol=0)


def test_moments_move_smoothly_as_a_thing_leaves_the_picture():
    """Else a policy would see jumps where the wrist's camera loses the object."""
    told = torch.cat([image_moments(ellipse(0.8 + 0.01 * step, 0, 0.15, 0.15, 0)) for step in range(40)])
    assert (told[0, :3] > 0.1).sum() == 2 and (told[-1] == 0).all()
    # The last column of five pixels goes at once: its centre, nearly 1, has faded to half before.
    assert (told[1:, :4] - told[:-1, :4]).abs().max() < 0.6


def test_training_finds_objects_by_colour_and_the_same_seed_finds_them_alike():
    config = SegmenterConfig(channels=8, steps=150, rate=1e-2, warmup_steps=5)
    told: list[Fit] = []
    one, same = (Segmenter(config.channels, seed=1) for _ in range(2))
    for segmenter in (one, same):
        torch.randn(3)  # the global generator must not matter
        made = train_segmenter(
            segmenter, (scenes(8, seed) for seed in range(999)), config, lambda _, fit: told.append(fit) or False
        )
        assert made == 150
    assert told[0].overlap < 0.3 and told[149].overlap > 0.9 and told[149].loss < 0.1 * told[0].loss
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    views = scenes(4, seed=1000)
    with torch.no_grad():
        found, shown = one.moments(views.rgb), image_moments((views.segmentation == 4).float())
    torch.testing.assert_close(found[:, :4], shown[:, :4], atol=0.03, rtol=0)


def test_training_ends_when_asked_or_when_the_stream_does():
    config = SegmenterConfig(channels=2, steps=50)
    assert train_segmenter(Segmenter(2), (scenes(2, i) for i in range(3)), config, lambda *_: False) == 3
    assert train_segmenter(Segmenter(2), (scenes(2, i) for i in range(9)), config, lambda step, _: step == 2) == 2
    assert train_segmenter(Segmenter(2), iter(()), config, lambda *_: False) == 0


def test_a_saved_segmenter_is_read_back_exactly_and_ends_each_latent_of_an_encoder(tmp_path):
    segmenter = Segmenter(3, seed=5)
    save_segmenter(segmenter, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    plain = Encoder(EncoderConfig(dim=24, layers=1, heads=2, merge=2))
    seeing = Encoder(EncoderConfig(dim=24, layers=1, heads=2, merge=2, segmenter=str(tmp_path)))
    rgb = torch.randint(0, 256, (3, 2, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    latents = seeing(rgb)
    assert seeing.latent_dim == plain.latent_dim + MOMENTS and latents.shape == (3, 2 * 4, seeing.latent_dim)
    assert torch.equal(latents[..., :-MOMENTS], plain(rgb))
    with torch.no_grad():
        moments = segmenter.moments(rgb.flatten(0, 1)).unflatten(0, (3, 2))
    told = latents[..., -MOMENTS:].unflatten(1, (2, 4))
    torch.testing.assert_close(told, moments[:, :, None].expand_as(told))
    assert not any(parameter.requires_grad for parameter in seeing.parameters())


def test_unusable_segmenters_and_streams_are_refused(tmp_path):
    with pytest.raises(LearnerError, match="no checkpoint at"):
        load_segmenter(str(tmp_path / "nowhere"))
    (tmp_path / "model.safetensors").write_bytes(b"\x00" * 64)
    with pytest.raises(LearnerError, match="no safetensors file"):
        load_segmenter(str(tmp_path))
    with pytest.raises(ConfigError, match=r"world\.segmentation"):
        train_segmenter(Segmenter(2), iter([scenes(2)._replace(segmentation=None)]), SegmenterConfig(), lambda *_: False)
    with pytest.raises(ConfigError, match="multiples of 4"):
        Segmenter(2)(torch.zeros(1, 30, 32, 3, dtype=torch.uint8))
    with pytest.raises(ConfigError, match="channels"):
        SegmenterConfig(channels=0)
