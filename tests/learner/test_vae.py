"""The image autoencoder: pictures and depths come back, latents lie as other codecs' do, and training makes them better."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from embodichain.assets.chain.config import AssetsConfig
from embodichain.config import WorldConfig
from embodichain.errors import ConfigError
from embodichain.prepare import prepare
from embodichain.stages import RolloutStage, SceneStage
from learner.codecs.catalog import make_codec
from learner.codecs.config import EncoderConfig, VaeConfig
from learner.codecs.depth import FAR_M, NEAR_M, depth_of, disparity
from learner.codecs.vae import Vae, load_vae, save_vae, scaled, ssim
from learner.codecs.vae_training import psnr, train_vae
from learner.vision.camera_frames import CameraFrames
from learner.vision.config import BUILTIN


@pytest.fixture(scope="module")
def rendered():
    """Pictures and depths of an episode that no training saw: 128 x 128, drawn by the rasteriser."""
    world = prepare(
        WorldConfig(
            tasks=("turn_switch",),
            width=128,
            height=128,
            depth=True,
            painter="raster",
            seed=3,
            horizon=32,
            assets=AssetsConfig(counts={"switch": 1}),
        ),
        lambda *_: None,
    )
    out = world.trajectory_spec.allocate()
    stage = RolloutStage(world, None, worker=0, epoch=0)
    outcome = stage.play(*SceneStage(world).step(0), out)
    stage.close()
    frames = outcome.num_chunks + 1
    return torch.from_numpy(out["rgb"][:frames].copy()), torch.from_numpy(out["depth"][:frames].copy())


def test_pictures_and_depths_of_a_scene_never_seen_come_back(rendered):
    rgb, depth = rendered
    codec = make_codec(EncoderConfig(codec="vae", source=BUILTIN, merge=2))
    decoded = codec.decode(codec(rgb), 3, 4, 4)
    assert decoded.shape == rgb.shape and decoded.dtype == torch.uint8
    errors = (decoded.float() - rgb.float()).square().mean(dim=(-1, -2, -3))
    assert (10.0 * torch.log10(255.0**2 / errors)).mean() > 26.0
    back = codec.decode_depth(codec.depth_latents(depth), 3, 4, 4)
    truth = depth_of(disparity(depth))
    assert ((back - truth).abs() / truth).mean() < 0.05
    assert codec.grid(128, 128) == (4, 4) and codec.latent_dim == 32 and codec.decodes


@given(st.lists(st.floats(0.0, 10.0, width=32), min_size=1, max_size=20))
def test_what_was_not_hit_is_far_and_depths_come_back_between_the_bounds(depths):
    depth = torch.tensor(depths)
    value = disparity(depth)
    assert (value.abs() <= 1.0 + 1e-6).all()
    expected = torch.where(depth > 0, depth, torch.tensor(FAR_M)).clamp(NEAR_M, FAR_M)
    assert torch.allclose(depth_of(value), expected, rtol=1e-3)
    assert disparity(torch.zeros(1)) == disparity(torch.full((1,), FAR_M))


def test_merging_loses_nothing_and_moments_are_dropped_when_pictures_are_made():
    rgb = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (2, 3, 64, 64, 3), np.uint8))
    plain, merged = (make_codec(EncoderConfig(codec="vae", source=BUILTIN, merge=merge)) for merge in (1, 2))
    seeing = make_codec(EncoderConfig(codec="vae", source=BUILTIN, merge=2, segmenter=BUILTIN))
    assert plain(rgb).shape == (2, 48, 8) and merged(rgb).shape == (2, 12, 32) and seeing(rgb).shape == (2, 12, 38)
    pictures = [codec.decode(codec(rgb), 3, rows, rows) for codec, rows in ((plain, 4), (merged, 2), (seeing, 2))]
    assert torch.equal(pictures[0], pictures[1]) and torch.equal(pictures[1], pictures[2])
    with pytest.raises(ConfigError, match="cannot be decoded into pictures: use vae"):
        make_codec(EncoderConfig(dim=24, layers=1, heads=2)).decode(torch.zeros(1, 4, 24), 1, 2, 2)
    with pytest.raises(ConfigError, match="unknown codec 'vea'"):
        make_codec(EncoderConfig(codec="vea"))


def test_training_makes_pictures_better_and_weights_come_back_from_their_file(tmp_path):
    yy, xx = np.mgrid[:32, :32]
    blobs = [np.stack([((xx - 3 * i) ** 2 + (yy - 2 * i) ** 2 < 60) * 255, xx * 8, yy * 8], -1).astype(np.uint8) for i in range(8)]
    views = CameraFrames(torch.from_numpy(np.stack(blobs)), torch.from_numpy(np.stack([1.0 + b[..., 0] / 255.0 for b in blobs])))
    vae, found = Vae(), []
    made = train_vae(vae, iter([views] * 60), VaeConfig(steps=50, warmup_steps=5), lambda _, value: bool(found.append(value)))
    assert made == 50 and np.mean(found[-5:]) > np.mean(found[:5]) + 3.0
    save_vae(vae, tmp_path)
    pictures = scaled(views.rgb, vae.moments.weight)
    with torch.no_grad():
        same = load_vae(str(tmp_path))
        assert torch.equal(same.encode(pictures)[0], vae.encode(pictures)[0])
        assert psnr(vae.decode(vae.encode(pictures)[0]), pictures) > 10.0


def test_structural_similarity_is_1_for_the_same_and_falls_with_noise():
    pictures = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2.0 - 1.0
    noisy = [pictures + share * torch.randn(pictures.shape, generator=torch.Generator().manual_seed(1)) for share in (0.1, 0.5)]
    assert ssim(pictures, pictures) == pytest.approx(1.0, abs=1e-6)
    assert 1.0 > ssim(pictures, noisy[0]) > ssim(pictures, noisy[1]) > 0.0
